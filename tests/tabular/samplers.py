"""A generator that is exact: it takes rows of a known table."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Column, Draw, Schema, Table
from medsynth.errors import DataError


def resampler(known: Table) -> Draw:
    """Rows of a table, with replacement, among those that have the values."""

    def draw(rows: int, key: Key, where: Mapping[str, str]) -> Table:
        fit = np.ones(known.rows, bool)
        for name, value in where.items():
            fit &= known.where(name, value)
        if not fit.any():
            raise DataError("rows like that", "none")
        return known.take(key.numpy().choice(np.flatnonzero(fit), rows))

    return draw


def names(**columns: str) -> Table:
    """A table of columns of one-letter names, `?` for missing, with an identifier."""
    kinds, values, missing = [Column("id", "identifier")], {}, {}
    rows = len(next(iter(columns.values())))
    values["id"] = np.arange(rows, dtype=float)
    for name, text in columns.items():
        levels = tuple(sorted(set(text) - {"?"}))
        kinds.append(Column(name, "categorical", levels, ("?",) if "?" in text else ()))
        values[name] = np.array([levels.index(t) if t in levels else 0 for t in text], np.int32)
        missing[name] = np.array([int(t == "?") for t in text], np.int16)
    return Table(Schema(tuple(kinds)), values, missing)


def same(one: Table, two: Table) -> bool:
    """Whether two tables are equal byte for byte, where values are not missing."""
    return one.schema == two.schema and all(
        one.values[c.name].tobytes() == two.values[c.name].tobytes()
        and one.absent(c.name).tobytes() == two.absent(c.name).tobytes()
        for c in one.schema.columns
    )


def by_hand(schema: Schema) -> Schema:
    """A schema as if a person had declared it: made-up rows are nobody's, their ranges public."""
    return replace(schema, columns=tuple(replace(c, inferred=False) for c in schema.columns))
