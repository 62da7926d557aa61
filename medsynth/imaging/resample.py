"""Scans and label maps on voxels of another size.

Area averaging when voxels grow (no aliasing, no ringing), linear interpolation when they shrink;
labels by majority. What was stripped off a scan is not there, so it is averaged with nothing: else
the brain's surface gets a dark rim on every scan. The field of view stays; the result is RAS+.
Opens no file.
"""

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from medsynth.core.volume import LabelMap, Volume
from medsynth.errors import UsageError

LARGEST_MM = 8.0
REVISION = 2
"""Counts up with each change after which the same scans come out otherwise."""

LEAST_SHARE = 1e-3
"""Of a voxel, below which a scan is not there."""


def resample(scans: Volume, spacing_mm: float) -> Volume:
    """Bring scans to isotropic voxels of about that size.

    A voxel is background where less than half of it lies within the brain, that is, where one of
    the scans is positive, holes filled; else each scan is averaged over the part where it is.

    Args:
        scans: `(C, I, J, K)`.
        spacing_mm: Wanted edge of a voxel; the field of view is kept, so the edge that comes out
            differs by what rounding to whole voxels asks for.

    Raises:
        UsageError: Not between 0.3 and 8 mm.
    """
    shape, affine = _grid(scans, spacing_mm)
    inside = np.stack([ndimage.binary_fill_holes(scan > 0) for scan in scans.data])
    share = _resized(inside.astype(np.float32), shape)
    anywhere = np.any(inside, axis=0, keepdims=True).astype(np.float32)
    data = _resized(np.where(inside, scans.data, np.float32(0)), shape)
    data /= np.maximum(share, LEAST_SHARE)
    data *= (_resized(anywhere, shape) >= 0.5) & (share >= LEAST_SHARE)
    return Volume(data, affine, scans.channels)


def resample_labels(labels: LabelMap, spacing_mm: float) -> LabelMap:
    """Bring a label map to isotropic voxels; arguments and errors as for `resample`.

    A voxel is background where at least half of it is, and else the structure that it has most of.
    """
    shape, affine = _grid(labels, spacing_mm)
    shares = _resized(labels.scheme.encode(labels.data).astype(np.float32), shape)
    shares[0] = shares[0] >= 0.5
    return LabelMap(labels.scheme.decode(shares), affine, labels.scheme)


def _grid(grid: Volume | LabelMap, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Shape and affine of the new grid."""
    if not 0.3 <= spacing_mm <= LARGEST_MM:
        raise UsageError(f"a spacing from 0.3 to {LARGEST_MM:g} mm", f"{spacing_mm:g} mm")
    old = np.array(grid.shape)
    new = np.maximum(np.round(old * grid.spacing_mm / spacing_mm), 1).astype(int)
    ratio = old / new
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * ratio
    affine[:3, 3] += grid.affine[:3, :3] @ ((ratio - 1) / 2)
    return new, affine


def _resized(data: np.ndarray, shape: np.ndarray) -> np.ndarray:
    source = torch.from_numpy(np.ascontiguousarray(data))[None]
    size = [int(n) for n in shape]
    if (shape <= np.array(data.shape[1:])).all():
        return functional.interpolate(source, size, mode="area")[0].numpy()
    return functional.interpolate(source, size, mode="trilinear")[0].numpy()
