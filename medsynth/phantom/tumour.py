"""Tumours that grow: reaction–diffusion, mass effect, necrosis, enhancement, oedema.

Knows tissue fractions and a grid; no signals.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.phantom.fields import Box, blur, resample, smooth_fields

GRID_MM = 4.0
"""Growth is computed on voxels of this size and interpolated."""

THINNEST = 0.08
"""Least rim of a ring, on the scale of the blurred outline: about a millimetre."""


@dataclass(frozen=True, eq=False)
class Tumour:
    """A grown tumour.

    Args:
        density: Cells, 0 to 1, `(I, J, K)` on the coarse grid.
        grid: The coarse grid.
        parameters: What was drawn, JSON-able.
    """

    density: Tensor
    grid: Box
    parameters: dict[str, Any]


def draw(key: Key) -> dict[str, Any]:
    """The parameters of one tumour, JSON-able."""
    rng = key.numpy()
    kind = str(rng.choice(["ring", "solid", "patchy", "non-enhancing"], p=[0.45, 0.05, 0.2, 0.3]))
    resected = bool(kind != "non-enhancing" and rng.random() < 0.06)
    return {
        "kind": kind,
        "volume_ml": float(np.exp(rng.uniform(np.log(6), np.log(220)))),
        "white_over_grey": float(rng.uniform(2, 12)),
        "width": float(rng.uniform(0.5, 2.2)),
        "foci": 2 if rng.random() < 0.12 else 1,
        "ragged": float(rng.uniform(0.04, 0.22)),
        "push": float(rng.uniform(0.2, 0.8)),
        "rim": float(rng.uniform(0.08, 0.36)),
        "necrosis": float(rng.uniform(-0.6, 1.0)),
        "oedema_mm": float(rng.uniform(2, 45)),
        "oedema_in_grey": float(rng.uniform(0.3, 0.9)),
        "grain_mm": float(rng.uniform(3.5, 9)),
        "resected": resected,
    }


def grow(fractions: Tensor, box: Box, key: Key) -> Tumour:
    """Grow a tumour in a brain by the Fisher–Kolmogorov equation.

    ∂u/∂t = ∇·(D ∇u) + ρ u (1 − u), D several times larger in white than in grey matter and zero
    in CSF, until the dense part has the drawn volume.

    Args:
        fractions: Tissue `(3, I, J, K)`.
        box: Its grid.
        key: Where and how.

    Source:
        Swanson, Alvord, Murray, Cell Proliferation 33(5), 2000.
    """
    parameters = draw(key)
    rng = key.fold("seed").numpy()
    grid = box.coarse(GRID_MM)
    csf, grey, white = resample(fractions, box, grid)
    inside = csf + grey + white
    body = (grey + white) * (inside > 0.5)
    ratio = parameters["white_over_grey"]
    uneven = torch.exp(0.5 * smooth_fields(key.fold("uneven"), 1, grid, 9.0)[0])
    diffusion = (white + grey / ratio) * (body > 0.4) * uneven * (1 - csf).clamp(0, 1)
    diffusion = diffusion / diffusion.max() * parameters["width"]
    candidates = torch.nonzero((white > 0.5) & (body > 0.9)).numpy()
    density = torch.zeros(grid.shape)
    first = candidates[rng.integers(len(candidates))]
    for focus in range(parameters["foci"]):
        near = candidates[np.abs(candidates - first).sum(1) * GRID_MM < 45]
        at = first if focus == 0 else near[rng.integers(len(near))]
        density[tuple(at)] = 1.0
    target = parameters["volume_ml"] * 1000 / GRID_MM**3
    density = _evolve(density, diffusion, body, uneven, target)
    parameters["seed_mm"] = [
        float(o + i * GRID_MM) for o, i in zip(grid.origin_mm, first, strict=True)
    ]
    return Tumour(density, grid, parameters)


def _evolve(
    density: Tensor, diffusion: Tensor, body: Tensor, rate: Tensor, target: float
) -> Tensor:
    """Explicit steps; units are chosen such that the front moves about a voxel in ten steps."""
    step = 0.8 / (6 * float(diffusion.max()))
    growth = 0.35
    between = [
        torch.minimum(
            diffusion.narrow(a, 1, diffusion.shape[a] - 1),
            diffusion.narrow(a, 0, diffusion.shape[a] - 1),
        )
        for a in range(3)
    ]
    for _ in range(900):
        change = torch.zeros_like(density)
        for axis, conductance in enumerate(between):
            flow = conductance * density.diff(dim=axis)
            change.narrow(axis, 0, flow.shape[axis]).add_(flow)
            change.narrow(axis, 1, flow.shape[axis]).sub_(flow)
        density = density + step * (change + growth * rate * density * (1 - density))
        density = density.clamp_(0, 1) * (body > 0.1)
        if float((density > 0.5).sum()) >= target:
            break
    return density


def push_mm(tumour: Tumour, box: Box) -> Tensor:
    """Mass effect: where the tumour shifts the tissue around it, `(3, I, J, K)` in mm.

    The displacement follows the gradient of the smoothed tumour, outwards; its size is that of
    the tissue that a growing mass has to make room for.

    Source:
        The idea of Clatz et al., IEEE TMI 24(10), 2005, without solving the elasticity.
    """
    mass = blur((tumour.density[None] - 0.15).clamp_min(0), 3.0)[0]
    gradient = torch.stack([_slope(mass, axis) for axis in range(3)])
    steepest = float(gradient.norm(dim=0).max())
    radius = (3 * tumour.parameters["volume_ml"] * 1000 / (4 * np.pi)) ** (1 / 3)
    size = tumour.parameters["push"] * 0.45 * radius
    return resample(-gradient / max(steepest, 1e-9) * size, tumour.grid, box)


def paint(tumour: Tumour, fractions: Tensor, box: Box, key: Key) -> Tensor:
    """Name the voxels of a tumour.

    Args:
        tumour: Where the cells are.
        fractions: Tissue after the mass effect, `(3, I, J, K)`.
        box: Its grid.
        key: Texture of the outlines.

    Returns:
        uint8 `(I, J, K)`: values of NCR, ED, ET and RC in the *brain* scheme, 0 elsewhere.
    """
    p = tumour.parameters
    density = resample(tumour.density[None], tumour.grid, box)[0]
    rough = smooth_fields(key.fold("coarse"), 1, box, p["grain_mm"])[0]
    fine = smooth_fields(key.fold("fine"), 1, box, 1.8)[0]
    csf = fractions[0]
    brain = fractions.sum(0) > 0.5
    level = density + p["ragged"] * (0.7 * rough + 0.15 * fine) * (density > 0.02)
    core = (level > 0.5) & brain & ((csf < 0.6) | (density > 0.8))
    inner = resample(blur((tumour.density[None] > 0.5).float(), 1.4), tumour.grid, box)[0]
    inner = inner + 0.25 * p["ragged"] * rough
    labels = torch.zeros(box.shape, dtype=torch.uint8)
    labels[_oedema(tumour, core, fractions, rough, box) & ~core & brain] = BRAIN.value("ED")
    labels[core] = BRAIN.value("ET")
    dead = _necrosis(p, inner, rough, fine) & core
    labels[dead] = BRAIN.value("NCR")
    if p["resected"]:
        labels[core & (inner > 0.45)] = BRAIN.value("RC")
    return labels


def _oedema(tumour: Tumour, core: Tensor, fractions: Tensor, rough: Tensor, box: Box) -> Tensor:
    """Fluid spreads through white matter, into what is partly grey, not into ventricles."""
    reach = tumour.parameters["oedema_mm"]
    grid = tumour.grid
    csf, grey, white = resample(fractions, box, grid)
    share = tumour.parameters["oedema_in_grey"]
    ease = (white + 0.5 * share * grey) * (csf < 0.5)
    wet = resample(core[None].float(), box, grid)[0]
    for _ in range(max(round(reach / GRID_MM * 3), 1)):
        spread = blur(wet[None], 0.7)[0]
        wet = torch.maximum(wet, spread * ease.clamp(0, 1) * 1.25).clamp(0, 1)
    fluid = resample(wet[None], grid, box)[0] + 0.05 * rough
    tissue = fractions[2] + share * fractions[1]
    return (fluid * tissue > 0.28) & (fractions[0] < 0.4)


def _necrosis(p: dict[str, Any], inner: Tensor, rough: Tensor, fine: Tensor) -> Tensor:
    if p["kind"] == "non-enhancing":
        return torch.ones_like(inner, dtype=torch.bool)
    if p["kind"] == "solid":
        return inner > 2
    if p["kind"] == "patchy":
        return rough + 0.5 * fine < 0.6 + 0.6 * p["necrosis"]
    return inner + 0.08 * fine > 0.5 + max(p["rim"] - 0.15 * p["necrosis"], THINNEST)


def _slope(data: Tensor, axis: int) -> Tensor:
    return torch.gradient(data, dim=axis)[0]
