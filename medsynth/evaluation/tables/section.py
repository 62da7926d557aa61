"""All figures of a synthetic table, as a section of the report."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.evaluation import disclosure
from medsynth.evaluation.disclosure import MIN_ROWS, NAME
from medsynth.evaluation.records import Record, Section, counted
from medsynth.evaluation.tables import words
from medsynth.evaluation.tables.figures import (
    MOST_ROWS,
    by_value,
    coverage,
    detection,
    marginals,
    pairs,
    told_apart,
)
from medsynth.evaluation.tables.privacy import privacy
from medsynth.evaluation.tables.utility import utility
from medsynth.tabular.baselines import Copula, Independent
from medsynth.tabular.codec import Codec


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
    best = again or real.take(key.fold("bootstrap").numpy().integers(0, real.rows, real.rows))
    sides = {"real": real, "synthetic": made, "copula": copula, "none": independent}
    records = list(utility(sides, again, target, subgroup, key))
    records = [*_likeness(real, made, independent, copula, best, key), *records]
    records += privacy(real, made, again, independent, key.fold("privacy"))
    if again is None:
        records += disclosure.unknown(0 if held_out is None else held_out.rows)
    if real.schema.rules:
        records.append(_broken(real, made))
    return Section(
        NAME,
        "Table: are the rows like real ones, and nobody's?",
        words.method(real, made, again, rows, subgroup),
        tuple(records),
        tuple(words.listings(records)),
        tuple(words.verdicts(records)),
        words.LIMITS,
    )


def _broken(real: Table, made: Table) -> Record:
    """Share of synthetic rows that break a rule, with its exact interval; floor: of real rows."""
    broken = int((made.broken() > 0).sum())
    own = float((real.broken() > 0).mean())
    ends = counted(NAME, "rules_broken", {}, broken, made.rows)
    low, high = ((bound or 0.0) / made.rows for bound in (ends.low, ends.high))
    return replace(ends, value=broken / made.rows, low=low, high=high, floor=own)


def _likeness(
    real: Table, made: Table, independent: Table, copula: Table, best: Table, key: Key
) -> Iterator[Record]:
    """Columns, pairs, coverage and detection, of synthetic rows and of a Gaussian copula."""
    codec = Codec.fit(real)
    rows = min(side.rows for side in (real, made, independent, copula, best))
    covered = partial(coverage, codec, real, key=key.fold("coverage"), rows=rows)
    for name, figure, all_rows in (
        ("marginals", lambda t: float(np.mean(list(marginals(real, t).values()))), True),
        ("pairs", lambda t: pairs(codec, real, t, key.fold("pairs")), True),
        ("coverage_levels", lambda t: covered(t)[0], False),
        ("coverage_combinations", lambda t: covered(t)[1], False),
    ):
        ends = figure(independent), figure(best)
        for model, table in (("synthetic", made), ("copula", copula)):
            yield Record(
                NAME, name, {"model": model}, figure(table), floor=ends[0], ceiling=ends[1],
                n=table.rows if all_rows else rows,
            )  # fmt: skip
    found = partial(detection, real, key=key.fold("detection"))
    ends = found(independent), found(best)
    for model, table in (("synthetic", made), ("copula", copula)):
        told = told_apart(real, table, key.fold("detection"))
        yield Record(
            NAME, "detection_auc", {"model": model}, *told, floor=ends[0], ceiling=ends[1],
            n=2 * min(real.rows, table.rows, MOST_ROWS),
        )  # fmt: skip
    for column, value in marginals(real, made).items():
        yield Record(NAME, "marginal", {"column": column}, value, n=made.rows)
    singly = partial(by_value, real, key=key.fold("values"), rows=rows)
    low, high = singly(independent), singly(best)
    for column, value in singly(made).items():
        yield Record(
            NAME, "values", {"column": column}, value, floor=low.get(column),
            ceiling=high.get(column), n=rows,
        )  # fmt: skip
