"""Columns to cells and back: names, special values, missing marks, and intervals of numbers.

A cell is a token and an offset within it. A token stands for a level, for all rare levels
together, for a value that is frequent (a spike at zero), for a reason why a value is missing, or
for an interval of numbers: a bin of equal probability, or a mode of a Gaussian mixture. The offset
says where in its interval a number lies. The inverse lands on the grid that was observed: an
integer stays an integer, a price keeps two digits. Knows arrays; no networks.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import DAY_S, Column, Schema, Table, ends_of
from medsynth.errors import ConfigError, DataError

MOST_POINTS = 64
"""A numeric column with no more different values has a token for each, rows permitting."""

ROWS_PER_POINT = 20
"""Rows that a token of its own needs, on average, in a column of many values."""

FEWEST_POINTS = 12
MOST_BINS = 64
SPIKE = 0.01
"""A value with this share of the rows gets a token of its own."""

KNOTS = 4
"""Pieces of a bin; values are drawn from the piecewise linear inverse distribution."""

MOST_MODES = 10
LEAST_MODE = 0.005
"""Weight below which a mode of the mixture is left out."""

WIDTH_SD = 4.0
"""Standard deviations of a mode on each side of its mean that an offset spans."""


class Cells(NamedTuple):
    """Rows as a codec has them.

    Args:
        tokens: `(N, D)`, int32.
        offsets: Where in its interval a number lies, 0 to 1, `(N, D)`, float32; 0.5 for tokens
            that are no interval.
    """

    tokens: np.ndarray
    offsets: np.ndarray


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens of one column: missing marks, points, all rare levels together, then intervals.

    Args:
        column: Which one.
        points: Values with a token each, sorted, float64.
        knots: `(bins * KNOTS + 1,)` sorted quantiles of all other values; empty without bins. Bins
            of a column with a grid begin and end halfway between its values.
        modes: Mean and standard deviation of each mode `(M, 2)`, in place of bins.
        rare: Levels that share a token and their shares of it `(R, 2)`; empty without.
    """

    column: Column
    points: np.ndarray
    knots: np.ndarray
    modes: np.ndarray
    rare: np.ndarray

    @property
    def bins(self) -> int:
        """How many bins of numbers."""
        return max(len(self.knots) - 1, 0) // KNOTS

    @property
    def intervals(self) -> int:
        """How many tokens have offsets."""
        return self.bins + len(self.modes)

    @property
    def size(self) -> int:
        """How many tokens."""
        grouped = int(len(self.rare) > 0)
        return len(self.column.marks) + len(self.points) + grouped + self.intervals

    def middles(self) -> np.ndarray:
        """A number for each token in the order of values, `(size,)`; NaN for missing marks."""
        bins = self.knots[KNOTS // 2 :: KNOTS][: self.bins]
        rare = self.rare[:1, 0]
        marks = np.full(len(self.column.marks), np.nan)
        return np.concatenate([marks, self.points, rare, bins, self.modes[:, 0]])

    def ranks(self) -> np.ndarray:
        """Place of each token when all are sorted by value, missing marks first, `(size,)`."""
        marks = len(self.column.marks)
        return np.concatenate(
            [np.arange(marks), marks + self.middles()[marks:].argsort(kind="stable").argsort()]
        )

    def within(self, low: float, high: float) -> np.ndarray:
        """Which tokens of numbers may stand for one in a range, without marks, boolean."""
        points = (self.points >= low) & (self.points <= high)
        edges = self.knots[::KNOTS]
        bins = (edges[:-1] <= high) & (edges[1:] >= low)
        return np.concatenate([points, bins, np.ones(len(self.modes), bool)])

    @classmethod
    def fit(
        cls,
        column: Column,
        values: np.ndarray,
        absent: np.ndarray,
        modes: bool = False,
        rare: float = 0.0,
    ) -> "Tokens":
        """Look at a column's values.

        Args:
            column: Which one.
            values, absent: As in `Table`.
            modes: Modes of a Gaussian mixture for numbers, rather than bins.
            rare: Levels with a smaller share of the rows share a token.

        Source:
            Mode-specific normalisation: Xu et al. (arXiv 1907.00503), section 4.2.
        """
        known = values[absent == 0]
        none, nothing, nobody = np.empty(0), np.empty((0, 2)), np.empty((0, 2))
        if column.named:
            points = np.arange(len(column.levels), dtype=float)
            counts = np.bincount(known.astype(int), minlength=len(points))[: len(points)]
            few = counts < rare * len(values)
            if few.sum() > 1 and counts[few].sum():
                shares = counts[few] / counts[few].sum()
                nobody = np.stack([points[few], shares], 1)
                points = points[~few]
            return cls(column, points, none, nothing, nobody)
        found, counts = np.unique(known, return_counts=True)
        most = np.clip(len(values) // ROWS_PER_POINT, FEWEST_POINTS, MOST_POINTS)
        if len(found) <= most:
            return cls(column, found, none, nothing, nobody)
        often = counts >= max(SPIKE * len(known), 3)
        often &= counts >= 3 * np.median(counts)
        if often.sum() > most:
            often &= counts >= np.sort(counts)[-most]
        rest = known[~np.isin(known, found[often])]
        if modes and len(rest) >= 2 * MOST_MODES:
            return cls(column, found[often], none, _modes(rest), nobody)
        bins = 1 if len(rest) < 2 * KNOTS else int(np.clip(np.sqrt(len(rest)), 4, MOST_BINS))
        return cls(column, found[often], rest_knots(rest, bins, grid(column)), nothing, nobody)

    def encode(self, values: np.ndarray, absent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values to tokens, int32, and offsets, float32."""
        marks, points = len(self.column.marks), len(self.points)
        at = np.searchsorted(self.points, values)
        exact = (at < points) & (
            self.points[np.minimum(at, points - 1)] == values if points else False
        )
        first = points + int(len(self.rare) > 0)
        place = np.full(len(values), 0.5)
        if self.bins:
            pieces = np.interp(values, self.knots, np.arange(len(self.knots))) / KNOTS
            other = np.searchsorted(self.knots[KNOTS:-1:KNOTS], values, "right")
            place = np.where(exact, place, np.clip(pieces - other, 0, 1))
            tokens = np.where(exact, at, first + other)
        elif len(self.modes):
            mean, sd = self.modes.T
            away = np.abs(values[:, None] - mean) / sd
            other = (away**2 / 2 + np.log(sd)).argmin(1)
            inside = (values - mean[other]) / (2 * WIDTH_SD * sd[other]) + 0.5
            place = np.where(exact, place, np.clip(inside, 0, 1))
            tokens = np.where(exact, at, first + other)
        else:
            tokens = np.where(exact, at, points if len(self.rare) else np.minimum(at, points - 1))
        tokens = np.where(absent > 0, absent - 1, marks + np.maximum(tokens, 0))
        return tokens.astype(np.int32), np.where(absent > 0, 0.5, place).astype(np.float32)

    def decode(self, tokens: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens to values and why they are missing.

        Args:
            tokens: `(N,)`.
            offsets: 0 to 1, `(N,)`; for rare levels, which of them.
        """
        marks, points = len(self.column.marks), len(self.points)
        absent = np.where(tokens < marks, tokens + 1, 0).astype(np.int16)
        index = np.maximum(tokens - marks, 0)
        values = self.points[np.minimum(index, points - 1)] if points else np.zeros(len(tokens))
        if len(self.rare):
            steps = np.cumsum(self.rare[:, 1])
            which = np.searchsorted(steps / steps[-1], offsets, "right")
            drawn = self.rare[np.minimum(which, len(steps) - 1), 0]
            values = np.where(index == points, drawn, values)
            points += 1
        if self.intervals:
            interval = np.clip(index - points, 0, self.intervals - 1)
            if self.bins:
                place = (interval + offsets) * KNOTS
                drawn = np.interp(place, np.arange(len(self.knots)), self.knots)
            else:
                mean, sd = self.modes[interval].T
                drawn = mean + sd * WIDTH_SD * (2 * offsets - 1)
            values = np.where(index >= points, on_grid(self.column, drawn), values)
        if self.column.named:
            return values.astype(np.int32), absent
        return values, absent


def _modes(known: np.ndarray) -> np.ndarray:
    """Means and standard deviations of a Bayesian Gaussian mixture, `(M, 2)`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import BayesianGaussianMixture

    some = known[:: -(-len(known) // 20_000)]
    scale = max(float(np.std(some)), 1e-9)
    mixture = BayesianGaussianMixture(
        n_components=MOST_MODES, weight_concentration_prior=0.001, max_iter=100, random_state=0
    )
    with warnings.catch_warnings():  # a hundred rounds are near enough
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit((some / scale)[:, None])
    kept = mixture.weights_ >= LEAST_MODE
    sd = np.sqrt(mixture.covariances_[:, 0, 0]) * scale
    return np.stack([mixture.means_[:, 0] * scale, sd], 1)[kept]


def grid(column: Column) -> float | None:
    """Distance of the values that a column of numbers can have; None for any number."""
    if column.kind == "date":
        return 1 / _parts_of_a_day(column)
    if column.kind == "integer":
        return 1.0
    return None if column.decimals is None else 10.0**-column.decimals


def _parts_of_a_day(column: Column) -> int:
    """Steps of a column of dates in a day: one, or its minutes or seconds."""
    if not column.decimals:
        return 1
    return DAY_S if column.fixed else DAY_S // 60


def rest_knots(rest: np.ndarray, bins: int, step: float | None) -> np.ndarray:
    """Quantiles of values without a token of their own.

    A value on a grid stands for all that is rounded to it: its share lies between the points
    halfway to its neighbours.

    Args:
        rest: Values.
        bins: At most; neighbours that come to lie in the same place are one.
        step: Distance of the grid; None without one.
    """
    if not len(rest):
        return np.empty(0)
    if step is None:
        return np.quantile(rest, np.linspace(0, 1, bins * KNOTS + 1))
    found, counts = np.unique(rest, return_counts=True)
    edges = np.stack([found - step / 2, found + step / 2], 1).ravel()
    steps = np.repeat(np.concatenate([[0], np.cumsum(counts) / len(rest)]), 2)[1:-1]
    return knots_of(np.maximum.accumulate(edges), steps, bins, step)


def knots_of(edges: np.ndarray, steps: np.ndarray, bins: int, step: float | None) -> np.ndarray:
    """Knots of bins of about equal probability.

    Bins of a grid hold whole values: if a value's share lay in two bins, one of them would get
    all of it when values are encoded, and both would give of it when they are drawn, so that some
    values came too often and their neighbours too seldom.

    Args:
        edges: Where the distribution function is known, sorted.
        steps: The distribution function there, 0 to 1.
        bins, step: See `rest_knots`; the first and last edge lie halfway between values.
    """
    ends = np.interp(np.linspace(0, 1, bins + 1), steps, edges)
    if step is not None:
        whole = np.round((ends - edges[0]) / step)
        ends = edges[0] + step * np.unique(whole)
    before = np.interp(ends, edges, steps)
    shares = before[:-1, None] + np.diff(before)[:, None] * np.arange(KNOTS) / KNOTS
    knots = np.clip(np.interp(shares, steps, edges), ends[:-1, None], ends[1:, None])
    knots[:, 0] = ends[:-1]
    return np.append(knots, ends[-1])


def on_grid(column: Column, values: np.ndarray) -> np.ndarray:
    """Numbers as the column writes them, within its range."""
    if column.kind == "date":
        unit = _parts_of_a_day(column)
        values = np.round(values * unit) / unit
    elif (step := grid(column)) is not None:
        values = np.round(values, 0 if step == 1 else column.decimals or 0)
    return np.clip(values, *column.ends)


@dataclass(frozen=True, eq=False)
class Codec:
    """Cells of all modelled columns of a table."""

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
    def fit(cls, table: Table, modes: bool = False, rare: float = 0.0) -> "Codec":
        """Look at a table.

        Args:
            table: Rows.
            modes, rare: See `Tokens.fit`.

        Raises:
            DataError: It has no column to model.
        """
        if not table.schema.modelled:
            raise DataError("columns to model", "identifiers only")
        return cls(
            table.schema,
            tuple(
                Tokens.fit(c, table.values[c.name], table.absent(c.name), modes, rare)
                for c in table.schema.modelled
            ),
        )

    def cells(self, table: Table) -> Cells:
        """A table as tokens and offsets."""
        pairs = zip(self.columns, self.names, strict=True)
        both = [t.encode(table.values[n], table.absent(n)) for t, n in pairs]
        return Cells(*(np.stack(part, 1) for part in zip(*both, strict=True)))

    def encode(self, table: Table) -> np.ndarray:
        """A table as int32 tokens `(N, D)`."""
        return self.cells(table).tokens

    def decode(self, tokens: np.ndarray, key: Key, offsets: np.ndarray | None = None) -> Table:
        """Tokens `(N, D)` as a table; identifiers are numbered anew.

        Args:
            tokens: `(N, D)`.
            key: Draws what the tokens leave open.
            offsets: `(N, D)`; None draws them uniformly.
        """
        rng = key.numpy()
        values: dict[str, np.ndarray] = {}
        missing: dict[str, np.ndarray] = {}
        for index, column in enumerate(self.columns):
            name = column.column.name
            u = rng.random(len(tokens))
            if offsets is not None and column.intervals:
                u = offsets[:, index]
            values[name], absent = column.decode(tokens[:, index], u)
            if absent.any():
                missing[name] = absent
        for of in self.schema.columns:
            if of.kind == "identifier":
                values[of.name] = np.arange(len(tokens), dtype=float)
        return Table(self.schema, values, missing)

    def allowed(self, name: str, text: str) -> np.ndarray:
        """Tokens of a column that stand for a value, boolean `(size,)`; for a number in a bin, the
        bin, and for a range of numbers all bins that share something with it.

        Raises:
            ConfigError: No such column or level, or a range of which nothing was learnt.
        """
        tokens = self.columns[self.names.index(self.schema.column(name).name)]
        allowed = np.zeros(tokens.size, bool)
        if text in tokens.column.marks:
            allowed[tokens.column.marks.index(text)] = True
            return allowed
        low, high = ends_of(tokens.column, text)
        if low == high:
            allowed[tokens.encode(np.array([low], float), np.zeros(1, int))[0]] = True
            return allowed
        allowed = self.reaching(name, low, high)
        if not allowed.any():
            raise ConfigError(f"a range of {name} that has values", repr(text))
        return allowed

    def reaching(self, name: str, low: float, high: float) -> np.ndarray:
        """Tokens of a column of numbers that share something with a range, boolean `(size,)`."""
        tokens = self.columns[self.names.index(name)]
        marks = np.zeros(len(tokens.column.marks), bool)
        return np.concatenate([marks, tokens.within(low, high)])

    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs, beside the arrays of `arrays`."""
        return {"table": self.schema.to_json(), "names": list(self.names)}

    def arrays(self) -> dict[str, np.ndarray]:
        """Points, knots, modes and rare levels by position."""
        return {
            f"{name}.{index}": getattr(column, name)
            for index, column in enumerate(self.columns)
            for name in ("points", "knots", "modes", "rare")
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "Codec":
        """The inverse of `to_json` and `arrays`."""
        schema = Schema.from_json(data["table"])
        names: Sequence[str] = data["names"]
        return cls(
            schema,
            tuple(
                Tokens(
                    schema.column(name), arrays[f"points.{index}"], arrays[f"knots.{index}"],
                    arrays[f"modes.{index}"], arrays[f"rare.{index}"],
                )
                for index, name in enumerate(names)
            ),
        )  # fmt: skip
