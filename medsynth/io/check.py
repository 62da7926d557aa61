"""What is wrong with a cohort: missing scans, broken files, grids and labels that do not fit."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from medsynth.core.cohort import MODALITIES, Case, Cohort
from medsynth.core.labels import BRAIN, LabelScheme, scheme
from medsynth.core.volume import Volume
from medsynth.errors import MedsynthError
from medsynth.io.nifti import read_labels, read_volume


@dataclass(frozen=True)
class Fault:
    """Something wrong with a case.

    Args:
        case: Its name.
        message: Expected, found, where, what to do.
    """

    case: str
    message: str


def check(cohort: Cohort, workers: int = 2) -> Iterator[tuple[Case, list[Fault]]]:
    """Read every file of every case.

    Args:
        cohort: The cases.
        workers: Threads.

    Yields:
        Each case with its faults, in order.
    """
    expected = [m for m in MODALITIES if any(m in case.images for case in cohort)]
    with ThreadPoolExecutor(workers) as pool:
        yield from zip(
            cohort,
            pool.map(lambda c: _faults(c, expected, scheme(cohort.scheme)), cohort),
            strict=True,
        )


def _faults(case: Case, expected: list[str], labels_in: LabelScheme) -> list[Fault]:
    messages = []
    missing = [m for m in expected if m not in case.images]
    if missing:
        messages.append(
            f"expected {', '.join(expected)}, found no {', '.join(missing)}. "
            "Complete the case or leave it out."
        )
    volume: Volume | None = None
    try:
        if case.images:
            volume = read_volume(case.images, case.channel)
            for name, scan in zip(volume.channels, volume.data, strict=True):
                if not scan.any():
                    messages.append(
                        f"expected intensities, found only zeros in {case.images[name]}."
                    )
    except MedsynthError as error:
        messages.append(str(error))
    healthy = case.brain is not None  # then a tumour label map may be empty
    for path, of in ((case.label, labels_in), (case.brain, BRAIN)):
        if path is None:
            continue
        try:
            labels = read_labels(path, of)
            if volume is not None and not volume.same_grid(labels):
                messages.append(
                    f"expected the grid of the scans {volume.shape}, found "
                    f"{labels.shape} or another affine in {path}. Resample it with "
                    "nearest neighbour."
                )
            if not labels.data.any() and not (healthy and path == case.label):
                messages.append(
                    f"expected structures, found only background in {path}. Leave "
                    "the case out or index it without labels."
                )
        except MedsynthError as error:
            messages.append(str(error))
    return [Fault(case.name, message) for message in messages]
