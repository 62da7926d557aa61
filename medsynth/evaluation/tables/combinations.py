"""Values, and pairs of values, that come far too often or far too seldom.

Mean figures over columns and pairs do not see that one rare combination came thirteenfold: its
rows are few on either side. It matters to the people who have it, and it is what equalisation and
conditions make most easily. Knows levels of columns of names; no words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

from medsynth.core.table import Table

FACTOR = 3.0
"""Times as often, or as seldom, from which on a combination is worth a line."""

CHANCE = 0.01
"""That anything at all is called so by luck."""

MOST_LEVELS = 64
"""Levels above which a column is left out of pairs."""


@dataclass(frozen=True)
class Off:
    """A value, or a pair of values, that is off.

    Args:
        values: `sex=M`, or `sex=M, site=breast`.
        rows, of: Synthetic rows that have it, and how many there are.
        real, of_real: The same of real rows.
        factor: How many times as often as among real rows; half a row is added to both counts.
        low, high: 95 % interval of the factor (Jeffreys').
    """

    values: str
    rows: int
    of: int
    real: int
    of_real: int
    factor: float
    low: float
    high: float


def off(real: Table, made: Table) -> tuple[list[Off], int]:
    """What is `FACTOR` times too frequent or too rare beyond chance, surest first.

    A pair must be off among all rows, among those with its one value and among those with its
    other: a value that is made more often on purpose brings its pairs along.

    Both counts are taken for Poisson's, so that one of them is binomial given their sum; of all
    values and pairs one is called off by luck in a hundred tables.

    Args:
        real: Rows that the model was fitted on.
        made: Synthetic rows, same levels.

    Returns:
        What is off, and how many values and pairs were looked at.

    Source:
        Przyborowski and Wilenski, *Homogeneity of results in testing samples from Poisson series*,
        Biometrika 31, 1940.
    """
    parts = list(_cells(real, made))
    if not parts:
        return [], 0
    names = [name for part in parts for name in part.names]
    ours, theirs, fair = (
        np.concatenate([getattr(part, what) for part in parts], -1)
        for what in ("made", "real", "fair")
    )
    both = ours + theirs
    tails = stats.binom.cdf(ours, both, fair), stats.binom.sf(ours - 1, both, fair)
    beyond = 2 * np.minimum(*tails) * len(names) < CHANCE
    ends = stats.beta.ppf([[0.025], [0.975]], ours + 0.5, theirs + 0.5)
    factors = (ours + 0.5) / (theirs + 0.5) / _odds(fair)
    low, high = _odds(ends) / _odds(fair[0])
    so = (beyond & (factors >= FACTOR)).all(0) | (beyond & (factors <= 1 / FACTOR)).all(0)
    chosen = np.flatnonzero(so)
    surest = np.maximum(low, 1 / high)[chosen]
    found = [
        Off(
            names[i], int(ours[i]), made.rows, int(theirs[i]), real.rows,
            float(factors[0, i]), float(low[i]), float(high[i]),
        )
        for i in chosen[np.argsort(-surest, kind="stable")]
    ]  # fmt: skip
    return found, len(names)


def _odds(share: np.ndarray) -> np.ndarray:
    return share / (1 - share)


class Cells(NamedTuple):
    """Values, or pairs of two columns' values, that occur.

    Args:
        names: What they are called, V.
        made, real: Rows that have them, `(V,)`.
        fair: Share of these that would be synthetic if nothing were off: among all rows, and of
            pairs among those with the one value and with the other, `(3, V)`.
    """

    names: list[str]
    made: np.ndarray
    real: np.ndarray
    fair: np.ndarray


def _cells(real: Table, made: Table) -> Iterator[Cells]:
    """All values of columns of names, then all pairs of those of few levels."""
    every = made.rows / (made.rows + real.rows)
    places = {}
    for column in (c for c in real.schema.modelled if c.named):
        sides = [table.places(column.name) for table in (made, real)]
        texts = column.texts
        counts = np.stack([np.bincount(side, minlength=len(texts)) for side in sides])
        there = np.flatnonzero(counts.sum(0))
        told = [f"{column.name}={texts[i] or 'missing'}" for i in there]
        yield Cells(told, counts[0, there], counts[1, there], np.full((3, len(there)), every))
        if len(texts) <= MOST_LEVELS:
            names = [f"{column.name}={text or 'missing'}" for text in texts]
            places[column.name] = sides, names, counts
    for (one, rows, first), (two, columns, second) in combinations(places.values(), 2):
        size = len(columns)
        counts = np.stack(
            [
                np.bincount(x * size + y, minlength=len(rows) * size)
                for x, y in zip(one, two, strict=True)
            ]
        )
        there = np.flatnonzero(counts.sum(0))
        told = [f"{rows[i // size]}, {columns[i % size]}" for i in there]
        given = [first[:, there // size], second[:, there % size]]
        fair = [np.full(len(there), every), *(side[0] / side.sum(0) for side in given)]
        yield Cells(told, counts[0, there], counts[1, there], np.clip(fair, 1e-12, 1 - 1e-12))
