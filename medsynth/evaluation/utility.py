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
from medsynth.core.labels import BRATS2023
from medsynth.core.random import Key
from medsynth.evaluation import scores, segmentors
from medsynth.evaluation.records import Record, refused
from medsynth.evaluation.segmentors import Recipe
from medsynth.evaluation.enough import MIN_PEOPLE as MIN_PAIRS
from medsynth.evaluation.statistics import mean_interval, paired_p
from medsynth.imaging.examples import Example
from medsynth.io.sidecar import read_json, write_json

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


def figures(
    results: Sequence[Mapping[str, Any]], axes: Axes, recipe: Recipe, key: Key
) -> Iterator[Record]:
    """All records of a table.

    Args:
        results: What `run` gave for the cells.
        axes, recipe: What was asked for.
        key: Bootstrap.
    """
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
