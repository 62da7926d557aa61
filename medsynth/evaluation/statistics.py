"""Intervals, tests and attack scores, for arrays of numbers.

Whatever can be had from scipy and scikit-learn is taken from there.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from medsynth.core.random import Key
from medsynth.evaluation.enough import MIN_PEOPLE

DRAWS = 2000
AT_ONCE = 2_000_000
"""Numbers drawn at a time, 16 MB."""


class Estimate(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def mean_interval(values: np.ndarray, key: Key) -> Estimate:
    """Mean over cases, with a percentile bootstrap interval over cases.

    Args:
        values: `(N,)`, one number a case.
        key: Which bootstrap draws.

    Source:
        Efron and Tibshirani, *An introduction to the bootstrap*, 1993.
    """
    values = np.asarray(values, float)
    rng, n = key.numpy(), len(values)
    step = max(AT_ONCE // max(n, 1), 1)
    sizes = [min(step, DRAWS - start) for start in range(0, DRAWS, step)]
    drawn = np.concatenate([values[rng.integers(0, n, (size, n))].mean(1) for size in sizes])
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Estimate(float(values.mean()), float(low), float(high))


class OverPeople(NamedTuple):
    """A mean over people with its 95 % interval; no interval below `enough.MIN_PEOPLE` people."""

    figure: tuple[float, float | None, float | None]
    people: int


def by_person(values: np.ndarray, people: Sequence[str]) -> np.ndarray:
    """The mean of each person's values, in the order of their names."""
    index = np.unique(np.asarray(people), return_inverse=True)[1]
    return np.bincount(index, np.asarray(values, float)) / np.bincount(index)


def over_people(values: np.ndarray, people: Sequence[str], key: Key) -> OverPeople:
    """Mean over people, with a bootstrap interval that draws people.

    Several cases of one person (time-points, edits of one label map) are not independent: they
    are averaged first, and whoever is drawn comes with all of them.

    Args:
        values: `(N,)`, one number a case.
        people: Whose case each is.
        key: Which bootstrap draws.
    """
    means = by_person(values, people)
    found = mean_interval(means, key)
    if len(means) < MIN_PEOPLE:
        return OverPeople((found.value, None, None), len(means))
    return OverPeople((found.value, found.low, found.high), len(means))


def paired_p(values: np.ndarray, reference: np.ndarray) -> float | None:
    """Two-sided Wilcoxon signed-rank test of paired people; None below six pairs.

    Args:
        values, reference: `(N,)`, the same people in the same order.
    """
    gap = np.asarray(values, float) - np.asarray(reference, float)
    if len(gap) < MIN_PEOPLE:
        return None
    return float(stats.wilcoxon(gap).pvalue) if gap.any() else 1.0


def bootstrap(
    figure: Callable[..., float], *samples: np.ndarray, key: Key, draws: int = DRAWS // 4
) -> Estimate:
    """A figure of samples, with a percentile bootstrap interval.

    Args:
        figure: Of as many arrays as there are samples; draws in which it is NaN are left out.
        samples: `(N, …)` each, people along the first axis; each is drawn by itself.
        key: Which draws.
        draws: How many.

    Source:
        Efron and Tibshirani, *An introduction to the bootstrap*, 1993.
    """
    rng = key.numpy()
    drawn = [
        figure(*(sample[rng.integers(0, len(sample), len(sample))] for sample in samples))
        for _ in range(draws)
    ]
    known = [value for value in drawn if not np.isnan(value)]
    low, high = np.percentile(known, (2.5, 97.5)) if known else (np.nan, np.nan)
    return Estimate(float(figure(*samples)), float(low), float(high))


def halved(figure: Callable[..., float], members: np.ndarray, key: Key) -> Estimate:
    """The control of an attack: the same figure of random halves of the members.

    Again and again; the mean and the middle 95 % of the figures.
    """
    rng, found = key.numpy(), []
    for _ in range(DRAWS // 4):
        order = rng.permutation(members)
        half = len(order) // 2
        found.append(figure(order[:half], order[half:]))
    low, high = np.percentile(found, (2.5, 97.5))
    return Estimate(float(np.mean(found)), float(low), float(high))


def relabelled(figure: Callable[[np.ndarray], float], truth: np.ndarray, key: Key) -> Estimate:
    """The control by permutation: the same figure when random people are called members.

    Args:
        figure: Of who is called a member, boolean `(people,)`.
        truth: Who is.
        key: Which labels.

    Returns:
        The mean and the middle 95 % of the figures.
    """
    rng = key.numpy()
    found = [figure(rng.permutation(truth)) for _ in range(DRAWS // 4)]
    low, high = np.percentile(found, (2.5, 97.5))
    return Estimate(float(np.mean(found)), float(low), float(high))


def attack_auc(members: np.ndarray, others: np.ndarray, key: Key) -> Estimate:
    """Area under the curve of an attack that says *member* when a score is high.

    Args:
        members: Scores `(N,)` of cases that were trained on.
        others: Scores `(M,)` of cases that were not.
        key: Which bootstrap draws; members and others are drawn separately.
    """
    return bootstrap(auc, members, others, key=key)


def member_control(members: np.ndarray, key: Key) -> Estimate:
    """The same attack on members against members: its interval must contain 0.5."""
    return halved(auc, members, key)


def true_positives_at(members: np.ndarray, others: np.ndarray, false_positives: float) -> float:
    """Share of members found when that share of the others is accused.

    Of people with the same score a random part is accused: an attack whose scores are whole
    numbers must not look weak because its best score is shared by more than that share.

    Source:
        Carlini et al., *Membership inference attacks from first principles* (arXiv 2112.03570).
    """
    marks = np.unique(np.concatenate([members, others]))[::-1]
    tpr, fpr = (1 - np.searchsorted(np.sort(s), marks) / len(s) for s in (members, others))
    return float(np.interp(false_positives, [0, *fpr], [0, *tpr]))


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """Area under the curve: how often a member scores higher than another, ties half.

    From ranks (Mann and Whitney): scikit-learn's checks of its input cost ten times as much, and a
    bootstrap calls this thousands of times.
    """
    n, m = len(members), len(others)
    ranks = stats.rankdata(np.concatenate([members, others]))[:n].sum()
    return float((ranks - n * (n + 1) / 2) / (n * m))
