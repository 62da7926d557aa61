"""Distances between sets of feature vectors.

Knows arrays only. MONAI's FID calls an argument of scipy that newer versions no longer have, and
its MMD has a linear kernel and no test; both are short.
"""

import numpy as np

from medsynth.core.random import Key

MIN_CASES = 4
"""Cases a side below which a permutation test says nothing (35 splits of eight)."""


def frechet(one: np.ndarray, two: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two sets.

    Args:
        one, two: Features `(N, F)` and `(M, F)`.

    Returns:
        |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), at least 0.

    Source:
        Dowson and Landau, J. Multivar. Anal. 12, 1982; Heusel et al. (arXiv 1706.08500).
    """
    gap = one.mean(0) - two.mean(0)
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (one, two))
    if one.shape[1] <= min(len(one), len(two)):
        roots = np.sqrt(np.maximum(np.linalg.eigvals(a.T @ a @ b.T @ b).real, 0)).sum()
    else:  # more features than rows: the same trace from a smaller matrix
        roots = np.linalg.norm(a @ b.T, "nuc")
    return max(float(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * roots), 0.0)


def mmd(
    one: list[np.ndarray], two: list[np.ndarray], key: Key, draws: int = 999
) -> tuple[float, float]:
    """Squared maximum mean discrepancy with a permutation test over cases.

    Slices of one head resemble each other, so whole cases change sides, never slices.

    Args:
        one, two: Features `(N, F)` of each case.
        key: Which permutations.
        draws: Permutations.

    Returns:
        Unbiased squared MMD with a Gaussian kernel (median distance), and p.

    Source:
        Gretton et al., *A kernel two-sample test*, JMLR 13, 2012.
    """
    kernel = _case_kernel([*one, *two])
    side = np.arange(len(kernel)) < len(one)
    observed, rng = _mmd2(kernel, side), key.numpy()
    more = sum(_mmd2(kernel, rng.permutation(side)) >= observed for _ in range(draws))
    return observed, (1 + more) / (1 + draws)


def _case_kernel(cases: list[np.ndarray]) -> np.ndarray:
    """Mean kernel value between the slices of each two cases."""
    rows = np.concatenate(cases).astype(float)
    owner = np.repeat(np.arange(len(cases)), [len(case) for case in cases])
    squares = (rows**2).sum(1)
    distance = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)
    width = np.median(distance[owner[:, None] != owner])
    kernel = np.exp(-distance / max(float(width), 1e-12))
    share = (owner[None, :] == np.arange(len(cases))[:, None]).astype(float)
    share /= share.sum(1, keepdims=True)
    return share @ kernel @ share.T


def _mmd2(kernel: np.ndarray, side: np.ndarray) -> float:
    def within(mask: np.ndarray) -> float:
        part = kernel[np.ix_(mask, mask)]
        n = len(part)
        return float((part.sum() - np.trace(part)) / (n * (n - 1)))

    return within(side) + within(~side) - 2 * float(kernel[np.ix_(side, ~side)].mean())
