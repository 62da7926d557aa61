"""Features of slices, without trained weights by default.

Slices in three planes (2.5-D): a volume is seen as a radiologist scrolls through it. The default
features are radiomics-like (first order, sharpness, grey-level co-occurrence, spectrum); a
torchvision backbone can be used instead when its weights are at hand. Nothing is downloaded.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from skimage.feature import graycomatrix, graycoprops

from medsynth.errors import UsageError
from medsynth.evaluation.heads import Head
from medsynth.training.weights import mismatch

SLICES = 12
"""Slices per plane, spread evenly over the middle 70 % of the brain."""

NAMES = (
    "mean", "sd", "skewness", "p10", "p50", "p90",
    "gradient", "laplacian", "entropy",
    "glcm_contrast", "glcm_homogeneity", "glcm_correlation",
    "band_low", "band_middle", "band_high",
)  # fmt: skip
LEVELS = 16

Extract = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Slices `(N, A, B)` of one scan and of the brain → features `(N, F)`."""


def of_head(head: Head, extract: Extract | None = None) -> np.ndarray:
    """Features of all slices of all scans.

    Args:
        head: The case.
        extract: What to compute; None for the radiomics-like default.

    Returns:
        `(C, N, F)`: channel, slice, feature.
    """
    extract = extract or radiomics
    return np.stack(
        [
            np.concatenate([extract(*_slices(scan, head.mask, plane)) for plane in range(3)])
            for scan in head.scans.data
        ]
    )


def _slices(scan: np.ndarray, mask: np.ndarray, plane: int) -> tuple[np.ndarray, np.ndarray]:
    n = scan.shape[plane]
    at = np.linspace(0.15 * n, 0.85 * n, SLICES).astype(int)
    return np.moveaxis(scan, plane, 0)[at], np.moveaxis(mask, plane, 0)[at]


def radiomics(slices: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The 15 features of `NAMES` for each slice; zero for a slice without brain.

    Source:
        Names and definitions follow the Image Biomarker Standardisation Initiative (Zwanenburg
        et al., Radiology 295, 2020) where it has them; gradient and Laplacian are means and
        spreads of finite differences, bands are log powers of thirds of the radial spectrum.
    """
    slopes = np.hypot(*np.gradient(slices, axis=(1, 2)))
    middle = slices[:, 1:-1, 1:-1]
    bends = slices[:, 2:, 1:-1] + slices[:, :-2, 1:-1] + slices[:, 1:-1, 2:] + slices[:, 1:-1, :-2]
    bends -= 4 * middle
    textures, bands = _textures(slices, masks), _bands(slices)
    rows = np.zeros((len(slices), len(NAMES)))
    for at, mask in enumerate(masks):
        inside = slices[at][mask]
        if inside.size < 64:
            continue
        mean, sd = inside.mean(), max(float(inside.std()), 1e-9)
        bend = bends[at][mask[1:-1, 1:-1]]
        share = np.histogram(inside, 32, (0, 1.5))[0] / inside.size
        share = share[share > 0]
        rows[at] = [
            mean, sd, (((inside - mean) / sd) ** 3).mean(), *np.percentile(inside, (10, 50, 90)),
            slopes[at][mask].mean(), bend.std() if bend.size else 0.0,
            -(share * np.log2(share)).sum(), *textures[at], *bands[at],
        ]  # fmt: skip
    return rows


def _textures(slices: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Contrast, homogeneity and correlation of neighbours inside of masks, `(N, 3)`."""
    grey = np.clip(slices / 1.2 * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    grey = np.where(masks, grey + 1, 0).astype(np.uint8)
    two = [0, np.pi / 2]
    pairs = [graycomatrix(g, [1], two, levels=LEVELS + 1, symmetric=True)[1:, 1:] for g in grey]
    stacked = np.concatenate(pairs, 3).astype(float)
    return np.stack(
        [
            graycoprops(stacked, name).reshape(len(slices), len(two)).mean(1)
            for name in ("contrast", "homogeneity", "correlation")
        ],
        1,
    )


def _bands(slices: np.ndarray) -> np.ndarray:
    """Log power in three bands of spatial frequency, `(N, 3)`."""
    rows, columns = slices.shape[1:]
    level = slices - slices.mean((1, 2), keepdims=True)
    power = np.abs(np.fft.rfft2(level)) ** 2 / (rows * columns)
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    return np.stack(
        [
            np.log(power[:, (radius >= low) & (radius < high)].mean(1) + 1e-9)
            for low, high in pairwise((0.02, 0.1, 0.25, 0.5))
        ],
        1,
    )


def backbone(name: str, weights: Path) -> Extract:
    """Features of a torchvision network before its last linear layer.

    Args:
        name: For example `resnet50` or `inception_v3`.
        weights: A state dictionary (`.pth` with tensors only, or `.safetensors`).

    Raises:
        UsageError: No such network, or weights that do not fit it.
    """
    from torchvision import models

    if name not in models.list_models():
        raise UsageError("a torchvision model, for example resnet50", repr(name))
    network = models.get_model(name, weights=None)
    try:
        if weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UsageError(f"weights of torchvision's {name}", mismatch(error), weights) from error
    layers = [at for at, layer in network.named_modules() if isinstance(layer, torch.nn.Linear)]
    if not layers:
        raise UsageError("a network that ends in a linear layer, for example resnet50", repr(name))
    *path, last = layers[-1].split(".")
    setattr(network.get_submodule(".".join(path)), last, torch.nn.Identity())
    network.eval().requires_grad_(False)

    def extract(slices: np.ndarray, masks: np.ndarray) -> np.ndarray:
        grey = torch.from_numpy(np.ascontiguousarray(slices, np.float32))[:, None]
        grey = torch.nn.functional.interpolate(grey, (224, 224), mode="bilinear")
        mean, sd = (torch.tensor(v)[:, None, None] for v in (MEAN, SD))
        with torch.inference_mode():
            return network((grey.expand(-1, 3, -1, -1) - mean) / sd).flatten(1).numpy()

    return extract


MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What torchvision's ImageNet weights expect."""
