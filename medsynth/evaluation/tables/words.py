"""What the figures of a table mean: listings, verdicts, limits; words, no measurements."""

from collections.abc import Iterator, Sequence

from medsynth.evaluation.records import (
    BAD,
    GOOD,
    UNKNOWN,
    Record,
    Table,
    Verdict,
    interval,
    number,
)
from medsynth.evaluation.tables.figures import PREVALENT

LIMITS = (
    "A distance to the nearest record is no proof of privacy, and a low attack score may be a weak "
    "attack. Only differential privacy bounds what all attacks can learn.",
    "Figures over columns and pairs do not see relations among three columns; detection does, as "
    "far as gradient boosting can find them.",
    "Rare levels are missed most easily and matter most to the people who have them: see coverage.",
)


def listings(records: Sequence[Record]) -> Iterator[Table]:
    def row(r: Record, *names: str) -> tuple[str, ...]:
        value = interval(r, 3) if r.value is not None else r.where["refused"]
        return (*names, value, number(r.floor, 3), number(r.ceiling, 3), str(r.n or "–"))

    tail = ("value [95 %]", "floor", "ceiling", "n")
    whole = [r for r in records if "model" in r.where]
    yield Table(
        "Rows against rows",
        ("figure", "model", *tail),
        tuple(row(r, r.metric.replace("_", " "), r.where["model"]) for r in whole),
    )
    useful = [r for r in records if r.metric == "utility_auc"]
    if useful:
        yield Table(
            "Trained on synthetic, tested on held-out real rows: area under the curve",
            ("trained on", "learner", *tail),
            tuple(
                row(r, r.where.get("training", "–"), r.where.get("segmentor", "–")) for r in useful
            ),
        )
    others = [r for r in records if r not in whole and r not in useful and r.metric != "marginal"]
    yield Table(
        "Records and people",
        ("figure", "control", *tail),
        tuple(row(r, r.metric.replace("_", " "), r.where.get("control", "")) for r in others),
    )
    least = sorted((r for r in records if r.metric == "marginal"), key=lambda r: r.value or 0)[:12]
    yield Table(
        "Columns that agree least", ("column", "agreement"),
        tuple((r.where["column"], number(r.value, 3)) for r in least),
    )  # fmt: skip


def verdicts(records: Sequence[Record]) -> Iterator[Verdict]:
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
