"""The section on utility, in words; trains and measures nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medsynth.core.words import plural
from medsynth.evaluation import scores
from medsynth.evaluation.enough import MIN_PEOPLE, MIN_SEEDS
from medsynth.evaluation.records import (
    BAD,
    GOOD,
    UNKNOWN,
    Record,
    Section,
    Table,
    Verdict,
    interval,
    number,
)
from medsynth.evaluation.segmentors import (
    CONTEXT,
    MIRRORED,
    OWN_PRIORS,
    SATELLITES,
    WEIGHTS,
    Recipe,
)
from medsynth.evaluation.utility import FEW, FINE_TUNED, NAME, REAL, TRAININGS, Axes

LIMITS = (
    "Differences smaller than their interval are noise. Folds and seeds decide, not one run.",
    "Few steps on few cases say which data help early; they do not say what a week of training "
    "on a thousand cases would do.",
    "A region that a test case does not have scores 1 when none is predicted and 0 otherwise, as "
    "in BraTS: the floor, a segmentor that predicts nothing, can be high. *Where present* is over "
    "the cases that have the region.",
    MIRRORED,
    SATELLITES,
    OWN_PRIORS,
    "There is no ceiling: nobody knows the best that could be reached. Compare with *real*.",
)

UNLEARNT = 0.005
"""Mean Dice where present, below which a region was hardly found in anybody."""


@dataclass(frozen=True)
class Sizes:
    """How many different cases stand behind a table, and what the guard did, for the words.

    Args:
        real, test, synthetic, phantoms: Cases, each counted once however many folds use it.
        dropped: Synthetic cases that no fold could use.
        unknown: Synthetic cases of which nobody knows what they were made from.
        folds: Partitions.
        tuned: Real cases that the fine-tuned column sees, by fold.
        checked: Whether the generator's training cases are known not to be test cases.
    """

    real: int
    test: int
    synthetic: int
    phantoms: int
    dropped: int
    unknown: int
    folds: int
    tuned: tuple[int, ...] = ()
    checked: bool = True


def section(records: Sequence[Record], axes: Axes, recipe: Recipe, sizes: Sizes) -> Section:
    """The section of the report."""
    tables = [
        _table(records, region, metric, sizes)
        for metric in ("dice", "lesion_dice")
        for region in scores.REGIONS
    ]
    tables.append(_table(records, "WT", "hd95", sizes))
    tables += [_against(records, region, sizes) for region in scores.REGIONS]
    tables += _curves(records)
    return Section(
        NAME,
        "Utility: does a segmentor get better?",
        (
            f"{sizes.real} real training and {plural(sizes.test, 'test case')} in "
            f"{plural(sizes.folds, 'fold')} by subject; "
            f"{plural(sizes.synthetic, 'synthetic case')}, {plural(sizes.phantoms, 'phantom')}; "
            f"{plural(axes.seeds, 'seed')}.",
            f"Every cell: {recipe.steps} optimiser steps of {recipe.batch} patches of "
            f"{' × '.join(map(str, recipe.patch))} voxels, whatever it trains on (step-matched). "
            "Mixed columns mix within batches, half and half; the fine-tuned column takes its last "
            f"third of the steps on {100 * FEW:.0f} % of the real cases, at least one"
            f"{_told(sizes)}.{_of_dynunet(axes)}",
            "Floor: a segmentor that predicts nothing. In brackets: 95 % bootstrap interval over "
            f"test people, seeds and time-points averaged first, from {MIN_PEOPLE} people on. "
            "p: Wilcoxon signed-rank test against *real*, paired by person. Without augmentation "
            "means random crops only; with it: crops, mirroring, rotation, scaling, elastic "
            "deformation, contrast, brightness, shading, blur, noise.",
        ),
        tuple(records),
        tuple(tables),
        tuple(_verdicts(records, sizes)),
        LIMITS,
    )


def _of_dynunet(axes: Axes) -> str:
    if "dynunet" not in axes.segmentors:
        return ""
    return (
        f" A dynunet sees windows of about {CONTEXT:.2f} times its patches at inference, and "
        f"enhancing tumour counts {WEIGHTS['ET']:.0f} times in its loss, background "
        f"{WEIGHTS['BG']:.1f} times."
    )


def _told(sizes: Sizes) -> str:
    """`: here 1`, or nothing when nothing was fine-tuned."""
    seen = sorted(set(sizes.tuned))
    return f": here {' to '.join(map(str, seen))}" if seen else ""


def _head(column: str, sizes: Sizes) -> str:
    """A column's name; ten per cent of a few cases are some other share, so their number."""
    seen = sorted(set(sizes.tuned))
    if column != FINE_TUNED or not seen:
        return column
    cases = plural(seen[0], "case") if len(seen) == 1 else f"{seen[0]} to {seen[-1]} cases"
    return f"{column} ({cases})"


def _main(records: Sequence[Record], region: str) -> list[Record]:
    """Records of the table, without the learning curves."""
    return [
        r
        for r in records
        if r.where.get("region") == region and r.where["share"] == "1" and r.where["ratio"] == "1"
    ]


NAMES = {
    "dice": "Dice", "lesion_dice": "Lesion-wise Dice", "hd95": "HD95 in mm",
    "lesion_hd95": "Lesion-wise HD95 in mm",
}  # fmt: skip
REGIONS = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}


def _table(records: Sequence[Record], region: str, metric: str, sizes: Sizes) -> Table:
    """Rows segmentor × augmentation, columns training; where some test cases do not have the
    region, Dice over those that do stands in the same cell."""
    own = _main(records, region)
    columns = list(dict.fromkeys(r.where["training"] for r in own))
    rows = dict.fromkeys((r.where["segmentor"], r.where["augmentation"]) for r in own)
    digits = 0 if "hd95" in metric else 2
    n = max((r.n or 0 for r in own if r.metric == metric), default=0)

    def cell(row: tuple[str, str], column: str) -> str:
        at = {
            r.metric: r
            for r in own
            if (r.where["segmentor"], r.where["augmentation"], r.where["training"])
            == (*row, column)
        }
        if metric not in at:
            return "–"
        some = at.get("dice_present") if metric == "dice" else None
        if some is None or some.n == n:
            return interval(at[metric], digits)
        present = "no case has it" if some.value is None else f"{interval(some)} (n = {some.n})"
        return f"{interval(at[metric], digits)}; where present {present}"

    better = "lower is better" if "hd95" in metric else "higher is better"
    floor = next((r.floor for r in own if r.metric == metric and r.floor is not None), None)
    worst = "" if floor is None else f", predicting nothing gives {number(floor)}"
    return Table(
        f"{NAMES[metric]}, {REGIONS[region]} (n = {plural(n, 'test person', 'test people')}; "
        f"{better}{worst}; steps equal in all cells)",
        ("segmentor", "augmentation", *(_head(column, sizes) for column in columns)),
        tuple((*row, *(cell(row, column) for column in columns)) for row in rows),
    )


def _against(records: Sequence[Record], region: str, sizes: Sizes) -> Table:
    """Differences in Dice to *real* with interval and p, a row each."""
    own = _main(records, region)
    told = ("segmentor", "augmentation", "training")
    at = {(r.metric, *(r.where[k] for k in told)): r for r in own}
    rows = []
    for record in (r for r in own if r.metric == "dice_difference"):
        row = tuple(record.where[k] for k in told)
        p = at["dice_p", *row]
        rows.append(
            (
                *row[:2],
                _head(row[2], sizes),
                interval(record),
                number(p.value, 3) if p.value is not None else p.where["refused"],
                str(record.n),
            )
        )
    return Table(
        f"Difference in Dice to {REAL}, {REGIONS[region]} (above 0: better than real alone)",
        ("segmentor", "augmentation", "training", "difference [95 %]", "p", "n"),
        tuple(rows),
    )


def _curves(records: Sequence[Record]) -> list[Table]:
    tables = []
    for axis, other, title in (
        ("share", "ratio", "Learning curve: share of the real cases"),
        ("ratio", "share", "Learning curve: synthetic cases per real one"),
    ):
        own = [
            r
            for r in records
            if r.metric == "dice" and r.where["region"] == "WT" and r.where[other] == "1"
        ]
        if len({r.where[axis] for r in own}) < 2:
            continue
        varied = {
            tuple(r.where[k] for k in ("training", "segmentor", "augmentation"))
            for r in own
            if r.where[axis] != "1"
        }
        kept = [
            r
            for r in own
            if tuple(r.where[k] for k in ("training", "segmentor", "augmentation")) in varied
        ]
        kept.sort(key=lambda r: (r.where["training"], float(r.where[axis])))
        tables.append(
            Table(
                title,
                ("training", "segmentor", axis, "Dice, whole tumour"),
                tuple(
                    (r.where["training"], r.where["segmentor"], r.where[axis], interval(r))
                    for r in kept
                ),
            )
        )
    return tables


def _verdicts(records: Sequence[Record], sizes: Sizes) -> Iterator[Verdict]:
    if sizes.unknown:
        yield Verdict(
            BAD,
            f"The leak guard could not work for {plural(sizes.unknown, 'synthetic case')} without "
            "a sidecar: if they descend from test subjects, the table flatters.",
        )
    elif not sizes.checked:
        yield Verdict(
            UNKNOWN,
            "Who the generator was trained on is not known (no `model` in the configuration): if "
            "test subjects were among them, the table flatters.",
        )
    else:
        yield Verdict(
            GOOD,
            "Leak guard: every synthetic case says what it was made from; "
            f"{sizes.dropped} that descend from test subjects were left out.",
        )
    for column in TRAININGS[1:]:
        own = [
            r
            for r in records
            if r.metric == "dice_difference"
            and r.where["training"] == column
            and r.where["region"] == "WT"
            and (r.where["share"], r.where["ratio"]) == ("1", "1")
        ]
        if not own:
            continue
        n, seeds = own[0].n or 0, own[0].seeds or 0
        gain = float(np.mean([r.value for r in own if r.value is not None]))
        words = (
            f"{_head(column, sizes)} against real, whole tumour: {_points(gain)} of Dice, mean "
            f"over {plural(len(own), 'row')} (n = {plural(n, 'test person', 'test people')}, "
            f"{plural(seeds, 'seed')})"
        )
        if n < MIN_PEOPLE or seeds < MIN_SEEDS:
            needs = f"needs {MIN_PEOPLE} test people and {MIN_SEEDS} seeds"
            yield Verdict(UNKNOWN, f"{words}: {needs} to be judged.")
            continue
        sure = [r for r in own if (r.low or 0) > 0 or (r.high or 0) < 0]
        signs = {(r.value or 0) > 0 for r in own}
        grade = GOOD if gain > 0 else BAD
        if len(sure) < len(own) or len(signs) > 1:
            grade = UNKNOWN
        yield Verdict(grade, f"{words}; the interval excludes 0 in {len(sure)} of {len(own)}.")
    yield from _not_learnt(records, sizes)


def _not_learnt(records: Sequence[Record], sizes: Sizes) -> Iterator[Verdict]:
    """Regions that a segmentor hardly finds in anybody, mean over seeds: trained too little, or on
    data that do not show them."""
    for region in scores.REGIONS:
        own = [
            r
            for r in _main(records, region)
            if r.metric == "dice_present" and r.value is not None and r.value < UNLEARNT
        ]
        if own:
            people = plural(own[0].n or 0, "test person", "test people")
            columns = ", ".join(
                f"{_head(r.where['training'], sizes)} "
                f"({r.where['segmentor']}, {r.where['augmentation']} augmentation)"
                for r in own
            )
            yield Verdict(
                UNKNOWN,
                f"{REGIONS[region].capitalize()} was hardly found in any of {people} with it by "
                f"{columns}: too little training, or data that do not show it. More `steps` or "
                "`seeds` tell the two apart.",
            )


def _points(gain: float) -> str:
    """`+4 points`, with a minus that is one, and none before nought."""
    points = round(100 * gain)
    return f"{points:+d} points".replace("-", "−") if points else "0 points"
