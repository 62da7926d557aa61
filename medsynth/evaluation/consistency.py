"""Does a synthetic scan show what its label map says?

A segmentor trained on real scans names the voxels of synthetic ones; its Dice against the
conditioning label map stands beside its Dice on real scans of people it has not seen.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import nn

from medsynth.core.cohort import Cohort
from medsynth.core.labels import BRAIN, FINE, LabelScheme
from medsynth.core.random import Key
from medsynth.core.words import plural
from medsynth.errors import DataError
from medsynth.evaluation import heads, segmentors
from medsynth.evaluation.enough import MIN_PEOPLE
from medsynth.evaluation.heads import Head
from medsynth.evaluation.records import (
    BAD,
    GOOD,
    UNKNOWN,
    Record,
    Section,
    Table,
    Verdict,
    cases,
    listing,
    number,
    refused,
)
from medsynth.evaluation.scores import dice
from medsynth.evaluation.segmentors import Recipe
from medsynth.evaluation.statistics import over_people
from medsynth.evaluation.summaries import Shown

NAME = "consistency"
NEAR = 0.9
"""Share of the segmentor's own score that counts as consistent."""

LIMITS = (
    "The segmentor is only as good as its training: compare with its score on real scans, not "
    "with 1. It may score higher on synthetic scans than on real ones when they are too clean.",
    "Tissue labels of real scans come from an algorithm, not from people.",
    segmentors.MIRRORED,
    segmentors.SATELLITES,
    segmentors.OWN_PRIORS,
)


Dices = list[tuple[str, dict[str, float]]]
"""The person behind each case, and Dice by structure."""


def measure(
    network: nn.Module,
    recipe: Recipe,
    scheme: LabelScheme,
    real: Cohort,
    synthetic: Cohort,
    modalities: Sequence[str],
    key: Key,
    shown: Shown[Any],
    trained_on: int,
    degraded: int = 12,
    strangers: bool = True,
) -> Section:
    """Dice of every structure on synthetic and on real scans.

    Args:
        network: A segmentor trained on real scans, from `segmentors.train`.
        recipe: How it was trained.
        scheme: What it names.
        real: Real cases that it has not seen.
        synthetic: Generated cases.
        modalities: Scans that it sees, in order.
        key: Noise of the bad examples, bootstrap.
        shown: Shows progress.
        trained_on: Real cases that it was trained on, for the words.
        degraded: Synthetic cases that are made worse on purpose.
        strangers: Whether it was trained on people from whom no synthetic case descends.

    Raises:
        DataError: No label maps.
        GeometryError: Voxels of different size.
    """
    own: Dices = []
    made: Dices = []
    shuffled: Dices = []
    worse: dict[tuple[str, int], Dices] = {}
    first: Head | None = None

    def named(head: Head) -> np.ndarray:
        return segmentors.predict(network, recipe, head.scans.data, scheme)

    for head in shown(heads.read_all(real, modalities), len(real), "segment real"):
        first = first or head
        own.append((head.case.subject, _dices(named(head), head, scheme)))
    before: list[Head] = []
    for head in shown(heads.read_all(synthetic, modalities), len(synthetic), "segment synthetic"):
        if first is not None:
            heads.same_spacing(first, head)
        found = named(head)
        made.append((head.case.subject, _dices(found, head, scheme)))
        other = heads.somebody_else(head, before)
        if other is not None:
            dices = _dices(found, heads.relabelled(head, other), scheme)
            shuffled.append((head.case.subject, dices))
        if len(made) <= degraded:
            worse.setdefault(("none", 0), []).append(made[-1])
            for name, level, bad in heads.series(head, key):
                dices = _dices(named(bad), bad, scheme)
                worse.setdefault((name, level), []).append((head.case.subject, dices))
        before = heads.remembered(before, head)
    records = list(_records(own, made, shuffled, worse, scheme, recipe, key))
    main = [r for r in records if "degradation" not in r.where]
    return Section(
        NAME,
        "Label consistency: do the scans show what the label maps say?",
        (
            f"Segmentor: {recipe.kind}, {recipe.steps} steps on {trained_on} real cases; scans "
            f"{', '.join(modalities)}. Value: Dice on {plural(len(made), 'synthetic case')} of "
            f"{plural(len({who for who, _ in made}), 'person', 'people')} against the conditioning "
            f"label map. Ceiling: the same segmentor on {plural(len(own), 'real case')} that "
            "it has not seen. Floor: the same predictions against label maps of other people. In "
            "brackets: 95 % bootstrap interval over people, from "
            f"{MIN_PEOPLE} people on; scans of one person are averaged first. "
            + (
                "No synthetic case descends from people that it was trained on."
                if strangers
                else "It was trained on people from whom synthetic cases descend."
            ),
        ),
        tuple(records),
        (
            listing("Dice by structure (higher is better)", main, ("structure",)),
            _degradations(records),
        ),
        tuple(_verdicts(main, strangers)),
        LIMITS,
    )


def _dices(named: np.ndarray, head: Head, scheme: LabelScheme) -> dict[str, float]:
    """Dice of every structure that the label map has; `FINE` counts as CSF on both sides, for maps
    of real scans do not name it."""
    if head.labels is None:
        raise DataError("a label map", "none", head.case.name)
    if scheme == BRAIN:
        labels = head.labels.without_fine()
        named = BRAIN.without_fine(named)
    else:
        labels = heads.tumour_of(head.labels)
    names = [name for name in scheme.abbreviations[1:] if name not in FINE]
    names += [region for region in ("WT", "TC") if region not in names]
    return {
        name: dice(scheme.mask(named, name), labels.mask(name))
        for name in names
        if labels.has(name)
    }


def _records(
    own: Dices,
    made: Dices,
    shuffled: Dices,
    worse: dict[tuple[str, int], Dices],
    scheme: LabelScheme,
    recipe: Recipe,
    key: Key,
) -> Iterator[Record]:
    structures = [*(name for name in scheme.abbreviations[1:] if name not in FINE), "WT", "TC"]

    def mean(side: Dices, name: str) -> float | None:
        values = [row[name] for _, row in side if name in row]
        return float(np.mean(values)) if values else None

    for name in structures:
        rows = [(who, row[name]) for who, row in made if name in row]
        where = {"structure": name, "segmentor": recipe.kind}
        if not rows:
            continue
        if mean(own, name) is None:
            yield refused(NAME, "dice", "no real test case has it", **where)
            continue
        found = over_people(np.array([v for _, v in rows]), [who for who, _ in rows], key)
        yield Record(
            NAME, "dice", where, *found.figure, mean(shuffled, name), mean(own, name),
            len(rows), 1, recipe.steps, found.people,
        )  # fmt: skip
    for (name, level), bad in worse.items():
        rows = [(who, float(np.mean(list(row.values())))) for who, row in bad if row]
        where = {"structure": "mean", "degradation": name, "level": str(level)}
        if rows:
            found = over_people(np.array([v for _, v in rows]), [who for who, _ in rows], key)
            yield Record(NAME, "dice", where, *found.figure, n=len(rows), people=found.people)


def _degradations(records: Sequence[Record]) -> Table:
    rows = [r for r in records if "degradation" in r.where]
    return Table(
        "Can it tell? Synthetic scans made worse step by step, mean Dice over structures",
        ("degradation", "level", "Dice", "n"),
        tuple(
            (r.where["degradation"], r.where["level"], number(r.value, 3), cases(r)) for r in rows
        ),
    )


def _verdicts(records: Sequence[Record], strangers: bool) -> Iterator[Verdict]:
    known = [r for r in records if r.value is not None]
    for title, names in (("tissue", ("CSF", "GM", "WM")), ("tumour", ("WT", "TC", "ET"))):
        own = [r for r in known if r.where["structure"] in names]
        if not own:
            continue
        people = min(r.people or 0 for r in own)
        seen = float(np.mean([r.ceiling or 0 for r in own]))
        if seen < 0.3:
            yield Verdict(
                UNKNOWN,
                f"{title}: the segmentor reaches only Dice {seen:.2f} on real scans; it is no "
                "judge yet. Train it longer or on more cases.",
            )
            continue
        mean = float(np.mean([r.value or 0 for r in own])) / seen
        pairs = [f"{r.where['structure']} {r.value:.2f}/{r.ceiling or 0:.2f}" for r in own]
        grade = BAD if mean < NEAR else (GOOD if strangers else UNKNOWN)
        if people < MIN_PEOPLE:
            grade = UNKNOWN
        yield Verdict(
            grade,
            f"{title}: Dice on synthetic scans is {100 * mean:.0f} % of the same segmentor's on "
            f"real ones ({', '.join(pairs)})."
            + ("" if strangers else " It knows these people's anatomy, which flatters.")
            + (
                ""
                if people >= MIN_PEOPLE
                else f" Judged from {MIN_PEOPLE} people on, not {people}."
            ),
        )
