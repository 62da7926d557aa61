"""Scans and label maps on voxel grids, in one orientation.

The contract, everywhere in the package: arrays are indexed `(I, J, K)` and stored RAS+, that is,
i grows to the right, j to the front, k upwards; `affine` maps voxel indices to RAS+ millimetres.
What a file looked like before is kept in `Source`, so that writing goes back to it. Opens no file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from medsynth.core.labels import BRAIN, LabelScheme
from medsynth.errors import GeometryError, LabelError

MIN_BRAIN_MM3 = 300_000
"""A label map with less than this is no brain: the integers of BraTS read as tissue, for one."""


@dataclass(frozen=True)
class Source:
    """The grid of the file that a value was read from, to be written back to.

    Args:
        affine: Its voxel-to-RAS+-mm matrix `(4, 4)`, float64, to the last bit.
        axes: For each axis of the file, the RAS+ axis it runs along (0, 1, 2).
        flips: For each axis of the file, 1 when it runs along that axis, −1 against it.
        code: NIfTI transform code of the affine (0 unknown: orientation and origin are a guess,
            1 scanner, 2 aligned, 3 Talairach, 4 MNI).
    """

    affine: np.ndarray
    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[int, int, int] = (1, 1, 1)
    code: int = 2

    def to_source(self, data: np.ndarray) -> np.ndarray:
        """RAS+ data `(…, I, J, K)` in the order of the file's axes (a view)."""
        lead = data.ndim - 3
        turned = data.transpose(*range(lead), *(lead + axis for axis in self.axes))
        a, b, c = self.flips
        return turned[..., ::a, ::b, ::c]

    def to_ras(self, data: np.ndarray) -> np.ndarray:
        """File data `(…, A, B, C)` as RAS+ (a view); the inverse of `to_source`."""
        a, b, c = self.flips
        flipped = data[..., ::a, ::b, ::c]
        lead = data.ndim - 3
        return flipped.transpose(*range(lead), *(lead + self.axes.index(axis) for axis in range(3)))


@dataclass(frozen=True, eq=False)
class _Gridded:
    """What scans and label maps share: voxels and where they are."""

    data: np.ndarray
    affine: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j, k."""
        i, j, k = self.data.shape[-3:]
        return i, j, k

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Size of a voxel along i, j, k in mm."""
        i, j, k = np.sqrt((self.affine[:3, :3] ** 2).sum(0))
        return float(i), float(j), float(k)

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def same_grid(self, other: "_Gridded", tolerance_mm: float = 1e-3) -> bool:
        """Whether both have the same shape and put each voxel at the same place."""
        return self.shape == other.shape and bool(
            np.abs(_corners(self) - _corners(other)).max() <= tolerance_mm
        )


def _corners(grid: _Gridded) -> np.ndarray:
    ends = np.stack(np.meshgrid(*[(0, n - 1) for n in grid.shape], indexing="ij"), -1)
    return ends.reshape(-1, 3) @ grid.affine[:3, :3].T + grid.affine[:3, 3]


@dataclass(frozen=True, eq=False)
class Volume(_Gridded):
    """Co-registered scans of one head.

    Args:
        data: float32 `(C, I, J, K)`, RAS+.
        affine: Voxel to RAS+ mm, `(4, 4)` float64.
        channels: What each channel is, for example `("t1n", "t1c", "t2w", "t2f")`.
        source: The grid to write back to; None writes RAS+.

    Raises:
        GeometryError: The array is not four-dimensional or does not fit `channels`.
    """

    channels: tuple[str, ...]
    source: Source | None = None

    def __post_init__(self) -> None:
        if self.data.ndim != 4 or len(self.data) != len(self.channels):
            raise GeometryError(
                f"an array ({len(self.channels)}, I, J, K) for {self.channels}",
                f"shape {self.data.shape}",
            )

    def channel(self, name: str) -> np.ndarray:
        """One scan, `(I, J, K)`.

        Raises:
            GeometryError: No such channel.
        """
        if name not in self.channels:
            raise GeometryError(f"a channel of {', '.join(self.channels)}", repr(name))
        return self.data[self.channels.index(name)]


@dataclass(frozen=True, eq=False)
class LabelMap(_Gridded):
    """A segmentation.

    Args:
        data: uint8 `(I, J, K)`, RAS+; integers of `scheme`.
        affine: Voxel to RAS+ mm, `(4, 4)` float64.
        scheme: What the integers mean.
        source: The grid to write back to; None writes RAS+.

    Raises:
        GeometryError: The array is not three-dimensional.
        LabelError: It holds integers that the scheme does not know.
    """

    scheme: LabelScheme
    source: Source | None = None

    def __post_init__(self) -> None:
        if self.data.ndim != 3:
            raise GeometryError("a 3-D label map", f"shape {self.data.shape}")
        if self.data.dtype != np.uint8:
            object.__setattr__(self, "data", self.scheme.check(self.data))

    def mask(self, name: str) -> np.ndarray:
        """Where a structure or region is, boolean `(I, J, K)`."""
        return self.scheme.mask(self.data, name)

    def volume_mm3(self, name: str) -> float:
        """Volume of a structure or region in mm³; 0 when absent."""
        return float(self.mask(name).sum()) * self.voxel_mm3

    def has(self, name: str) -> bool:
        """Whether a structure or region has any voxel."""
        return bool(self.mask(name).any())

    def with_data(self, data: np.ndarray) -> "LabelMap":
        """The same grid and scheme with other integers."""
        return replace(self, data=data)

    def without_fine(self) -> "LabelMap":
        """Vessels and the like as CSF, as in maps of real scans; see `LabelScheme.without_fine`."""
        return self.with_data(self.scheme.without_fine(self.data))

    def to_scheme(self, scheme: LabelScheme) -> "LabelMap":
        """The same structures written in another scheme; see `LabelScheme.convert`."""
        return replace(self, data=self.scheme.convert(self.data, scheme), scheme=scheme)


def require_brain(
    labels: LabelMap,
    where: object | None = None,
    todo: str = "Add CSF, grey and white matter with `medsynth tissue cohort.json -o OUT`.",
) -> None:
    """Refuse what is not a whole brain in the *brain* scheme.

    Args:
        labels: The map.
        where: File or case, for the message.
        todo: What to do about a map without tissue.

    Raises:
        LabelError: It is empty, in another scheme, without white matter, or less than 300 ml.
    """
    voxels = np.bincount(labels.data.reshape(-1), minlength=256)
    found = {x.abbreviation: voxels[x.value] for x in labels.scheme.labels[1:] if voxels[x.value]}
    if not found:
        raise LabelError(
            "a label map with structures",
            "only background",
            where,
            "Check that it is the right file.",
        )
    volume = labels.voxel_mm3 * float(sum(found.values()))
    if labels.scheme != BRAIN or "WM" not in found or volume < MIN_BRAIN_MM3:
        guess = "tumour labels of this or another scheme, without tissue"
        if {"GM", "WM"} <= found.keys():  # the integers of BraTS 2023 look the same
            guess += ", a brain that is not a person's, or voxels of a wrong size"
            todo = (
                f"If it has tissue, check the voxels in its header, "
                f"{' × '.join(f'{mm:g}' for mm in labels.spacing_mm)} mm: a person's brain has "
                f"more than {MIN_BRAIN_MM3 / 1000:.0f} ml. {todo}"
            )
        raise LabelError(
            "tissue and tumour in one label map (<case>-brain.nii.gz, scheme 'brain')",
            f"{volume / 1000:.0f} ml of {', '.join(found)} ({guess}?)",
            where,
            todo,
        )


def bounding_box(mask: np.ndarray, margin: Sequence[int] | int = 0) -> tuple[slice, slice, slice]:
    """Smallest box around the true voxels.

    Args:
        mask: Boolean `(I, J, K)`.
        margin: Voxels added on every side, clipped at the edges; one number or one per axis.

    Returns:
        Three slices; the whole grid when nothing is true.
    """
    margins = (margin,) * 3 if isinstance(margin, int) else tuple(margin)
    box = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(hit):
            return slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2])
        box.append(
            slice(
                max(int(hit[0]) - margins[axis], 0),
                min(int(hit[-1]) + 1 + margins[axis], mask.shape[axis]),
            )
        )
    return box[0], box[1], box[2]


def affine_within(affine: np.ndarray, box: tuple[slice, slice, slice]) -> np.ndarray:
    """The affine of the part of a grid that `bounding_box` cuts out, `(4, 4)`."""
    result = affine.copy()
    result[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return result
