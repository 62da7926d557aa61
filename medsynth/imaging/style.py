"""Styles: what a scanner, a sequence and a patient add to all voxels of a structure.

A style is a table: for each target channel and each structure the mean and the log of the
standard deviation. It is measured on a real scan (an encoder without weights), drawn from a
Gaussian fitted to a cohort, or edited by hand. Knows arrays only.

A structure that a case lacks (no enhancing tumour in a low-grade glioma) has no measurement:
NaN, filled by what the Gaussian expects given the rest. The Gaussian knows structures relative to
one that everybody has: a bright tumour darkens everything else on the scale of a scan, and who has
none must not make it darker in those who have one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medsynth.core.random import Key

MIN_VOXELS = 16
SHRINKAGE = 0.1
FLOOR = np.log(0.02)
TRUNCATE = 2.0
"""Drawn styles stay within two standard deviations along each component."""

REFERENCE = "WM"
"""The structure that others are compared with: every brain has it, and no agent changes it."""

DARKEST = 0.05
"""Least mean of the reference structure, so that nothing is divided by zero."""


def measure(samples: Mapping[int, np.ndarray], structures: int, channels: int) -> np.ndarray:
    """The style of one case.

    Args:
        samples: Structure index → intensities `(N, T)` of some of its voxels.
        structures: Number of structures S, background (index 0, always 0) included.
        channels: Number of target channels T.

    Returns:
        float32 `(2, T, S)`: means and log-spreads; NaN where the case lacks the structure.
    """
    style = np.full((2, channels, structures), np.nan, np.float32)
    style[:, :, 0] = np.array([0.0, FLOOR])[:, None]
    for index, values in samples.items():
        if index and len(values) >= MIN_VOXELS:
            style[0, :, index] = values.mean(0)
            style[1, :, index] = np.log(np.maximum(values.std(0), np.exp(FLOOR)))
    return style


@dataclass(frozen=True, eq=False)
class StylePrior:
    """A Gaussian over styles, each channel divided by its mean in a reference structure.

    Args:
        mean: `(F,)`, F = 2·T·S in the order of a flattened style.
        covariance: `(F, F)`, shrunk towards its diagonal.
        shape: `(2, T, S)`.
        reference: Index of the structure, whose own mean stays what it is.
        shading: Covariance of the logarithm of brightness from place to place, `(T, T)`; None
            when nobody had enough of the reference to tell (`medsynth.imaging.shading`).
    """

    mean: np.ndarray
    covariance: np.ndarray
    shape: tuple[int, int, int]
    reference: int
    shading: np.ndarray | None = None

    @classmethod
    def fit(cls, styles: np.ndarray, reference: int) -> "StylePrior":
        """Fit to measured styles `(N, 2, T, S)`, NaN where not measured.

        Expectation–maximisation for missing values, with the covariance shrunk towards its
        diagonal because cohorts are small.

        Source:
            Dempster, Laird, Rubin, J. R. Stat. Soc. B 39, 1977; Ledoit and Wolf, 2004, for the
            form of the shrinkage.
        """
        own = styles[:, 0, :, reference]
        has = np.isfinite(own)
        usual = np.where(has, own, 0).sum(0) / np.maximum(has.sum(0), 1)
        scale = np.where(has, own, np.where(has.any(0), usual, 1)).astype(styles.dtype)
        styles = _relative(styles, scale, reference)
        flat = styles.reshape(len(styles), -1).astype(np.float64)
        known = np.isfinite(flat)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, flat, 0).sum(0) / count
        spread = np.sqrt(np.where(known, (flat - mean) ** 2, 0).sum(0) / count)
        never = ~known.any(0)
        mean[never], spread[never] = _fallback(styles.shape[1:])[never], 0.1
        spread = np.maximum(spread, 1e-3)
        prior = cls(mean, np.diag(spread**2), styles.shape[1:], reference)
        for _ in range(10):
            filled = np.stack([prior._expect(row) for row in flat])
            mean = filled.mean(0)
            covariance = np.cov(filled, rowvar=False, bias=True).reshape(len(mean), -1)
            diagonal = np.maximum(np.diag(covariance), 0.25 * spread**2)
            covariance = (1 - SHRINKAGE) * covariance
            np.fill_diagonal(covariance, diagonal)
            prior = cls(mean, covariance, styles.shape[1:], reference)
        return prior

    @property
    def unseen(self) -> tuple[int, ...]:
        """Structures that no case had when the prior was fitted: their entries are the fallback,
        which nothing that was measured moves."""
        mean = self.mean.reshape(self.shape)
        same = np.isclose(mean, _fallback(self.shape).reshape(self.shape), atol=1e-3)
        return tuple(int(index) for index in np.flatnonzero(same.all((0, 1))))

    def fill(self, style: np.ndarray) -> np.ndarray:
        """A style `(2, T, S)` without NaN: missing entries are what the rest makes expect."""
        own = style[0, :, self.reference]
        usual = self.mean.reshape(self.shape)[0, :, self.reference]
        scale = np.where(np.isfinite(own), own, usual)
        flat = _relative(style, scale, self.reference).reshape(-1).astype(np.float64)
        expected = self._expect(flat).reshape(self.shape)
        filled = _absolute(expected, scale, self.reference)
        return np.where(np.isfinite(style), style, filled).astype(np.float32)

    def draw(self, key: Key) -> np.ndarray:
        """A random style, float32 `(2, T, S)`; components truncated at two deviations."""
        values, vectors = np.linalg.eigh(self.covariance)
        z = np.clip(key.numpy().standard_normal(len(values)), -TRUNCATE, TRUNCATE)
        flat = self.mean + vectors @ (np.sqrt(np.maximum(values, 0)) * z)
        style = flat.reshape(self.shape)
        style = _absolute(style, style[0, :, self.reference], self.reference)
        style[0] = np.clip(style[0], 0, 1.5)
        style[:, :, 0] = np.array([0.0, FLOOR])[:, None]
        return style.astype(np.float32)

    def _expect(self, flat: np.ndarray) -> np.ndarray:
        missing = ~np.isfinite(flat)
        if not missing.any():
            return flat
        known = ~missing
        gap = flat[known] - self.mean[known]
        out = flat.copy()
        out[missing] = self.mean[missing] + self.covariance[
            np.ix_(missing, known)
        ] @ np.linalg.solve(self.covariance[np.ix_(known, known)], gap)
        return out


def _relative(styles: np.ndarray, scale: np.ndarray, reference: int) -> np.ndarray:
    """Styles `(…, 2, T, S)` in units of a brightness `(…, T)`, which stands in the reference's
    place; background stays."""
    scale = np.maximum(scale, DARKEST)[..., None]
    means, spreads = styles[..., 0, :, :] / scale, styles[..., 1, :, :] - np.log(scale)
    means[..., reference] = styles[..., 0, :, reference]
    spreads[..., 0] = styles[..., 1, :, 0]
    return np.stack([means, spreads], -3)


def _absolute(style: np.ndarray, scale: np.ndarray, reference: int) -> np.ndarray:
    """The inverse of `_relative` for one style `(2, T, S)`."""
    scale = np.maximum(scale, DARKEST)[:, None]
    means, spreads = style[0] * scale, style[1] + np.log(scale)
    means[:, reference] = style[0, :, reference]
    spreads[:, 0] = style[1, :, 0]
    return np.stack([means, spreads])


def _fallback(shape: tuple[int, ...]) -> np.ndarray:
    """Entries that no case of a cohort has, in units of the reference: mid-grey with a moderate
    spread."""
    style = np.empty(shape)
    style[0], style[1] = 0.75, np.log(0.15)
    return style.reshape(-1)
