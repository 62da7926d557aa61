"""Gower's distance between rows of a table, block by block."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Table

BLOCK = 4_000_000
"""Distances at a time, 16 MB."""

FAR = 1e5
"""Where missing numbers stand, in ranges; the same place in every table."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows ready to be compared.

    Args:
        numbers: `(N, P)` float32, in ranges of the middle 90 % of the real values; what is missing
            stands far away, a place for each reason.
        names: `(N, Q)` int32 levels; negative where missing.
    """

    numbers: np.ndarray
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)


def ready(table: Table, like: Table, columns: Sequence[str] | None = None) -> Rows:
    """Rows ready to be compared.

    Args:
        table: Which rows.
        like: Real rows, whose ranges are the units of numbers.
        columns: Those that are known; None compares all but identifiers.
    """
    numbers, names = [], []
    for column in like.schema.modelled:
        if columns is not None and column.name not in columns:
            continue
        values, absent = table.values[column.name], table.absent(column.name).astype(int)
        if column.named:
            names.append(np.where(absent > 0, -absent, values).astype(np.int32))
            continue
        known = like.values[column.name][like.absent(column.name) == 0]
        low, high = np.percentile(known, (5, 95)) if len(known) else (0.0, 1.0)
        unit = max(high - low, 1e-9)
        scaled = np.clip((values - low) / unit, -FAR / 2, FAR)
        scaled = np.where(absent > 0, -FAR * absent, scaled)
        numbers.append(scaled.astype(np.float32))
    rows = table.rows
    return Rows(
        np.stack(numbers, 1) if numbers else np.zeros((rows, 0), np.float32),
        np.stack(names, 1) if names else np.zeros((rows, 0), np.int32),
    )


def joined(one: Rows, two: Rows) -> Rows:
    """Rows of both, one after the other."""
    numbers, names = (
        np.concatenate([one.numbers, two.numbers]),
        np.concatenate([one.names, two.names]),
    )
    return Rows(numbers, names)


def gower(one: Rows, two: Rows) -> np.ndarray:
    """Mean difference over columns, `(N, M)`; a missing value equals one of the same reason.

    Source:
        Gower, *A general coefficient of similarity*, Biometrics 27, 1971.
    """
    total = np.zeros((len(one), len(two)), np.float32)
    for a, b in zip(one.numbers.T, two.numbers.T, strict=True):
        apart = np.abs(a[:, None] - b)
        total += np.minimum(apart, 1, out=apart)
    for a, b in zip(one.names.T, two.names.T, strict=True):
        total += a[:, None] != b
    return total / max(one.numbers.shape[1] + one.names.shape[1], 1)


def blocks(one: Rows, two: Rows) -> Iterator[np.ndarray]:
    """All distances, some rows of `one` at a time."""
    step = max(BLOCK // max(len(two), 1), 1)
    for start in range(0, len(one), step):
        at = slice(start, start + step)
        yield gower(Rows(one.numbers[at], one.names[at]), two)


def nearest(one: Rows, two: Rows) -> np.ndarray:
    """Distance of each row to the nearest of the others, `(N,)`."""
    return np.concatenate([block.min(1) for block in blocks(one, two)])


def neighbours(one: Rows, two: Rows, most: int) -> np.ndarray:
    """The nearest others of each row, nearest first, `(N, most)`.

    Those that are as near come in one drawn order: which of them NumPy's partition gives differs
    from processor to processor, and the order of a table may mean something.
    """
    most = min(most, len(two))
    drawn = Key(0, ("ties",)).numpy().permutation(len(two))
    place = drawn.argsort().astype(np.uint64)
    found = []
    for block in blocks(one, two):
        keys = (block.view(np.uint32).astype(np.uint64) << np.uint64(32)) | place
        near = np.sort(np.partition(keys, most - 1, 1)[:, :most], 1)
        found.append(drawn[near & np.uint64(0xFFFFFFFF)])
    return np.concatenate(found)
