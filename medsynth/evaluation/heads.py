"""Scans as the measurements see them: on one scale, cropped to the brain, one case at a time.

A cohort of hundreds is never in memory at once: whoever needs all cases keeps a summary of each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import ndimage
from torch.nn import functional

from medsynth.core.cohort import Case, Cohort
from medsynth.core.labels import BRAIN, scheme
from medsynth.core.random import Key
from medsynth.core.volume import LabelMap, Volume, affine_within, bounding_box
from medsynth.errors import DataError, GeometryError
from medsynth.imaging.examples import measure_style, read_case
from medsynth.imaging.intensity import brain_mask, normalise

ALIGNED = (48, 56, 48)
"""Voxels of the common box that the brain's bounding box is brought to: about 3 mm each."""

SPACING_TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class Head:
    """One case, ready to be measured.

    Args:
        case: Where it comes from.
        scans: float32 `(C, I, J, K)` on the scale of `imaging.intensity`, cropped to the brain.
        mask: Brain, boolean `(I, J, K)`.
        labels: Cropped likewise; *brain* scheme when the case has tissue, the cohort's otherwise;
            None without label maps.
        outside: Brightest voxel outside of the brain, as a share of the scan's range; None where
            no tissue labels say what is outside.
    """

    case: Case
    scans: Volume
    mask: np.ndarray
    labels: LabelMap | None
    outside: float | None

    @cached_property
    def aligned(self) -> np.ndarray:
        """float32 `(C, 48, 56, 48)`: the brain's box at one size, each scan with mean 0 and
        length 1, so that products are correlations."""
        boxed = functional.interpolate(
            torch.from_numpy(np.ascontiguousarray(self.scans.data))[None], ALIGNED, mode="area"
        )[0].numpy()
        flat = boxed.reshape(len(boxed), -1)
        flat = flat - flat.mean(1, keepdims=True)
        length = np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
        return (flat / length).reshape(boxed.shape).astype(np.float32)

    def style(self) -> np.ndarray:
        """Mean and log-spread per channel and structure, `(2, C, S)`; needs labels. Vessels and the
        like count as CSF, for maps of real scans do not name them."""
        if self.labels is None:
            raise DataError("a label map", "none", self.case.name)
        return measure_style(self.scans.data, self.labels.without_fine(), Key(0, ("style",)))


def read(case: Case, cohort: Cohort, modalities: Sequence[str]) -> Head:
    """Read one case.

    Raises:
        DataError: A scan is missing, or everything is zero.
        GeometryError: Scans and labels are on different grids.
    """
    kind = "brain" if case.brain else ("tumour" if case.label else None)
    volume, labels = read_case(case, modalities, kind, cohort.scheme)
    positive = brain_mask(volume.data)
    mask = labels.data > 0 if labels is not None and kind == "brain" else positive
    if not mask.any():
        raise DataError("a brain", "no positive voxel", case.name)
    data = normalise(volume.data, mask)
    top = [max(float(np.percentile(scan[mask], 99.5)), 1e-9) for scan in volume.data]
    beyond = [float(np.abs(scan[~mask]).max(initial=0)) for scan in volume.data]
    box = bounding_box(mask, 1)
    affine = affine_within(volume.affine, box)
    return Head(
        case,
        Volume(data[(slice(None), *box)], affine, tuple(modalities)),
        mask[box],
        None if labels is None else LabelMap(labels.data[box], affine, labels.scheme),
        max(b / t for b, t in zip(beyond, top, strict=True)) if kind == "brain" else None,
    )


def read_all(cohort: Cohort, modalities: Sequence[str]) -> Iterator[Head]:
    """Cases one after the other, all on voxels of one size.

    Raises:
        GeometryError: Two cases have voxels of different size.
    """
    first: Head | None = None
    for case in cohort:
        head = read(case, cohort, modalities)
        first = first or head
        same_spacing(first, head)
        yield head


def same_spacing(one: Head, two: Head) -> None:
    """Refuse to compare scans of different resolution.

    Raises:
        GeometryError: They differ by more than 2 %.
    """
    if not alike(one.scans.spacing_mm, two.scans.spacing_mm):
        raise GeometryError(
            f"voxels of one size ({_words(one)} in {one.case.name})",
            _words(two),
            two.case.name,
            "Resolution changes every figure: bring all cohorts to one spacing with "
            "`medsynth resample COHORT --spacing-mm MM -o OUT`.",
        )


def alike(one: ArrayLike, two: ArrayLike) -> bool:
    """Whether voxels of two sizes in mm count as equal, whatever the order of the axes."""
    return bool(np.abs(np.sort(one) / np.sort(two) - 1).max() <= SPACING_TOLERANCE)


def _words(head: Head) -> str:
    return " × ".join(f"{s:.3g}" for s in head.scans.spacing_mm) + " mm"


def common_modalities(*cohorts: Cohort) -> tuple[str, ...]:
    """Scans that all cases of all cohorts have.

    Raises:
        DataError: There is none.
    """
    shared = [m for m in cohorts[0].modalities if all(m in c.modalities for c in cohorts)]
    if not shared:
        raise DataError("scans that all cohorts have", "none in common")
    return tuple(shared)


BLUR, NOISE = (0.7, 1.2, 2.0), (0.08, 0.2, 0.4)
"""The series of bad examples: blur in voxels (standard deviation), noise as a share of the
range."""


def blurred(head: Head, sigma: float) -> Head:
    """The same head, out of focus; zero outside of the brain as before."""
    data = np.stack([ndimage.gaussian_filter(scan, sigma) for scan in head.scans.data])
    return _with(head, data * head.mask)


def noisy(head: Head, sigma: float, key: Key) -> Head:
    """The same head with Gaussian noise."""
    noise = key.numpy().standard_normal(head.scans.data.shape, np.float32)
    return _with(head, np.clip(head.scans.data + sigma * noise, 0, None) * head.mask)


def relabelled(head: Head, other: Head) -> Head:
    """The same scans with the label map of somebody else, stretched over the brain's box."""
    if other.labels is None or head.labels is None:
        raise DataError("label maps", "none", head.case.name)
    factors = [a / b for a, b in zip(head.labels.shape, other.labels.shape, strict=True)]
    data = ndimage.zoom(other.labels.data, factors, order=0)
    return replace(head, labels=replace(head.labels, data=data, scheme=other.labels.scheme))


def somebody_else(head: Head, before: Sequence[Head]) -> Head | None:
    """The last head before this one that is of another person and has labels."""
    others = [h for h in before if h.case.subject != head.case.subject and h.labels is not None]
    return others[-1] if others else None


def remembered(before: Sequence[Head], head: Head) -> list[Head]:
    """The last heads of two different people, this one included."""
    return [*[h for h in before if h.case.subject != head.case.subject][-1:], head]


def series(head: Head, key: Key) -> Iterator[tuple[str, int, Head]]:
    """Ever worse versions of a head: degradation, level from 1, head."""
    for level, sigma in enumerate(BLUR, 1):
        yield "blur", level, blurred(head, sigma)
    for level, sigma in enumerate(NOISE, 1):
        yield "noise", level, noisy(head, sigma, key.fold(head.case.name, level))


def _with(head: Head, data: np.ndarray) -> Head:
    return replace(head, scans=replace(head.scans, data=data.astype(np.float32)))


def tissue_scheme(labels: LabelMap) -> bool:
    """Whether a label map says where tissue is."""
    return labels.scheme == BRAIN


def tumour_of(labels: LabelMap) -> LabelMap:
    """Its tumour, in BraTS-2023 integers; a resection cavity counts as background."""
    if labels.scheme == BRAIN and labels.has("RC"):
        labels = labels.with_data(np.where(labels.data == BRAIN.value("RC"), 0, labels.data))
    return labels.to_scheme(scheme("brats2023"))
