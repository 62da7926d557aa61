"""What a measurement gives: flat records for programs, sections for people.

The contract is `report.json`: `{"schema": "medsynth-report/1", "records": [...]}`, each record
flat. Knows no files and no measurements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from types import MappingProxyType
from typing import Any

from scipy.stats import binomtest

from medsynth.core.words import plural

SCHEMA = "medsynth-report/1"

GOOD, BAD, UNKNOWN = "good", "bad", "unknown"
"""What a verdict can be; *unknown* means that the figures cannot tell."""


@dataclass(frozen=True)
class Record:
    """One figure.

    Args:
        section: `utility`, `consistency`, `fidelity`, `privacy`, …
        metric: For example `dice`, `frechet`, `membership_auc`.
        where: What it is about, as strings, for example `{"region": "WT"}`.
        value: The figure; a whole number (`int`) is a count among `n`; None when it was refused,
            with the reason in `where["refused"]`.
        low, high: 95 % interval, in the unit of the value; over people wherever there are several
            cases of one.
        floor: The same figure where there is nothing to find (real against real, chance).
        ceiling: The same figure for a known bad (or best possible) example.
        n: Cases behind it.
        seeds: Training runs behind it.
        steps: Optimiser steps of each.
        people: Different people behind the cases, where cases of one person are not independent.
    """

    section: str
    metric: str
    where: Mapping[str, str] = field(default_factory=dict)
    value: float | None = None
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    ceiling: float | None = None
    n: int | None = None
    seeds: int | None = None
    steps: int | None = None
    people: int | None = None

    def to_json(self) -> dict[str, Any]:
        """A flat dictionary, numbers rounded to six digits."""
        return {
            k: (round(v, 6) if isfinite(v) else None) if isinstance(v, float) else v
            for k, v in (asdict(self) | {"where": dict(self.where)}).items()
        }


@dataclass(frozen=True)
class Table:
    """A table for people; cells are text."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Verdict:
    """One line of judgement and its reason.

    Args:
        grade: `good`, `bad` or `unknown`.
        text: The judgement and why, one sentence or two.
    """

    grade: str
    text: str


@dataclass(frozen=True)
class Section:
    """One part of a report.

    Args:
        name: As in `Record.section`.
        title: Heading.
        method: How it was measured, plain words: features, sizes, seeds.
        records: The figures.
        tables: The figures as people read them.
        verdicts: Judgements.
        limits: What these figures cannot tell.
    """

    name: str
    title: str
    method: tuple[str, ...]
    records: tuple[Record, ...]
    tables: tuple[Table, ...]
    verdicts: tuple[Verdict, ...] = ()
    limits: tuple[str, ...] = ()


def refused(section: str, metric: str, reason: str, **where: str) -> Record:
    """The record of a figure that could not be given, with the reason."""
    return Record(section, metric, {**where, "refused": reason})


def counted(
    section: str, metric: str, where: Mapping[str, str], count: int, of: int, **more: Any
) -> Record:
    """The record of a count, with its exact 95 % interval (Clopper and Pearson 1934)."""
    found = binomtest(count, of).proportion_ci(method="exact")
    low, high = float(found.low) * of, float(found.high) * of
    return Record(section, metric, where, count, low, high, n=of, **more)


def judged(section: Section) -> Section:
    """A section without empty tables, and with a verdict: if there is none, why not."""
    verdicts = section.verdicts
    if not verdicts:
        reasons = dict.fromkeys(
            f"{r.metric.replace('_', ' ')} {r.where['refused']}"
            for r in section.records
            if "refused" in r.where
        )
        why = "; ".join(reasons) or "no figure has what a verdict needs"
        verdicts = (Verdict(UNKNOWN, f"Nothing could be judged: {why}."),)
    tables = tuple(table for table in section.tables if table.rows)
    return replace(section, verdicts=verdicts, tables=tables)


def number(value: float | None, digits: int = 2) -> str:
    """A figure in a cell; counts have no decimals, and a minus is a minus."""
    if value is None:
        return "–"
    text = str(value) if isinstance(value, int) else f"{value:.{digits}f}"
    return text.replace("-", "−")


def share(record: Record, of: str = "") -> str:
    """A count in words, with its exact interval: `11 of 16 [41 %, 89 %]`, or of something."""
    low, high = (
        f"{100 * (bound or 0) / (record.n or 1):.0f} %" for bound in (record.low, record.high)
    )
    return f"{record.value} of {record.n}{of and ' ' + of} [{low}, {high}]"


def interval(record: Record, digits: int = 2) -> str:
    """A figure with its interval in a cell."""
    if record.value is None:
        return "refused"
    if isinstance(record.value, int) and record.n is not None:
        return share(record) if record.low is not None else f"{record.value} of {record.n}"
    text = number(record.value, digits)
    if record.low is None or record.high is None:
        return text
    return f"{text} [{number(record.low, digits)}, {number(record.high, digits)}]"


def cases(record: Record) -> str:
    """How many cases, and of how many people when that is another number."""
    if record.n is None:
        return "–"
    several = record.people is not None and record.people != record.n
    return (
        f"{record.n} of {plural(record.people or 0, 'person', 'people')}"
        if several
        else str(record.n)
    )


def listing(
    title: str,
    records: Sequence[Record],
    keys: Sequence[str],
    digits: int = 2,
    names: Mapping[str, str] = MappingProxyType({}),
) -> Table:
    """A table of records, a row each, with floor and ceiling beside the figure.

    Args:
        title: Heading.
        records: Those that were refused show the reason.
        keys: Entries of `where` that get a column, if any record has them.
        digits: Decimals.
        names: Metric → how it is called, with its unit and which way is better.
    """
    keys = [key for key in keys if any(record.where.get(key) for record in records)]
    rows = tuple(
        (
            names.get(record.metric, record.metric.replace("_", " ")),
            *(record.where.get(key, "") for key in keys),
            interval(record, digits) if record.value is not None else record.where["refused"],
            number(record.floor, digits),
            number(record.ceiling, digits),
            cases(record),
        )
        for record in records
    )
    return Table(title, ("figure", *keys, "value [95 %]", "floor", "ceiling", "n"), rows)
