"""Does it help? Segmentors trained on real, synthetic and mixed data, tested on real people.

The table of Shin et al. 2018, step-matched: every cell gets the same number of optimiser steps,
so no column wins by training longer. Test cases are real and of people that no column has
seen; a guard drops synthetic cases that descend from them.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from medsynth.config import COLUMNS
from medsynth.core.cohort import Case, Cohort
from medsynth.core.labels import BRATS2023
from medsynth.core.random import Key
from medsynth.errors import DataError
from medsynth.evaluation import heads, scores, segmentors
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
    refused,
)
from medsynth.evaluation.segmentors import Recipe
from medsynth.evaluation.statistics import MIN_PAIRS, mean_interval, paired_p
from medsynth.imaging.examples import Example
from medsynth.io.sidecar import digest, read_json, write_json

NAME = "utility"
REAL = "real"
FINE_TUNED = "synthetic+10%real"
TRAININGS = COLUMNS
FEW = 0.1
"""Share of the real cases that fine-tuning sees."""

LAST = 1 / 3
"""Share of the steps that fine-tuning takes."""

MIN_SEEDS = 3
METRICS = ("dice", "hd95", "lesion_dice", "lesion_hd95")

LIMITS = (
    "Differences smaller than their interval are noise. Folds and seeds decide, not one run.",
    "Few steps on few cases say which data help early; they do not say what a week of training "
    "on a thousand cases would do.",
    "Regions that a test case does not have score 1 when none is predicted and 0 otherwise, as in "
    "BraTS: look at `dice_present` beside `dice` for enhancing tumour.",
)


@dataclass(frozen=True)
class Guard:
    """What the leak guard found.

    Args:
        kept: Cases that may be trained on.
        dropped: Cases that descend from a test subject, and why.
        unknown: Cases whose sidecar does not say what they were made from: nobody can tell.
    """

    kept: tuple[Case, ...]
    dropped: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]


def guard(test: Sequence[Case], made: Cohort, *, by_name: bool = True) -> Guard:
    """Drop generated cases that descend from people of the test set.

    A case is dropped when its subject is one of theirs, or when a label map among its ancestors
    (by SHA-256, brains that it was implanted into included) is a file of theirs.

    Args:
        test: Cases that are tested on.
        made: Generated cases, or phantoms.
        by_name: Whether equal subjects are the same person; phantoms of two cohorts are not.

    Raises:
        DataError: Nothing is left.
    """
    people = {case.subject for case in test} if by_name else set()
    files = {sha for case in test for sha in _files(case)}
    kept: list[Case] = []
    dropped: list[tuple[str, str]] = []
    unknown: list[str] = []
    for case in made:
        story = heads.sidecar(case)
        if not (story or {}).get("synthetic"):
            unknown.append(case.name)
        ancestors = set((story or {}).get("ancestors", ()))
        who = {case.subject, (story or {}).get("subject", case.subject)}
        if who & people:
            dropped.append((case.name, f"subject {', '.join(sorted(who & people))}"))
        elif ancestors & files:
            dropped.append((case.name, "a label map of a test subject among its ancestors"))
        else:
            kept.append(case)
    if not kept:
        raise DataError(
            "synthetic cases that do not descend from test subjects",
            f"none among {len(made)}",
            None,
            "Generate from the label maps of the training split.",
        )
    return Guard(tuple(kept), tuple(dropped), tuple(unknown))


def _files(case: Case) -> set[str]:
    own = {digest(path) for path in (case.brain, case.label) if path and path.exists()}
    return own | set((heads.sidecar(case) or {}).get("ancestors", ()))


@dataclass(frozen=True)
class Fold:
    """One partition of the real people, with what may be trained on.

    Args:
        real: Training cases.
        test: Test cases; nobody of them is in `real`.
        synthetic: Generated cases that passed the guard.
        phantoms: May be empty.
    """

    real: tuple[Example, ...]
    test: tuple[Example, ...]
    synthetic: tuple[Example, ...]
    phantoms: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One training run of the table.

    Args:
        fold: Index.
        training: One of `TRAININGS`.
        segmentor: One of `segmentors.KINDS`.
        augmented: With the usual augmentation or without.
        seed: Index.
        share: Share of the real training cases that is used.
        ratio: Synthetic cases (or phantoms) per real one in mixed batches.
    """

    fold: int
    training: str
    segmentor: str
    augmented: bool
    seed: int
    share: float = 1.0
    ratio: float = 1.0


@dataclass(frozen=True)
class Axes:
    """What the table varies."""

    training: tuple[str, ...]
    segmentors: tuple[str, ...]
    augmentation: tuple[bool, ...]
    seeds: int
    shares: tuple[float, ...] = (1.0,)
    ratios: tuple[float, ...] = (1.0,)


def cells(axes: Axes, folds: int) -> list[Cell]:
    """The table, then the learning curves, which take the first segmentor and the last
    augmentation only; fold by fold and seed by seed, so that an unfinished table is balanced."""
    made = []
    for seed, fold in product(range(axes.seeds), range(folds)):
        made += [
            Cell(fold, training, segmentor, augmented, seed)
            for segmentor, augmented, training in product(
                axes.segmentors, axes.augmentation, axes.training
            )
        ]
    first, last = axes.segmentors[0], axes.augmentation[-1]
    for seed, fold, training in product(range(axes.seeds), range(folds), axes.training):
        if training in (REAL, "real+synthetic"):
            made += [Cell(fold, training, first, last, seed, s) for s in axes.shares if s != 1]
        if training == "real+synthetic":
            made += [Cell(fold, training, first, last, seed, 1.0, r) for r in axes.ratios if r != 1]
    return made


def courses(cell: Cell, fold: Fold, steps: int) -> list[tuple[list[Example], int]]:
    """What a cell trains on, and until which step."""
    real = _some(fold.real, cell.share, cell)
    other = fold.phantoms if "phantoms" in cell.training else fold.synthetic
    if cell.training == REAL:
        return [(list(real), steps)]
    if cell.training in ("synthetic", "phantoms"):
        return [(list(other), steps)]
    if cell.training == FINE_TUNED:
        return [(list(other), round(steps * (1 - LAST))), (list(_some(real, FEW, cell)), steps)]
    part = 1 / (1 + cell.ratio)
    return [(segmentors.mixed([(real, part), (other, 1 - part)]), steps)]


def _some(cases: Sequence[Example], share: float, cell: Cell) -> Sequence[Example]:
    if share >= 1:
        return cases
    order = Key(cell.seed, ("share", cell.fold)).numpy().permutation(len(cases))
    return [cases[i] for i in sorted(order[: max(ceil(share * len(cases)), 1)])]


def result_file(folder: Path, cell: Cell, fold: Fold, recipe: Recipe) -> Path:
    """Where a cell's scores stand: a name for people and a hash of all that decides them."""
    told: list[Any] = [asdict(cell), asdict(recipe), [e.folder.name for e in fold.test]]
    for part, end in courses(cell, fold, recipe.steps):
        told.append([[e.folder.name for e in part], end])
    text = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:10]
    name = cell.training.replace("%", "")
    augmented = "augmented" if cell.augmented else "plain"
    return (
        folder
        / "cells"
        / f"{name}-{cell.segmentor}-{augmented}-f{cell.fold}s{cell.seed}-{text}.json"
    )


def run(cell: Cell, fold: Fold, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Train and test one cell, unless that was done before.

    Args:
        cell: Which one.
        fold: Its cases.
        recipe: Steps, batch, patch; kind, augmentation and seed are the cell's.
        folder: The report; results stand in `cells/`.

    Returns:
        The cell and its scores: per case and region, all of `METRICS`.
    """
    recipe = replace(
        recipe,
        kind=cell.segmentor,
        augmented=cell.augmented,
        seed=Key(recipe.seed, ("utility", cell.seed)).integer() % 2**31,
    )
    path = result_file(folder, cell, fold, recipe)
    if path.exists():
        return read_json(path)
    channels = len(fold.test[0].scans)
    network = segmentors.train(recipe, courses(cell, fold, recipe.steps), BRATS2023, channels)
    rows = []
    for example in fold.test:
        named = segmentors.predict(network, cell.segmentor, example.scans, BRATS2023, recipe.patch)
        rows += score_case(named, example)
    done = {"cell": asdict(cell), "steps": recipe.steps, "scores": rows}
    write_json(path, done)
    return done


def score_case(named: np.ndarray, example: Example) -> list[dict[str, Any]]:
    """All regions of one test case; a row each."""
    truth = np.asarray(BRATS2023.values, np.uint8)[example.labels]
    size = tuple(np.sqrt((example.affine[:3, :3] ** 2).sum(0)))
    rows = []
    for region in scores.REGIONS:
        s = scores.score(BRATS2023.mask(named, region), BRATS2023.mask(truth, region), size)
        rows.append(
            {
                "case": example.name,
                "subject": example.subject,
                "region": region,
                "dice": s.dice,
                "hd95": s.hd95_mm,
                "lesion_dice": s.lesion_dice,
                "lesion_hd95": s.lesion_hd95_mm,
                "present": s.present,
                "missed": s.missed,
                "invented": s.invented,
            }
        )
    return rows


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


def section(
    results: Sequence[Mapping[str, Any]], axes: Axes, recipe: Recipe, sizes: Sizes, key: Key
) -> Section:
    """Records and table from the cells."""
    records = list(_records(results, axes, recipe, key))
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


def _records(
    results: Sequence[Mapping[str, Any]], axes: Axes, recipe: Recipe, key: Key
) -> Iterator[Record]:
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault(_group(result["cell"]), []).append(result)
    for group, members in groups.items():
        axis = ("training", "segmentor", "augmentation", "share", "ratio")
        where = dict(zip(axis, group, strict=True))
        base = groups.get((REAL, *group[1:4], "1"))
        for region, metric in product(scores.REGIONS, METRICS):
            told = where | {"region": region}
            values, present = _by_case(members, region, metric)
            if not values:
                continue
            common: dict[str, Any] = {"seeds": axes.seeds, "steps": recipe.steps}
            numbers = np.array(list(values.values()))
            yield Record(NAME, metric, told, *mean_interval(numbers, key), n=len(numbers), **common)
            sd = float(numbers.std(ddof=1)) if len(numbers) > 1 else None
            yield Record(NAME, f"{metric}_sd", told, sd, n=len(numbers), **common)
            if metric == "dice":
                some = np.array([v for case, v in values.items() if present[case]])
                if len(some):
                    yield Record(
                        NAME, "dice_present", told, *mean_interval(some, key), n=len(some), **common
                    )
            if base is not None and group[0] != REAL:
                yield from _against(values, _by_case(base, region, metric)[0], metric, told, common)


def _against(
    values: Mapping[str, float],
    base: Mapping[str, float],
    metric: str,
    where: Mapping[str, str],
    common: Mapping[str, Any],
) -> Iterator[Record]:
    """Difference to the same segmentor trained on real cases, paired by case."""
    shared = [case for case in values if case in base]
    if not shared:
        return
    one, two = (np.array([side[case] for case in shared]) for side in (values, base))
    gap = mean_interval(one - two, Key(0, ("difference",)))
    yield Record(NAME, f"{metric}_difference", where, *gap, floor=0.0, n=len(shared), **common)
    p = paired_p(one, two)
    if p is None:
        reason = f"needs {MIN_PAIRS} test cases"
        yield refused(NAME, f"{metric}_p", reason, **where)
    else:
        yield Record(NAME, f"{metric}_p", where, p, n=len(shared), **common)


def _group(cell: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        cell["training"],
        cell["segmentor"],
        "with" if cell["augmented"] else "without",
        f"{cell['share']:g}",
        f"{cell['ratio']:g}",
    )


def _by_case(
    members: Sequence[Mapping[str, Any]], region: str, metric: str
) -> tuple[dict[str, float], dict[str, bool]]:
    """Mean over seeds and time-points for each test person, and whether they have the region."""
    found: dict[str, list[float]] = {}
    present: dict[str, bool] = {}
    for member in members:
        for row in member["scores"]:
            if row["region"] == region:
                who = row.get("subject", row["case"])
                found.setdefault(who, []).append(row[metric])
                present[who] = present.get(who, False) or row["present"]
    return {case: float(np.mean(v)) for case, v in sorted(found.items())}, present


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
