"""Dates that go together: a discharge is learnt as days since its admission.

Bins of a date are weeks wide, a stay is days long: learnt one by one, a third of all patients left
before they came. Knows tables; no networks, no files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Schema, Table
from medsynth.tabular.codec import on_grid

FEWEST = 30
"""Rows with both dates that a span needs."""

KNOTS = 33
"""Quantiles of dates that are kept."""

SHORTER = 0.5
"""Of the spread of the dates themselves; wider spans say little."""


class Span(NamedTuple):
    """One column as days since another.

    Args:
        column: Which one.
        since: The other; it is no span, or stands before.
        low, high: Fewest and most days.
        usual: Days that stand in a row without the other date.
        dates: Quantiles of the column, which such rows draw theirs from.
    """

    column: str
    since: str
    low: float
    high: float
    usual: float
    dates: tuple[float, ...]


@dataclass(frozen=True)
class Spans:
    """Date columns that are learnt as days since another date; bases come before."""

    of: tuple[Span, ...] = ()

    @classmethod
    def find(cls, table: Table) -> "Spans":
        """Look at real rows: each date stands by the earlier column from which it varies least.

        Args:
            table: Those that are learnt from.
        """
        found: list[Span] = []
        placed: list[str] = []
        for column in table.schema.modelled:
            if column.kind != "date":
                continue
            there = table.absent(column.name) == 0
            values = table.values[column.name]
            best, least = None, SHORTER * _spread(values[there])
            for other in placed:
                both = there & (table.absent(other) == 0)
                if both.sum() < FEWEST:
                    continue
                spread = _spread(values[both] - table.values[other][both])
                if spread < least:
                    best, least = other, spread
            if best is not None:
                both = there & (table.absent(best) == 0)
                low, usual, high = np.quantile((values - table.values[best])[both], (0, 0.5, 1))
                dates = np.quantile(values[there], np.linspace(0, 1, KNOTS))
                middle = float(np.round(usual))
                found.append(
                    Span(column.name, best, float(low), float(high), middle, tuple(dates.tolist()))
                )
            placed.append(column.name)
        return cls(tuple(found))

    @property
    def names(self) -> frozenset[str]:
        """Columns that are spans."""
        return frozenset(span.column for span in self.of)

    def shortened(self, table: Table) -> Table:
        """Rows with spans in place of these dates."""
        columns = {column.name: column for column in table.schema.columns}
        values = dict(table.values)
        for span in self.of:
            days = table.values[span.column] - table.values[span.since]
            values[span.column] = np.where(table.absent(span.since) == 0, days, span.usual)
            columns[span.column] = replace(columns[span.column], low=span.low, high=span.high)
        schema = replace(table.schema, columns=tuple(columns.values()))
        return replace(table, schema=schema, values=values)

    def restored(self, table: Table, schema: Schema, key: Key) -> Table:
        """Rows with the dates again, within their range.

        Args:
            table: As `shortened` gives it.
            schema: The table's own, with dates.
            key: Draws dates for rows without the date that they would be counted from.
        """
        values = dict(table.values)
        for span in self.of:
            column = schema.column(span.column)
            at = key.fold(span.column).numpy().random(table.rows) * (len(span.dates) - 1)
            drawn = np.interp(at, np.arange(len(span.dates)), span.dates)
            dates = values[span.column] + values[span.since]
            dates = np.where(table.absent(span.since) == 0, dates, drawn)
            values[span.column] = on_grid(column, dates)
        return replace(table, schema=schema, values=values)

    def to_json(self) -> list[list[Any]]:
        """Plain lists."""
        return [list(span) for span in self.of]

    @classmethod
    def from_json(cls, data: Sequence[Sequence[Any]]) -> "Spans":
        """The inverse of `to_json`."""
        return cls(tuple(Span(*span)._replace(dates=tuple(span[-1])) for span in data))


def _spread(days: np.ndarray) -> float:
    return float(np.subtract(*np.percentile(days, (75, 25)))) if len(days) else 0.0
