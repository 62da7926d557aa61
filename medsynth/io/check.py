"""What is wrong with a cohort: missing scans, broken files, grids and labels that do not fit.

Reads every file once. Knows no folder layout and repairs nothing.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from isal import isal_zlib

from medsynth.core.cohort import MODALITIES, Case, Cohort
from medsynth.core.labels import BRAIN, LabelScheme, scheme
from medsynth.core.volume import LabelMap, Volume
from medsynth.errors import DataError, GeometryError, LabelError, MedsynthError
from medsynth.io.nifti import (
    SET_SIDES,
    UNKNOWN_SIDES,
    Grid,
    read_labels,
    read_volume,
    refuse_misfit,
)

Prints = dict[tuple[str, tuple[int, ...], int], str]
"""Modality, shape and check sum of a scan → the case that has it."""


@dataclass(frozen=True)
class Fault:
    """Something wrong with a case.

    Args:
        case: Its name.
        message: Expected, found, where, what to do, in one line.
        file: The file at fault, or None.
        expected: What should have been there.
        found: What was there instead.
        todo: What to do about it, or None.
    """

    case: str
    message: str
    file: str | None
    expected: str
    found: str
    todo: str | None


def faults(cohort: Cohort, workers: int = 2) -> list[Fault]:
    """All faults of all cases; see `check`."""
    return [fault for _, found in check(cohort, workers) for fault in found]


def check(cohort: Cohort, workers: int = 2) -> Iterator[tuple[Case, list[Fault]]]:
    """Read every file of every case.

    Args:
        cohort: The cases.
        workers: Threads.

    Yields:
        Each case with its faults, in order.
    """
    expected = [m for m in MODALITIES if any(m in case.images for case in cohort)]
    labelled = any(case.label is not None for case in cohort)
    of, seen = scheme(cohort.scheme), Prints()
    with ThreadPoolExecutor(workers) as pool:
        examined = pool.map(lambda case: _examine(case, expected, labelled, of), cohort)
        for case, (errors, prints) in zip(cohort, examined, strict=True):
            errors = [*errors, *_twice(case, prints, seen)]
            yield case, [_fault(case, error) for error in errors]


def _fault(case: Case, error: MedsynthError) -> Fault:
    return Fault(case.name, str(error), error.where, error.expected, error.found, error.todo)


def _examine(
    case: Case, expected: Sequence[str], labelled: bool, of: LabelScheme
) -> tuple[list[MedsynthError], Prints]:
    """Errors of a case, and the check sums of its scans."""
    errors: list[MedsynthError] = []
    missing = [m for m in expected if m not in case.images]
    if missing:
        todo = "Complete the case or leave it out."
        errors.append(DataError(", ".join(expected), f"no {', '.join(missing)}", case.name, todo))
    if labelled and case.label is None and case.brain is None:
        todo = "Complete the case, or index it apart from those with labels."
        errors.append(DataError("a label map, as others have", "none", case.name, todo))
    grids: list[Grid] = []
    prints = Prints()
    for path in dict.fromkeys(case.images.values()):
        try:
            volume = _scans(case, path, grids)
        except MedsynthError as error:
            errors.append(error)
            continue
        for name, scan in zip(volume.channels, volume.data, strict=True):
            if scan.any():
                prints[name, volume.shape, isal_zlib.crc32(scan)] = case.name
            else:
                todo = "Export the scan again or leave the case out."
                errors.append(DataError(f"intensities ({name})", "only zeros", path, todo))
        errors += _sides(volume, path)
    may_be_empty = case.brain is not None  # a healthy brain with its tissue
    for place, labels_of in ((case.label, of), (case.brain, BRAIN)):
        if place is not None:
            empty = may_be_empty and place == case.label
            errors += _labels(place, labels_of, grids, empty)
    return errors, prints


def _scans(case: Case, path: Path, grids: list[Grid]) -> Volume:
    """All scans in one file; notes their grid and compares it with the first."""
    files = {name: path for name, place in case.images.items() if place == path}
    volume = read_volume(files, case.channel)
    grids.append(Grid(volume.shape, volume.affine, path))
    refuse_misfit(grids[0], grids[-1])
    return volume


def _labels(
    path: Path, of: LabelScheme, grids: Sequence[Grid], may_be_empty: bool
) -> list[MedsynthError]:
    errors: list[MedsynthError] = []
    try:
        labels = read_labels(path, of)
        if not labels.data.any() and not may_be_empty:
            todo = "Leave the case out or index it without labels."
            errors.append(LabelError("structures", "only background", path, todo))
        errors += _sides(labels, path)
        if grids:
            refuse_misfit(grids[0], Grid(labels.shape, labels.affine, path))
    except MedsynthError as error:
        errors.append(error)
    return errors


def _sides(value: Volume | LabelMap, path: Path) -> list[MedsynthError]:
    if value.source is not None and value.source.code:
        return []
    return [GeometryError("a header with sform or qform", UNKNOWN_SIDES, path, SET_SIDES)]


def _twice(case: Case, prints: Prints, seen: Prints) -> list[MedsynthError]:
    """Refuse scans that another case has, too; notes those of this one."""
    others = sorted({seen[key] for key in prints if key in seen})
    for key in prints:
        seen.setdefault(key, case.name)
    if not others:
        return []
    todo = "Remove one of them: the same person in training and test makes scores look better."
    found = f"the very voxels of {', '.join(others)}"
    return [DataError("scans that no other case has", found, case.name, todo)]
