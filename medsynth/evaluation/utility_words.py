"""The section on utility, in words; trains and measures nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medsynth.evaluation import scores
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
from medsynth.evaluation.segmentors import Recipe
from medsynth.evaluation.enough import MIN_PEOPLE as MIN_PAIRS
from medsynth.evaluation.utility import FEW, MIN_SEEDS, NAME, TRAININGS, Axes

LIMITS = (
    "Differences smaller than their interval are noise. Folds and seeds decide, not one run.",
    "Few steps on few cases say which data help early; they do not say what a week of training "
    "on a thousand cases would do.",
    "Regions that a test case does not have score 1 when none is predicted and 0 otherwise, as in "
    "BraTS: look at `dice_present` beside `dice` for enhancing tumour.",
)


@dataclass(frozen=True)
class Sizes:
    """How many different cases stand behind a table, and what the guard did, for the words.

    Args:
        real, test, synthetic, phantoms: Cases, each counted once however many folds use it.
        dropped: Synthetic cases that no fold could use.
        unknown: Synthetic cases of which nobody knows what they were made from.
        folds: Partitions.
        checked: Whether the generator's training cases are known not to be test cases.
    """

    real: int
    test: int
    synthetic: int
    phantoms: int
    dropped: int
    unknown: int
    folds: int
    checked: bool = True


def section(records: Sequence[Record], axes: Axes, recipe: Recipe, sizes: Sizes) -> Section:
    """The section of the report."""
    tables = [
        _table(records, region, metric)
        for metric in ("dice", "lesion_dice")
        for region in scores.REGIONS
    ]
    tables.append(_table(records, "WT", "hd95"))
    tables += _curves(records)
    return Section(
        NAME,
        "Utility: does a segmentor get better?",
        (
            f"{sizes.real} real training and {sizes.test} test cases in {sizes.folds} "
            f"{_plural(sizes.folds, 'fold')} by subject; {sizes.synthetic} synthetic cases, "
            f"{sizes.phantoms} phantoms; {axes.seeds} {_plural(axes.seeds, 'seed')}.",
            f"Every cell: {recipe.steps} optimiser steps of {recipe.batch} patches of "
            f"{' × '.join(map(str, recipe.patch))} voxels, whatever it trains on (step-matched). "
            "Mixed columns mix within batches, half and half; the fine-tuned column takes its last "
            f"third of the steps on {FEW:.0%} of the real cases (at least one).",
            "In brackets: 95 % bootstrap interval over test cases, seeds averaged first. "
            "p: Wilcoxon signed-rank test against *real*, paired by case. Without augmentation "
            "means random crops only; with it: crops, mirroring, rotation, scaling, contrast, "
            "elastic deformation.",
        ),
        tuple(records),
        tuple(tables),
        tuple(_verdicts(records, sizes)),
        LIMITS,
    )


def _table(records: Sequence[Record], region: str, metric: str) -> Table:
    """Rows segmentor × augmentation, columns training; p against *real* in the cell."""
    own = [
        r
        for r in records
        if r.where.get("region") == region and r.where["share"] == "1" and r.where["ratio"] == "1"
    ]
    columns = list(dict.fromkeys(r.where["training"] for r in own))
    rows = dict.fromkeys((r.where["segmentor"], r.where["augmentation"]) for r in own)
    digits = 0 if "hd95" in metric else 2

    def cell(row: tuple[str, str], column: str) -> str:
        at = {
            r.metric: r
            for r in own
            if (r.where["segmentor"], r.where["augmentation"], r.where["training"])
            == (*row, column)
        }
        if metric not in at:
            return "–"
        p = at.get(f"{metric}_p")
        mark = f", p {number(p.value, 3)}" if p is not None and p.value is not None else ""
        return interval(at[metric], digits) + mark

    names = {
        "dice": "Dice", "lesion_dice": "lesion-wise Dice", "hd95": "HD95 in mm",
        "lesion_hd95": "lesion-wise HD95 in mm",
    }  # fmt: skip
    regions = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}
    n = max((r.n or 0 for r in own if r.metric == metric), default=0)
    return Table(
        f"{names[metric]}, {regions[region]} (n = {n} test cases, steps equal in all cells)",
        ("segmentor", "augmentation", *columns),
        tuple((*row, *(cell(row, column) for column in columns)) for row in rows),
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
            f"The leak guard could not work for {sizes.unknown} synthetic cases without a "
            "sidecar: if they descend from test subjects, the table flatters.",
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
        enough = (own[0].n or 0) >= MIN_PAIRS and (own[0].seeds or 0) >= MIN_SEEDS
        sure = [r for r in own if (r.low or 0) > 0 or (r.high or 0) < 0]
        gain = float(np.mean([r.value for r in own if r.value is not None]))
        signs = {(r.value or 0) > 0 for r in own}
        grade = GOOD if gain > 0 else BAD
        if not enough or len(sure) < len(own) or len(signs) > 1:
            grade = UNKNOWN
        yield Verdict(
            grade,
            f"{column} against real, whole tumour: {100 * gain:+.0f} points of Dice, mean over "
            f"{len(own)} {_plural(len(own), 'row')}; the interval excludes 0 in {len(sure)} of "
            f"{len(own)} (n = {own[0].n} test cases, {own[0].seeds} "
            f"{_plural(own[0].seeds or 0, 'seed')})."
            + ("" if enough else f" Judged from {MIN_PAIRS} cases and {MIN_SEEDS} seeds on."),
        )


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"
