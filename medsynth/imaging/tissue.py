"""Tissue labels for real scans, without training: the role of Shin's ADNI network.

Bias field removed (N4), T1 and T2 together, a Gaussian per tissue fitted by
expectation–maximisation with the priors of a registered atlas, spatial regularisation by the mean
field of a Markov random field; the tumour is left out of the fit and kept in the result. Opens no
file.

Source:
    Tustison et al., *N4ITK*, IEEE TMI 29(6), 2010; Ashburner and Friston, *Unified
    segmentation*, NeuroImage 26(3), 2005, for mixtures with priors; Zhang, Brady, Smith, IEEE
    TMI 20(1), 2001, for the random field.
"""

import numpy as np
from scipy import ndimage

from medsynth.core.labels import BRAIN
from medsynth.core.volume import LabelMap, Volume, bounding_box
from medsynth.errors import DataError, GeometryError
from medsynth.imaging.intensity import brain_mask
from medsynth.phantom.atlas import atlas

SHRINK_MM = 4.0
"""N4 works on voxels of about this size; the field is smooth."""

SAMPLES = 60_000
ITERATIONS = 15
PRIOR_BLUR_MM = 2.5
PRIOR_FLOOR = 0.03
COUPLING = 1.2
"""How much a voxel wants the tissue of its neighbours."""

MAX_FILLED = 0.65
"""A skull-stripped head fills less of its bounding box than this."""


def segment(scans: Volume, tumour: LabelMap | None = None) -> LabelMap:
    """CSF, grey and white matter of skull-stripped scans, merged with a tumour label map.

    Args:
        scans: Must have `t1n` or `t1c`; `t2w` and `t2f` are used when there.
        tumour: Any scheme, same grid; excluded from the fit and kept in the result.

    Returns:
        Label map in the *brain* scheme on the same grid.

    Raises:
        DataError: No T1, no brain, or a skull that is still there.
        GeometryError: Scans and tumour are on different grids.
    """
    if not {"t1n", "t1c"} & set(scans.channels):
        raise DataError("a T1 scan (t1n, or t1c)", f"{', '.join(scans.channels)}", "tissue")
    if tumour is not None and not scans.same_grid(tumour):
        raise GeometryError("scans and tumour label map on one grid", "different grids", "tissue")
    mask = _brain(scans)
    box = bounding_box(mask, 2)
    inside = mask[box]
    sick = np.zeros_like(inside) if tumour is None else tumour.mask("lesion")[box]
    used = ["t1n" if "t1n" in scans.channels else "t1c"]
    used += ["t2w"] if "t2w" in scans.channels else (["t2f"] if "t2f" in scans.channels else [])
    fit = inside & ~ndimage.binary_dilation(sick, iterations=2)
    channels = [
        _standardised(
            _without_bias(np.clip(scans.channel(name)[box], 0, None), inside, scans.spacing_mm), fit
        )
        for name in used
    ]
    named = _tissue(channels, inside, fit, _priors(channels[0], inside, scans.spacing_mm))
    data = np.zeros(scans.shape, np.uint8)
    data[box] = named
    return merged(LabelMap(data, scans.affine, BRAIN, scans.source), tumour)


def merged(tissue: LabelMap, tumour: LabelMap | None) -> LabelMap:
    """Tissue labels with the structures of a tumour label map on top.

    Args:
        tissue: *Brain* scheme.
        tumour: Any scheme, same grid; None changes nothing.
    """
    if tumour is None:
        return tissue
    named = tumour.to_scheme(BRAIN).data
    return tissue.with_data(np.where(tumour.mask("lesion"), named, tissue.data))


def _brain(scans: Volume) -> np.ndarray:
    """The brain of skull-stripped scans: the largest piece of what is not zero, holes filled."""
    mask = brain_mask(scans.data)
    if not mask.any():
        raise DataError("a brain", "no positive voxel", "tissue", "Check the scans.")
    share = mask[bounding_box(mask)].mean()
    if share > MAX_FILLED:
        raise DataError(
            "skull-stripped scans (zero outside of the brain)",
            f"{share:.0%} of the head's box filled",
            "tissue",
            "Strip the skull first, for example with HD-BET or SynthStrip.",
        )
    pieces, count = ndimage.label(ndimage.binary_opening(mask, iterations=1))
    if count == 0:
        return mask
    largest = pieces == 1 + np.argmax(np.bincount(pieces.reshape(-1))[1:])
    return ndimage.binary_fill_holes(ndimage.binary_dilation(largest, iterations=1) & mask)


def _without_bias(
    scan: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """Divide by the smooth field that N4 finds on coarse voxels."""
    import SimpleITK as sitk

    shrink = [max(round(SHRINK_MM / s), 1) for s in spacing_mm]
    image = sitk.GetImageFromArray(scan.transpose(2, 1, 0).astype(np.float32) + 1e-3)
    region = sitk.GetImageFromArray(mask.transpose(2, 1, 0).astype(np.uint8))
    image.SetSpacing(spacing_mm)
    region.SetSpacing(spacing_mm)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([30, 20, 10])
    n4.SetNumberOfControlPoints([4, 4, 4])
    n4.Execute(sitk.Shrink(image, shrink), sitk.Shrink(region, shrink))
    field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).transpose(2, 1, 0)
    return scan / np.exp(np.clip(field, -1, 1))


def _standardised(scan: np.ndarray, fit: np.ndarray) -> np.ndarray:
    values = scan[fit]
    low, high = np.percentile(values, (1, 99))
    clipped = np.clip(values, low, high)
    scaled = (scan - clipped.mean()) / max(float(clipped.std()), 1e-6)
    return np.clip(scaled, -5, 5).astype(np.float32)


def _priors(
    t1: np.ndarray, inside: np.ndarray, spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """Where CSF, grey and white matter usually are, `(3, I, J, K)`.

    The ICBM atlas, registered affinely to the scan by mutual information and blurred.
    """
    import SimpleITK as sitk

    def image(array: np.ndarray, spacing: tuple[float, ...]) -> sitk.Image:
        made = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0), np.float32))
        made.SetSpacing(spacing)
        return made

    average = atlas()
    edge = tuple(np.abs(np.diag(average.affine)[:3]).tolist())
    csf, grey, white = average.fractions
    moving = image(0.25 * csf + 0.65 * grey + white, edge)
    shrink = [max(round(SHRINK_MM / s), 1) for s in spacing_mm]
    scaled = (np.clip(t1, -2.5, 2.5) + 2.7) / 5.2 * inside
    fixed = sitk.Shrink(image(scaled, spacing_mm), shrink)
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 60, 1e-5, 8)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=False)
    found = method.Execute(fixed, moving)
    reference = image(scaled, spacing_mm)
    priors = np.stack(
        [
            sitk.GetArrayFromImage(
                sitk.Resample(
                    image(ndimage.gaussian_filter(part, PRIOR_BLUR_MM / edge[0]), edge),
                    reference,
                    found,
                    sitk.sitkLinear,
                    0.0,
                )
            ).transpose(2, 1, 0)
            for part in (csf, grey, white)
        ]
    )
    priors = priors + PRIOR_FLOOR
    return priors / priors.sum(0)


def _tissue(
    channels: list[np.ndarray], inside: np.ndarray, fit: np.ndarray, priors: np.ndarray
) -> np.ndarray:
    """Fit a Gaussian per tissue with spatial priors; 1 CSF, 2 grey, 3 white."""
    values = np.stack([c[fit] for c in channels], 1)
    some = slice(None, None, max(len(values) // SAMPLES, 1))
    values, prior = values[some], priors[:, fit][:, some]
    share = prior**2 / (prior**2).sum(0)
    for _ in range(ITERATIONS):
        weight = share.sum(1)
        means = share @ values / weight[:, None]
        spreads = [
            ((share[k, :, None] * (values - means[k])).T @ (values - means[k])) / weight[k]
            + 0.02 * np.eye(values.shape[1])
            for k in range(3)
        ]
        score = np.stack([_log_normal(values, means[k], spreads[k]) for k in range(3)])
        score += np.log(prior)
        share = np.exp(score - score.max(0))
        share /= share.sum(0)
    everything = np.stack([c[inside] for c in channels], 1)
    likelihood = np.zeros((3, *inside.shape), np.float32)
    score = np.stack([_log_normal(everything, means[k], spreads[k]) for k in range(3)])
    score += np.log(priors[:, inside])
    likelihood[:, inside] = np.clip(score - score.max(0), -12, 0)
    return _regularised(likelihood, inside)


def _log_normal(values: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    gap = values - mean
    return -0.5 * (
        np.einsum("ni,ij,nj->n", gap, np.linalg.inv(spread), gap, optimize=True)
        + np.linalg.slogdet(spread)[1]
    )


def _regularised(likelihood: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Mean field of a Potts model: each voxel weighs its likelihood and its neighbours."""
    weight = ndimage.uniform_filter(inside.astype(np.float32), 3)
    belief = likelihood
    for _ in range(3):
        share = np.exp(belief - belief.max(0))
        share *= inside / share.sum(0)
        around = np.stack([ndimage.uniform_filter(part, 3) for part in share])
        belief = likelihood + COUPLING * 3 * around / np.maximum(weight, 1e-3)
    return ((1 + belief.argmax(0)) * inside).astype(np.uint8)
