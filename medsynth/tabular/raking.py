"""Fitting counts to margins: which share each cell gets, and how many whole rows that is.

Knows arrays; no columns, no names, no models.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

SWEEPS = 5_000
"""Rounds over all axes, at most."""

GAP = 1e-12
"""Largest difference to a wanted share at which fitting stops."""

NEAR = 1e-6
"""Rows; a count this near to a whole number is one."""

NODES = 200
"""Branches of the search for whole rows; two axes never need one."""


def margin(cells: np.ndarray, axis: int) -> np.ndarray:
    """Sums over all other axes, `(cells.shape[axis],)`."""
    return cells.sum(tuple(i for i in range(cells.ndim) if i != axis))


def raked(counts: np.ndarray, shares: Sequence[np.ndarray]) -> np.ndarray | None:
    """The joint distribution nearest to the counts whose margins are the shares.

    Cells without counts stay empty. When the fitting gets stuck, it is looked up which cells can
    be above zero at all: with one man among those with breast cancer, half men, half breast and
    half prostate is met, but by no such man, and fitting alone would approach that forever.

    Args:
        counts: Observed rows, one axis per column.
        shares: One array per axis, each adds up to 1.

    Returns:
        Shares that add up to 1, of the shape of `counts`; None when no distribution over the
        cells with counts has these margins.

    Source:
        Iterative proportional fitting: Deming and Stephan, Ann. Math. Stat. 11(4), 1940; nearest
        in relative entropy and limits on the boundary: Csiszár, Ann. Probab. 3(1), 1975.
    """
    start = counts / max(counts.sum(), 1)
    fitted, gap = _fitted(start, shares)
    if gap <= GAP:
        return fitted
    support = _support(counts, shares)
    return None if support is None else _fitted(np.where(support, start, 0), shares)[0]


def _fitted(cells: np.ndarray, shares: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Cells after the sweeps, and the largest difference of a margin to its share."""
    gap = np.inf
    for _ in range(SWEEPS):
        for axis, share in enumerate(shares):
            sums = margin(cells, axis)
            factor = np.divide(share, sums, out=np.zeros(len(share)), where=sums > 0)
            cells = cells * factor.reshape([-1 if i == axis else 1 for i in range(cells.ndim)])
        gap = max(float(np.abs(margin(cells, i) - s).max()) for i, s in enumerate(shares))
        if gap <= GAP:
            break
    return cells, gap


def _support(counts: np.ndarray, shares: Sequence[np.ndarray]) -> np.ndarray | None:
    """Cells that some distribution with these margins uses, boolean; None without one.

    One linear program: cells `used + more`, `used` at most 1, whose margins are a multiple, at
    least 1, of the shares; the most that can be used is 1 in exactly these cells.
    """
    at = np.argwhere(counts > 0)
    sums = _sums(at, counts.shape)
    left = sparse.hstack([sums, sums, -sparse.csr_array(np.concatenate(shares)[:, None])])
    bounds = [(0, 1)] * len(at) + [(0, None)] * len(at) + [(1, None)]
    weights = np.concatenate([-np.ones(len(at)), np.zeros(len(at) + 1)])
    found = linprog(weights, A_eq=left, b_eq=np.zeros(left.shape[0]), bounds=bounds)
    if found.x is None:
        return None
    support = np.zeros(counts.shape, bool)
    support[tuple(at[found.x[: len(at)] > 0.5].T)] = True
    return support


def rounded(cells: np.ndarray, shares: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """Whole rows whose sum is `rows` and whose margins are off by less than one.

    Each cell and each margin is rounded up or down, those with the largest remainders up. With
    three axes and more there may be no such rounding; then the margins are off by as little as
    was found.

    Args:
        cells: Shares that add up to 1.
        shares: Wanted margins.
        rows: How many.

    Source:
        Controlled rounding: Cox and Ernst, INFOR 20(4), 1982; three axes: Causey, Cox and Ernst,
        JASA 80(392), 1985.
    """
    at = np.argwhere(cells > 0)
    exact = cells[tuple(at.T)] * rows
    whole = np.floor(exact + NEAR)
    part = np.maximum(exact - whole, 0)
    sums = _sums(at, cells.shape)
    wanted = np.concatenate(shares) * rows
    low, high = np.floor(wanted + NEAR), np.ceil(wanted - NEAR)
    eye = sparse.eye_array(len(wanted))
    none = sparse.csr_array((1, 2 * len(wanted)))
    left = sparse.vstack([
        sparse.hstack([sums, eye, -eye]),
        sparse.hstack([sparse.csr_array(np.ones((1, len(at)))), none]),
    ])  # fmt: skip
    total = rows - whole.sum()
    limits = LinearConstraint(
        left, np.append(low - sums @ whole, total), np.append(high - sums @ whole, total)
    )
    found = milp(
        np.concatenate([-part, np.full(2 * len(wanted), 1.0 + len(at))]),
        integrality=np.repeat([1, 0], [len(at), 2 * len(wanted)]),
        bounds=Bounds(0, np.concatenate([part > NEAR, np.full(2 * len(wanted), np.inf)])),
        constraints=limits,
        options={"node_limit": NODES},
    )
    counts = np.zeros(cells.shape, np.int64)
    more = np.argsort(-part, kind="stable")[: int(total)]
    extra = np.isin(np.arange(len(at)), more) if found.x is None else found.x[: len(at)] > 0.5
    counts[tuple(at.T)] = whole.astype(np.int64) + extra
    return counts


def effective(counts: np.ndarray, cells: np.ndarray) -> float:
    """Effective sample size of the observed rows, weighted so that they are shared as `cells`.

    Source:
        (Σw)² / Σw²: Kish, *Survey sampling*, 1965.
    """
    used = cells > 0
    return float(1 / (cells[used] ** 2 / counts[used]).sum())


def _sums(at: np.ndarray, shape: tuple[int, ...]) -> sparse.csr_array:
    """The matrix that takes cells to all their margins, `(Σ shape, cells)`."""
    starts = np.concatenate([[0], np.cumsum(shape)[:-1]])
    which = np.arange(len(at))
    ones = np.ones(len(at) * len(shape))
    places = ((at + starts).T.ravel(), np.tile(which, len(shape)))
    return sparse.csr_array((ones, places), shape=(sum(shape), len(at)))
