"""One intensity scale for scans of any scanner.

A scan's background is 0 and the 99.5th percentile inside the brain is 1. Physical zero stays
zero, so signal ratios survive, and a single bright vessel does not decide the scale. Opens no
file.
"""

import numpy as np

PERCENTILE = 99.5
CEILING = 1.5
"""Brighter voxels (vessels, spikes) are clipped here."""

UNITS = 1000
"""What 1 becomes in a written file, so that int16 keeps three digits."""


def brain_mask(scans: np.ndarray) -> np.ndarray:
    """Voxels `(I, J, K)` at which at least one of the skull-stripped scans `(C, I, J, K)` is
    positive."""
    return np.asarray((scans > 0).any(0))


def normalise(scans: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Bring scans to the common scale.

    Args:
        scans: `(C, I, J, K)`, any units; negative values (interpolation) become 0.
        mask: Brain, boolean `(I, J, K)`; everything outside becomes 0.

    Returns:
        float32 of the same shape in [0, `CEILING`].
    """
    out = np.zeros(scans.shape, np.float32)
    for scan, result in zip(scans, out, strict=True):
        inside = scan[mask]
        top = float(np.percentile(inside, PERCENTILE)) if inside.size else 0.0
        if top > 0:
            result[mask] = np.clip(inside / top, 0, CEILING)
    return out
