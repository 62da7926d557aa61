"""All figures of a synthetic table, as a section of the report."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.evaluation import disclosure
from medsynth.evaluation.disclosure import MIN_ROWS, NAME
from medsynth.evaluation.records import Record, Section, counted
from medsynth.evaluation.samples import averaged, between_halves
from medsynth.evaluation.tables import words
from medsynth.evaluation.tables.combinations import off
from medsynth.evaluation.tables.figures import (
    MOST_ROWS,
    by_pair,
    by_value,
    coverage,
    detection,
    marginals,
    told_apart,
)
from medsynth.evaluation.tables.privacy import privacy
from medsynth.evaluation.tables.utility import utility
from medsynth.tabular.baselines import Copula, Independent
from medsynth.tabular.codec import Codec
from medsynth.tabular.contradictions import Contradictions

MOST_OFF = 12
"""Combinations that the report lists."""


def measure(
    real: Table,
    made: Table,
    key: Key,
    *,
    held_out: Table | None = None,
    target: str | None = None,
    subgroup: str | None = None,
) -> Section:
    """All figures of a synthetic table.

    Args:
        real: Rows that the model was fitted on.
        made: Synthetic rows, same schema.
        key: Draws, splits, bootstrap.
        held_out: Real rows that the model has not seen; None, or fewer than 100, refuses what needs
            them.
        target: Column to predict, for train-on-synthetic-test-on-real.
        subgroup: Column whose levels get a utility each; needs a target.

    Raises:
        ConfigError: No such column, or a target or subgroup of numbers with many values.
    """
    rows = min(real.rows, made.rows, MOST_ROWS)
    independent = Independent.fit(real).sample(rows, key.fold("independent"))
    copula = Copula.fit(real).sample(rows, key.fold("copula rows"))
    again = held_out if held_out is not None and held_out.rows >= MIN_ROWS else None
    sides = {"real": real, "synthetic": made, "copula": copula, "none": independent}
    records = list(utility(sides, again, target, subgroup, key))
    records = [
        *_likeness(real, {"synthetic": made, "copula": copula}, independent, again, key),
        *_off(real, made),
        *records,
    ]
    records += privacy(real, made, again, independent, key.fold("privacy"))
    if again is None:
        records += disclosure.unknown(0 if held_out is None else held_out.rows)
    if real.schema.rules:
        own = float((real.broken() > 0).mean())
        records.append(_share("rules_broken", made.broken() > 0, own))
    records += _contradicting(real, made, again)
    return Section(
        NAME,
        "Table: are the rows like real ones, and nobody's?",
        words.method(real, made, again, rows, subgroup),
        tuple(records),
        tuple(words.listings(records)),
        tuple(words.verdicts(records, held_out=again is not None)),
        words.LIMITS,
    )


def _share(metric: str, rows: np.ndarray, floor: float) -> Record:
    """Share of rows, with its exact interval."""
    ends, n = counted(NAME, metric, {}, int(rows.sum()), len(rows)), len(rows)
    low, high = ((bound or 0.0) / n for bound in (ends.low, ends.high))
    return replace(ends, value=float(rows.mean()), low=low, high=high, floor=floor)


def _contradicting(real: Table, made: Table, again: Table | None) -> Iterator[Record]:
    """Rows with values that never meet in real rows, or numbers and dates in another order.

    Floor: what held-out rows have, or what so many real ones may have missed by chance if that is
    more (the rule of three).
    """
    never = Contradictions.of(real)
    own = 0.0 if again is None else float(never.broken(again).mean())
    yield _share("contradictions", never.broken(made), max(own, 3 / real.rows))
    for told, rows in never.counted(made)[:MOST_OFF]:
        yield Record(NAME, "contradiction", {"never": told}, rows, n=made.rows)


def _off(real: Table, made: Table) -> Iterator[Record]:
    """Values and pairs of values that come far too often or too seldom, and how many there are."""
    found, looked = off(real, made)
    yield Record(NAME, "combinations_off", {}, len(found), floor=0.0, n=looked)
    for one in found[:MOST_OFF]:
        where = {
            "values": one.values,
            "synthetic": f"{one.rows:,} of {one.of:,}",
            "real": f"{one.real:,} of {one.of_real:,}",
        }
        yield Record(
            NAME, "combination", where, one.factor, one.low, one.high, ceiling=1.0,
            n=one.rows + one.real,
        )  # fmt: skip


def _likeness(
    real: Table, models: Mapping[str, Table], independent: Table, again: Table | None, key: Key
) -> Iterator[Record]:
    """Columns, pairs, coverage and detection, of synthetic rows and of a Gaussian copula.

    All sides are compared at equal numbers of rows: more of them agree better by themselves.
    Detection takes all there are, because it finds more with more rows and its best is one half.

    Args:
        real: Rows that the model was fitted on.
        models: `synthetic` and `copula`.
        independent: Rows of independent columns: the floor.
        again: Held-out rows: the ceiling; without them the real rows drawn again, of which
            detection would meet each twice, so that it tells one half of them from the other.
        key: Draws.
    """
    codec = Codec.fit(real)
    drawn = real.take(key.fold("bootstrap").numpy().integers(0, real.rows, real.rows))
    best = drawn if again is None else again
    rows = min(side.rows for side in (real, independent, best, *models.values()))
    covered = partial(coverage, codec, real, key=key.fold("coverage"), rows=rows)

    def agreed(table: Table) -> dict[str, float]:
        return averaged(partial(marginals, real), table, rows, key.fold("marginals"))

    def paired(table: Table) -> dict[str, float]:
        figures = partial(by_pair, codec, real, key=key.fold("pairs"))
        return averaged(figures, table, rows, key.fold("pairs of"))

    every = {name: paired(table) for name, table in models.items()}
    every |= {"floor": paired(independent), "ceiling": paired(best)}
    middle = {name: float(np.mean([*of.values()] or [np.nan])) for name, of in every.items()}
    for model in models:
        yield Record(
            NAME, "pairs", {"model": model}, middle[model], floor=middle["floor"],
            ceiling=middle["ceiling"], n=rows,
        )  # fmt: skip
    for pair, value in every["synthetic"].items():
        yield Record(
            NAME, "pair", {"columns": pair}, value, floor=every["floor"][pair],
            ceiling=every["ceiling"][pair], n=rows,
        )  # fmt: skip
    for name, figure in (
        ("marginals", lambda t: float(np.mean(list(agreed(t).values())))),
        ("coverage_levels", lambda t: covered(t)[0]),
        ("coverage_combinations", lambda t: covered(t)[1]),
    ):
        ends = figure(independent), figure(best)
        for model, table in models.items():
            yield Record(
                NAME, name, {"model": model}, figure(table), floor=ends[0], ceiling=ends[1], n=rows
            )
    found = partial(detection, key=key.fold("detection"))
    ceiling = between_halves(found, real, key) if again is None else found(real, again)
    floor = found(real, independent)
    for model, table in models.items():
        told = told_apart(real, table, key.fold("detection"))
        yield Record(
            NAME, "detection_auc", {"model": model}, *told, floor=floor, ceiling=ceiling,
            n=2 * min(real.rows, table.rows, MOST_ROWS),
        )  # fmt: skip
    made = models["synthetic"]
    low, high = agreed(independent), agreed(best)
    for column, value in agreed(made).items():
        yield Record(
            NAME, "marginal", {"column": column}, value, floor=low[column], ceiling=high[column],
            n=rows,
        )  # fmt: skip
    singly = partial(by_value, real, key=key.fold("values"), rows=rows)
    low, high = singly(independent), singly(best)
    for column, value in singly(made).items():
        yield Record(
            NAME, "values", {"column": column}, value, floor=low.get(column),
            ceiling=high.get(column), n=rows,
        )  # fmt: skip
