"""Rows against rows: columns, pairs of columns, coverage, detection; numbers, no words."""

from itertools import combinations

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.evaluation import detection as learned
from medsynth.evaluation.statistics import Estimate
from medsynth.tabular.codec import Codec

GROUPS = 10
"""Groups of a column when pairs of columns are compared."""

MOST_PAIRS = 400
MOST_ROWS = 10_000
"""Rows a side for what is learnt or compared pair by pair."""

PREVALENT = 0.005
"""Share of rows from which on a level must not be lost."""


def marginals(real: Table, made: Table) -> dict[str, float]:
    """Agreement of each column, 1 when equal.

    Missing values count as names of their own.
    """
    found = {}
    for column in real.schema.modelled:
        sides = [(t.values[column.name], t.absent(column.name)) for t in (real, made)]
        width = 1 + len(column.marks)
        gone = [np.bincount(absent, minlength=width) / len(absent) for _, absent in sides]
        if column.named:
            size = len(column.levels)
            shares = [
                np.concatenate([np.bincount(v[a == 0], minlength=size)[:size] / len(v), g[1:]])
                for (v, a), g in zip(sides, gone, strict=True)
            ]
            found[column.name] = 1 - 0.5 * float(np.abs(shares[0] - shares[1]).sum())
        else:
            lost = 0.5 * float(np.abs(gone[0] - gone[1]).sum())
            one, two = (np.sort(v[a == 0]) for v, a in sides)
            gap = 0.0 if not len(one) and not len(two) else 1.0
            if len(one) and len(two):
                grid = np.unique(np.concatenate([one, two]))
                steps = [np.searchsorted(s, grid, "right") / len(s) for s in (one, two)]
                gap = float(np.abs(steps[0] - steps[1]).max())
            found[column.name] = 1 - max(gap, lost)
    return found


def grouped(codec: Codec, real: Table, table: Table) -> np.ndarray:
    """Each column in up to ten groups of the real rows' making, int `(N, D)`."""
    own, theirs = codec.encode(real), codec.encode(table)
    columns = []
    for index, tokens in enumerate(codec.columns):
        counts = np.bincount(own[:, index], minlength=tokens.size)
        if tokens.size <= GROUPS:
            place = np.arange(tokens.size)
        elif tokens.column.named:
            place = np.full(tokens.size, GROUPS - 1)
            place[counts.argsort()[::-1][: GROUPS - 1]] = np.arange(GROUPS - 1)
        else:
            ranks = tokens.ranks()
            ordered = counts[ranks.argsort()]
            middle = (np.cumsum(ordered) - 0.5 * ordered) / max(counts.sum(), 1)
            place = np.minimum((middle * GROUPS).astype(int), GROUPS - 1)[ranks]
        columns.append(place[theirs[:, index]])
    return np.stack(columns, 1)


def pairs(codec: Codec, real: Table, made: Table, key: Key) -> float:
    """Agreement of pairs of columns, 1 when equal; NaN with one column."""
    found = list(by_pair(codec, real, made, key).values())
    return float(np.mean(found)) if found else float("nan")


def by_pair(codec: Codec, real: Table, made: Table, key: Key) -> dict[str, float]:
    """Agreement of up to 400 pairs of columns, 1 when equal, by `one × other`."""
    one, two = grouped(codec, real, real), grouped(codec, real, made)
    every = list(combinations(range(one.shape[1]), 2))
    chosen = key.numpy().permutation(len(every))[:MOST_PAIRS]
    found = {}
    for a, b in (every[i] for i in chosen):
        shares = [
            np.bincount(side[:, a] * GROUPS + side[:, b], minlength=GROUPS**2) / len(side)
            for side in (one, two)
        ]
        name = f"{codec.names[a]} × {codec.names[b]}"
        found[name] = 1 - 0.5 * float(np.abs(shares[0] - shares[1]).sum())
    return found


def coverage(
    codec: Codec, real: Table, made: Table, key: Key, rows: int | None = None
) -> tuple[float, float]:
    """Share of prevalent tokens that occur, and distinct rows as a share of the real number.

    Args:
        codec: Of the real rows.
        real, made: Rows.
        key: Which of them are counted: more rows, or the first of sorted ones, cover something
            else.
        rows: How many of each, for both figures; None takes as many as the smaller side has.
    """
    rng = key.numpy()
    rows = min(real.rows, made.rows) if rows is None else rows
    some = [side.take(rng.permutation(side.rows)[:rows]) for side in (real, made)]
    own, theirs = codec.encode(real), codec.encode(some[1])
    wanted = found = 0
    for index, tokens in enumerate(codec.columns):
        often = np.bincount(own[:, index], minlength=tokens.size) > PREVALENT * len(own)
        there = np.bincount(theirs[:, index], minlength=tokens.size) > 0
        wanted, found = wanted + int(often.sum()), found + int((often & there).sum())
    distinct = [len(np.unique(grouped(codec, real, side), axis=0)) for side in some]
    return found / max(wanted, 1), distinct[1] / max(distinct[0], 1)


def by_value(real: Table, made: Table, key: Key, rows: int) -> dict[str, float]:
    """Agreement of columns of numbers value by value, 1 when equal.

    That some ages come too often and their neighbours too seldom moves no distribution function,
    and is a sign that people see. It depends on the number of rows: compare it with that of as
    many real ones.

    Args:
        real, made: Rows.
        key: Which made rows are counted.
        rows: How many.

    Returns:
        Of each column of which frequent values make up half of the real rows.
    """
    some = made.take(key.numpy().permutation(made.rows)[:rows])
    found = {}
    for column in real.schema.modelled:
        if column.named:
            continue
        own, theirs = (t.values[column.name][t.absent(column.name) == 0] for t in (real, some))
        values, counts = np.unique(own, return_counts=True)
        often = counts > PREVALENT * len(own)
        if len(theirs) and counts[often].sum() > 0.5 * len(own):
            shares = counts[often] / len(own)
            drawn = np.array([(theirs == value).mean() for value in values[often]])
            gaps = np.append(shares - drawn, drawn.sum() - shares.sum())
            found[column.name] = 1 - 0.5 * float(np.abs(gaps).sum())
    return found


def features(table: Table) -> np.ndarray:
    """Numbers for a learner, `(N, F)`: values with NaN where missing, and why they are missing."""
    columns: list[np.ndarray] = []
    for column in table.schema.modelled:
        absent = table.absent(column.name)
        columns.append(np.where(absent == 0, table.values[column.name].astype(float), np.nan))
        if column.marks:
            columns.append(absent.astype(float))
    return np.stack(columns, 1)


def told_apart(real: Table, made: Table, key: Key) -> Estimate:
    """Area under the curve of telling real from synthetic, with its interval; see `detection`."""
    rows = min(real.rows, made.rows, MOST_ROWS)
    rng = key.numpy()
    one, two = (features(t.take(rng.permutation(t.rows)[:rows])) for t in (real, made))
    return learned.told_apart(one, two, key.fold("bootstrap"))


def detection(real: Table, made: Table, key: Key) -> float:
    """Cross-validated area under the curve of telling real from synthetic."""
    return told_apart(real, made, key).value
