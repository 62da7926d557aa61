"""How attacks on people are told: listings and verdicts of `disclosure`; no measurements.

No verdict is ever *good*: an attack that fails proves nothing.
"""

from collections.abc import Iterator, Sequence

from medsynth.evaluation.disclosure import FALSE_POSITIVES, OTHERS
from medsynth.evaluation.records import (
    BAD,
    UNKNOWN,
    Record,
    Table,
    Verdict,
    interval,
    number,
)

METHOD = (
    "Intervals are of 95 %, by bootstrap of people, given this release. An attack is called found "
    "three standard errors above chance, because about a dozen are tried; what is not found is not "
    "called safe."
)
LIMITS = (
    "A distance to the nearest record is no proof of privacy, and a low attack score may be a weak "
    "attack. Only differential privacy bounds what all attacks can learn.",
    "Attribute disclosure counts what is learnt of a member beyond what is learnt of anybody. What "
    "the rows teach of everybody can hurt a person, too, and no control takes that away.",
)

CLAIMS = (
    ("membership_auc", 0.5, "membership: area", "an attacker can tell who was trained on"),
    (
        "membership_tpr_at_1_fpr", FALSE_POSITIVES,
        "membership at 1 % false positives: members found", "an attacker is sure of some members",
    ),
    (
        "nearer_to_members", 0.5, "nearest records: nearer to members",
        "synthetic records stand nearer to people who were trained on",
    ),
    (
        "presence_precision", 0.5, "presence: precision of a claim",
        "a near synthetic record betrays a member",
    ),
    (
        "attribute_f1_gain", 0.0, "attributes: F1 gained over held-out people",
        "what is not known of a member can be read off",
    ),
    (
        "exact_copies_gain", 0.0, "copies:",
        "people who were trained on are in the synthetic records",
    ),
)  # fmt: skip
"""Figure, chance, what it is, and what it means when its interval lies above chance."""

STRICT = 3 / 1.96
"""An attack is called found three standard errors above chance: a dozen of them are tried, and of a
dozen 95 % intervals one often misses chance by luck."""

BELOW = 0.02
"""How far below one half a detector must lie to have met copies."""

REVERSIBLE = ("membership_auc", "nearer_to_members")
"""Figures that held-out people who were trained on, or copied, push below chance."""

BARRED = ("membership_tpr_at_1_fpr", "nearer_to_members", "exact_copies_gain")
"""Figures that must lie above the interval of their control, too."""


def listings(records: Sequence[Record]) -> Iterator[Table]:
    """The figures of all attacks as people read them."""
    tail = ("value [95 %]", "floor", "ceiling", "n")

    def row(r: Record, *cells: str) -> tuple[str, ...]:
        value = interval(r, 3) if r.value is not None else r.where["refused"]
        return (*cells, value, number(r.floor, 3), number(r.ceiling, 3), str(r.n or "–"))

    for title, starts in (
        ("People: is a synthetic record nearer to a member?", ("distance", "nearer", "exact")),
        ("People: who was trained on? Membership", ("membership",)),
        ("People: presence disclosure, a claim when a record is near", ("presence",)),
        ("People: attribute disclosure, what is not known, from the nearest", ("attribute",)),
    ):
        chosen = [r for r in records if r.metric.startswith(starts)]
        told = [
            ", ".join(f"{k} {v}" for k, v in r.where.items() if k not in ("control", "refused"))
            for r in chosen
        ]
        yield Table(
            title,
            ("figure", "of", "control", *tail),
            tuple(
                row(r, r.metric.replace("_", " "), of, r.where.get("control", ""))
                for r, of in zip(chosen, told, strict=True)
            ),
        )


def verdicts(records: Sequence[Record]) -> Iterator[Verdict]:
    """One line an attack; an attack that fails proves nothing, so no line is ever *good*."""
    lost = next((r for r in records if r.metric == "membership_auc" and r.value is None), None)
    if lost:
        yield Verdict(UNKNOWN, f"privacy: {lost.where['refused']}.")
        return
    for metric, chance, words, bad in CLAIMS:
        own = [r for r in records if r.metric == metric and r.value is not None]
        found = [r for r in own if "control" not in r.where]
        if not found:
            continue
        caught = [r for r in found if beyond(r, chance, own) > 0]
        worst = max(caught or found, key=lambda r: r.value or 0.0)
        told = f"{words} {interval(worst, 3)}"
        if metric == "exact_copies_gain":
            told = _copied(records, words, least(worst, chance, own))
        grade, said = UNKNOWN, "nothing found beyond three standard errors, which proves nothing"
        if caught:
            grade, said = BAD, bad
        elif metric in REVERSIBLE and _below(worst, chance, own):
            grade, said = BAD, "held-out people are nearer than members: were they held out?"
        yield Verdict(grade, f"{told}: {said}.")


def _copied(records: Sequence[Record], words: str, bar: float) -> str:
    """Which share of the release people have, too: members, and people who were held out."""
    both = [r for r in records if r.metric == "exact_copies"]
    inside = next(r for r in both if "control" not in r.where)
    outside = next(r for r in both if r.where.get("control") == OTHERS)
    shares = [f"{100 * (r.value or 0):.1f} %" for r in (inside, outside)]
    found = f"found above {100 * bar:.1f} points" if bar < 1 else "too few held out to be found"
    return (
        f"{words} {shares[0]} of {inside.n or 0:,} synthetic records equal one of "
        f"{inside.where['of']}, {shares[1]} one of {outside.where['of']} (difference {found})"
    )


def repeats(detection: Record) -> Verdict | None:
    """A detector below one half has met records again, with the other label, in another fold.

    Real rows that are alike by chance do the same to the ceiling; below that it is copying.
    """
    lowest = min(0.5, 0.5 if detection.ceiling is None else detection.ceiling) - BELOW
    if detection.high is None or detection.high >= lowest:
        return None
    return Verdict(
        BAD,
        f"detection: {interval(detection, 3)}, below one half and below real records "
        f"({number(detection.ceiling, 3)}): synthetic records repeat real ones.",
    )


def _below(record: Record, chance: float, others: Sequence[Record]) -> bool:
    """Whether a figure lies as far below chance as `least` lies above it."""
    return (record.value or 0.0) < 2 * chance - least(record, chance, others)


def beyond(record: Record, chance: float, others: Sequence[Record]) -> float:
    """How far a figure lies beyond `least`; above 0 is found."""
    return (record.value or 0.0) - least(record, chance, others)


def least(record: Record, chance: float, others: Sequence[Record]) -> float:
    """What a figure must exceed to be called found: three standard errors above chance.

    Args:
        record: The figure of an attack.
        chance: What it is where nothing is kept.
        others: Figures of the same name, its control among them.
    """
    margin = 0.0 if record.low is None else (record.value or 0.0) - record.low
    bars = [chance + STRICT * margin]
    for control in others:
        where = {k: v for k, v in control.where.items() if k != "control"}
        if record.metric in BARRED and "control" in control.where and where == record.where:
            middle = control.value or 0.0
            bars.append(middle + STRICT * ((control.high or middle) - middle))
    return max(bars)
