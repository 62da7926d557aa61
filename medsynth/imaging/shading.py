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

LEAST = 0.1
"""Least share of a block that has to be white matter."""

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
        where fewer than ten blocks have enough of it.
    """
    edges = np.maximum(np.round(BLOCK_MM / _spacing_mm(affine)), 1).astype(int)
    at = np.argwhere(where)
    blocks = np.ceil(np.array(where.shape) / edges).astype(int)
    index = np.ravel_multi_index((at // edges).T, blocks)
    count = np.bincount(index, minlength=blocks.prod())
    enough = count >= LEAST * edges.prod()
    if enough.sum() < 10:
        return np.full((len(scans),) * 2, np.nan)
    sums = [np.bincount(index, scan[where], blocks.prod()) for scan in scans]
    means = np.stack(sums)[:, enough] / count[enough]
    return np.cov(np.log(np.maximum(means, 1e-3)))


def draw(key: Key, covariance: np.ndarray, brain: Tensor, affine: np.ndarray) -> Tensor:
    """Factors of brightness, float32 `(T, I, J, K)`, the same in all grids over one brain.

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
    known = fields[:, inside] if inside.any() else fields.reshape(count, -1)
    fields -= known.mean(1)[:, None, None, None]
    fields /= np.maximum(known.std(1), 1e-6)[:, None, None, None]
    values, vectors = np.linalg.eigh(covariance)
    mixture = vectors * np.sqrt(np.maximum(values, 0))
    logs = torch.from_numpy(np.einsum("st,tijk->sijk", mixture, fields).astype(np.float32))
    shape = tuple(brain.shape)
    fine = functional.interpolate(logs[None], shape, mode="trilinear", align_corners=True)
    return fine[0].exp()


def _spacing_mm(affine: np.ndarray) -> np.ndarray:
    """Edges of a voxel along i, j, k."""
    return np.linalg.norm(affine[:3, :3], axis=0)
