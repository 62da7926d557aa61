"""Errors that say what was expected, what was found, where, and what to do.

Everything that a user can cause is a `MedsynthError`; the command line prints it without a
traceback and leaves with its `exit_code`. Knows nothing else of the package.
"""


class MedsynthError(Exception):
    """Base of all errors that a user can do something about.

    Args:
        expected: What should have been there, for example `"a 3-D label map"`.
        found: What was there instead.
        where: File, case or configuration key; None when the message makes it plain.
        todo: What to do about it, a full sentence.
    """

    exit_code = 1

    def __init__(
        self, expected: str, found: str, where: object | None = None, todo: str | None = None
    ) -> None:
        self.expected, self.found, self.todo = expected, found, todo
        self.where = None if where is None else str(where)
        place = "" if self.where is None else f" in {self.where}"
        advice = "" if todo is None else f" {todo}"
        super().__init__(f"expected {expected}, found {found}{place}.{advice}")

    def __reduce__(self) -> tuple[type, tuple[str, str, str | None, str | None]]:
        return type(self), (self.expected, self.found, self.where, self.todo)


class DataError(MedsynthError):
    """Files or arrays that are missing, broken or do not fit each other."""


class LabelError(DataError):
    """Integers that the label scheme does not know, or structures that a map does not have."""


class GeometryError(DataError):
    """Shapes, affines or orientations that do not fit."""


class EditError(DataError):
    """An edit that cannot be done on this label map, or whose outcome is not plausible."""


class NoTumourError(EditError):
    """An edit of a tumour on a label map that has none."""


class ModelError(DataError):
    """A model that does not fit the data it is given."""


class TrainingError(MedsynthError):
    """Training that went wrong: not a number, a collapsed player, a broken checkpoint."""


class Interrupted(Exception):  # noqa: N818
    """Stopped on request after saving, no fault; the command line prints `words` and leaves.

    Args:
        signal: Number of the signal that asked for it.
        words: What was saved and how to go on.
    """

    def __init__(self, signal: int, words: str) -> None:
        self.exit_code = 128 + signal
        super().__init__(words)


class UsageError(MedsynthError):
    """A command line that makes no sense."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration that makes no sense."""
