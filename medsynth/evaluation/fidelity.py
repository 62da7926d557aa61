"""Do synthetic scans look like real ones, in figures that say what they can tell?

Every figure compares two sets of cases. It is computed many times over: some real people, drawn at
random, against as many synthetic cases (the figure), against other real people (the floor), and
against other real people made worse on purpose (the ceiling). All three see sets of the same size,
because these figures depend on it, and none shares a person: synthetic cases that descend from
somebody are not compared with that somebody.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch

from medsynth.core.cohort import Cohort
from medsynth.core.random import Key
from medsynth.evaluation import features, heads, summaries
from medsynth.evaluation.distances import MIN_CASES, frechet, mmd
from medsynth.evaluation.enough import MIN_COMPARED, MIN_SETS
from medsynth.evaluation.records import Record, refused
from medsynth.evaluation.statistics import over_people
from medsynth.evaluation.summaries import Bad, Shown, Summary

NAME = "fidelity"
SPLITS = 60
LARGEST = 20
"""People a side at most; more splits, not larger ones, use the rest of a large cohort."""

PAIRS = 30
MOST_TESTED = 50
"""Cases a side of the two-sample test; its kernel is a matrix over all slices."""

CONTRASTS = (("t1n", "WM", "GM"), ("t1c", "ET", "WM"), ("t2w", "CSF", "WM"), ("t2f", "ED", "WM"))
"""Pairs of structures whose contrast a radiologist knows by heart."""


@dataclass(frozen=True)
class Measured:
    """All figures of fidelity, and what their words need.

    Args:
        records: The figures.
        real, made: Cases and people of each.
        modalities: Scans.
        backbone: How the features are called.
    """

    records: tuple[Record, ...]
    real: tuple[int, int]
    made: tuple[int, int]
    modalities: tuple[str, ...]
    backbone: str


def measure(
    real: Cohort,
    synthetic: Cohort,
    key: Key,
    shown: Shown[Any],
    *,
    extract: features.Extract | None = None,
    backbone: str = "radiomics-like, 15 a slice",
    degraded: int = 2 * LARGEST,
) -> Measured:
    """All figures of fidelity.

    Args:
        real: Real cases, whichever the generator saw.
        synthetic: Generated cases.
        key: Splits, noise and pairs.
        shown: Shows progress.
        extract: Features of slices; None for the radiomics-like default.
        backbone: How to call them.
        degraded: Real cases that are made worse on purpose, for the ceilings.

    Raises:
        DataError: No common scans, or a case is broken.
        GeometryError: Voxels of different size.
    """
    modalities = heads.common_modalities(real, synthetic)
    own, bad = summaries.real(real, modalities, key, shown, extract, degraded)
    made, paired = summaries.synthetic(synthetic, real, modalities, key, shown, extract)
    own, made, *worse = _standardised(own, [made, *bad.values()])
    bad = dict(zip(bad, worse, strict=True))
    records = [
        *_frechet(own, made, bad, modalities, key),
        *_mmd(own, made, key),
        *_diversity(own, made, key),
        *_structures(own, made, bad, modalities, key),
        *_spectra(own, made, bad, modalities, key),
        *_paired(paired, modalities, key),
    ]
    real_size, made_size = ((len(s), len(_people(s))) for s in (own, made))
    return Measured(tuple(records), real_size, made_size, modalities, backbone)


def _people(cases: Sequence[Summary]) -> list[str]:
    return sorted({s.subject for s in cases})


def compare(
    metric: str,
    where: dict[str, str],
    sets: tuple[Sequence[Summary], Sequence[Summary], Sequence[Summary]],
    distance: Callable[[Sequence[Summary], Sequence[Summary]], float],
    key: Key,
) -> Record:
    """One figure with floor and ceiling from random halves of the real people.

    Args:
        metric: Name of the figure.
        where: What it is about.
        sets: Real, synthetic, and real made worse (may be empty).
        distance: The figure for two sets of cases.
        key: Which halves; use the same for all figures.
    """
    real, made, bad = sets
    people, behind = _people(real), _people(made)
    if len(people) < MIN_SETS or len(behind) < 2:
        reason = f"needs {MIN_SETS} real people and synthetic cases of 2"
        return refused(NAME, metric, reason, **where)
    size = min(len(people) // 2, len(behind), LARGEST)
    if bad:  # enough of the other half must have been made worse
        size = min(size, max(len(_people(bad)) // 2, 2))
    rng, values, floors, ceilings = key.numpy(), [], [], []
    for _ in range(SPLITS):
        order = rng.permutation(len(people))
        half = [_one_of(real, people[i], rng) for i in order[:size]]
        other = [_one_of(real, people[i], rng) for i in order[size : 2 * size]]
        synthetic, worse = (_strangers(half, side, rng, size) for side in (made, bad))
        if len(synthetic) < 2:
            continue
        half, other = half[: len(synthetic)], other[: len(synthetic)]
        values.append(distance(half, synthetic))
        floors.append(distance(half, other))
        if len(worse) >= len(half):
            ceilings.append(distance(half, worse[: len(half)]))
    if np.isfinite(values).sum() < SPLITS / 2:
        reason = "needs synthetic cases of 2 other people that have what is measured"
        return refused(NAME, metric, reason, **where)
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Record(
        NAME,
        metric,
        where,
        float(np.nanmean(values)),
        float(low),
        float(high),
        _mean(floors),
        _mean(ceilings),
        len(made),
        people=len(behind),
    )


def _mean(values: Sequence[float]) -> float | None:
    """Mean of what is known."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None


def _strangers(
    half: Sequence[Summary], cases: Sequence[Summary], rng: np.random.Generator, size: int
) -> list[Summary]:
    """Cases of people that are not among these, one a person: edits of one label map are not
    independent."""
    people = sorted({s.subject for s in cases} - {s.subject for s in half})
    return [_one_of(cases, people[i], rng) for i in rng.permutation(len(people))[:size]]


def _one_of(cases: Sequence[Summary], subject: str, rng: np.random.Generator) -> Summary:
    own = [case for case in cases if case.subject == subject]
    return own[int(rng.integers(len(own)))]


def _standardised(
    real: Sequence[Summary], others: Sequence[Sequence[Summary]]
) -> list[list[Summary]]:
    """Features of all sets divided by the spread of the real ones: the real set, then others."""
    rows = np.concatenate([s.features for s in real], 1)
    mean, sd = rows.mean(1, keepdims=True), np.maximum(rows.std(1, keepdims=True), 1e-9)
    return [[replace(s, features=(s.features - mean) / sd) for s in x] for x in (real, *others)]


def _rows(summary: Summary) -> np.ndarray:
    """Features of all channels side by side, a row a slice."""
    return summary.features.transpose(1, 0, 2).reshape(summary.features.shape[1], -1)


def _frechet(
    real: Sequence[Summary],
    made: Sequence[Summary],
    bad: Bad,
    modalities: Sequence[str],
    key: Key,
) -> Iterator[Record]:
    def between(channels: Sequence[int]) -> Callable[[Sequence[Summary], Sequence[Summary]], float]:
        def distance(one: Sequence[Summary], two: Sequence[Summary]) -> float:
            sides = [np.concatenate([s.features for s in side], 1) for side in (one, two)]
            return float(np.mean([frechet(sides[0][c], sides[1][c]) for c in channels]))

        return distance

    every = range(len(modalities))
    worst = bad.get(("blur", len(heads.BLUR)), [])
    for index, name in enumerate(modalities):
        where = {"modality": name}
        yield compare("frechet", where, (real, made, worst), between([index]), key)
    yield compare("frechet", {"modality": "all"}, (real, made, worst), between(every), key)
    for (name, level), worse in bad.items():
        if name != "labels":
            where = {"modality": "all", "degradation": name, "level": str(level)}
            yield compare("frechet", where, (real, worse, worst), between(every), key)


def _mmd(real: Sequence[Summary], made: Sequence[Summary], key: Key) -> Iterator[Record]:
    rng = key.fold("mmd").numpy()
    people = rng.permutation(sorted({s.subject for s in real})).tolist()
    some, rest = people[: len(people) // 2], people[len(people) // 2 :]
    behind = rng.permutation(sorted({s.subject for s in made} - set(some))).tolist()
    size = min(len(some), len(behind), MOST_TESTED)
    if size < MIN_CASES:
        reason = f"needs {MIN_COMPARED} real people and synthetic cases of {MIN_CASES} others"
        yield refused(NAME, "mmd_p", reason)
        return
    one, two, three = (
        [_rows(_one_of(side, person, rng)) for person in who[:size]]
        for side, who in ((real, some), (made, behind), (real, rest))
    )
    value, p = mmd(one, two, key.fold("mmd", "permute"))
    floor, same = mmd(one, three, key.fold("mmd", "floor"))
    yield Record(NAME, "mmd", {}, value, None, None, floor, None, size)
    yield Record(NAME, "mmd_p", {}, p, None, None, same, None, size)


def _diversity(real: Sequence[Summary], made: Sequence[Summary], key: Key) -> Iterator[Record]:
    """Mean MS-SSIM between pairs; real pairs are the floor, copies would be 1."""
    people = len(_people(made))
    if min(len(_people(real)), people) < 3:
        yield refused(NAME, "ms_ssim", "needs 3 real people and synthetic cases of 3")
        return
    own, there = (_ms_ssim(side, key.fold("ms_ssim", len(side))) for side in (real, made))
    low, high = np.percentile(there, (2.5, 97.5))
    yield Record(
        NAME, "ms_ssim", {"modality": "all"}, float(there.mean()), float(low), float(high),
        float(own.mean()), 1.0, len(made), people=people,
    )  # fmt: skip


def _ms_ssim(cases: Sequence[Summary], key: Key) -> np.ndarray:
    from monai.metrics import MultiScaleSSIMMetric

    metric = MultiScaleSSIMMetric(3, kernel_size=7, weights=(0.2, 0.4, 0.4))
    pairs = [
        (a, b) for a in range(len(cases)) for b in range(a) if cases[a].subject != cases[b].subject
    ]
    drawn = [pairs[i] for i in key.numpy().permutation(len(pairs))[:PAIRS]]
    shown = {i: torch.from_numpy(_unit(cases[i].aligned))[None] for i in {*chain(*drawn)}}
    return np.array([float(metric(shown[a], shown[b]).mean()) for a, b in drawn])


def _unit(aligned: np.ndarray) -> np.ndarray:
    data = aligned.astype(np.float32)
    low = data.min((1, 2, 3), keepdims=True)
    top = np.quantile(data.reshape(len(data), -1), 0.995, 1)[:, None, None, None]
    return np.clip((data - low) / np.maximum(top - low, 1e-9), 0, 1)


def _structures(
    real: Sequence[Summary],
    made: Sequence[Summary],
    bad: Bad,
    modalities: Sequence[str],
    key: Key,
) -> Iterator[Record]:
    """Brightness of structures and contrasts between them."""
    from medsynth.core.labels import BRAIN

    if any(s.style is None for s in (*real, *made)):
        yield refused(
            NAME, "structure_mean", "needs tissue labels on both sides (`medsynth tissue`)"
        )
        return
    worst = bad.get(("labels", 1), [])

    def mean_of(pick: Callable[[np.ndarray], float]) -> Callable[..., float]:
        def distance(one: Sequence[Summary], two: Sequence[Summary]) -> float:
            sides = [[pick(s.style[0]) for s in side if s.style is not None] for side in (one, two)]
            known = [[v for v in side if np.isfinite(v)] for side in sides]
            return float(abs(np.mean(known[0]) - np.mean(known[1]))) if all(known) else np.nan

        return distance

    def some(pick: Callable[[np.ndarray], float]) -> bool:
        return all(
            sum(np.isfinite(pick(s.style[0])) for s in side if s.style is not None) >= 3
            for side in (real, made)
        )

    for channel, name in enumerate(modalities):
        for index, label in enumerate(BRAIN.labels[1:], 1):

            def brightness(means: np.ndarray, c: int = channel, i: int = index) -> float:
                return float(means[c, i])

            if some(brightness):
                where = {"modality": name, "structure": label.abbreviation}
                yield compare(
                    "structure_mean", where, (real, made, worst), mean_of(brightness), key
                )
    for name, first, second in CONTRASTS:
        if name not in modalities:
            continue
        at = modalities.index(name)
        a, b = BRAIN.abbreviations.index(first), BRAIN.abbreviations.index(second)

        def contrast(means: np.ndarray, c: int = at, a: int = a, b: int = b) -> float:
            return float((means[c, a] - means[c, b]) / max(means[c, a] + means[c, b], 1e-6))

        if some(contrast):
            where = {"modality": name, "structure": f"{first} to {second}"}
            yield compare("contrast", where, (real, made, worst), mean_of(contrast), key)


def _spectra(
    real: Sequence[Summary],
    made: Sequence[Summary],
    bad: Bad,
    modalities: Sequence[str],
    key: Key,
) -> Iterator[Record]:
    """Distance of mean log spectra, root mean square over frequencies."""

    def between(channel: int) -> Callable[[Sequence[Summary], Sequence[Summary]], float]:
        def distance(one: Sequence[Summary], two: Sequence[Summary]) -> float:
            a, b = (np.mean([s.spectrum[channel] for s in side], 0) for side in (one, two))
            return float(np.sqrt(np.mean((a - b) ** 2)))

        return distance

    worst = bad.get(("blur", len(heads.BLUR)), [])
    for index, name in enumerate(modalities):
        yield compare("spectrum", {"modality": name}, (real, made, worst), between(index), key)


def _paired(
    pairs: Sequence[tuple[str, np.ndarray]], modalities: Sequence[str], key: Key
) -> Iterator[Record]:
    if not pairs:
        return
    who = [person for person, _ in pairs]
    made, noisy, blurred = np.stack([values for _, values in pairs], 1)
    for index, name in enumerate(modalities):
        for at, metric in enumerate(("psnr_db", "ssim")):
            found = over_people(made[:, at, index], who, key.fold("paired"))
            yield Record(
                NAME, metric, {"modality": name}, *found.figure,
                float(noisy[:, at, index].mean()), float(blurred[:, at, index].mean()), len(who),
                people=found.people,
            )  # fmt: skip
