"""What a scanner does to signals: coil shading, slice blur, misregistration, noise, scaling."""

from typing import Any

import torch
from torch import Tensor

from medsynth.core.random import Key
from medsynth.phantom.fields import Box, blur, smooth_fields


def draw(key: Key) -> dict[str, Any]:
    """The parameters of one scan, JSON-able."""
    rng = key.numpy()
    thick = bool(rng.random() < 0.5)
    return {
        "slice_mm": float(rng.uniform(2.0, 5.0)) if thick else 1.0,
        "slice_axis": int(rng.choice(3, p=[0.15, 0.15, 0.7])),
        "in_plane_mm": float(rng.uniform(0.8, 1.8)),
        "shading": float(rng.uniform(0.01, 0.07)),
        "noise": float(rng.uniform(0.004, 0.022)),
        "shift_mm": [float(v) for v in 0.25 * rng.standard_normal(3)],
        "brightness": float(rng.uniform(400, 3000)),
    }


def draw_coil(key: Key) -> float:
    """How strongly a coil shades all scans of one examination, for `shading`."""
    return float(key.numpy().uniform(0.03, 0.14))


def shading(key: Key, strength: float, box: Box) -> Tensor:
    """Logarithm of a smooth sensitivity `(I, J, K)`, with a deviation of `strength`."""
    return strength * smooth_fields(key, 1, box, 45.0)[0]


def acquire(
    signal: Tensor, mask: Tensor, scan: dict[str, Any], coil: Tensor, key: Key, box: Box
) -> Tensor:
    """One scan of a signal.

    Args:
        signal: `(I, J, K)`.
        mask: Brain, boolean `(I, J, K)`.
        scan: From `draw`.
        coil: Shading that all scans share, from `shading`.
        key: What differs between scans of shading, and noise.
        box: The grid.

    Returns:
        float32 `(I, J, K)`, exactly 0 outside of the brain and positive inside.

    Source:
        Rician noise: Gudbjartsson and Patz, Magn. Reson. Med. 34(6), 1995.
    """
    fwhm = [scan["in_plane_mm"]] * 3
    fwhm[scan["slice_axis"]] = scan["slice_mm"]
    # a voxel of the grid averages already; only what is wider than it is left to blur
    sigmas = [max(f**2 - 0.6 * box.spacing_mm**2, 0) ** 0.5 / 2.355 / box.spacing_mm for f in fwhm]
    image = _shifted(blur(signal[None], sigmas)[0], scan["shift_mm"], box)
    image = image * torch.exp(coil + shading(key.fold("shading"), scan["shading"], box))
    inside = image[mask]
    top = torch.quantile(inside[:: max(len(inside) // 100_000, 1)], 0.995)
    image = image / top
    noise = (
        torch.from_numpy(key.fold("noise").numpy().standard_normal((2, len(inside)), "f4"))
        * scan["noise"]
    )
    out = torch.zeros_like(image)
    measured = torch.sqrt((image[mask] + noise[0]).square() + noise[1].square())
    out[mask] = measured.clamp(1e-3, 2.5) * scan["brightness"]
    return out


def _shifted(image: Tensor, shift_mm: list[float], box: Box) -> Tensor:
    """Move by a fraction of a voxel, linearly: what registration leaves behind."""
    for axis, shift in enumerate(shift_mm):
        share = min(abs(shift) / box.spacing_mm, 1.0)
        moved = image.roll(1 if shift > 0 else -1, axis)
        image = torch.lerp(image, moved, share)
    return image
