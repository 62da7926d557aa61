"""What a measurement gives: flat records for programs, sections for people.

The contract is `report.json`: `{"schema": "medsynth-report/1", "records": [...]}`, each record
flat. Knows no files and no measurements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

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
        value: The figure; None when it was refused, with the reason in `where["refused"]`.
        low, high: 95 % interval.
        floor: The same figure where there is nothing to find (real against real, chance).
        ceiling: The same figure for a known bad (or best possible) example.
        n: Cases behind it.
        seeds: Training runs behind it.
        steps: Optimiser steps of each.
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


def number(value: float | None, digits: int = 2) -> str:
    """A figure in a cell."""
    return "–" if value is None else f"{value:.{digits}f}"


def interval(record: Record, digits: int = 2) -> str:
    """A figure with its interval in a cell."""
    if record.value is None:
        return "refused"
    text = number(record.value, digits)
    if record.low is None or record.high is None:
        return text
    return f"{text} [{number(record.low, digits)}, {number(record.high, digits)}]"


def listing(title: str, records: Sequence[Record], keys: Sequence[str], digits: int = 2) -> Table:
    """A table of records, a row each, with floor and ceiling beside the figure.

    Args:
        title: Heading.
        records: Those that were refused show the reason.
        keys: Entries of `where` that get a column.
        digits: Decimals.
    """
    rows = tuple(
        (
            record.metric.replace("_", " "),
            *(record.where.get(key, "") for key in keys),
            interval(record, digits) if record.value is not None else record.where["refused"],
            number(record.floor, digits),
            number(record.ceiling, digits),
            "–" if record.n is None else str(record.n),
        )
        for record in records
    )
    return Table(title, ("figure", *keys, "value [95 %]", "floor", "ceiling", "n"), rows)
