"""Cases made ready for training: cropped to the brain, on one scale, memory-mapped.

Reading and decompressing NIfTI once per case instead of once per step keeps the GPU busy. A
prepared case is a folder with `scans.npy` (float16), `labels.npy` (uint8) and `samples.npz`; it
is found again by a hash of the files it was made from, so a changed file is prepared anew.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from medsynth.core.cohort import Case, Cohort
from medsynth.core.labels import BRAIN, BRATS2023, LabelScheme, scheme
from medsynth.core.paths import replacing
from medsynth.core.random import Key
from medsynth.core.volume import LabelMap, Volume, affine_within, bounding_box
from medsynth.errors import DataError, GeometryError
from medsynth.imaging import shading, style
from medsynth.imaging.intensity import brain_mask, normalise
from medsynth.io.nifti import read_labels, read_volume

LABEL_MAPS: dict[str, LabelScheme] = {"brain": BRAIN, "tumour": BRATS2023}
"""What `labels` in a configuration can mean, and the scheme it is brought to."""

FORMAT = 2
SAMPLES = 1024
MARGIN = 2


@dataclass(frozen=True)
class Example:
    """One prepared case.

    Args:
        name: Case name.
        folder: Where its arrays are.
        scheme: What its label map is in.
        subject: The person.
    """

    name: str
    folder: Path
    scheme: LabelScheme
    subject: str

    @cached_property
    def scans(self) -> np.ndarray:
        """float16 `(C, I, J, K)`, memory-mapped, on the scale of `imaging.intensity`."""
        return np.load(self.folder / "scans.npy", mmap_mode="r")

    @cached_property
    def labels(self) -> np.ndarray:
        """uint8 `(I, J, K)`, memory-mapped: index of the structure in the scheme, not value."""
        return np.load(self.folder / "labels.npy", mmap_mode="r")

    @cached_property
    def samples(self) -> dict[int, np.ndarray]:
        """Structure index → intensities `(N, C)` of up to 1,024 of its voxels, float32."""
        with np.load(self.folder / "samples.npz") as file:
            return {int(k[1:]): file[k] for k in file.files if k.startswith("s")}

    @cached_property
    def affine(self) -> np.ndarray:
        """Voxel to RAS+ mm."""
        with np.load(self.folder / "samples.npz") as file:
            return file["affine"]

    @property
    def spacing_mm(self) -> np.ndarray:
        """Edges of voxels along i, j, k, `(3,)`."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @cached_property
    def shading(self) -> np.ndarray:
        """From `medsynth.imaging.shading.measure`, `(C, C)`; NaN where it cannot be told."""
        with np.load(self.folder / "samples.npz") as file:
            return file["coil"]

    @cached_property
    def tumour(self) -> np.ndarray:
        """Voxel indices `(N, 3)` of up to 1,024 tumour voxels."""
        with np.load(self.folder / "samples.npz") as file:
            return file["tumour"]


def measure_style(scans: np.ndarray, labels: LabelMap, key: Key) -> np.ndarray:
    """The style `(2, T, S)` of normalised scans `(T, I, J, K)` with that label map."""
    return style.measure(
        _samples(scans, structure_indices(labels), key), len(labels.scheme.labels), len(scans)
    )


def read_case(
    case: Case, modalities: Sequence[str], kind: str | None, cohort_scheme: str
) -> tuple[Volume, LabelMap | None]:
    """Scans of one case and the label map that a configuration asks for.

    Args:
        case: The case.
        modalities: Which scans, in this order.
        kind: `brain`, `tumour` or None for no label map.
        cohort_scheme: Scheme of `case.label`.

    Raises:
        DataError: A scan or the label map is missing.
        GeometryError: They are not on one grid.
    """
    missing = [m for m in modalities if m not in case.images]
    if missing:
        raise DataError(
            f"scans {', '.join(modalities)}",
            f"no {', '.join(missing)}",
            case.name,
            "Complete the case or leave it out of the cohort.",
        )
    volume = read_volume({m: case.images[m] for m in modalities}, case.channel)
    if kind is None:
        return volume, None
    if kind == "brain":
        if case.brain is None:
            raise DataError(
                "a label map with tissue (<case>-brain.nii.gz)",
                "none",
                case.name,
                "Make it with `medsynth tissue cohort.json -o OUT` and use OUT/cohort.json.",
            )
        labels = read_labels(case.brain, BRAIN)
    else:
        if case.label is None:
            raise DataError(
                "a tumour label map",
                "none",
                case.name,
                "Give the cohort label maps or train on tissue only.",
            )
        labels = read_labels(case.label, scheme(cohort_scheme)).to_scheme(BRATS2023)
    if not volume.same_grid(labels):
        raise GeometryError(
            f"scans and label map on one grid ({volume.shape})",
            f"a label map {labels.shape} or another affine",
            case.name,
            "Resample one onto the other, labels with nearest neighbour.",
        )
    return volume, labels


def prepare(
    cohort: Cohort, modalities: Sequence[str], kind: str, folder: Path, workers: int = 2
) -> Iterator[Example | tuple[str, Exception]]:
    """Prepare cases, several at a time, in the cohort's order.

    Args:
        cohort: The cases.
        modalities: Scans to keep, in this order.
        kind: `brain` or `tumour`.
        folder: Where prepared cases live.
        workers: Threads.

    Yields:
        The prepared case, or its name and what is wrong with it.
    """

    def one(case: Case) -> Example | tuple[str, Exception]:
        try:
            return _prepare_one(case, modalities, kind, cohort.scheme, folder)
        except DataError as error:
            return case.name, error

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(one, cohort.cases)


def _prepare_one(
    case: Case, modalities: Sequence[str], kind: str, cohort_scheme: str, folder: Path
) -> Example:
    files = [case.images[m] for m in modalities if m in case.images]
    files += [path for path in (case.brain if kind == "brain" else case.label,) if path]
    stamps = [
        (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
        for path in files
        if path.exists()
    ]
    text = json.dumps(
        [FORMAT, case.name, list(modalities), kind, cohort_scheme, stamps, dict(case.channel)]
    )
    place = folder / f"{case.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    example = Example(case.name, place, LABEL_MAPS[kind], case.subject)
    if (place / "samples.npz").exists():
        return example
    volume, labels = read_case(case, modalities, kind, cohort_scheme)
    if labels is None or (kind == "brain" and not labels.data.any()):
        raise DataError(
            "a label map with structures",
            "only background",
            case.name,
            "Leave the case out, or check that its label map is the right file.",
        )
    mask = labels.data > 0 if kind == "brain" else brain_mask(volume.data)
    scans = normalise(volume.data, mask)
    box = bounding_box(mask, MARGIN)
    scans, indices = scans[(slice(None), *box)], structure_indices(labels)[box]
    samples = _samples(scans, indices, Key(0, (case.name,)))
    points = np.argwhere(labels.scheme.mask(labels.data[box], "WT"))
    points = points[_some(len(points), Key(0, (case.name, "tumour")))]
    place.mkdir(parents=True, exist_ok=True)
    for name, array in (("scans", scans.astype(np.float16)), ("labels", indices)):
        with replacing(place / f"{name}.npy") as beside, beside.open("wb") as file:
            np.save(file, np.ascontiguousarray(array))
    with replacing(place / "samples.npz") as beside, beside.open("wb") as file:
        np.savez(
            file,
            tumour=points,
            affine=affine_within(labels.affine, box),
            coil=shading.measure(scans, labels.mask(style.REFERENCE)[box], labels.affine)
            if style.REFERENCE in labels.scheme.abbreviations
            else np.full((len(scans),) * 2, np.nan),
            **{f"s{k}": v for k, v in samples.items()},  # type: ignore[arg-type]
        )
    return example


def structure_indices(labels: LabelMap) -> np.ndarray:
    """Integers of a scheme as indices of its structures."""
    table = np.zeros(256, np.uint8)
    table[list(labels.scheme.values)] = np.arange(len(labels.scheme.labels))
    return table[labels.data]


def _samples(scans: np.ndarray, indices: np.ndarray, key: Key) -> dict[int, np.ndarray]:
    flat, result = indices.reshape(-1), {}
    values = scans.reshape(len(scans), -1)
    for index in np.unique(flat):
        if index:
            voxels = np.flatnonzero(flat == index)
            voxels = voxels[_some(len(voxels), key.fold(int(index)))]
            result[int(index)] = values[:, voxels].T.astype(np.float32)
    return result


def _some(count: int, key: Key) -> np.ndarray:
    if count <= SAMPLES:
        return np.arange(count)
    return np.sort(key.numpy().choice(count, SAMPLES, replace=False))
