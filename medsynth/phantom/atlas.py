"""The average brain that individual brains are made from.

Tissue maps of the ICBM 2009a nonlinear symmetric atlas, which come with nilearn; CSF is what is
neither grey nor white inside the brain. Knows nothing of subjects.

Source:
    Fonov et al., *Unbiased average age-appropriate atlases for pediatric studies*, NeuroImage
    54(1), 2011.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

RESOLUTION_MM = 2
"""Finest resolution worth keeping: the average of many brains has no finer detail."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """Tissue of the average brain.

    Args:
        fractions: CSF, grey and white matter, float32 `(3, I, J, K)`, RAS+; they add up to 1
            inside the brain and to 0 outside.
        affine: Voxel to MNI mm.
    """

    fractions: np.ndarray
    affine: np.ndarray


@lru_cache(1)
def atlas() -> Atlas:
    """Read the atlas from nilearn, once per process."""
    from nilearn import datasets
    from scipy import ndimage

    t1, grey, white = (
        load(resolution=RESOLUTION_MM)
        for load in (
            datasets.load_mni152_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
        )
    )
    head, gm, wm = (np.asarray(image.dataobj, np.float32) for image in (t1, grey, white))
    brain = ndimage.binary_fill_holes(ndimage.binary_opening(head > 0.05 * head.max()))
    gm, wm = gm / gm.max() * brain, wm / wm.max() * brain
    csf = np.clip(1 - gm - wm, 0, 1) * brain
    fractions = np.stack([csf, gm, wm])
    return Atlas(fractions / np.maximum(fractions.sum(0), 1e-6), np.asarray(t1.affine))
