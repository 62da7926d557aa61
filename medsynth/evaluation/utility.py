"""Does it help? Segmentors trained on real, synthetic and mixed data, tested on real people.

The table of Shin et al. 2018, step-matched: every cell gets the same number of optimiser steps,
so no column wins by training longer. Test cases are real and of people that no column has
seen; a guard drops synthetic cases that descend from them.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from medsynth.evaluation.enough import MIN_PEOPLE
from medsynth.evaluation.records import Record, refused
from medsynth.evaluation.segmentors import Recipe
from medsynth.evaluation.statistics import over_people, paired_p
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


def seen_in_tuning(cases: int) -> int:
    """How many of so many real cases the fine-tuned column sees."""
    return max(ceil(FEW * cases), 1)


def _some(cases: Sequence[Example], share: float, cell: Cell) -> Sequence[Example]:
    if share >= 1:
        return cases
    order = Key(cell.seed, ("share", cell.fold)).numpy().permutation(len(cases))
    return [cases[i] for i in sorted(order[: max(ceil(share * len(cases)), 1)])]


def result_file(folder: Path, cell: Cell, fold: Fold, recipe: Recipe) -> Path:
    """Where a cell's scores stand: a name for people and a hash of all that decides them."""
    told: list[Any] = [asdict(cell), asdict(recipe), [e.folder.name for e in fold.test]]
    told += segmentors.habits(recipe)
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


def _recipe(cell: Cell, recipe: Recipe) -> Recipe:
    """The recipe of one cell."""
    return replace(
        recipe,
        kind=cell.segmentor,
        augmented=cell.augmented,
        seed=Key(recipe.seed, ("utility", cell.seed)).integer() % 2**31,
    )


def is_done(cell: Cell, fold: Fold, recipe: Recipe, folder: Path) -> bool:
    """Whether a cell's scores stand in the report."""
    return result_file(folder, cell, fold, _recipe(cell, recipe)).exists()


def run(
    cell: Cell,
    fold: Fold,
    recipe: Recipe,
    folder: Path,
    shown: Callable[[Iterator[Any], int], Iterator[Any]] = lambda steps, total: steps,
) -> dict[str, Any]:
    """Train and test one cell, unless that was done before.

    Args:
        cell: Which one.
        fold: Its cases.
        recipe: Steps, batch, patch; kind, augmentation and seed are the cell's.
        folder: The report; results stand in `cells/`.
        shown: Shows progress over steps.

    Returns:
        The cell and its scores: per case and region, all of `METRICS`.
    """
    recipe = _recipe(cell, recipe)
    path = result_file(folder, cell, fold, recipe)
    if path.exists():
        return read_json(path)
    channels = len(fold.test[0].scans)
    course = courses(cell, fold, recipe.steps)
    network = segmentors.train(recipe, course, BRATS2023, channels, shown)
    rows = []
    for example in fold.test:
        named = segmentors.predict(network, recipe, example.scans, BRATS2023)
        rows += score_case(named, example)
    done = {"cell": asdict(cell), "steps": recipe.steps, "scores": rows}
    write_json(path, done)
    return done


def score_case(named: np.ndarray, example: Example) -> list[dict[str, Any]]:
    """All regions of one test case; a row each."""
    truth = np.asarray(BRATS2023.values, np.uint8)[example.labels]
    size = tuple(example.spacing_mm)
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
            values = _by_person(members, region, metric)
            if not values:
                continue
            common: dict[str, Any] = {"seeds": axes.seeds, "steps": recipe.steps}
            numbers, who = np.array(list(values.values())), list(values)
            nothing = _by_person(members, region, "absent").values()
            floor = float(np.mean(list(nothing))) if "dice" in metric else None
            found = over_people(numbers, who, key)
            yield Record(
                NAME, metric, told, *found.figure, floor, n=len(who), people=len(who), **common
            )
            sd = float(numbers.std(ddof=1)) if len(numbers) > 1 else None
            yield Record(NAME, f"{metric}_sd", told, sd, n=len(numbers), **common)
            if metric == "dice":
                some = _by_person(members, region, metric, present=True)
                if some:
                    found = over_people(np.array(list(some.values())), list(some), key)
                    yield Record(
                        NAME, "dice_present", told, *found.figure, 0.0, n=len(some),
                        people=len(some), **common,
                    )  # fmt: skip
                else:
                    yield refused(NAME, "dice_present", "no test case has it", **told)
            if base is not None and group[0] != REAL:
                yield from _against(values, _by_person(base, region, metric), metric, told, common)


def _against(
    values: Mapping[str, float],
    base: Mapping[str, float],
    metric: str,
    where: Mapping[str, str],
    common: Mapping[str, Any],
) -> Iterator[Record]:
    """Difference to the same segmentor trained on real cases, paired by person."""
    shared = [who for who in values if who in base]
    if not shared:
        return
    one, two = (np.array([side[who] for who in shared]) for side in (values, base))
    gap = over_people(one - two, shared, Key(0, ("difference",)))
    yield Record(
        NAME, f"{metric}_difference", where, *gap.figure, 0.0, n=len(shared), people=len(shared),
        **common,
    )  # fmt: skip
    p = paired_p(one, two)
    if p is None:
        reason = f"needs {MIN_PEOPLE} test people"
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


def _by_person(
    members: Sequence[Mapping[str, Any]], region: str, metric: str, *, present: bool = False
) -> dict[str, float]:
    """Mean over seeds and time-points for each test person.

    Args:
        members: Results of the cells of one group.
        region: Which.
        metric: A score; `absent` is the Dice of a segmentor that predicts nothing.
        present: Only of cases that have the region.
    """
    found: dict[str, list[float]] = {}
    for row in (row for member in members for row in member["scores"]):
        if row["region"] == region and (row["present"] or not present):
            value = float(not row["present"]) if metric == "absent" else row[metric]
            found.setdefault(row.get("subject", row["case"]), []).append(value)
    return {who: float(np.mean(v)) for who, v in sorted(found.items())}
