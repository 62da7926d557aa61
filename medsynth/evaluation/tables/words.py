"""What the figures of a table mean: method, listings, verdicts, limits; no measurements."""

from collections.abc import Callable, Iterator, Sequence
from math import isfinite

from medsynth.core.table import Table
from medsynth.evaluation import disclosed
from medsynth.evaluation.disclosure import MIN_ROWS
from medsynth.evaluation.records import (
    BAD,
    GOOD,
    UNKNOWN,
    Record,
    Verdict,
    interval,
    listing,
    number,
)
from medsynth.evaluation.records import Table as Listing
from medsynth.evaluation.samples import MOST_DRAWS
from medsynth.evaluation.tables.combinations import FACTOR
from medsynth.evaluation.tables.figures import GROUPS, MOST_PAIRS, PREVALENT
from medsynth.evaluation.tables.privacy import GUESSED, MOST_RELEASED, PEOPLE

LIKENESS = (
    "marginals", "pairs", "coverage_levels", "coverage_combinations", "detection_auc",
)  # fmt: skip
LEAST_GAP = 0.05
"""Smallest gap in agreement, value by value, that is worth a verdict."""

SLACK = 0.01
"""By which columns one by one may agree less than independent ones and be called good."""

RELATED = 0.1
"""Agreement of two columns beyond that of independent ones, from which on they are related."""

LOST = 0.5
"""Share of a relation from which on it is called lost."""

UNEVEN = 2.0
"""Times the difference of other real rows from which on numbers are uneven value by value."""

REACHED, MISSED = 0.8, 0.2
"""Of the way from independent columns to real rows: useful from here, useless below that."""

LIMITS = (
    *disclosed.LIMITS,
    "Figures over columns and pairs do not see relations among three columns; detection does, as "
    "far as gradient boosting can find them.",
    "Rare levels are missed most easily and matter most to the people who have them: see coverage.",
)


def method(
    real: Table, made: Table, held_out: Table | None, trained: int, subgroup: str | None
) -> tuple[str, ...]:
    """How it was measured.

    Args:
        real, made, held_out: What was compared.
        trained: Rows that each learner of utility saw of a table.
        subgroup: Column whose levels were looked at.
    """
    lines = [
        f"{real.rows:,} real rows, {made.rows:,} synthetic, "
        + (f"{held_out.rows:,} held out; " if held_out else "none held out; ")
        + f"{len(real.schema.modelled)} columns.",
        "Marginals: 1 − total variation (names) or 1 − Kolmogorov–Smirnov (numbers), mean over "
        f"columns. Pairs: 1 − total variation over {GROUPS} × {GROUPS} groups, mean over up to "
        f"{MOST_PAIRS} pairs. Coverage: levels above {PREVALENT:.1%} that occur; distinct rows "
        "of groups as a share of the real number. All of these in as many random rows of each "
        "side, no more than the smallest has, because more rows agree better by themselves; "
        f"marginals and pairs are means over up to {MOST_DRAWS} samples of a larger side. "
        "Detection: area under the curve of gradient boosting that tells real from synthetic, "
        "three folds, all rows; 0.5 is best.",
        f"Value by value: 1 − total variation over numbers above {PREVALENT:.1%}, for columns "
        "that these make up half of; in as many random rows as above.",
        "Combinations: values of columns of names, and pairs of them, that come "
        f"{FACTOR:g} times as often or as seldom as among real rows, beyond chance; pairs also "
        "among those with either value, because a value that is made more often on purpose brings "
        "its pairs along.",
        "Contradictions: values that never meet in real rows although a dozen rows should have "
        "both, and numbers and dates that never exceed others there. Floor: what held-out rows "
        "have, or three over the number of real rows.",
        "Floor: independent columns. Ceiling: "
        + (
            "held-out real rows."
            if held_out
            else "the real rows drawn again with repeats (a bootstrap), which lies above what "
            "other people would reach; of detection: one half of the real rows against the other."
        ),
        f"Utility: trained on {trained:,} rows of a table (on both: twice as many), area under the "
        "curve on held-out real rows, intervals over these; floor: trained on independent columns, "
        "ceiling: on the real rows. Gain: real and synthetic rows less real ones alone, on the "
        "same draws of held-out rows.",
    ]
    if subgroup:
        lines.append(
            f"Groups: the same models, on held-out rows of each {subgroup}. Gap: best less worst "
            "area; noise alone makes one, so the change of the gap on the same people is what "
            f"counts. A level needs {MIN_ROWS} held-out rows."
        )
    return (
        *lines,
        f"Privacy, by Gower's distance: up to {PEOPLE:,} members and as many held-out people "
        f"against up to {MOST_RELEASED:,} synthetic rows; at least {MIN_ROWS} held-out rows, or it "
        "is refused. Membership: nearer means *member*; the control splits the members in two.",
        "Presence disclosure: a claim for everybody who has a synthetic row within a distance; "
        "floor of the sensitivity: held-out people who are claimed, too; of the precision: chance.",
        f"Attribute disclosure: up to {GUESSED} people a side, half of the columns or all but one "
        "known (three random choices), the others guessed by vote of the nearest rows, numbers as "
        "tenths. Gain: beyond held-out people. Floor: independent columns; ceiling: the real rows "
        "themselves released. Both after Choi et al., MedGAN (arXiv 1703.06490), section 5.3.",
        disclosed.METHOD,
    )


def listings(records: Sequence[Record]) -> Iterator[Listing]:
    """The figures as people read them."""

    def of(*metrics: str) -> list[Record]:
        return [r for r in records if r.metric in metrics]

    yield listing("Rows against rows", of(*LIKENESS), ("model",), 3)
    rules = of("rules_broken")
    if rules:
        yield listing("Rows that break a rule (floor: real rows)", rules, (), 3)
    contradictions = of("contradictions", "contradiction")
    if contradictions[0].value:
        title = "Rows that contradict all real ones (floor: chance and held-out rows)"
        yield listing(title, contradictions, ("never",), 3)
    useful = of("utility_auc", "utility_gain")
    if useful:
        title = "Trained on synthetic, tested on held-out real rows: area under the curve"
        yield listing(title, useful, ("training", "learner"), 3)
    groups = [r for r in records if r.metric.startswith("subgroup")]
    if groups:
        title = f"Utility for each {groups[0].where.get('subgroup', 'group')}"
        yield listing(title, groups, ("level", "training", "learner"), 3)
    yield from disclosed.listings(records)
    yield listing("Numbers value by value", of("values"), ("column",), 3)
    loose = sorted(of("pair"), key=lambda r: (r.value or 0) - (r.ceiling or 0))[:12]
    yield listing("Pairs of columns that agree least", loose, ("columns",), 3)
    worst = of("combination")
    if worst:
        yield listing(
            "Values and pairs of values that come too often or too seldom", worst,
            ("values", "synthetic", "real"), 2, {"combination": "times as often"},
        )  # fmt: skip
    least = sorted(of("marginal"), key=lambda r: r.value or 0)[:12]
    yield listing("Columns that agree least", least, ("column",), 3)


def verdicts(records: Sequence[Record], *, held_out: bool = True) -> Iterator[Verdict]:
    """One line each on pairs, detection, coverage, rules, utility, groups and every attack.

    Args:
        records: All figures.
        held_out: Whether other people are the ceiling.
    """
    best = "real rows" if held_out else "real rows drawn again"
    halves = "real rows" if held_out else "real rows by halves"

    def of(metric: str, **where: str) -> Record:
        return next(
            r
            for r in records
            if r.metric == metric and all(r.where.get(k) == v for k, v in where.items())
        )

    rows = of("pairs", model="synthetic").n or 0
    if rows < MIN_ROWS:
        yield Verdict(UNKNOWN, f"likeness: needs {MIN_ROWS} rows a side, there are {rows}.")
    else:
        yield from _alike(records, of, best, halves)
    for record in records:
        if record.metric in ("rules_broken", "contradictions"):
            yield from _broken(record, [r for r in records if r.metric == "contradiction"])
        if record.metric == "utility_auc":
            yield from _useful(record)
        if record.metric == "utility_gain":
            what = f"utility on the same people ({record.where['learner']})"
            yield from _change(record, what, Verdict(GOOD, "better"), Verdict(BAD, "worse"))
    yield from _untold([r for r in records if r.metric == "subgroup_auc" and "refused" in r.where])
    for change in records:
        if change.metric == "subgroup_gap_change" and change.where["training"] == "real+synthetic":
            what = f"gap between levels of {change.where['subgroup']} ({change.where['learner']})"
            yield from _change(change, what, Verdict(BAD, "wider"), Verdict(GOOD, "narrower"))
    yield from disclosed.verdicts(records)


def _untold(refused: Sequence[Record]) -> Iterator[Verdict]:
    """One line on all levels of which nothing is said, with the reason of the first."""
    levels = {record.where.get("level") for record in refused}
    if refused:
        first = refused[0].where
        place = f"{first['subgroup']}={first['level']}" if "level" in first else "of each level"
        yield Verdict(UNKNOWN, f"groups: {len(levels)} untold; {place}: {first['refused']}.")


def _alike(
    records: Sequence[Record], of: Callable[..., Record], best: str, halves: str
) -> Iterator[Verdict]:
    """Pairs, detection, coverage, combinations, relations, numbers value by value."""
    for metric, name in (("pairs", "pairs of columns"), ("detection_auc", "detection")):
        own, copula = of(metric, model="synthetic"), of(metric, model="copula")
        copied = disclosed.repeats(own) if metric == "detection_auc" else None
        if copied:
            yield copied
            continue
        better = (own.value or 0) > min(copula.value or 0, own.ceiling or 0)
        if metric == "detection_auc":
            better = (own.value or 0) < (copula.value or 0) or (own.low or 0) <= 0.5
        elif own.value is None or not isfinite(own.value):
            continue  # a single column has no pairs
        yield Verdict(
            GOOD if better else BAD,
            f"{name}: {number(own.value, 3)}, a Gaussian copula has {number(copula.value, 3)}, "
            f"{halves if metric == 'detection_auc' else best} {number(own.ceiling, 3)}.",
        )
    yield _singly(of("marginals", model="synthetic"), records, best)
    levels = of("coverage_levels", model="synthetic")
    yield Verdict(
        GOOD if (levels.value or 0) >= 0.95 * (levels.ceiling or 1) else BAD,
        f"coverage: {levels.value or 0:.0%} of levels above {PREVALENT:.1%} occur in "
        f"{levels.n or 0:,} rows ({levels.ceiling or 0:.0%} in as many {best}), and "
        f"{of('coverage_combinations', model='synthetic').value or 0:.0%} as many distinct rows as "
        "in real ones.",
    )
    yield _combined(of("combinations_off"), [r for r in records if r.metric == "combination"])
    yield from _loose([r for r in records if r.metric == "pair"], best)
    yield from _uneven([r for r in records if r.metric == "values"], best)


def _loose(pairs: Sequence[Record], best: str) -> Iterator[Verdict]:
    """The two columns whose relation is lost most; if none is, nothing is said.

    A relation is what real rows agree in more than independent columns do.
    """
    lost = []
    for record in pairs:
        floor, ceiling = record.floor or 0.0, record.ceiling or 0.0
        if ceiling - floor >= RELATED:
            lost.append(((ceiling - (record.value or 0.0)) / (ceiling - floor), record))
    share, worst = max(lost, key=lambda pair: pair[0], default=(0.0, None))
    if worst is not None and share > LOST:
        yield Verdict(
            BAD,
            f"relations: {worst.where['columns']} agree by {number(worst.value, 3)}, {best} by "
            f"{number(worst.ceiling, 3)}, independent columns by {number(worst.floor, 3)}.",
        )


def _singly(mean: Record, records: Sequence[Record], best: str) -> Verdict:
    """Whether columns one by one are as in real rows; independent columns are, by making."""
    singles = [r for r in records if r.metric == "marginal"]
    worst = min(singles, key=lambda r: (r.value or 0.0) - (r.floor or 0.0))
    value, floor, ceiling = mean.value or 0.0, mean.floor or 0.0, mean.ceiling or 0.0
    return Verdict(
        GOOD if value >= min(floor, ceiling) - SLACK else BAD,
        f"columns one by one: {number(value, 3)}, independent columns have {number(floor, 3)}, "
        f"{best} {number(ceiling, 3)}; furthest off {worst.where['column']}, "
        f"{number(worst.value, 3)} (independent {number(worst.floor, 3)}, {best} "
        f"{number(worst.ceiling, 3)}).",
    )


def _combined(count: Record, worst: Sequence[Record]) -> Verdict:
    """Whether values, or pairs of them, come far too often or too seldom; the worst is named."""
    looked = f"of {count.n or 0:,} values and pairs of values"
    if not worst:
        return Verdict(
            GOOD,
            f"combinations: {looked} none comes {FACTOR:g} times as often or as seldom as among "
            "real rows, as far as so many rows can tell.",
        )
    first = worst[0]
    return Verdict(
        BAD,
        f"combinations: {looked} {count.value} come {FACTOR:g} times as often or as seldom as "
        f"among real rows; first of all {first.where['values']}: {first.where['synthetic']} "
        f"synthetic rows, {first.where['real']} real ones, times {interval(first)}.",
    )


def _uneven(records: Sequence[Record], best: str) -> Iterator[Verdict]:
    """The column of numbers that is furthest off value by value; if none is, nothing is said.

    Agreement of few rows is noise: shares of so many rows err by half a root of their number at
    most, and columns are many, so a gap counts from three times that on.
    """
    gaps = [
        ((1 - (r.value or 0)) / max(1 - r.ceiling, 1e-3), r)
        for r in records
        if r.ceiling is not None
        and r.ceiling - (r.value or 0) > max(LEAST_GAP, 1.5 / max(r.n or 1, 1) ** 0.5)
    ]
    gap, worst = max(gaps, key=lambda pair: pair[0], default=(0.0, None))
    if worst is not None and gap > UNEVEN:
        yield Verdict(
            BAD,
            f"numbers: value by value {worst.where['column']} agrees by {number(worst.value, 3)}, "
            f"{best} by {number(worst.ceiling, 3)}: some values come too often, others "
            "too seldom.",
        )


def _broken(record: Record, contradictions: Sequence[Record]) -> Iterator[Verdict]:
    """Whether synthetic rows break rules, or contradict all real ones, more often than real ones.

    If not, nothing is said.
    """
    value, own = record.value or 0.0, record.floor or 0.0
    if value <= own:
        return
    rows = f"{record.n or 0:,} synthetic rows"
    told = f"rules: {value:.2%} of {rows} break one, {own:.2%} of real ones"
    if record.metric == "contradictions":
        first = contradictions[0]
        told = (
            f"contradictions: {value:.2%} of {rows} have what no real row has, {own:.2%} are "
            f"what chance and held-out rows explain; first of all {first.where['never']} "
            f"({first.value:,})"
        )
    if (value if record.low is None else record.low) > own:
        yield Verdict(BAD, f"{told}: more often.")
    else:
        yield Verdict(UNKNOWN, f"{told}: no difference that can be told.")


def _useful(record: Record) -> Iterator[Verdict]:
    """What training on synthetic rows alone is worth; a copula is no subject."""
    if "refused" in record.where:
        yield Verdict(UNKNOWN, f"utility: {record.where['refused']}.")
        return
    if record.where["training"] != "synthetic":
        return
    what = f"utility ({record.where['learner']})"
    value, floor, ceiling = (
        float("nan") if figure is None else figure
        for figure in (record.value, record.floor, record.ceiling)
    )
    low = value if record.low is None else record.low
    high = value if record.high is None else record.high
    if not all(isfinite(figure) for figure in (value, floor, ceiling, low, high)):
        yield Verdict(UNKNOWN, f"{what}: held-out rows have one level of the target, or none.")
        return
    told = (
        f"{what}: trained on synthetic rows it reaches {interval(record)}, on real rows "
        f"{number(ceiling)}, on independent columns {number(floor)}"
    )
    if ceiling <= floor or low <= floor <= ceiling <= high:
        yield Verdict(UNKNOWN, f"{told}: real rows teach too little to tell.")
        return
    way = (value - floor) / (ceiling - floor)
    grade = GOOD if way >= REACHED else BAD if way < MISSED else UNKNOWN
    yield Verdict(grade, f"{told}: {number(round(100 * way))} % of the way.")


def _change(change: Record, what: str, up: Verdict, down: Verdict) -> Iterator[Verdict]:
    """What synthetic rows beside the real ones did, on the same people; nothing if unknown.

    Args:
        change: A difference with its interval.
        what: Of what.
        up, down: Grade and word where all of the interval lies above 0, and below.
    """
    if change.value is None or not isfinite(change.value):
        return
    moved = f"{what}: real + synthetic changes it by {interval(change, 3)}"
    told = Verdict(UNKNOWN, "no change that can be told")
    if (change.low or 0) > 0:
        told = up
    elif (change.high or 0) < 0:
        told = down
    yield Verdict(told.grade, f"{moved}: {told.text}.")
