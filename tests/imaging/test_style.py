"""Styles: measured, filled in, drawn."""

import numpy as np

from medsynth.core.random import Key
from medsynth.imaging.intensity import normalise
from medsynth.imaging.style import StylePrior, measure


def _styles(count: int) -> np.ndarray:
    """Two channels, three structures; channel means move together."""
    rng = np.random.default_rng(0)
    brightness = rng.normal(0.5, 0.1, (count, 1, 1))
    means = (
        brightness + np.array([[0, 0.1, 0.3], [0, 0.3, 0.1]]) + rng.normal(0, 0.01, (count, 2, 3))
    )
    styles = np.stack([means, np.full_like(means, -3.0) + rng.normal(0, 0.1, means.shape)], 1)
    styles[:, 0, :, 0] = 0
    return styles.astype(np.float32)


def test_measuring_finds_mean_and_spread() -> None:
    rng = np.random.default_rng(0)
    style = measure({1: rng.normal(0.5, 0.1, (5000, 2)), 2: np.ones((3, 2))}, 4, 2)
    np.testing.assert_allclose(style[0, :, 1], 0.5, atol=0.01)
    np.testing.assert_allclose(np.exp(style[1, :, 1]), 0.1, atol=0.005)
    assert np.isnan(style[:, :, 2:]).all()
    assert (style[0, :, 0] == 0).all()


def test_a_missing_structure_is_what_the_others_make_expect() -> None:
    styles = _styles(40)
    lacking = styles.copy()
    lacking[::3, :, :, 2] = np.nan
    prior = StylePrior.fit(lacking, 1)
    filled = np.stack([prior.fill(s) for s in lacking])
    gap = np.abs(filled[::3, 0, :, 2] - styles[::3, 0, :, 2])
    guess = np.abs(styles[::3, 0, :, 2] - styles[:, 0, :, 2].mean(0))
    assert gap.mean() < 0.5 * guess.mean()
    np.testing.assert_allclose(filled[1], styles[1], atol=1e-6)


def test_a_structure_that_nobody_had_is_known_as_such() -> None:
    styles = _styles(40)
    styles[::3, :, :, 1] = np.nan
    assert StylePrior.fit(styles, 1).unseen == ()
    styles[:, :, :, 2] = np.nan
    assert StylePrior.fit(styles, 1).unseen == (2,)


def test_drawn_styles_look_like_the_cohort() -> None:
    styles = _styles(60)
    prior = StylePrior.fit(styles, 1)
    drawn = np.stack([prior.draw(Key(i)) for i in range(400)])
    np.testing.assert_allclose(drawn[:, 0].mean(0), styles[:, 0].mean(0), atol=0.03)
    correlation = [np.corrcoef(s[:, 0, 0, 1], s[:, 0, 1, 2])[0, 1] for s in (styles, drawn)]
    assert correlation[0] > 0.9
    assert correlation[1] > 0.6
    assert (prior.draw(Key(1)) == prior.draw(Key(1))).all()


def test_one_case_and_never_seen_structures_are_no_reason_to_fail() -> None:
    styles = _styles(1)
    styles[..., 2] = np.nan
    prior = StylePrior.fit(styles, 1)
    assert np.isfinite(prior.draw(Key(0))).all()
    assert np.isfinite(prior.fill(styles[0])).all()


def test_the_scale_is_the_bright_end_of_the_brain() -> None:
    rng = np.random.default_rng(0)
    scan = rng.random((1, 20, 20, 20)).astype(np.float32) * 900
    mask = np.zeros((20, 20, 20), bool)
    mask[4:16, 4:16, 4:16] = True
    scan[0, 5, 5, 5] = 1e6  # one spike must not decide the scale
    scaled = normalise(scan, mask)
    assert not scaled[0][~mask].any()
    assert 0.97 < np.percentile(scaled[0][mask], 99) < 1.0
    assert scaled.max() <= 1.5
    np.testing.assert_allclose(normalise(scan * 7, mask), scaled, rtol=1e-5)


def test_a_bright_tumour_in_some_darkens_nobody_without_and_no_tumour_that_is_drawn() -> None:
    """Whoever has the tumour is twice as dark everywhere else, because it is the brightest: drawn
    tumours are as much brighter than the reference as measured ones."""
    rng = np.random.default_rng(0)
    styles = np.full((60, 2, 1, 4), -3.0, np.float32)
    brightness = np.where(np.arange(60) % 2, 0.4, 0.8) + rng.normal(0, 0.02, 60)
    styles[:, 0, 0] = brightness[:, None] * [0, 0.6, 1, 2]
    styles[::2, :, :, 3] = np.nan
    prior = StylePrior.fit(styles, 2)
    drawn = np.stack([prior.draw(Key(i)) for i in range(200)])[:, 0, 0]
    np.testing.assert_allclose((drawn[:, 3] / drawn[:, 2]).mean(), 2, atol=0.1)
    filled = prior.fill(styles[0])
    np.testing.assert_allclose(filled[0, 0, 3] / filled[0, 0, 2], 2, atol=0.1)


def test_a_case_without_the_reference_is_filled_in_by_the_others() -> None:
    styles = _styles(40)
    lacking = styles[0].copy()
    lacking[:, :, 1] = np.nan
    filled = StylePrior.fit(styles, 1).fill(lacking)
    assert np.isfinite(filled).all()
    np.testing.assert_allclose(filled[0, :, 1], styles[0, 0, :, 1], atol=0.15)
