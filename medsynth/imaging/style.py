"""Styles: what a scanner, a sequence and a patient add to all voxels of a structure.

A style is a table: for each target channel and each structure the mean and the log of the
standard deviation. It is measured on a real scan (an encoder without weights), drawn from a
Gaussian fitted to a cohort, or edited by hand. Knows arrays only.

A structure that a case lacks (no enhancing tumour in a low-grade glioma) has no measurement:
NaN, filled by what the Gaussian expects given the rest.
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
    """A Gaussian over styles.

    Args:
        mean: `(F,)`, F = 2·T·S in the order of a flattened style.
        covariance: `(F, F)`, shrunk towards its diagonal.
        shape: `(2, T, S)`.
    """

    mean: np.ndarray
    covariance: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def fit(cls, styles: np.ndarray) -> "StylePrior":
        """Fit to measured styles `(N, 2, T, S)`, NaN where not measured.

        Expectation–maximisation for missing values, with the covariance shrunk towards its
        diagonal because cohorts are small.

        Source:
            Dempster, Laird, Rubin, J. R. Stat. Soc. B 39, 1977; Ledoit and Wolf, 2004, for the
            form of the shrinkage.
        """
        flat = styles.reshape(len(styles), -1).astype(np.float64)
        known = np.isfinite(flat)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, flat, 0).sum(0) / count
        spread = np.sqrt(np.where(known, (flat - mean) ** 2, 0).sum(0) / count)
        never = ~known.any(0)
        mean[never], spread[never] = _fallback(styles.shape[1:])[never], 0.1
        spread = np.maximum(spread, 1e-3)
        prior = cls(mean, np.diag(spread**2), styles.shape[1:])
        for _ in range(10):
            filled = np.stack([prior._expect(row) for row in flat])
            mean = filled.mean(0)
            covariance = np.cov(filled, rowvar=False, bias=True).reshape(len(mean), -1)
            diagonal = np.maximum(np.diag(covariance), 0.25 * spread**2)
            covariance = (1 - SHRINKAGE) * covariance
            np.fill_diagonal(covariance, diagonal)
            prior = cls(mean, covariance, styles.shape[1:])
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
        return (
            self._expect(style.reshape(-1).astype(np.float64))
            .reshape(self.shape)
            .astype(np.float32)
        )

    def draw(self, key: Key) -> np.ndarray:
        """A random style, float32 `(2, T, S)`; components truncated at two deviations."""
        values, vectors = np.linalg.eigh(self.covariance)
        z = np.clip(key.numpy().standard_normal(len(values)), -TRUNCATE, TRUNCATE)
        flat = self.mean + vectors @ (np.sqrt(np.maximum(values, 0)) * z)
        style = flat.reshape(self.shape)
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


def _fallback(shape: tuple[int, ...]) -> np.ndarray:
    """Entries that no case of a cohort has: mid-grey with a moderate spread."""
    style = np.empty(shape)
    style[0], style[1] = 0.5, np.log(0.1)
    return style.reshape(-1)
