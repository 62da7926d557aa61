"""Intervals, tests and attack scores, for arrays of numbers.

Whatever can be had from scipy and scikit-learn is taken from there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from medsynth.core.random import Key
from medsynth.evaluation.enough import MIN_PEOPLE

DRAWS = 2000


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
    drawn = key.numpy().integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[drawn].mean(1), (2.5, 97.5))
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


def attack_auc(members: np.ndarray, others: np.ndarray, key: Key) -> Estimate:
    """Area under the curve of an attack that says *member* when a score is high.

    Args:
        members: Scores `(N,)` of cases that were trained on.
        others: Scores `(M,)` of cases that were not.
        key: Which bootstrap draws; members and others are drawn separately.
    """
    rng = key.numpy()
    drawn = [
        _auc(rng.choice(members, len(members)), rng.choice(others, len(others)))
        for _ in range(DRAWS // 4)
    ]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Estimate(_auc(members, others), float(low), float(high))


def member_control(members: np.ndarray, key: Key) -> Estimate:
    """The same attack on members against members: its interval must contain 0.5.

    Random halves of the members, again and again; the mean and the middle 95 % of the areas.
    """
    rng, areas = key.numpy(), []
    for _ in range(DRAWS // 4):
        order = rng.permutation(members)
        half = len(order) // 2
        areas.append(_auc(order[:half], order[half:]))
    low, high = np.percentile(areas, (2.5, 97.5))
    return Estimate(float(np.mean(areas)), float(low), float(high))


def true_positives_at(members: np.ndarray, others: np.ndarray, false_positives: float) -> float:
    """Share of members found when at most that share of the others is accused.

    Source:
        Carlini et al., *Membership inference attacks from first principles* (arXiv 2112.03570).
    """
    fpr, tpr, _ = roc_curve(*_labelled(members, others))
    return float(tpr[fpr <= false_positives].max())


def _auc(members: np.ndarray, others: np.ndarray) -> float:
    return float(roc_auc_score(*_labelled(members, others)))


def _labelled(
    members: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    truth = np.concatenate([np.ones(len(members)), np.zeros(len(others))])
    return truth, np.concatenate([members, others])
