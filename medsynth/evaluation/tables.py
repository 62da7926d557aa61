"""Are synthetic rows like real ones, useful, complete, and nobody's?

Every figure stands between a floor (independent columns, which cost nothing) and a ceiling (real
rows that the model has not seen, or a bootstrap of the real rows), beside a Gaussian copula.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.errors import ConfigError
from medsynth.evaluation.records import (
    BAD,
    GOOD,
    UNKNOWN,
    Record,
    Section,
    Verdict,
    interval,
    number,
    refused,
)
from medsynth.evaluation.records import Table as Listing
from medsynth.evaluation.statistics import attack_auc, mean_interval, member_control
from medsynth.tabular.baselines import Copula, Independent
from medsynth.tabular.codec import Codec

NAME = "table"
GROUPS = 10
"""Groups of a column when pairs of columns are compared."""

MOST_PAIRS = 400
MOST_ROWS = 10_000
"""Rows a side for what is learnt or compared pair by pair."""

NEIGHBOURS = 2_000
PREVALENT = 0.005
"""Share of rows from which on a level must not be lost."""

MIN_ROWS = 100

LIMITS = (
    "A distance to the nearest record is no proof of privacy, and a low attack score may be a weak "
    "attack. Only differential privacy bounds what all attacks can learn.",
    "Figures over columns and pairs do not see relations among three columns; detection does, as "
    "far as gradient boosting can find them.",
    "Rare levels are missed most easily and matter most to the people who have them: see coverage.",
)

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
    records += _utility(real, made, independent, copula, again, target, key)
    records += _nearness(real, made, again, key)
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
        tuple(_listings(records)),
        tuple(_verdicts(records)),
        LIMITS,
    )


def marginals(real: Table, made: Table) -> dict[str, float]:
    """Agreement of each column, 1 when equal.

    Missing values count as names of their own.
    """
    found = {}
    for column in real.schema.modelled:
        sides = [(t.values[column.name], t.absent(column.name)) for t in (real, made)]
        width = 1 + len(column.marks)
        gone = [np.bincount(absent, minlength=width) / len(absent) for _, absent in sides]
        if column.named:
            size = len(column.levels)
            shares = [
                np.concatenate([np.bincount(v[a == 0], minlength=size)[:size] / len(v), g[1:]])
                for (v, a), g in zip(sides, gone, strict=True)
            ]
            found[column.name] = 1 - 0.5 * float(np.abs(shares[0] - shares[1]).sum())
        else:
            lost = 0.5 * float(np.abs(gone[0] - gone[1]).sum())
            one, two = (np.sort(v[a == 0]) for v, a in sides)
            gap = 0.0 if not len(one) and not len(two) else 1.0
            if len(one) and len(two):
                grid = np.unique(np.concatenate([one, two]))
                steps = [np.searchsorted(s, grid, "right") / len(s) for s in (one, two)]
                gap = float(np.abs(steps[0] - steps[1]).max())
            found[column.name] = 1 - max(gap, lost)
    return found


def grouped(codec: Codec, real: Table, table: Table) -> np.ndarray:
    """Each column in up to ten groups of the real rows' making, int `(N, D)`."""
    own, theirs = codec.encode(real), codec.encode(table)
    columns = []
    for index, tokens in enumerate(codec.columns):
        counts = np.bincount(own[:, index], minlength=tokens.size)
        if tokens.size <= GROUPS:
            place = np.arange(tokens.size)
        elif tokens.column.named:
            place = np.full(tokens.size, GROUPS - 1)
            place[counts.argsort()[::-1][: GROUPS - 1]] = np.arange(GROUPS - 1)
        else:
            ranks = tokens.ranks()
            ordered = counts[ranks.argsort()]
            middle = (np.cumsum(ordered) - 0.5 * ordered) / max(counts.sum(), 1)
            place = np.minimum((middle * GROUPS).astype(int), GROUPS - 1)[ranks]
        columns.append(place[theirs[:, index]])
    return np.stack(columns, 1)


def pairs(codec: Codec, real: Table, made: Table, key: Key) -> float:
    """Agreement of pairs of columns, 1 when equal."""
    one, two = grouped(codec, real, real), grouped(codec, real, made)
    every = list(combinations(range(one.shape[1]), 2))
    if not every:
        return float("nan")
    chosen = key.numpy().permutation(len(every))[:MOST_PAIRS]
    gaps = []
    for a, b in (every[i] for i in chosen):
        shares = [
            np.bincount(side[:, a] * GROUPS + side[:, b], minlength=GROUPS**2) / len(side)
            for side in (one, two)
        ]
        gaps.append(0.5 * np.abs(shares[0] - shares[1]).sum())
    return 1 - float(np.mean(gaps))


def coverage(codec: Codec, real: Table, made: Table) -> tuple[float, float]:
    """Share of prevalent tokens that occur, and distinct rows as a share of the real number."""
    own, theirs = codec.encode(real), codec.encode(made)
    wanted = found = 0
    for index, tokens in enumerate(codec.columns):
        often = np.bincount(own[:, index], minlength=tokens.size) > PREVALENT * len(own)
        there = np.bincount(theirs[:, index], minlength=tokens.size) > 0
        wanted, found = wanted + int(often.sum()), found + int((often & there).sum())
    rows = min(len(own), len(theirs))
    distinct = [
        len(np.unique(grouped(codec, real, side.take(np.arange(rows))), axis=0))
        for side in (real, made)
    ]
    return found / max(wanted, 1), distinct[1] / max(distinct[0], 1)


def features(table: Table) -> np.ndarray:
    """Numbers for a learner, `(N, F)`: values with NaN where missing, and why they are missing."""
    columns: list[np.ndarray] = []
    for column in table.schema.modelled:
        absent = table.absent(column.name)
        columns.append(np.where(absent == 0, table.values[column.name].astype(float), np.nan))
        if column.marks:
            columns.append(absent.astype(float))
    return np.stack(columns, 1)


def detection(real: Table, made: Table, key: Key) -> float:
    """Cross-validated area under the curve of telling real from synthetic."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    rows = min(real.rows, made.rows, MOST_ROWS)
    rng = key.numpy()
    sides = [features(t.take(rng.permutation(t.rows)[:rows])) for t in (real, made)]
    model = HistGradientBoostingClassifier(max_iter=80, random_state=0, early_stopping=False)
    split = StratifiedKFold(3, shuffle=True, random_state=0)
    truth = np.repeat([0, 1], rows)
    return float(
        cross_val_score(model, np.concatenate(sides), truth, cv=split, scoring="roc_auc").mean()
    )


def predicted(train: Sequence[Table], test: Table, target: str) -> dict[str, float]:
    """Area under the curve on a test table of models trained on others, by learner."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def split(table: Table) -> tuple[np.ndarray, np.ndarray]:
        known = table.take(np.flatnonzero(table.absent(target) == 0))
        others = tuple(c for c in known.schema.modelled if c.name != target)
        kept = type(known.schema)(others)
        rest = Table(
            kept,
            {c.name: known.values[c.name] for c in others},
            {c.name: known.missing[c.name] for c in others if c.name in known.missing},
        )
        return features(rest), known.values[target].astype(int)

    parts = [split(table) for table in train]
    x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    there, truth = split(test)
    learners: dict[str, Any] = {
        "gradient boosting": HistGradientBoostingClassifier(max_iter=80, random_state=0),
        "logistic": make_pipeline(
            SimpleImputer(keep_empty_features=True),
            StandardScaler(),
            LogisticRegression(max_iter=500),
        ),
    }
    found = {}
    for name, learner in learners.items():
        if len(np.unique(y)) < 2:
            found[name] = 0.5
            continue
        scores = learner.fit(x, y).predict_proba(there)
        areas = [
            roc_auc_score(truth == level, scores[:, list(learner.classes_).index(level)])
            if level in learner.classes_
            else 0.5
            for level in np.unique(truth)
            if 0 < (truth == level).mean() < 1
        ]
        found[name] = float(np.mean(areas)) if areas else float("nan")
    return found


def _utility(
    real: Table,
    made: Table,
    independent: Table,
    copula: Table,
    held_out: Table | None,
    target: str | None,
    key: Key,
) -> Iterator[Record]:
    if target is None:
        return
    column = real.schema.column(target)
    if not column.named and len(np.unique(real.values[target])) > GROUPS:
        found = f"{column.kind} with more than {GROUPS} values"
        raise ConfigError("a target with few values", found, target)
    if held_out is None:
        yield refused(NAME, "utility_auc", f"needs {MIN_ROWS} held-out rows")
        return
    rows = min(real.rows, made.rows, MOST_ROWS)
    rng = key.fold("utility").numpy()
    some = {
        name: t.take(rng.permutation(t.rows)[:rows])
        for name, t in (
            ("real", real),
            ("synthetic", made),
            ("copula", copula),
            ("none", independent),
        )
    }
    columns = {
        "real": ("real",), "synthetic": ("synthetic",), "real+synthetic": ("real", "synthetic"),
        "copula": ("copula",), "none": ("none",),
    }  # fmt: skip
    areas = {
        name: predicted([some[p] for p in parts], held_out, target)
        for name, parts in columns.items()
    }
    for training in ("synthetic", "real+synthetic", "copula"):
        for learner, value in areas[training].items():
            yield Record(
                NAME, "utility_auc", {"training": training, "segmentor": learner}, value,
                floor=areas["none"][learner], ceiling=areas["real"][learner], n=held_out.rows,
            )  # fmt: skip


def gower(one: Table, two: Table, like: Table) -> np.ndarray:
    """Mean difference over columns, `(N, M)`; numbers by the range of the middle 90 %.

    Source:
        Gower, *A general coefficient of similarity*, Biometrics 27, 1971.
    """
    total = np.zeros((one.rows, two.rows), np.float32)
    for column in like.schema.modelled:
        name = column.name
        a, b = one.values[name], two.values[name]
        gone = one.absent(name)[:, None] != two.absent(name)
        both = (one.absent(name) > 0)[:, None] & ~gone
        if column.named:
            apart = (a[:, None] != b).astype(np.float32)
        else:
            known = like.values[name][like.absent(name) == 0]
            low, high = np.percentile(known, (5, 95)) if len(known) else (0.0, 1.0)
            scale = max(high - low, 1e-9)
            apart = np.minimum(np.abs(a[:, None] - b) / scale, 1).astype(np.float32)
        total += np.where(gone, 1, np.where(both, 0, apart))
    return total / max(len(like.schema.modelled), 1)


def _nearness(real: Table, made: Table, held_out: Table | None, key: Key) -> Iterator[Record]:
    if held_out is None:
        reason = f"needs {MIN_ROWS} held-out rows"
        yield refused(NAME, "nearer_to_members", reason)
        yield refused(NAME, "membership_auc", reason)
        return
    rng = key.fold("nearest").numpy()
    size = min(real.rows, held_out.rows, made.rows, NEIGHBOURS)
    members, others, rows = (t.take(rng.permutation(t.rows)[:size]) for t in (real, held_out, made))
    inside, outside = gower(rows, members, real), gower(rows, others, real)
    near, far = inside.min(1), outside.min(1)
    yield Record(
        NAME, "distance_to_closest", {}, *mean_interval(near, key), floor=float(far.mean()),
        ceiling=0.0, n=size,
    )  # fmt: skip
    closer = (near < far) + 0.5 * (near == far)
    yield Record(NAME, "nearer_to_members", {}, *mean_interval(closer, key), floor=0.5, n=size)
    copies = [float((d.min(1) == 0).mean()) for d in (inside, outside)]
    yield Record(NAME, "exact_copies", {}, copies[0], floor=copies[1], n=size)
    scores = -inside.min(0), -outside.min(0)
    auc = attack_auc(*scores, key.fold("auc"))
    yield Record(NAME, "membership_auc", {}, *auc, floor=0.5, ceiling=1.0, n=2 * size)
    control = member_control(scores[0], key.fold("control"))
    told = {"control": "members against members"}
    yield Record(NAME, "membership_auc", told, *control, floor=0.5, n=size)


def _listings(records: Sequence[Record]) -> Iterator[Listing]:
    def row(r: Record, *names: str) -> tuple[str, ...]:
        value = interval(r, 3) if r.value is not None else r.where["refused"]
        return (*names, value, number(r.floor, 3), number(r.ceiling, 3), str(r.n or "–"))

    tail = ("value [95 %]", "floor", "ceiling", "n")
    whole = [r for r in records if "model" in r.where]
    yield Listing(
        "Rows against rows",
        ("figure", "model", *tail),
        tuple(row(r, r.metric.replace("_", " "), r.where["model"]) for r in whole),
    )
    useful = [r for r in records if r.metric == "utility_auc"]
    if useful:
        yield Listing(
            "Trained on synthetic, tested on held-out real rows: area under the curve",
            ("trained on", "learner", *tail),
            tuple(
                row(r, r.where.get("training", "–"), r.where.get("segmentor", "–")) for r in useful
            ),
        )
    others = [r for r in records if r not in whole and r not in useful and r.metric != "marginal"]
    yield Listing(
        "Records and people",
        ("figure", "control", *tail),
        tuple(row(r, r.metric.replace("_", " "), r.where.get("control", "")) for r in others),
    )
    least = sorted((r for r in records if r.metric == "marginal"), key=lambda r: r.value or 0)[:12]
    yield Listing(
        "Columns that agree least", ("column", "agreement"),
        tuple((r.where["column"], number(r.value, 3)) for r in least),
    )  # fmt: skip


def _verdicts(records: Sequence[Record]) -> Iterator[Verdict]:
    def of(metric: str, **where: str) -> Record:
        return next(
            r
            for r in records
            if r.metric == metric and all(r.where.get(k) == v for k, v in where.items())
        )

    for metric, words in (("pairs", "pairs of columns"), ("detection_auc", "detection")):
        own, copula = of(metric, model="synthetic"), of(metric, model="copula")
        better = (own.value or 0) > (copula.value or 0)
        better = not better if metric == "detection_auc" else better
        yield Verdict(
            GOOD if better else BAD,
            f"{words}: {number(own.value, 3)}, a Gaussian copula has {number(copula.value, 3)}, "
            f"real rows {number(own.ceiling, 3)}.",
        )
    levels = of("coverage_levels", model="synthetic")
    yield Verdict(
        GOOD if (levels.value or 0) >= 0.95 else BAD,
        f"coverage: {levels.value or 0:.0%} of levels above {PREVALENT:.1%} occur, and "
        f"{of('coverage_combinations', model='synthetic').value or 0:.0%} as many distinct rows as "
        "in real ones.",
    )
    auc = next(r for r in records if r.metric == "membership_auc" and "control" not in r.where)
    if auc.value is None:
        yield Verdict(UNKNOWN, f"privacy: {auc.where['refused']}.")
    elif (auc.low or 0) > 0.5:
        yield Verdict(
            BAD, f"membership: area {interval(auc)}: an attacker can tell who was trained on."
        )
    else:
        yield Verdict(UNKNOWN, f"membership: area {interval(auc)}: this attack does not tell.")
