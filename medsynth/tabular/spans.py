"""Dates that go together: a discharge is learnt as days since its admission, a birth as days since
the admission less the age.

Bins of a date are weeks wide, a stay is days long: learnt one by one, a third of all patients left
before they came, and ages missed birth and admission by eleven years. Knows tables; no networks,
no files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Column, Schema, Table
from medsynth.tabular.codec import on_grid

FEWEST = 30
"""Rows with both dates that a span needs."""

KNOTS = 33
"""Quantiles of dates that are kept."""

YEAR, A_YEAR, OLDEST = 365.25, 400.0, 130
"""Days of a year; days within which births lie that an age in whole years leaves open; years that
no age exceeds."""

SHORTER = 0.5
"""Of the spread of the dates themselves; wider spans say little."""


class Span(NamedTuple):
    """One column as days since another.

    Args:
        column: Which one.
        since: The other.
        years: Column of years that are taken from the other, or None.
        low, high: Fewest and most days.
        usual: Days that stand in a row without what they are counted from.
        dates: Quantiles of the column, which such rows draw theirs from.
    """

    column: str
    since: str
    years: str | None
    low: float
    high: float
    usual: float
    dates: tuple[float, ...]

    def days(self, column: Column) -> Column:
        """The column of dates as one of days: whole ones, unless times or years are in it."""
        whole = self.years is None and not column.decimals
        kind, digits = ("integer", 0) if whole else ("continuous", None)
        return replace(column, kind=kind, decimals=digits, low=self.low, high=self.high)

    def base(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        """Dates that days are counted from, and where there are such, `(rows,)` each."""
        dates, there = table.values[self.since], table.absent(self.since) == 0
        if self.years is not None:
            dates = dates - YEAR * table.values[self.years]
            there = there & (table.absent(self.years) == 0)
        return dates, there


@dataclass(frozen=True)
class Spans:
    """Date columns that are learnt as days since another date; bases come before."""

    of: tuple[Span, ...] = ()

    @classmethod
    def find(cls, table: Table) -> "Spans":
        """Look at real rows: each date stands by what it varies least from.

        That is an earlier column of dates, or any date less a column of years.

        Args:
            table: Those that are learnt from.
        """
        dates = [c.name for c in table.schema.modelled if c.kind == "date"]
        found: dict[str, Span] = {}
        for index, name in enumerate(dates):
            there = table.absent(name) == 0
            values = table.values[name]
            least = SHORTER * _spread(values[there])
            plain = [(other, None) for other in dates[:index]]
            aged = [(other, age) for other in dates for age in _ages(table)]
            for other, years in (*plain, *aged):
                if name in _chain(other, found):
                    continue
                base, known = Span(name, other, years, 0, 0, 0, ()).base(table)
                both = there & known
                days = (values - base)[both]
                spread = _spread(days)
                if len(days) < FEWEST or spread >= (least if years is None else min(least, A_YEAR)):
                    continue
                least = SHORTER * spread if years is None else spread  # an age must bring more
                low, usual, high = np.quantile(days, (0, 0.5, 1)).tolist()
                often = np.quantile(values[there], np.linspace(0, 1, KNOTS)).tolist()
                found[name] = Span(name, other, years, low, high, float(round(usual)), tuple(often))
        order = sorted(found.values(), key=lambda span: len(_chain(span.column, found)))
        return cls(tuple(order))

    @property
    def names(self) -> frozenset[str]:
        """Columns that are spans."""
        return frozenset(span.column for span in self.of)

    def shortened(self, table: Table) -> Table:
        """Rows with spans in place of these dates."""
        columns = {column.name: column for column in table.schema.columns}
        values = dict(table.values)
        for span in self.of:
            base, known = span.base(table)
            values[span.column] = np.where(known, table.values[span.column] - base, span.usual)
            columns[span.column] = span.days(columns[span.column])
        schema = replace(table.schema, columns=tuple(columns.values()))
        return replace(table, schema=schema, values=values)

    def restored(self, table: Table, schema: Schema, key: Key) -> Table:
        """Rows with the dates again, within their range.

        Args:
            table: As `shortened` gives it.
            schema: The table's own, with dates.
            key: Draws dates for rows without the date that they would be counted from.
        """
        for span in self.of:
            at = key.fold(span.column).numpy().random(table.rows) * (len(span.dates) - 1)
            drawn = np.interp(at, np.arange(len(span.dates)), span.dates)
            base, known = span.base(table)
            dates = np.where(known, table.values[span.column] + base, drawn)
            dates = on_grid(schema.column(span.column), dates)
            table = replace(table, values={**table.values, span.column: dates})
        return replace(table, schema=schema)

    def reach(
        self, schema: Schema, name: str, low: float, high: float
    ) -> tuple[str, float, float] | None:
        """Where the date must lie that a span is counted from, for the span to be in a range.

        Args:
            schema: Of the rows.
            name: A column that is a span.
            low, high: Days since 1970.

        Returns:
            The date that is no span itself, and its range; None where years are between them, or
            a span that may be missing.
        """
        spans = {span.column: span for span in self.of}
        while name in spans:
            span = spans[name]
            if span.years is not None or (span.since in spans and schema.column(span.since).marks):
                return None
            name, low, high = span.since, low - span.high, high - span.low
        return name, low, high

    def to_json(self) -> list[list[Any]]:
        """Plain lists."""
        return [list(span) for span in self.of]

    @classmethod
    def from_json(cls, data: Sequence[Sequence[Any]]) -> "Spans":
        """The inverse of `to_json`."""
        return cls(tuple(Span(*span)._replace(dates=tuple(span[-1])) for span in data))


def _chain(name: str, found: Mapping[str, Span]) -> list[str]:
    """A column, what it is counted from, and so on."""
    names = [name]
    while names[-1] in found:
        names.append(found[names[-1]].since)
    return names


def _ages(table: Table) -> list[str]:
    """Columns of numbers that may be years of age: they differ by years, up to a life's."""
    names = []
    for column in table.schema.modelled:
        if column.kind in ("integer", "continuous"):
            known = table.values[column.name][table.absent(column.name) == 0]
            if len(known) and known.min() >= 0 and known.max() <= OLDEST and _spread(known) > 5:
                names.append(column.name)
    return names


def _spread(values: np.ndarray) -> float:
    """The range of the middle 90 %; of the middle half a column of mostly zeros has none."""
    return float(np.subtract(*np.percentile(values, (95, 5)))) if len(values) else 0.0
