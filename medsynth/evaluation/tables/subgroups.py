"""Is a model that is trained on synthetic rows as good for each group of people?

Rows may be made to equalise groups: what this does is judged here, on real people of each group.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.evaluation.disclosure import MIN_ROWS, NAME
from medsynth.evaluation.records import Record, refused
from medsynth.evaluation.statistics import bootstrap
from medsynth.evaluation.tables.learners import Scores, area

DRAWS = 200


def groups(table: Table, subgroup: str) -> dict[str, np.ndarray]:
    """Rows of each level of a column, boolean `(N,)`; rows without a value are in none."""
    column = table.schema.column(subgroup)
    values, here = table.values[subgroup], table.absent(subgroup) == 0
    levels = range(len(column.levels)) if column.named else np.unique(values[here])
    return {
        column.levels[int(v)] if column.named else f"{v:g}": here & (values == v) for v in levels
    }


def shares(real: Table, made: Table, subgroup: str) -> Iterator[Record]:
    """How many rows of each level stand among the synthetic and the real ones."""
    own, theirs = groups(real, subgroup), groups(made, subgroup)
    for level, there in own.items():
        value = float(theirs[level].mean()) if level in theirs else 0.0
        yield Record(
            NAME, "subgroup_share", {"subgroup": subgroup, "level": level}, value,
            ceiling=float(there.mean()), n=made.rows,
        )  # fmt: skip


def by_group(
    scores: Mapping[str, Mapping[str, Scores]], test: Table, subgroup: str, key: Key
) -> Iterator[Record]:
    """Utility for each level of a column, and what synthetic rows do to the gap between levels.

    Args:
        scores: By training and learner, on the test rows.
        test: Real rows that were held out, all with a known target.
        subgroup: Which column.
        key: Bootstrap over held-out rows.
    """
    every = groups(test, subgroup)
    told = {level: here for level, here in every.items() if here.sum() >= MIN_ROWS}
    for level, here in every.items():
        if level not in told:
            reason = f"needs {MIN_ROWS} held-out rows, there are {int(here.sum())}"
            yield refused(NAME, "subgroup_auc", reason, subgroup=subgroup, level=level)
    for learner in scores["real"]:
        place = {"subgroup": subgroup, "learner": learner}
        for level, here in told.items():
            plain = {t: area(of[learner][0][here], of[learner][1]) for t, of in scores.items()}
            if np.isnan(plain["real"]):
                reason = "needs both outcomes among the held-out rows"
                yield refused(NAME, "subgroup_auc", reason, level=level, **place)
                continue
            for training in ("real", "synthetic", "real+synthetic"):
                own, levels = scores[training][learner]
                figure = partial(area, levels=levels)
                drawn = bootstrap(
                    figure, own[here], key=key.fold(training, level, learner), draws=DRAWS
                )
                yield Record(
                    NAME, "subgroup_auc", {"level": level, "training": training, **place}, *drawn,
                    floor=plain["none"], ceiling=plain["real"], n=int(here.sum()),
                )  # fmt: skip
        if len(told) > 1:
            yield from _gaps(scores, learner, list(told.values()), place, key.fold("gap"))


def gap(scores: Scores, places: Sequence[np.ndarray]) -> float:
    """Best less worst area over levels; NaN when fewer than two can be told."""
    own, levels = scores
    areas = [area(own[here], levels) for here in places]
    known = [value for value in areas if not np.isnan(value)]
    return max(known) - min(known) if len(known) > 1 else float("nan")


def _gaps(
    scores: Mapping[str, Mapping[str, Scores]],
    learner: str,
    told: Sequence[np.ndarray],
    place: Mapping[str, str],
    key: Key,
) -> Iterator[Record]:
    """The gap between levels, and its change by synthetic rows, on the same draws of people."""

    def of(training: str, rows: np.ndarray) -> float:
        own, levels = scores[training][learner]
        return gap((own[rows], levels), [here[rows] for here in told])

    rows, before = np.arange(len(told[0])), "real"
    n = int(sum(here.sum() for here in told))
    for training in (before, "synthetic", "real+synthetic"):
        where = {"training": training, **place}
        own = bootstrap(lambda at, t=training: of(t, at), rows, key=key, draws=DRAWS)
        yield Record(NAME, "subgroup_gap", where, *own, ceiling=of(before, rows), n=n)
        if training != before:
            change = bootstrap(
                lambda at, t=training: of(t, at) - of(before, at), rows, key=key, draws=DRAWS
            )
            yield Record(NAME, "subgroup_gap_change", where, *change, floor=0.0, n=n)
