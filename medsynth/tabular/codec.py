"""Columns to tokens and back: names, special values, missing marks and quantile bins.

A token stands for a level, for a value that is frequent (a spike at zero), for a reason why a value
is missing, or for a bin of numbers of equal probability. The inverse lands on the grid that was
observed: an integer stays an integer, a price keeps two digits. Knows arrays; no networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Column, Schema, Table
from medsynth.errors import DataError

MOST_POINTS = 64
"""A numeric column with no more different values has a token for each."""

MOST_BINS = 64
SPIKE = 0.01
"""A value with this share of the rows gets a token of its own."""

KNOTS = 4
"""Pieces of a bin; values are drawn from the piecewise linear inverse distribution."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens of one column: missing marks, then points, then bins.

    Args:
        column: Which one.
        points: Values with a token each, sorted, float64.
        knots: `(bins * KNOTS + 1,)` sorted quantiles of all other values; empty without bins.
    """

    column: Column
    points: np.ndarray
    knots: np.ndarray

    @property
    def bins(self) -> int:
        """How many bins of numbers."""
        return max(len(self.knots) - 1, 0) // KNOTS

    @property
    def size(self) -> int:
        """How many tokens."""
        return len(self.column.marks) + len(self.points) + self.bins

    def ranks(self) -> np.ndarray:
        """Place of each token when all are sorted by value, missing marks first, `(size,)`."""
        middles = self.knots[KNOTS // 2 :: KNOTS][: self.bins]
        values = np.concatenate([self.points, middles])
        marks = len(self.column.marks)
        return np.concatenate([np.arange(marks), marks + values.argsort().argsort()])

    @classmethod
    def fit(cls, column: Column, values: np.ndarray, absent: np.ndarray) -> "Tokens":
        """Look at a column's values."""
        if column.named:
            return cls(column, np.arange(len(column.levels), dtype=float), np.empty(0))
        known = values[absent == 0]
        found, counts = np.unique(known, return_counts=True)
        if len(found) <= MOST_POINTS:
            return cls(column, found, np.empty(0))
        often = counts >= max(SPIKE * len(known), 3)
        rest = known[~np.isin(known, found[often])]
        if len(rest) < 2 * KNOTS:
            return cls(column, found[often], rest_knots(rest, 1))
        bins = int(np.clip(np.sqrt(len(rest)), 4, MOST_BINS))
        return cls(column, found[often], rest_knots(rest, bins))

    def encode(self, values: np.ndarray, absent: np.ndarray) -> np.ndarray:
        """Values to tokens, int64."""
        marks, points = len(self.column.marks), len(self.points)
        at = np.searchsorted(self.points, values)
        exact = (at < points) & (
            self.points[np.minimum(at, points - 1)] == values if points else False
        )
        if self.bins:
            edges = self.knots[KNOTS:-1:KNOTS]
            tokens = np.where(exact, at, points + np.searchsorted(edges, values, "right"))
        else:
            tokens = np.where(exact, at, np.minimum(at, max(points - 1, 0)))
        return np.where(absent > 0, absent - 1, marks + tokens).astype(np.int64)

    def decode(self, tokens: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens to values and why they are missing.

        Args:
            tokens: `(N,)`.
            u: Uniform on [0, 1), `(N,)`: where in its bin a number falls.
        """
        marks, points = len(self.column.marks), len(self.points)
        absent = np.where(tokens < marks, tokens + 1, 0).astype(np.int16)
        index = np.maximum(tokens - marks, 0)
        values = self.points[np.minimum(index, points - 1)] if points else np.zeros(len(tokens))
        if self.bins:
            place = (np.clip(index - points, 0, self.bins - 1) + u) * KNOTS
            drawn = np.interp(place, np.arange(len(self.knots)), self.knots)
            values = np.where(index >= points, on_grid(self.column, drawn), values)
        if self.column.named:
            return values.astype(np.int32), absent
        return values, absent


def rest_knots(rest: np.ndarray, bins: int) -> np.ndarray:
    """Quantiles of values without a token of their own."""
    if not len(rest):
        return np.empty(0)
    return np.quantile(rest, np.linspace(0, 1, bins * KNOTS + 1))


def on_grid(column: Column, values: np.ndarray) -> np.ndarray:
    """Numbers as the column writes them, within its range."""
    if column.kind == "date":
        unit = 86400 if column.decimals else 1
        values = np.round(values * unit) / unit
    elif column.decimals is not None:
        values = np.round(values, column.decimals)
    return np.clip(values, column.low, column.high)


@dataclass(frozen=True, eq=False)
class Codec:
    """Tokens of all modelled columns of a table."""

    schema: Schema
    columns: tuple[Tokens, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Tokens of each column."""
        return tuple(column.size for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Modelled columns, in order."""
        return tuple(tokens.column.name for tokens in self.columns)

    @classmethod
    def fit(cls, table: Table) -> "Codec":
        """Look at a table.

        Raises:
            DataError: It has no column to model.
        """
        if not table.schema.modelled:
            raise DataError("columns to model", "identifiers only")
        return cls(
            table.schema,
            tuple(
                Tokens.fit(c, table.values[c.name], table.absent(c.name))
                for c in table.schema.modelled
            ),
        )

    def encode(self, table: Table) -> np.ndarray:
        """A table as int32 tokens `(N, D)`."""
        pairs = zip(self.columns, self.names, strict=True)
        columns = [t.encode(table.values[n], table.absent(n)) for t, n in pairs]
        return np.stack(columns, 1).astype(np.int32)

    def decode(self, tokens: np.ndarray, key: Key) -> Table:
        """Tokens `(N, D)` as a table; identifiers are numbered anew."""
        rng = key.numpy()
        values: dict[str, np.ndarray] = {}
        missing: dict[str, np.ndarray] = {}
        for index, column in enumerate(self.columns):
            name = column.column.name
            values[name], absent = column.decode(tokens[:, index], rng.random(len(tokens)))
            if absent.any():
                missing[name] = absent
        for of in self.schema.columns:
            if of.kind == "identifier":
                values[of.name] = np.arange(len(tokens), dtype=float)
        return Table(self.schema, values, missing)

    def allowed(self, name: str, text: str) -> np.ndarray:
        """Tokens of a column that stand for a value, boolean `(size,)`; for a number in a bin, the
        bin.

        Raises:
            ConfigError: No such column or level.
        """
        from medsynth.core.table import number_of

        tokens = self.columns[self.names.index(self.schema.column(name).name)]
        allowed = np.zeros(tokens.size, bool)
        if text in tokens.column.marks:
            allowed[tokens.column.marks.index(text)] = True
        else:
            value = np.array([number_of(tokens.column, text)], float)
            allowed[tokens.encode(value, np.zeros(1, int))] = True
        return allowed

    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs, beside the arrays of `arrays`."""
        return {"table": self.schema.to_json(), "names": list(self.names)}

    def arrays(self) -> dict[str, np.ndarray]:
        """Points and knots by position."""
        found: dict[str, np.ndarray] = {}
        for index, column in enumerate(self.columns):
            found |= {f"points.{index}": column.points, f"knots.{index}": column.knots}
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "Codec":
        """The inverse of `to_json` and `arrays`."""
        schema = Schema.from_json(data["table"])
        names: Sequence[str] = data["names"]
        return cls(
            schema,
            tuple(
                Tokens(schema.column(name), arrays[f"points.{index}"], arrays[f"knots.{index}"])
                for index, name in enumerate(names)
            ),
        )
