"""How well a segmentation meets its reference: per case, and lesion by lesion.

Conventions of BraTS: a region that neither has scores Dice 1 and HD95 0; one that only one of
them has scores Dice 0 and HD95 374. Knows arrays only.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance
from scipy import ndimage

from medsynth.core.volume import bounding_box

WORST_MM = 374.0
"""HD95 of a missed or invented lesion: about the diagonal of the BraTS grid."""

REGIONS = ("WT", "TC", "ET")
MIN_LESION_MM3 = 50.0
JOIN = 3
"""Reference components join when dilation by this many voxels makes them touch."""

NEAR = ndimage.generate_binary_structure(3, 2)
TOUCHING = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True)
class Score:
    """One region of one case.

    Args:
        dice: 0 to 1.
        hd95_mm: 95th percentile of the symmetric surface distance, at most 374.
        lesion_dice: Mean over lesions; missed and invented ones count 0.
        lesion_hd95_mm: Mean over lesions; missed and invented ones count 374.
        present: Whether the reference has the region.
        missed: Reference lesions that were not hit.
        invented: Predicted lesions where there is none.
    """

    dice: float
    hd95_mm: float
    lesion_dice: float
    lesion_hd95_mm: float
    present: bool
    missed: int
    invented: int


def dice(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Dice of two masks; 1 when both are empty."""
    total = int(predicted.sum()) + int(reference.sum())
    return 2 * int((predicted & reference).sum()) / total if total else 1.0


def hd95(
    predicted: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float]
) -> float:
    """95th percentile of the symmetric surface distance in mm; 374 when one mask is empty."""
    if not predicted.any() and not reference.any():
        return 0.0
    if not predicted.any() or not reference.any():
        return WORST_MM
    box = bounding_box(predicted | reference, 1)
    one, two = (
        torch.from_numpy(np.pad(mask[box], 1))[None, None] for mask in (predicted, reference)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 calls itself the old way
        distance = compute_hausdorff_distance(
            one, two, include_background=True, percentile=95, spacing=[float(s) for s in spacing_mm]
        )
    return min(float(distance), WORST_MM)


def score(
    predicted: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float]
) -> Score:
    """All scores of one region.

    Lesion by lesion: components of the reference (26 neighbours) that dilation joins are one
    lesion; all predicted components that touch the dilated lesion belong to it; predicted
    components that touch none are invented; lesions under 50 mm³ are ignored, and what was
    predicted on them is neither right nor wrong.

    Args:
        predicted, reference: Boolean `(I, J, K)`.
        spacing_mm: Size of a voxel.

    Source:
        BraTS 2023 evaluation (Saluja et al., *BraTS-2023-Metrics*; glioma settings).
    """
    pieces, _ = ndimage.label(predicted, TOUCHING)
    lesions, count = ndimage.label(ndimage.binary_dilation(reference, NEAR, JOIN), TOUCHING)
    lesions = lesions * reference
    voxel = float(np.prod(spacing_mm))
    dices, distances, used, missed = [], [], set(), 0
    for index in range(1, count + 1):
        lesion = lesions == index
        near = ndimage.binary_dilation(lesion, NEAR, JOIN)
        own = set(np.unique(pieces[near]).tolist()) - {0}
        used |= own
        if lesion.sum() * voxel < MIN_LESION_MM3:
            continue
        found = np.isin(pieces, list(own))
        missed += not own
        dices.append(dice(found, lesion))
        distances.append(hd95(found, lesion, spacing_mm))
    invented = len(set(np.unique(pieces).tolist()) - {0} - used)
    dices += [0.0] * invented
    distances += [WORST_MM] * invented
    return Score(
        dice(predicted, reference),
        hd95(predicted, reference, spacing_mm),
        float(np.mean(dices)) if dices else 1.0,
        float(np.mean(distances)) if distances else 0.0,
        bool(reference.any()),
        missed,
        invented,
    )
