"""Who a case descends from: the leak guard of the utility table."""

from collections.abc import Sequence
from dataclasses import dataclass

from medsynth.core.cohort import Case, Cohort
from medsynth.errors import DataError
from medsynth.evaluation import heads
from medsynth.io.sidecar import digest


@dataclass(frozen=True)
class Guard:
    """What the leak guard found.

    Args:
        kept: Cases that may be trained on.
        dropped: Cases that descend from a test subject, and why.
        unknown: Cases whose sidecar does not say what they were made from: nobody can tell.
    """

    kept: tuple[Case, ...]
    dropped: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]


def guard(test: Sequence[Case], made: Cohort, *, by_name: bool = True) -> Guard:
    """Drop generated cases that descend from people of the test set.

    A case is dropped when its subject is one of theirs, or when a label map among its ancestors
    (by SHA-256, brains that it was implanted into included) is a file of theirs.

    Args:
        test: Cases that are tested on.
        made: Generated cases, or phantoms.
        by_name: Whether equal subjects are the same person; phantoms of two cohorts are not.

    Raises:
        DataError: Nothing is left.
    """
    people = {case.subject for case in test} if by_name else set()
    files = {sha for case in test for sha in _files(case)}
    kept: list[Case] = []
    dropped: list[tuple[str, str]] = []
    unknown: list[str] = []
    for case in made:
        story = heads.sidecar(case)
        if not (story or {}).get("synthetic"):
            unknown.append(case.name)
        ancestors = set((story or {}).get("ancestors", ()))
        who = {case.subject, (story or {}).get("subject", case.subject)}
        if who & people:
            dropped.append((case.name, f"subject {', '.join(sorted(who & people))}"))
        elif ancestors & files:
            dropped.append((case.name, "a label map of a test subject among its ancestors"))
        else:
            kept.append(case)
    if not kept:
        raise DataError(
            "synthetic cases that do not descend from test subjects",
            f"none among {len(made)}",
            None,
            "Generate from the label maps of the training split.",
        )
    return Guard(tuple(kept), tuple(dropped), tuple(unknown))


def _files(case: Case) -> set[str]:
    own = {digest(path) for path in (case.brain, case.label) if path and path.exists()}
    return own | set((heads.sidecar(case) or {}).get("ancestors", ()))
