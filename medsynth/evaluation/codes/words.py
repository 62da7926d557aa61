"""What the figures of codes mean: method, listings, verdicts, limits; no measurements."""

from collections.abc import Iterator, Sequence

from medsynth.core.codes import Codes
from medsynth.evaluation import disclosed
from medsynth.evaluation.codes.figures import COMPONENTS, MOST_ROWS, PAIRED
from medsynth.evaluation.codes.prediction import LEAST, PREDICTED
from medsynth.evaluation.codes.privacy import GUESSED, PEOPLE
from medsynth.evaluation.disclosure import MIN_ROWS
from medsynth.evaluation.records import (
    BAD,
    GOOD,
    UNKNOWN,
    Record,
    Table,
    Verdict,
    interval,
    listing,
    number,
)
from medsynth.evaluation.samples import MOST_DRAWS

REACHED = 0.8
"""Share of the way from floor to ceiling from which on a figure is called good."""

CHANCE = 0.5
"""The area of a detector that finds nothing; ceilings of few people lie above it by luck."""

COVERED = 0.95
"""Share of the codes that real subjects again have from which on coverage is called good."""

SPREAD = 0.02
"""Least distance of floor and ceiling at which a figure can tell anything."""

LIMITS = (
    *disclosed.LIMITS,
    "Rates agree perfectly for independent codes, too: they say that a model has counted, not that "
    "it has learnt. Pairs, prediction and detection say more.",
    "Most codes are rare, and no figure here but coverage, ranks of rates and exact copies sees "
    "them; a person with a rare code is the one who can be recognised.",
    "Subjects are one set of codes each: the order of visits is not looked at.",
)


def method(real: Codes, made: Codes, held_out: Codes | None) -> tuple[str, ...]:
    """How it was measured."""
    kind = "present or not" if real.binary else "counts"
    return (
        f"{len(real):,} real subjects, {len(made):,} synthetic, "
        + (f"{len(held_out):,} held out; " if held_out else "none held out; ")
        + f"{len(real.names):,} codes, {kind}.",
        "Floor: independent codes at the real rates. Ceiling: "
        + (
            "held-out real subjects"
            if held_out
            else "the real subjects drawn again with repeats (a bootstrap), which lies above what "
            "other people would reach; of detection one half of the real subjects against the other"
        )
        + f". Called good from {REACHED:.0%} of the way from floor to ceiling on (detection: to "
        "one half).",
        "Rates (dimension-wise probability): correlation, correlation of ranks, and root mean "
        "square over codes. Coverage: codes of real subjects that "
        "occur, and different sets as a share of the real number. Codes per subject: mean, and "
        "Kolmogorov–Smirnov distance, 0 is best; ceiling of the mean: the real subjects. "
        "All of these and pairs in as many random subjects of each side, no more than the smallest "
        f"has, because more agree better by themselves; means over up to {MOST_DRAWS} samples of a "
        "larger side.",
        f"Pairs: the {PAIRED} most frequent codes; shares of subjects with both, and logarithms of "
        "lift, correlated over pairs. Detection: gradient boosting, three folds, up to "
        f"{MOST_ROWS:,} subjects a side; it sees counts of these {PAIRED}, {COMPONENTS} singular "
        "directions of all codes, codes per subject, and how many are rare; 0.5 is best.",
        f"Prediction (dimension-wise): logistic regression of each of the {PREDICTED} most "
        f"frequent codes (that at least {LEAST} held-out subjects have) on all others, sparse; "
        "trained on synthetic and on real subjects, tested on held-out ones. Floor: trained on "
        "independent codes; ceiling: on the real subjects, or for what compares with these, on a "
        "bootstrap of them. F1 at a chance of one half.",
        "Privacy, by Hamming's and Jaccard's distance of sets of codes: up to "
        f"{PEOPLE:,} members and as many held-out people against all synthetic subjects; at least "
        f"{MIN_ROWS} held-out subjects, or it is refused. Membership: nearer means *member*; the "
        "control splits the members in two. Presence disclosure: a claim for everybody who has a "
        "synthetic subject within some codes; floor of the sensitivity: held-out people who are "
        "claimed, too; of the precision: chance.",
        f"Attribute disclosure: up to {GUESSED} people a side, half of all codes known (three "
        "random halves), the others guessed where most of the nearest synthetic subjects have "
        "them; F1 of all guesses. Gain: beyond held-out people. Floor: independent codes; ceiling: "
        "the real subjects themselves released. After Choi et al., MedGAN (arXiv 1703.06490), "
        "sections 5.1 and 5.3.",
        disclosed.METHOD,
    )


def listings(records: Sequence[Record]) -> Iterator[Table]:
    """The figures as people read them."""
    likeness = [
        r
        for r in records
        if r.metric.startswith(("rates", "pairs", "coverage", "codes", "counts", "detection"))
    ]
    yield listing("Subjects against subjects", likeness, (), 3)
    useful = [r for r in records if r.metric.startswith("prediction")]
    yield listing("Each code from the others, on held-out real subjects", useful, (), 3)
    yield from disclosed.listings(records)


def verdicts(records: Sequence[Record]) -> Iterator[Verdict]:
    """One line each on pairs, detection, prediction, coverage and every attack."""
    found = {r.metric: r for r in records}
    for metric, what in (
        ("pairs_lift_correlation", "pairs of codes (lift)"),
        ("detection_auc", "detection"),
        ("prediction_auc", "prediction of codes"),
    ):
        copied = disclosed.repeats(found[metric]) if metric == "detection_auc" else None
        yield copied or placed(found[metric], what)
    codes, sets = found["coverage_codes"], found["coverage_sets"]
    enough = (codes.value or 0) >= COVERED * (codes.ceiling or 0)
    yield Verdict(
        GOOD if enough else BAD,
        f"coverage: {codes.value or 0:.0%} of the codes of as many real subjects occur (real "
        f"ones again: {codes.ceiling or 0:.0%}), and {sets.value or 0:.0%} as many different sets.",
    )
    yield from disclosed.verdicts(records)


def placed(record: Record, what: str) -> Verdict:
    """Judge a figure by where it stands between its floor and its ceiling."""
    if record.value is None or record.floor is None or record.ceiling is None:
        return Verdict(UNKNOWN, f"{what}: {record.where.get('refused', 'no figure')}.")
    ends = (
        f"{what}: {interval(record, 3)}, independent codes have {number(record.floor, 3)}, real "
        f"subjects {number(record.ceiling, 3)}"
    )
    detected = record.metric == "detection_auc"
    span = (CHANCE if detected else record.ceiling) - record.floor
    if (-span if detected else span) < SPREAD:
        return Verdict(UNKNOWN, f"{ends}: too near to each other, or the wrong way round, to tell.")
    way = (record.value - record.floor) / span
    return Verdict(GOOD if way >= REACHED else BAD, f"{ends}: {min(way, 1):.0%} of the way.")
