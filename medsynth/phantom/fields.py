"""Smooth random fields and the grids they live on.

A field is drawn on a grid as coarse as its smoothness allows and interpolated: a wide Gaussian
filter over a full-size volume costs a hundred times as much. The coarse grid covers `REGION_MM`
whatever the box, so one key gives one field in all boxes in it, unless the field is too fine for
their voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medsynth.core.random import Key

REGION_MM = ((-88.0, 88.0), (-122.0, 88.0), (-76.0, 83.0))
"""Every brain and a little more, in MNI space; beyond it fields go on as at its edge."""


@dataclass(frozen=True)
class Box:
    """A voxel grid aligned with the axes.

    Args:
        shape: Voxels along i, j, k.
        spacing_mm: Edge of a voxel.
        origin_mm: Centre of voxel (0, 0, 0).
    """

    shape: tuple[int, int, int]
    spacing_mm: float
    origin_mm: tuple[float, float, float]

    def coarse(self, spacing_mm: float) -> "Box":
        """A grid over the same region with larger voxels."""
        shape = [int(np.ceil(n * self.spacing_mm / spacing_mm)) + 1 for n in self.shape]
        return Box((shape[0], shape[1], shape[2]), spacing_mm, self.origin_mm)

    def axes_mm(self) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates along each axis, shaped to broadcast over the grid."""
        line = [
            torch.arange(n, dtype=torch.float32) * self.spacing_mm + o
            for n, o in zip(self.shape, self.origin_mm, strict=True)
        ]
        return line[0][:, None, None], line[1][None, :, None], line[2][None, None, :]


def resample(data: Tensor, source: Box, target: Box) -> Tensor:
    """Interpolate `(C, I, J, K)` linearly from one grid onto another; edges are extended."""
    ratio = target.spacing_mm / source.spacing_mm
    for axis in (2, 1, 0):  # the innermost while the array is small
        n = data.shape[axis + 1]
        at = torch.arange(target.shape[axis], dtype=torch.float32) * ratio
        at = at + (target.origin_mm[axis] - source.origin_mm[axis]) / source.spacing_mm
        at = at.clamp(0, n - 1)
        low = at.floor().long().clamp(max=max(n - 2, 0))
        share = (at - low).view([-1 if a == axis else 1 for a in range(3)])
        below = data.index_select(axis + 1, low)
        above = data.index_select(axis + 1, (low + 1).clamp(max=n - 1))
        data = torch.lerp(below, above, share)
    return data


def smooth_fields(key: Key, count: int, box: Box, scale_mm: float) -> Tensor:
    """Independent smooth random fields.

    Args:
        key: Which.
        count: How many, C.
        box: Where.
        scale_mm: Standard deviation of the Gaussian that makes them smooth.

    Returns:
        float32 `(C, I, J, K)`, mean about 0 and variance about 1 over realisations. The same in
        all boxes whose voxels are smaller than two thirds of `scale_mm`; a finer field is drawn
        voxel by voxel.
    """
    step = max(scale_mm / 1.5, box.spacing_mm)
    grid = _lattice(step) if step > box.spacing_mm else box
    noise = torch.from_numpy(key.numpy().standard_normal((count, *grid.shape), np.float32))
    return resample(unit_blur(noise, scale_mm / step), grid, box)


def _lattice(step_mm: float) -> Box:
    """A grid over `REGION_MM`."""
    shape = [int(np.ceil((high - low) / step_mm)) + 1 for low, high in REGION_MM]
    low = [low for low, _ in REGION_MM]
    return Box((shape[0], shape[1], shape[2]), step_mm, (low[0], low[1], low[2]))


def blur(data: Tensor, sigma_voxels: float | Sequence[float]) -> Tensor:
    """Gaussian filter of `(C, I, J, K)`, separable, edges extended."""
    sigmas = (sigma_voxels,) * 3 if isinstance(sigma_voxels, float | int) else sigma_voxels
    for axis, sigma in enumerate(sigmas):
        if sigma > 0.05:
            data = _along(data, _kernel(sigma), axis)
    return data


def unit_blur(noise: Tensor, sigma_voxels: float) -> Tensor:
    """Blur white noise and bring its variance back to one."""
    kernel = _kernel(sigma_voxels)
    return blur(noise, sigma_voxels) / float(kernel.square().sum()) ** 1.5


def _kernel(sigma: float) -> Tensor:
    radius = max(int(np.ceil(3 * sigma)), 1)
    at = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    return kernel / kernel.sum()


def _along(data: Tensor, kernel: Tensor, axis: int) -> Tensor:
    radius = len(kernel) // 2
    pad = [0] * 6
    pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = radius
    padded = functional.pad(data[:, None], pad, mode="replicate")
    n = data.shape[axis + 1]
    out = torch.zeros_like(data)
    for at, weight in enumerate(kernel.tolist()):
        out.add_(padded[:, 0].narrow(axis + 1, at, n), alpha=weight)
    return out
