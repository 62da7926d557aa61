"""Where a case comes from: from a person, from a phantom or from a generator, and from whom.

Knows sidecars, no scans.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from medsynth.core.cohort import Case, Cohort
from medsynth.errors import DataError
from medsynth.io.sidecar import digest, of_case

MADE_BY_PHYSICS = "phantom"
"""What the sidecar of a phantom says under `made_by`."""


def require_real(cohort: Cohort, option: str) -> None:
    """Refuse scans that a generator made where people's scans belong.

    Phantoms may stand in for people: they say so themselves, and no generator made them. Scans
    without a sidecar are taken for real.

    Args:
        cohort: What was given.
        option: Where it was given, for the message.

    Raises:
        DataError: The sidecar of a case says `"synthetic": true` and not that it is a phantom.
    """
    made = [
        case.name
        for case in cohort
        if (story := of_case(case) or {}).get("synthetic")
        and story.get("made_by") != MADE_BY_PHYSICS
    ]
    if made:
        some = ", ".join(made[:3]) + (", …" if len(made) > 3 else "")
        raise DataError(
            f"real scans (or phantoms) for {option}",
            f"{len(made)} of {len(cohort)} cases that a generator made ({some})",
            None,
            "Synthetic scans cannot stand for people: every figure would look perfect. Give the "
            "cohort whose label maps they were made from.",
        )


@dataclass(frozen=True)
class Guard:
    """What the leak guard found.

    Args:
        kept: Cases that may be trained on.
        dropped: Cases that descend from a test subject, and why.
        unknown: Cases whose sidecar does not say what they were made from, or whose person was
            guessed from a file name: nobody can tell.
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
    theirs = {sha for case in test for sha in files(case)}
    kept: list[Case] = []
    dropped: list[tuple[str, str]] = []
    unknown: list[str] = []
    for case in made:
        story = of_case(case)
        if not (story or {}).get("synthetic") or "subject_from" in (story or {}):
            unknown.append(case.name)
        ancestors = set((story or {}).get("ancestors", ()))
        who = {case.subject, (story or {}).get("subject", case.subject)}
        if who & people:
            dropped.append((case.name, f"subject {', '.join(sorted(who & people))}"))
        elif ancestors & theirs:
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


def files(case: Case) -> set[str]:
    """SHA-256 of a case's label maps, and of all label maps that they were made from."""
    own = {digest(path) for path in (case.brain, case.label) if path and path.exists()}
    return own | set((of_case(case) or {}).get("ancestors", ()))
