"""Quasi-identifiers: columns that a stranger may know, names as they are and numbers in bands.

Knows columns and rows; no models, no files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medsynth.core.table import Column, Table, number_of
from medsynth.errors import ConfigError

BANDS = 10
"""Bands of a column of numbers when none are declared; with no more values, one for each."""


@dataclass(frozen=True)
class Quasi:
    """A quasi-identifier.

    Args:
        column: Names or numbers.
        edges: Where the bands of a column of numbers begin, but for the lowest; sorted. An edge
            belongs to the band above it.
    """

    column: Column
    edges: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Levels or bands, and missing marks: each reason is a level of its own."""
        if self.column.named:
            return len(self.column.texts)
        return len(self.edges) + 1 + len(self.column.marks)

    def places(self, table: Table) -> np.ndarray:
        """Level or band of each row, missing marks after them, int64 `(rows,)`."""
        name = self.column.name
        if self.column.named:
            return table.places(name)
        bands = np.searchsorted(self.edges, table.values[name], "right")
        absent = table.absent(name).astype(np.int64)
        return np.where(absent > 0, len(self.edges) + absent, bands)

    def text(self, place: int) -> str | None:
        """How a level or missing mark is written; None for a band."""
        if self.column.named:
            return self.column.texts[place]
        mark = place - len(self.edges) - 1
        return self.column.marks[mark] if mark >= 0 else None


def parse_quasi(texts: Sequence[str], table: Table) -> tuple[Quasi, ...]:
    """Quasi-identifiers as written on the command line: `sex`, `age`, `age=18,40,65`.

    Bands of numbers are deciles of the table unless their edges are given: equal numbers of rows
    make few small cells. A column with no more than ten different numbers has a band for each.

    Raises:
        ConfigError: No column, an unknown one, an identifier, one named twice, or edges that are
            not numbers in ascending order or belong to a column of names.
    """
    if not texts:
        raise ConfigError("quasi-identifiers", "none", None, "Name what a stranger may know.")
    found: list[Quasi] = []
    for text in texts:
        whole = any(column.name == text for column in table.schema.columns)
        name, _, given = (text, "", "") if whole else text.rpartition("=")
        column = table.schema.column(name or given)
        if column.kind == "identifier":
            todo = "Identifiers are numbered anew and tell nothing."
            raise ConfigError("a column that strangers may know", "an identifier", name, todo)
        if column in [quasi.column for quasi in found]:
            raise ConfigError("each quasi-identifier once", "two", column.name)
        if not name or whole:
            found.append(Quasi(column, () if column.named else _deciles(column, table)))
            continue
        if column.named:
            raise ConfigError("bands of a column of numbers", f"{column.kind} levels", name)
        edges = tuple(number_of(column, edge.strip()) for edge in given.split(","))
        if not np.isfinite(edges).all() or any(low >= high for low, high in pairwise(edges)):
            raise ConfigError("finite edges in ascending order", given, name)
        found.append(Quasi(column, edges))
    return tuple(found)


def exact(texts: Sequence[str], quasi: Sequence[Quasi], table: Table) -> Iterator[str]:
    """Columns of many numbers for which nobody named bands, in words, with bands to name.

    Args:
        texts: As for `parse_quasi`.
        quasi: What it made of them.
        table: Rows.
    """
    for text, one in zip(texts, quasi, strict=True):
        column = one.column
        known = table.values[column.name][table.absent(column.name) == 0]
        if text != column.name or column.named or len(np.unique(known)) <= BANDS:
            continue
        some = one.edges[2::3] or one.edges
        written = (
            str(np.datetime64(round(edge), "D")) if column.kind == "date" else f"{edge:g}"
            for edge in some
        )
        yield (
            f"{column.name}: cells are counted in {len(one.edges) + 1} bands, but exact values are "
            "written, and one may stand alone. Name bands and publish these instead, for example "
            f"--quasi {column.name}={','.join(written)}"
        )


def _deciles(column: Column, table: Table) -> tuple[float, ...]:
    known = table.values[column.name][table.absent(column.name) == 0]
    values = np.unique(known)
    if len(values) > BANDS:
        starts = len(known) * np.arange(1, BANDS) // BANDS
        values = np.unique([values[0], *np.sort(known)[starts]])
    return tuple(map(float, values[1:]))
