"""pandas frames to tables and back, without loss; kinds of columns are inferred where not declared.

Texts keep their missing marks, numbers their digits, levels their order, types their name.
"""

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medsynth.core.table import DATE, DAY_S, Column, Rule, Schema, Table, as_written, asked_of
from medsynth.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

MISSING = ("", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "NaT", "<NA>", ".")
"""Texts that are taken for missing when nobody says otherwise."""

GONE = "<NA>"
"""The mark of a value that a frame of texts does not have, unlike an empty text."""

NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
INFINITE = re.compile(r"[-+]?inf(inity)?", re.IGNORECASE)
IDENTITY = re.compile(r"(^|[\W_])(id|ids|uid|uuid|mrn|nbr|guid|key)($|[\W_])", re.IGNORECASE)

TEXTS = ("object", "str", "string")
"""pandas' types of columns of texts."""

MOST_LEVELS = 2000
"""A column of names with more is refused: it would be learnt by heart."""

OTHER_DATE = re.compile(r"(\d{1,2}[/.]\d{1,2}[/.]\d{4}|\d{4}/\d{1,2}/\d{1,2})( \d{1,2}:\d{2}.*)?")
COMMA = re.compile(r"-?\d+,\d+")
WHOLE = re.compile(r"-?\d+")
FOREIGN = (
    (
        OTHER_DATE, "dates as 1976-11-16",
        "Convert them, for example by pandas.to_datetime(…, dayfirst=True), or declare the column.",
    ),
    (
        COMMA, "numbers as 1500.5",
        "Save the table with decimal points and nothing between thousands, or declare the column.",
    ),
)  # fmt: skip
"""Ways of writing that would silently make names, or an identifier, of dates and numbers."""

STAND_INS = tuple(sign * float(nines) for sign in (-1, 1) for nines in (9, 99, 999, 9999, 99999))
"""Numbers that forms have for *not known*."""

ODD = re.compile(r"[<>≤≥~] ?\d+(\.\d+)?|\D+")
"""What such texts look like; `V57` among `250.83` is a code among codes."""

MOST_ODD = 5
"""Different texts among numbers, such as `<0.5`, that are taken for reasons why one is missing."""

FEWEST_NUMBERS = 20
"""Different numbers that such a column has at least: `1`, `2` and `3+` are names."""

TOO_MANY = 0.5
"""Share of rows with a name of their own from which on a column of names is an identifier."""

MOST_DECIMALS = 6


def from_frame(
    frame: "pd.DataFrame", schema: Schema | None = None, *, more_levels: bool = False
) -> Table:
    """A table from a frame.

    Args:
        frame: Any dtypes; texts are looked at, to find numbers and dates in them.
        schema: Declared columns; others are inferred, and say so, as do columns whose range was
            left open.
        more_levels: Names that a column's inferred levels do not have come after them, texts among
            its numbers after its marks.

    Raises:
        DataError: Doubled headings, mixed or infinite values, more than 2,000 names in a column,
            no rows, or values that a declared column does not allow: other levels, numbers
            outside a declared range.
        ConfigError: A rule for a column or a value that there is not.
    """
    headings = [str(name) for name in frame.columns]
    twice = sorted({name for name in headings if headings.count(name) > 1})
    if twice:
        raise DataError("columns with different names", f"{', '.join(twice)} more than once")
    if not len(frame) or not headings:
        raise DataError("rows", f"{len(frame)} rows and {len(headings)} columns")
    declared = {column.name: column for column in schema.columns} if schema else {}
    strange = sorted(set(declared) - set(headings))
    if strange:
        raise DataError(f"columns {', '.join(declared)}", f"no {', '.join(strange)}")
    columns: list[Column] = []
    values: dict[str, np.ndarray] = {}
    missing: dict[str, np.ndarray] = {}
    for name, heading in zip(headings, frame.columns, strict=True):
        column, values[name], absent = _column(
            name, frame[heading], declared.get(name), more_levels
        )
        columns.append(column)
        if absent.any():
            missing[name] = absent
    whole = Schema(tuple(columns), schema.rules if schema else ())
    for rule in whole.rules:
        for name, text in (rule.when, rule.never):
            try:
                if text not in whole.column(name).marks:
                    asked_of(whole.column(name), text)
            except ConfigError as error:
                raise ConfigError(
                    error.expected, error.found, _in_words(rule), error.todo
                ) from error
    return Table(whole, values, missing)


def why(column: Column) -> str:
    """What a column was taken for its kind by, in a few words."""
    if column.kind == "identifier":
        found = "nearly every row has its own; not learnt, numbered anew"
    elif column.dtype in ("category", "ordered", "bool", "boolean"):
        found = f"pandas' type, {len(column.levels)} levels"
    elif column.named:
        two = len(column.levels) == 2
        found = " or ".join(column.levels) if two else f"{len(column.levels)} names"
        if len(column.levels) < 2:
            found = f"always {column.levels[0]!r}" if column.levels else "no value at all"
    else:
        of = {"date": "dates", "integer": "whole numbers"}.get(column.kind, "numbers")
        found = f"{of}, {' to '.join(_digits(end, column) for end in column.ends)}"
    gone = ", ".join(repr(mark) for mark in column.marks)
    return found + (f"; missing: {gone}" if gone else "")


def memorable(table: Table) -> tuple[str, ...]:
    """Columns of names that were declared although nearly every row has a name of its own.

    An identifier among the levels would be learnt by heart and given away.
    """
    return tuple(
        column.name
        for column in table.schema.modelled
        if column.named and table.rows > 20 and len(column.levels) > TOO_MANY * table.rows
    )


def breaking(table: Table) -> list[tuple[str, int]]:
    """Rules that rows of a table break, in words, and how many do."""
    found = []
    for rule in table.schema.rules:
        only = replace(table, schema=replace(table.schema, rules=(rule,)))
        found.append((_in_words(rule), int(only.broken().sum())))
    return [(told, rows) for told, rows in found if rows]


def _in_words(rule: Rule) -> str:
    return f"rule {'='.join(rule.when)}, never {'='.join(rule.never)}"


def stand_ins(table: Table) -> dict[str, float]:
    """Columns of numbers with one far from all others that often stands for a missing one.

    Returns:
        By column that number, for example -999.
    """
    found = {}
    for column in table.schema.modelled:
        if column.kind not in ("integer", "continuous"):
            continue
        known = table.values[column.name][table.absent(column.name) == 0]
        values, counts = np.unique(known, return_counts=True)
        if len(values) < 3:
            continue
        for end, rest in ((0, values[1:]), (-1, values[:-1])):
            away = float(np.abs(values[end] - rest).min())
            if values[end] in STAND_INS and counts[end] > 1 and away > float(np.ptp(rest)):
                found[column.name] = float(values[end])
    return found


def to_frame(table: Table) -> "pd.DataFrame":
    """The frame of a table, in the types that its schema remembers."""
    import pandas as pd

    return pd.DataFrame({c.name: _series(c, table) for c in table.schema.columns})


def _column(
    name: str, series: "pd.Series[Any]", declared: Column | None, more_levels: bool
) -> tuple[Column, np.ndarray, np.ndarray]:
    """Column, values, and why they are missing."""
    import pandas as pd

    dtype = str(series.dtype)
    if isinstance(series.dtype, pd.CategoricalDtype):
        dtype = "ordered" if series.dtype.ordered else "category"
    if pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series.dtype):
        numbers = series.to_numpy(float, na_value=np.nan)
        if np.isinf(numbers).any():
            found = f"infinity in {int(np.isinf(numbers).sum())} rows"
            raise DataError("finite numbers", found, name, "Mark them as missing.")
        absent = np.isnan(numbers).astype(np.int16)
        marks: tuple[str, ...] = ("",) if absent.any() else ()
        if declared and absent.any() and not declared.marks:
            raise DataError("no missing values", f"{int(absent.sum())}", name, "Declare a mark.")
        texts = None
    else:
        whole = series.astype(object)
        if dtype == "object" and len({type(v) for v in whole[series.notna()]}) > 1:
            kinds = sorted({type(v).__name__ for v in whole[series.notna()]})
            raise DataError("values of one type", " and ".join(kinds), name, "Convert the column.")
        texts = np.array([_text(v) for v in whole.where(series.notna(), None)], object)
        given = declared.marks if declared else MISSING
        marks = given if declared else tuple(sorted(set(texts[np.isin(texts, given)])))
        absent = np.zeros(len(texts), np.int16)
        for index, mark in enumerate(marks, 1):
            absent[texts == mark] = index
        numbers = _numbers(texts, absent == 0)
        if numbers is None:
            _refuse_infinite(name, texts, absent == 0)
        more = declared is not None and more_levels and declared.inferred and not declared.named
        if numbers is None and (declared is None or more):
            _refuse_foreign(name, texts[absent == 0])
            odd = _odd(texts, absent == 0)
            if declared is not None:
                declared = replace(declared, marks=(*marks, *odd))
            absent = np.where(np.isin(texts, odd), 1 + len(marks), absent).astype(np.int16)
            for index, mark in enumerate(odd, 1 + len(marks)):
                absent[texts == mark] = index
            marks = (*marks, *odd)
            numbers = _numbers(texts, absent == 0) if odd else None
    here = absent == 0
    if declared is None:
        levels = _levels(series, texts, here, dtype)
        seen = _inferred(name, numbers, texts, here, marks, dtype, levels)
        column = replace(seen, inferred=True)
    else:
        column = _timed(declared, texts, here)
        open_ = column.kind == "continuous" and column.decimals is None and not column.inferred
        if open_ and numbers is not None:
            digits = _decimals(numbers[here], None if texts is None else texts[here])
            if digits is not None:
                column = replace(column, decimals=digits, fixed=_fixed(texts, here), inferred=True)
    if column.kind == "identifier":
        return column, np.arange(len(series), dtype=float), np.zeros(len(series), np.int16)
    if column.named:
        if numbers is not None:  # 1.0 is the level 1, 0.7 is none
            whole = replace(column, decimals=None)
            plain = np.array([_digits(v, whole) for v in np.where(here, numbers, 0)], object)
            texts = plain if texts is None else _matched(texts, plain, column.levels)
        assert texts is not None
        place = {level: index for index, level in enumerate(column.levels)}
        unknown = sorted({t for t in texts[here] if t not in place})
        if unknown and more_levels and column.inferred:
            column = replace(column, levels=(*column.levels, *unknown))
            place = {level: index for index, level in enumerate(column.levels)}
        elif unknown:
            raise DataError(
                f"levels of {name}", ", ".join(map(repr, unknown[:3])), name,
                "Correct them, or add them to its levels in the schema.",
            )  # fmt: skip
        codes = np.array([place.get(t, 0) for t in texts], np.int32)
        return column, codes, absent
    if numbers is None:
        assert texts is not None
        odd = next(t for t in texts[here] if not (NUMBER.fullmatch(t) or DATE.fullmatch(t)))
        raise DataError(
            f"{column.kind} values", f"the text {odd!r}", name,
            "Correct it or its kind, or name it among its marks in the schema.",
        )  # fmt: skip
    return _ranged(column, numbers[here]), np.where(here, numbers, 0.0), absent


def _timed(column: Column, texts: np.ndarray | None, here: np.ndarray) -> Column:
    """A declared column of dates whose texts have times of day: its last day is a whole one."""
    if column.kind != "date" or column.decimals or texts is None or not _times(texts[here]):
        return column
    high = column.high
    if high is not None and high == int(high):
        high += 1 - 1 / DAY_S
    return replace(column, decimals=1, fixed=not _minutes(texts[here]), high=high)


def _times(known: np.ndarray) -> bool:
    """Whether dates have times of day."""
    return any(len(t) > len("2026-01-31") for t in known)


def _minutes(known: np.ndarray) -> bool:
    """Whether times of day have no seconds, or always 00."""
    return all(len(t) <= len("2026-01-31 12:00") or t.endswith(":00") for t in known)


def _matched(texts: np.ndarray, plain: np.ndarray, levels: tuple[str, ...]) -> np.ndarray:
    """Texts, where they are no levels but their numbers are: these."""
    other = ~np.isin(texts, levels) & np.isin(plain, levels)
    return np.where(other, plain, texts)


def _ranged(column: Column, known: np.ndarray) -> Column:
    """A column of numbers with a range: as declared, from its values where that is left open.

    A range that was inferred is no declaration: other rows may lie outside.

    Raises:
        DataError: Values outside the declared range.
    """
    low, high = column.low, column.high
    if not column.inferred:
        shown = known
        if column.decimals is not None and column.kind != "date":
            shown = np.round(known, column.decimals)  # as they are written
        least, most = (-np.inf if low is None else low), (np.inf if high is None else high)
        if outside := int(((shown < least) | (shown > most)).sum()):
            as_told = column if column.kind == "date" else replace(column, decimals=None)
            ends = ("…" if end is None else _digits(end, as_told) for end in (low, high))
            raise DataError(
                f"values from {' to '.join(ends)}, as declared", f"{outside:,} outside",
                column.name, "Correct the range or the values.",
            )  # fmt: skip
    if low is not None and high is not None:
        return column
    found = _range(known) if len(known) else (low or high or 0.0,) * 2
    low, high = (found[0] if low is None else low), (found[1] if high is None else high)
    return replace(column, low=low, high=max(low, high), inferred=True)


def _text(value: Any) -> str:
    if value is None:
        return GONE
    if isinstance(value, np.datetime64) or hasattr(value, "isoformat"):
        text = str(value)
        return text.removesuffix(" 00:00:00")
    return str(value)


def _refuse_infinite(name: str, texts: np.ndarray, here: np.ndarray) -> None:
    """A column of numbers written as text, some of them infinite, is no column of names.

    Raises:
        DataError: It is such a column.
    """
    endless = np.array([bool(INFINITE.fullmatch(t)) for t in texts])
    if (endless & here).any() and _numbers(texts, here & ~endless) is not None:
        found = f"infinity in {int((endless & here).sum())} rows"
        raise DataError("finite numbers", found, name, "Mark them as missing.")


def _refuse_foreign(name: str, known: np.ndarray) -> None:
    """Dates and numbers in other ways of writing are no names.

    Raises:
        DataError: Half of the texts of a column are such and all others are whole numbers, but for
            a few.
    """
    for pattern, expected, todo in FOREIGN:
        such = [t for t in known if pattern.fullmatch(t)]
        others = {t for t in known if not pattern.fullmatch(t) and not WHOLE.fullmatch(t)}
        if such and 2 * len(such) >= len(known) and len(others) <= MOST_ODD:
            raise DataError(expected, repr(str(such[0])), name, todo)


def _odd(texts: np.ndarray, here: np.ndarray) -> tuple[str, ...]:
    """The few texts among numbers or dates that keep a column from being one of these."""
    for pattern in (NUMBER, DATE):
        fits = np.array([bool(pattern.fullmatch(t)) for t in texts]) & here
        odd = tuple(sorted(set(texts[here & ~fits])))
        if not all(ODD.fullmatch(text) for text in odd):
            continue
        enough = len(set(texts[fits])) >= FEWEST_NUMBERS
        if odd and enough and len(odd) <= MOST_ODD and fits.sum() > 0.5 * here.sum():
            return odd
    return ()


def _numbers(texts: np.ndarray, here: np.ndarray) -> np.ndarray | None:
    """Numbers or days, when all texts are such; None otherwise."""
    known = texts[here]
    if not len(known):
        return None
    result = np.zeros(len(texts))
    if all(NUMBER.fullmatch(t) for t in known):
        result[here] = known.astype(float)
        return result
    if all(DATE.fullmatch(t) for t in known):
        try:
            stamps = np.array([t.replace(" ", "T") for t in known], "datetime64[s]")
        except ValueError as error:
            raise DataError("dates that there are", str(error)) from error
        result[here] = stamps.astype("int64") / DAY_S
        return result
    return None


def _levels(
    series: "pd.Series[Any]", texts: np.ndarray | None, here: np.ndarray, dtype: str
) -> tuple[str, ...]:
    """Names in the order of a pandas category, else sorted."""
    if texts is None:
        return ()
    if dtype in ("category", "ordered"):
        return tuple(map(str, series.cat.categories))
    return tuple(sorted(set(texts[here])))


def _inferred(
    name: str,
    numbers: np.ndarray | None,
    texts: np.ndarray | None,
    here: np.ndarray,
    marks: tuple[str, ...],
    dtype: str,
    levels: tuple[str, ...],
) -> Column:
    rows = int(here.sum())
    if dtype in ("category", "ordered", "bool", "boolean"):
        kind = {"ordered": "ordinal"}.get(dtype, "binary" if len(levels) == 2 else "categorical")
        return Column(name, kind, levels, marks, dtype=dtype)
    if not rows:
        return Column(name, "categorical", (), marks, dtype=dtype)
    if numbers is None:
        if rows > 20 and len(levels) > TOO_MANY * rows:
            return Column(name, "identifier", marks=marks, dtype=dtype)
        if len(levels) > MOST_LEVELS:
            raise DataError(
                f"at most {MOST_LEVELS:,} different names", f"{len(levels):,}", name,
                "Drop the column, group its names, or declare it an identifier.",
            )  # fmt: skip
        kind = "binary" if len(levels) == 2 else "categorical"
        return Column(name, kind, levels, marks, dtype=dtype)
    known = numbers[here]
    if np.array_equal(np.unique(known), [0, 1]) and (texts is None or len(levels) == 2):
        return Column(name, "binary", levels or ("0", "1"), marks, dtype=dtype)
    if texts is not None and DATE.fullmatch(texts[here][0]):
        timed, known_texts = _times(texts[here]), texts[here]
        seconds = not (timed and _minutes(known_texts))
        return Column(name, "date", (), marks, *_range(known), int(timed), seconds, dtype)
    decimals = _decimals(known, None if texts is None else texts[here])
    distinct = len(np.unique(known))
    if rows > 20 and decimals == 0 and IDENTITY.search(name) and distinct > TOO_MANY * rows:
        return Column(name, "identifier", marks=marks, dtype=dtype)
    fixed = _fixed(texts, here)
    whole = texts is not None and decimals is not None and bool((known == np.round(known)).all())
    kind = "integer" if decimals == 0 or whole else "continuous"  # 80.0 is a whole number
    return Column(name, kind, (), marks, *_range(known), decimals, fixed, dtype)


def _fixed(texts: np.ndarray | None, here: np.ndarray) -> bool:
    """Whether all values are written with the same number of digits after the point."""
    return texts is None or len({len(t.partition(".")[2]) for t in texts[here]}) == 1


def _range(known: np.ndarray) -> tuple[float, float]:
    return float(known.min()), float(known.max())


def _decimals(known: np.ndarray, texts: np.ndarray | None) -> int | None:
    """Digits after the point that hold all values."""
    if texts is not None:
        if any("e" in t.lower() for t in texts):
            return None
        return max(len(t.partition(".")[2]) for t in texts)
    for digits in range(MOST_DECIMALS + 1):
        if (np.round(known, digits) == known).all():
            return digits
    return None


def _digits(value: float, column: Column) -> str:
    if column.kind == "date":
        return as_written(column, value)
    if column.decimals is None:
        return repr(float(value)).removesuffix(".0")
    text = f"{value:.{column.decimals}f}"
    if not column.fixed and "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _series(column: Column, table: Table) -> "pd.Series[Any]":
    import pandas as pd

    values, absent = table.values[column.name], table.absent(column.name)
    dtype = column.dtype
    if column.kind == "identifier":
        numbers = pd.Series(values.astype(np.int64) + 1)
        return numbers.map("{:07d}".format).astype(dtype) if dtype in TEXTS else numbers
    if column.kind in ("continuous", "integer") and dtype not in TEXTS:
        numbers = values if column.decimals is None else np.round(values, column.decimals)
        return pd.Series(np.where(absent == 0, numbers, np.nan)).astype(dtype)
    texts = _written(column, values)
    if dtype in TEXTS:
        for index, mark in enumerate(column.marks, 1):
            texts[absent == index] = None if mark == GONE else mark
        return pd.Series(texts, dtype=dtype)
    texts[absent > 0] = None
    if dtype in ("category", "ordered"):
        kind = pd.CategoricalDtype(list(column.levels), ordered=dtype == "ordered")
        return pd.Series(texts).astype(kind)
    if dtype.startswith("datetime"):
        return pd.to_datetime(pd.Series(texts)).astype(dtype)
    if dtype in ("bool", "boolean"):
        return pd.Series([None if t is None else t == "True" for t in texts]).astype(dtype)
    if column.named and pd.api.types.is_numeric_dtype(dtype):
        return pd.to_numeric(pd.Series(texts)).astype(dtype)
    return pd.Series(texts).astype(dtype)


def _written(column: Column, values: np.ndarray) -> np.ndarray:
    if column.named:
        names = np.array([*column.levels, ""], object)
        return names[values.astype(int)]
    return np.array([_digits(v, column) for v in values], object)
