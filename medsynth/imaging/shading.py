"""Shading: what a coil adds to all tissue, more here and less there, and much the same in all scans
of one examination.

A network that sees patches cannot make it. It is measured on training scans as a covariance and
drawn when scans are made. Knows arrays only.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medsynth.core.random import Key

BLOCK_MM = 32.0
"""Edge of the blocks of white matter whose mean brightness is compared; those of 16 mm are moved
nearly as much by texture and by what else is in a voxel."""

LEAST, FEWEST_BLOCKS = 0.1, 10
"""Least share of a block that has to be white matter, and how many such blocks tell anything."""

SCALE_MM = 64.0
"""Two places so far apart are shaded alike to 0.6, as in phantoms; coils reach as far."""

WAVES = 48
GRID_MM = 8.0
"""Fields are made of so many plane waves each, on such a grid, and interpolated."""


def measure(scans: np.ndarray, where: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """How a person's scans are shaded.

    Args:
        scans: `(T, I, J, K)`, any unit.
        where: Voxels of one healthy tissue, boolean `(I, J, K)`.
        affine: Voxel to mm.

    Returns:
        Covariance over blocks of the logarithm of the tissue's mean brightness, `(T, T)`; NaN
        where fewer than `FEWEST_BLOCKS` have enough of it.
    """
    edges = np.maximum(np.round(BLOCK_MM / _spacing_mm(affine)), 1).astype(int)
    where = where & (scans > 0).all(0)  # a scan may end before the label map does
    at = np.argwhere(where)
    blocks = np.ceil(np.array(where.shape) / edges).astype(int)
    index = np.ravel_multi_index((at // edges).T, blocks)
    count = np.bincount(index, minlength=blocks.prod())
    enough = count >= LEAST * edges.prod()
    sums = [np.bincount(index, scan[where], blocks.prod()) for scan in scans]
    means = np.stack(sums)[:, enough] / count[enough]
    if enough.sum() < FEWEST_BLOCKS:
        return np.full((len(scans),) * 2, np.nan)
    return np.cov(np.log(means)).reshape(len(scans), -1)


def draw(key: Key, covariance: np.ndarray, brain: Tensor, affine: np.ndarray) -> Tensor:
    """Factors of brightness, float32 `(T, I, J, K)`, in all grids over one brain within a per cent
    the same. Every brain is shaded as strongly as the covariance says, the mean of a cohort.

    Args:
        key: Which.
        covariance: Of their logarithms over the brain, `(T, T)`.
        brain: Boolean `(I, J, K)`.
        affine: Voxel to mm.

    Source:
        Plane waves with normal wave vectors: random Fourier features, Rahimi and Recht, NIPS 2007.
    """
    rng, count = key.numpy(), len(covariance)
    waves = rng.standard_normal((count, WAVES, 3)) / SCALE_MM
    start = rng.uniform(0, 2 * np.pi, (count, WAVES)) + waves @ affine[:3, 3]
    nodes = [
        np.linspace(0, n - 1, int(np.ceil(n * edge / GRID_MM)) + 1)
        for n, edge in zip(brain.shape, _spacing_mm(affine), strict=True)
    ]
    along = [
        np.exp(1j * (waves @ affine[:3, axis])[..., None] * at) for axis, at in enumerate(nodes)
    ]
    fields = np.einsum("tw,twi,twj,twk->tijk", np.exp(1j * start), *along, optimize=True).real
    inside = brain.numpy()[np.ix_(*(at.round().astype(int) for at in nodes))]
    there = fields[:, inside] if inside.any() else fields.reshape(count, -1)
    fields -= there.mean(1)[:, None, None, None]
    # of something small the waves are a slope, which is not to be made steep
    fields /= np.maximum(there.std(1), 0.5 * np.sqrt(WAVES / 2))[:, None, None, None]
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T  # the one without signs to choose
    logs = torch.from_numpy(np.einsum("st,tijk->sijk", root, fields).astype(np.float32))
    shape = tuple(brain.shape)
    fine = functional.interpolate(logs[None], shape, mode="trilinear", align_corners=True)
    return fine[0].exp()


def _spacing_mm(affine: np.ndarray) -> np.ndarray:
    """Edges of a voxel along i, j, k."""
    return np.linalg.norm(affine[:3, :3], axis=0)
