"""All figures of a synthetic table, as a section of the report."""

from collections.abc import Callable

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.evaluation.records import Record, Section
from medsynth.evaluation.tables.figures import (
    GROUPS,
    MOST_PAIRS,
    MOST_ROWS,
    PREVALENT,
    coverage,
    detection,
    marginals,
    pairs,
)
from medsynth.evaluation.tables.privacy import MIN_ROWS, NAME, nearness
from medsynth.evaluation.tables.utility import utility
from medsynth.evaluation.tables.words import LIMITS, listings, verdicts
from medsynth.tabular.baselines import Copula, Independent
from medsynth.tabular.codec import Codec

Figure = Callable[[Table], float]


def measure(
    real: Table, made: Table, key: Key, *, held_out: Table | None = None, target: str | None = None
) -> Section:
    """All figures of a synthetic table.

    Args:
        real: Rows that the model was fitted on.
        made: Synthetic rows, same schema.
        key: Draws, splits, bootstrap.
        held_out: Real rows that the model has not seen; None refuses what needs them.
        target: Column to predict, for train-on-synthetic-test-on-real.

    Raises:
        ConfigError: No such column, or a target that is no name or has one value.
    """
    rows = min(real.rows, made.rows, MOST_ROWS)
    independent = Independent.fit(real).sample(rows, key.fold("independent"))
    copula = Copula.fit(real).sample(rows, key.fold("copula rows"))
    again = held_out if held_out is not None and held_out.rows >= MIN_ROWS else None
    best = again or real.take(key.fold("bootstrap").numpy().integers(0, real.rows, real.rows))
    codec = Codec.fit(real)
    records: list[Record] = []
    figures: list[tuple[str, Figure]] = [
        ("marginals", lambda t: float(np.mean(list(marginals(real, t).values())))),
        ("pairs", lambda t: pairs(codec, real, t, key.fold("pairs"))),
        ("coverage_levels", lambda t: coverage(codec, real, t)[0]),
        ("coverage_combinations", lambda t: coverage(codec, real, t)[1]),
        ("detection_auc", lambda t: detection(real, t, key.fold("detection"))),
    ]
    for name, figure in figures:
        floor, between = figure(independent), figure(copula)
        for model, table, value in (
            ("synthetic", made, None),
            ("copula", copula, between),
        ):
            records.append(
                Record(
                    NAME, name, {"model": model}, figure(table) if value is None else value,
                    floor=floor, ceiling=figure(best), n=table.rows,
                )
            )  # fmt: skip
    for column, value in marginals(real, made).items():
        records.append(Record(NAME, "marginal", {"column": column}, value, n=made.rows))
    records += utility(real, made, independent, copula, again, target, key)
    records += nearness(real, made, again, key)
    if real.schema.rules:
        broken = float((made.broken() > 0).mean())
        own = float((real.broken() > 0).mean())
        records.append(Record(NAME, "rules_broken", {}, broken, floor=own, n=made.rows))
    return Section(
        NAME,
        "Table: are the rows like real ones, and nobody's?",
        (
            f"{real.rows:,} real rows, {made.rows:,} synthetic, "
            + (f"{again.rows:,} held out; " if again else "none held out; ")
            + f"{len(real.schema.modelled)} columns.",
            "Marginals: 1 − total variation (names) or 1 − Kolmogorov–Smirnov (numbers), mean over "
            f"columns. Pairs: 1 − total variation over {GROUPS} × {GROUPS} groups, mean over up to "
            f"{MOST_PAIRS} pairs. Coverage: levels above {PREVALENT:.1%} that occur; distinct rows "
            "of groups as a share of the real number. Detection: area under the curve of gradient "
            "boosting that tells real from synthetic, cross-validated; 0.5 is best.",
            "Floor: independent columns. Ceiling: "
            + ("held-out real rows." if again else "a bootstrap of the real rows."),
            "Utility: area under the curve on held-out real rows; floor: trained on independent "
            "columns, ceiling: on the real rows.",
        ),
        tuple(records),
        tuple(listings(records)),
        tuple(verdicts(records)),
        LIMITS,
    )
