"""Does a model trained on synthetic rows predict for real people?"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.errors import ConfigError
from medsynth.evaluation.disclosure import MIN_ROWS, NAME
from medsynth.evaluation.records import Record, refused
from medsynth.evaluation.statistics import bootstrap
from medsynth.evaluation.tables.figures import GROUPS, MOST_ROWS
from medsynth.evaluation.tables.learners import Scores, area, fitted
from medsynth.evaluation.tables.subgroups import DRAWS, by_group, shares


def utility(
    sides: Mapping[str, Table],
    held_out: Table | None,
    target: str | None,
    subgroup: str | None,
    key: Key,
) -> Iterator[Record]:
    """Train on synthetic, on real and on both; test on real people who were held out.

    Args:
        sides: `real`, `synthetic`, `copula`, and `none`: rows of independent columns.
        held_out: Other people; None refuses.
        target: What to predict; None does nothing.
        subgroup: Column whose levels are looked at one by one.
        key: Which rows, bootstrap.

    Raises:
        ConfigError: No such column, or one with too many values.
    """
    if target is None:
        if subgroup is not None:
            raise ConfigError(
                "a target", "none", subgroup, f"Say what is predicted for each {subgroup}: target."
            )
        return
    few(sides["real"], target, "target")
    if subgroup is not None:
        if subgroup == target:
            raise ConfigError("a subgroup other than the target", repr(subgroup))
        few(sides["real"], subgroup, "subgroup")
    if held_out is None:
        for metric in ("utility_auc", *(("subgroup_auc",) if subgroup else ())):
            yield refused(NAME, metric, f"needs {MIN_ROWS} held-out rows")
        return
    rng = key.fold("utility").numpy()
    rows = min(*(side.rows for side in sides.values()), MOST_ROWS)
    some = {name: t.take(rng.permutation(t.rows)[:rows]) for name, t in sides.items()}
    test = held_out.take(rng.permutation(held_out.rows)[:MOST_ROWS])
    test = test.take(np.flatnonzero(test.absent(target) == 0))
    scores = {
        training: fitted([some[part] for part in training.split("+")], test, target)
        for training in ("real", "synthetic", "real+synthetic", "copula", "none")
    }
    plain = {t: {name: area(*s) for name, s in of.items()} for t, of in scores.items()}
    for training in ("synthetic", "real+synthetic", "copula"):
        for learner, (own, levels) in scores[training].items():
            figure = partial(area, levels=levels)
            drawn = bootstrap(figure, own, key=key.fold(training, learner), draws=DRAWS)
            yield Record(
                NAME, "utility_auc", {"training": training, "learner": learner}, *drawn,
                floor=plain["none"][learner], ceiling=plain["real"][learner], n=len(own),
            )  # fmt: skip
    yield from gains(scores, key.fold("gain"))
    if subgroup is not None:
        yield from shares(some["real"], some["synthetic"], subgroup)
        yield from by_group(scores, test, subgroup, key.fold("subgroup"))


def gains(scores: Mapping[str, Mapping[str, Scores]], key: Key) -> Iterator[Record]:
    """What synthetic rows beside the real ones bring: the difference on the same draws of people.

    Two areas on the same people go up and down together, so that their difference is known far
    better than either.

    Args:
        scores: By training and learner, on the test rows.
        key: Bootstrap over held-out rows.
    """
    for learner in scores["real"]:
        alone, both = (scores[training][learner] for training in ("real", "real+synthetic"))

        def gain(at: np.ndarray, alone: Scores = alone, both: Scores = both) -> float:
            return area(both[0][at], both[1]) - area(alone[0][at], alone[1])

        rows = np.arange(len(alone[0]))
        found = bootstrap(gain, rows, key=key.fold(learner), draws=DRAWS)
        where = {"training": "real+synthetic", "learner": learner}
        yield Record(NAME, "utility_gain", where, *found, floor=0.0, n=len(rows))


def few(table: Table, name: str, role: str) -> None:
    """Refuse a column of numbers with many values.

    Raises:
        ConfigError: As it says, or no such column.
    """
    column = table.schema.column(name)
    here = table.values[name][table.absent(name) == 0]
    if not column.named and len(np.unique(here)) > GROUPS:
        found = f"{column.kind} with more than {GROUPS} values"
        raise ConfigError(f"a {role} with few values", found, name, "Group its values.")
