"""Tables as values: columns with a kind, rows as arrays, missing values with their reasons.

In memory a column is one array: level numbers for names, float64 for numbers and dates; beside it
stands why a value is missing, because "not asked" and "refused" are different answers. Opens no
file.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from medsynth.core.random import Key
from medsynth.errors import ConfigError, DataError

NAMED = ("categorical", "ordinal", "binary")
NUMBERS = ("continuous", "integer", "date")
KINDS = (*NAMED, *NUMBERS, "identifier")
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2})?)?")
DAY_S = 86_400
RANGE = ".."
"""Between the ends of a range in a condition."""


@dataclass(frozen=True)
class Column:
    """What a column may hold, and how it is written.

    Args:
        name: Its heading.
        kind: One of `KINDS`; counts are integers with `low` 0. An identifier is never modelled:
            new ones are made.
        levels: Names in order, for `NAMED` kinds.
        marks: Texts that stand for missing values, for example `""` or `"?"`.
        low, high: Range, for `NUMBERS` kinds; days since 1970 for dates. None where nobody declared
            it: reading rows finds it.
        decimals: Digits after the point; None for as many as the rows have, at full precision
            where these differ too much. A date has 1 with the time of
            day, else 0.
        fixed: Whether all are written with that many digits (`1.50`), or trimmed (`1.5`); times of
            day to the second, or whole minutes.
        dtype: pandas' type that the column had, `str` for files without types.
        inferred: Whether levels or a range were read off rows rather than declared. They hold for
            those rows alone, and are not public.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    decimals: int | None = 0
    fixed: bool = True
    dtype: str = "str"
    inferred: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"a kind of column ({', '.join(KINDS)})", repr(self.kind), self.name)
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ConfigError("low up to high", f"{self.low:g} and {self.high:g}", self.name)

    @property
    def named(self) -> bool:
        """Whether values are names rather than numbers."""
        return self.kind in NAMED

    @property
    def ends(self) -> tuple[float, float]:
        """`low` and `high` of a column of numbers that rows were read for: both are known."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    @property
    def texts(self) -> tuple[str, ...]:
        """Levels, then marks: missing values are levels of their own where rows are counted."""
        return (*self.levels, *self.marks)


@dataclass(frozen=True)
class Rule:
    """What must hold in every row: where `when` is so, `never` is not.

    Args:
        when: Column and value.
        never: Column and value, for example no prostate code in a female record.
    """

    when: tuple[str, str]
    never: tuple[str, str]


@dataclass(frozen=True)
class Schema:
    """Columns in order, and rules between them."""

    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError("columns with different names", f"{', '.join(twice)} more than once")

    def column(self, name: str) -> Column:
        """A column by name.

        Raises:
            ConfigError: There is none; the nearest name is given.
        """
        import difflib

        for column in self.columns:
            if column.name == name:
                return column
        names = [column.name for column in self.columns]
        near = difflib.get_close_matches(name, names, 1, 0.4)
        raise ConfigError(
            f"a column ({', '.join(names[:12])}{', …' if len(names) > 12 else ''})",
            repr(name),
            None,
            f"Did you mean {near[0]!r}?" if near else None,
        )

    @cached_property
    def modelled(self) -> tuple[Column, ...]:
        """All columns but identifiers."""
        return tuple(column for column in self.columns if column.kind != "identifier")

    def to_json(self) -> dict[str, Any]:
        """As JSON and YAML have it; defaults are left out, dates are written as dates."""
        columns = []
        for column in self.columns:
            plain = {k: v for k, v in vars(column).items() if v != getattr(Column, k, None)}
            if column.kind == "date":
                plain |= {k: as_written(column, plain[k]) for k in ("low", "high") if k in plain}
            columns.append({k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()})
        rules = [{"when": list(rule.when), "never": list(rule.never)} for rule in self.rules]
        return {"schema": "medsynth-table/1", "columns": columns, "rules": rules}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: object | None = None) -> "Schema":
        """The inverse of `to_json`.

        Raises:
            ConfigError: Not a table schema, or a key that columns do not have.
        """
        try:
            plain: list[dict[str, Any]] = [
                {k: tuple(v) if isinstance(v, list) else v for k, v in column.items()}
                for column in data["columns"]
            ]
            for column in plain:
                if column.get("kind") == "continuous":
                    column.setdefault("decimals", None)  # reading rows finds them
                if column.get("kind") == "date":
                    column |= {k: _day(column[k]) for k in ("low", "high") if k in column}
                if column.get("kind") == "count":
                    column |= {"kind": "integer", "low": max(column.get("low") or 0.0, 0.0)}
            columns = tuple(Column(**column) for column in plain)
            rules = tuple(
                Rule(
                    (str(r["when"][0]), str(r["when"][1])), (str(r["never"][0]), str(r["never"][1]))
                )
                for r in data.get("rules", ())
            )
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ConfigError("a table schema (columns, rules)", repr(error), where) from error
        return cls(columns, rules)


def as_written(column: Column, value: float) -> str:
    """A number as a person writes it; dates as 2026-11-25, with the time of day if they have it."""
    if column.kind != "date" or not np.isfinite(value):
        return f"{value:g}"
    stamp = str(np.datetime64(round(value * DAY_S), "s"))
    return stamp.replace("T", " ") if column.decimals else stamp[:10]


def _day(value: object) -> float | None:
    """Days since 1970 of what YAML or JSON has for a date: itself a number, a date or a text."""
    if value is None or isinstance(value, int | float):
        return value
    text = str(value).replace(" ", "T")
    return float(np.datetime64(text, "s").astype("int64") / DAY_S)


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of a schema.

    Args:
        schema: Its columns.
        values: By column name: int32 level numbers (`NAMED`), float64 (`NUMBERS`), row numbers
            (identifiers); what stands at missing places means nothing.
        missing: By column name, int16: 0 where there is a value, else 1 + the index of the mark.
    """

    schema: Schema
    values: Mapping[str, np.ndarray]
    missing: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many."""
        return len(next(iter(self.values.values()))) if self.values else 0

    def __len__(self) -> int:
        return self.rows

    def absent(self, name: str) -> np.ndarray:
        """Why a value is missing, int16 `(rows,)`; 0 where it is there."""
        found = self.missing.get(name)
        return np.zeros(self.rows, np.int16) if found is None else found

    def places(self, name: str) -> np.ndarray:
        """Where in `Column.texts` each value of a column of names stands, int64 `(rows,)`."""
        absent, levels = self.absent(name).astype(np.int64), len(self.schema.column(name).levels)
        return np.where(absent > 0, levels + absent - 1, self.values[name]).astype(np.int64)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Table":
        """Some rows, in that order."""
        at = np.asarray(rows)
        return replace(
            self,
            values={name: v[at] for name, v in self.values.items()},
            missing={name: v[at] for name, v in self.missing.items()},
        )

    def broken(self) -> np.ndarray:
        """How many rules each row breaks, `(rows,)`."""
        count = np.zeros(self.rows, int)
        for rule in self.schema.rules:
            hit = np.ones(self.rows, bool)
            for name, value in (rule.when, rule.never):
                hit &= self.where(name, value)
            count += hit
        return count

    def where(self, name: str, value: str) -> np.ndarray:
        """Rows in which a column has a value, or lies in a range such as `60..80`, boolean.

        Raises:
            ConfigError: The column has no such level, or the text is no number and no range.
        """
        column = self.schema.column(name)
        here = self.absent(name) == 0
        if value in column.marks:
            return self.absent(name) == 1 + column.marks.index(value)
        low, high = asked_of(column, value)
        return here & (self.values[name] >= low) & (self.values[name] <= high)


Draw = Callable[[int, Key, Mapping[str, str]], Table]
"""Any generator of rows: how many, from which key, and column → value that all of them have.

One that cannot make such rows raises a DataError.
"""


def concatenate(tables: Sequence[Table]) -> Table:
    """Tables below each other; identifiers are numbered anew, 0 to rows − 1.

    Args:
        tables: At least one, all of one schema.

    Raises:
        DataError: No table, or another schema.
    """
    if not tables:
        raise DataError("tables to put together", "none")
    schema = tables[0].schema
    if any(table.schema != schema for table in tables):
        raise DataError("tables with one schema", "another schema", None, "Read all with one.")
    rows = sum(table.rows for table in tables)
    values: dict[str, np.ndarray] = {}
    missing: dict[str, np.ndarray] = {}
    for column in schema.columns:
        name = column.name
        if column.kind == "identifier":
            values[name] = np.arange(rows, dtype=float)
            continue
        values[name] = np.concatenate([table.values[name] for table in tables])
        if any(name in table.missing for table in tables):
            missing[name] = np.concatenate([table.absent(name) for table in tables])
    return Table(schema, values, missing)


def is_range(column: Column, text: str) -> bool:
    """Whether a condition asks for a range of numbers, `60..80`, `60..` or `..80`."""
    return not column.named and RANGE in text and text not in column.marks


def asked_of(column: Column, text: str) -> tuple[float, float]:
    """First and last number that a condition allows; both are the same for a single value.

    A day in a column with times of day is all of that day.

    Raises:
        ConfigError: The column has no such level, or the text is neither a number nor a range.
    """
    if column.named:
        value = float(number_of(column, text))
        return value, value
    texts = [part.strip() for part in (text.split(RANGE, 1) if RANGE in text else (text, text))]
    low, high = (
        _number(column, part) if part else end
        for part, end in zip(texts, (-np.inf, np.inf), strict=True)
    )
    if column.kind == "date" and column.decimals and len(texts[1]) == len("2026-11-25"):
        high += 1 - 1 / DAY_S
    if low > high:
        raise ConfigError("a range low..high", repr(text), column.name, "Exchange its ends.")
    return low, high


def ends_of(column: Column, text: str) -> tuple[float, float]:
    """`asked_of`, where something of it was learnt; open ends are those of the column.

    Raises:
        ConfigError: As it says, or nothing of the range was learnt.
    """
    low, high = asked_of(column, text)
    if column.named:
        return low, high
    least = -np.inf if column.low is None else column.low
    most = np.inf if column.high is None else column.high
    if high < least or low > most:
        ends = f"{as_written(column, least)} to {as_written(column, most)}"
        raise ConfigError(
            f"{column.name} from {ends}", repr(text), None, "Nothing beyond was learnt."
        )
    return (low, high) if low == high else (max(low, least), min(high, most))


def number_of(column: Column, text: str) -> float:
    """The number that stands for a value in memory.

    Raises:
        ConfigError: The column has no such level, or the text is no number of what was learnt.
    """
    import difflib

    if not column.named:
        return ends_of(column, text)[0]
    if text in column.levels:
        return column.levels.index(text)
    near = difflib.get_close_matches(text, column.levels, 1, 0.3)
    shown = ", ".join(column.levels[:10]) + (", …" if len(column.levels) > 10 else "")
    raise ConfigError(
        f"a level of {column.name} ({shown})",
        repr(text),
        None,
        f"Did you mean {near[0]!r}?" if near else None,
    )


def _number(column: Column, text: str) -> float:
    """A number or a day as it is written.

    Raises:
        ConfigError: It is none, or finer than the column has them.
    """
    if column.kind == "date":
        expected = f"{column.name} as a date, 1976-11-16" + (" 14:30" if column.decimals else "")
        if not DATE.fullmatch(text) or (len(text) > len("1976-11-16") and not column.decimals):
            raise ConfigError(expected, repr(text))
        try:
            return _day(text) or 0.0
        except ValueError:
            raise ConfigError(expected, f"{text!r}, which there is not") from None
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{column.name} as {column.kind}", repr(text)) from None
    digits = 0 if column.kind == "integer" else column.decimals
    if digits is not None and round(value, digits) != value:
        places = "a whole number" if digits == 0 else f"a number with {digits} decimals at most"
        raise ConfigError(f"{column.name} as {places}", repr(text))
    return value
