"""Scores against worked examples."""

import numpy as np
import pytest

from medsynth.evaluation.scores import WORST_MM, dice, hd95, score

MM = (1.0, 1.0, 1.0)


def cube(*corners: tuple[int, int, int], edge: int = 5) -> np.ndarray:
    mask = np.zeros((48, 40, 32), bool)
    for i, j, k in corners:
        mask[i : i + edge, j : j + edge, k : k + edge] = True
    return mask


def test_a_perfect_segmentation() -> None:
    truth = cube((4, 4, 4), (30, 20, 20))
    s = score(truth, truth, MM)
    assert (s.dice, s.hd95_mm, s.lesion_dice, s.lesion_hd95_mm) == (1, 0, 1, 0)
    assert (s.missed, s.invented) == (0, 0)


def test_a_missed_lesion_counts_zero_and_374() -> None:
    s = score(cube((4, 4, 4)), cube((4, 4, 4), (30, 20, 20)), MM)
    assert s.dice == pytest.approx(2 * 125 / 375)
    assert s.lesion_dice == pytest.approx((1 + 0) / 2)
    assert s.lesion_hd95_mm == pytest.approx((0 + WORST_MM) / 2)
    assert (s.missed, s.invented) == (1, 0)


def test_an_invented_lesion_counts_zero_and_374() -> None:
    s = score(cube((4, 4, 4), (30, 20, 20)), cube((4, 4, 4)), MM)
    assert s.lesion_dice == pytest.approx(1 / 2)
    assert s.lesion_hd95_mm == pytest.approx(WORST_MM / 2)
    assert (s.missed, s.invented) == (0, 1)


def test_two_components_that_dilation_joins_are_one_lesion() -> None:
    truth = cube((4, 4, 4), (14, 4, 4))  # five voxels apart, each grows by three
    s = score(cube((4, 4, 4)), truth, MM)
    assert s.lesion_dice == pytest.approx(2 * 125 / (125 + 250))
    assert s.missed == 0
    apart = score(cube((4, 4, 4)), cube((4, 4, 4), (20, 4, 4)), MM)
    assert apart.missed == 1


def test_a_lesion_under_50_voxels_is_neither_missed_nor_invented() -> None:
    truth = cube((4, 4, 4)) | cube((30, 20, 20), edge=3)
    for predicted in (cube((4, 4, 4)), truth):
        s = score(predicted, truth, MM)
        assert (s.lesion_dice, s.missed, s.invented) == (1, 0, 0)
    assert score(cube((4, 4, 4)), truth, (2.0, 2.0, 2.0)).missed == 1  # 216 mm³ now


def test_empty_masks_have_scores_and_no_nan() -> None:
    nothing, something = cube(), cube((4, 4, 4))
    both = score(nothing, nothing, MM)
    assert (both.dice, both.hd95_mm, both.lesion_dice, both.present) == (1, 0, 1, False)
    missed = score(nothing, something, MM)
    assert (missed.dice, missed.hd95_mm, missed.lesion_dice) == (0, WORST_MM, 0)
    invented = score(something, nothing, MM)
    assert (invented.dice, invented.lesion_dice, invented.lesion_hd95_mm) == (0, 0, WORST_MM)


def test_hd95_is_in_millimetres() -> None:
    one, two = cube((4, 4, 4)), cube((8, 4, 4))
    assert hd95(one, two, (1, 1, 1)) == pytest.approx(4)
    assert hd95(one, two, (2.5, 1, 1)) == pytest.approx(10)
    assert dice(one, two) == pytest.approx(2 * 25 / 250)
