"""Distances and tests against formulas and under the null."""

import numpy as np
import pytest
from scipy import linalg, stats
from sklearn.metrics import roc_auc_score, roc_curve

from medsynth.core.random import Key
from medsynth.evaluation.distances import frechet, mmd
from medsynth.evaluation.statistics import (
    attack_auc,
    auc,
    mean_interval,
    member_control,
    over_people,
    paired_p,
    true_positives_at,
)


def with_moments(mean: np.ndarray, covariance: np.ndarray, n: int = 400) -> np.ndarray:
    """Rows whose sample mean and covariance are exactly these."""
    rows = np.random.default_rng(0).standard_normal((n, len(mean)))
    rows -= rows.mean(0)
    rows = rows @ np.linalg.inv(linalg.cholesky(np.cov(rows, rowvar=False)))
    return rows @ linalg.cholesky(covariance) + mean


def test_frechet_distance_of_gaussians_equals_the_formula() -> None:
    rng = np.random.default_rng(1)
    roots = rng.standard_normal((2, 5, 5))
    one, two = (r @ r.T + np.eye(5) for r in roots)
    means = rng.standard_normal((2, 5))
    gap = means[0] - means[1]
    expected = gap @ gap + np.trace(one + two - 2 * linalg.sqrtm(one @ two).real)
    found = frechet(with_moments(means[0], one), with_moments(means[1], two))
    assert found == pytest.approx(expected, rel=1e-9)
    same = with_moments(means[0], one)
    assert frechet(same, same) == pytest.approx(0, abs=1e-9)


def cases(rng: np.random.Generator, count: int, shift: float = 0.0) -> list[np.ndarray]:
    """Cases whose slices resemble each other."""
    return [
        shift + rng.standard_normal(3) + 0.3 * rng.standard_normal((6, 3)) for _ in range(count)
    ]


def test_mmd_p_values_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(2)
    p = [mmd(cases(rng, 7), cases(rng, 7), Key(i), 99)[1] for i in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) < 0.09


def test_mmd_finds_a_shift() -> None:
    rng = np.random.default_rng(3)
    p = [mmd(cases(rng, 8), cases(rng, 8, 2.0), Key(i), 199)[1] for i in range(20)]
    assert np.mean(np.array(p) < 0.05) > 0.8


def test_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for index in range(200):
        value, low, high = mean_interval(rng.standard_normal(30), Key(index))
        assert low <= value <= high
        hits += low <= 0 <= high
    assert hits / 200 > 0.87


def test_paired_tests_are_refused_below_six_cases() -> None:
    values = np.arange(5.0)
    assert paired_p(values + 1, values) is None
    values = np.linspace(0, 1, 8)
    assert paired_p(values + np.linspace(0.1, 0.2, 8), values) == pytest.approx(2 / 2**8)
    assert paired_p(values, values) == 1.0


def test_attack_scores_know_the_extremes() -> None:
    members, others = np.linspace(1, 2, 20), np.linspace(0, 0.9, 20)
    assert attack_auc(members, others, Key(0)).value == 1.0
    assert true_positives_at(members, others, 0.01) == 1.0
    assert true_positives_at(others, members, 0.01) == 0.0
    value, low, high = member_control(members, Key(0))
    assert low < 0.5 < high
    assert value == pytest.approx(0.5, abs=0.03)


def test_an_interval_over_people_is_as_wide_as_there_are_few_people() -> None:
    values, people = np.random.default_rng(0).standard_normal(8), [f"p{i}" for i in range(8)]
    once, ten = (over_people(np.repeat(values, k), np.repeat(people, k).tolist(), Key(0))
                 for k in (1, 10))  # fmt: skip
    assert once.figure == pytest.approx(ten.figure)
    assert (once.people, ten.people) == (8, 8)
    few = over_people(values, ["a", "a", "b", "b", "c", "c", "d", "d"], Key(0))
    assert few.figure[1:] == (None, None)  # four people say nothing of their spread
    assert few.people == 4


def test_attack_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.integers(0, 9, 70) + 1, rng.integers(0, 9, 90)
    truth = np.repeat([1, 0], (70, 90))
    scores = np.concatenate([members, others])
    assert auc(members, others) == pytest.approx(roc_auc_score(truth, scores))
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    for share in (0.01, 0.2):
        assert true_positives_at(members, others, share) == pytest.approx(
            np.interp(share, fpr, tpr)
        )
    # half of the others share the best score with all members: 1 % of false positives finds 2 %
    assert true_positives_at(np.ones(50), np.repeat([1, 0], 50), 0.01) == pytest.approx(0.02)
