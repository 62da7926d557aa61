"""One person's brain: the atlas, deformed, folded, aged.

Knows tissue fractions; no tumours, no signals.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medsynth.core.random import Key
from medsynth.phantom.atlas import Atlas
from medsynth.phantom.fields import Box, blur, resample, smooth_fields

VENTRICLES_MM = (0.0, -12.0, 12.0)
"""Middle of the lateral ventricles in MNI coordinates."""

RADIUS_MM = 60.0
"""Of a sphere with the ratio of volume to surface of a brain."""


def draw(key: Key) -> dict[str, Any]:
    """The parameters of one person's anatomy, JSON-able."""
    rng = key.numpy()
    size = 1 / rng.uniform((0.98, 0.98, 1.0), (1.12, 1.12, 1.13))  # of the average brain's
    person = {
        "wide_mm": float(rng.uniform(2.0, 5.0)),
        "narrow_mm": float(rng.uniform(1.0, 2.2)),
        "ventricles": float(rng.uniform(-0.25, 0.8)),
        "atrophy": float(rng.uniform(0, 1) ** 2),
        "fold_mm": float(rng.uniform(3.6, 5.2)),
        "sulcus_mm": float(rng.uniform(0.2, 0.8)),
        "cortex_mm": float(rng.uniform(1.7, 2.6)),
        "margin_mm": max(float(rng.uniform(-6, 2)), 0.0),
    }
    # the more space there is around a brain, the smaller it is
    return person | {"size": [float(v) for v in size / (1 + person["margin_mm"] / RADIUS_MM)]}


def tissue(
    atlas: Atlas, person: dict[str, Any], key: Key, box: Box, push_mm: Tensor | None = None
) -> Tensor:
    """Tissue fractions of one person.

    Args:
        atlas: The average brain.
        person: From `draw`.
        key: Deformation and folds.
        box: Grid, MNI mm.
        push_mm: Displacement by a tumour, `(3, I, J, K)`.

    Returns:
        CSF, grey, white: float32 `(3, I, J, K)`; sums to 1 inside the brain, 0 outside.
    """
    where = pulled_back(person, key, box, push_mm)
    folds = smooth_fields(key.fold("folds"), 1, box, person["fold_mm"])
    if push_mm is not None:
        folds = _displaced(folds, push_mm, box)
    fractions = _sample(atlas, where)
    inside = (fractions.sum(0) > 0.5).float()
    fractions = fractions / fractions.sum(0).clamp_min(1e-3)
    return _folded(fractions, inside, folds[0], person, where, box) * inside


def pulled_back(
    person: dict[str, Any], key: Key, box: Box, push_mm: Tensor | None = None
) -> Tensor:
    """Where in the atlas each voxel comes from, `(3, I, J, K)` in MNI mm; arguments of `tissue`."""
    coarse = box.coarse(max(4.0, box.spacing_mm))
    x = torch.stack(torch.broadcast_tensors(*coarse.axes_mm()))
    moved = torch.stack([x[a] / person["size"][a] for a in range(3)])
    moved += person["wide_mm"] * smooth_fields(key.fold("wide"), 3, coarse, 26.0)
    moved += person["narrow_mm"] * smooth_fields(key.fold("narrow"), 3, coarse, 9.0)
    centre = torch.tensor(VENTRICLES_MM).view(3, 1, 1, 1)
    away = moved - centre
    near = torch.exp(
        -0.5 * (away / torch.tensor([18.0, 30.0, 16.0]).view(3, 1, 1, 1)).square().sum(0)
    )
    shrink = 1 - near * person["ventricles"] / (1 + abs(person["ventricles"]))
    where = resample(centre + away * shrink, coarse, box)
    return where if push_mm is None else where - push_mm


def _sample(atlas: Atlas, where: Tensor) -> Tensor:
    """Read the atlas at MNI coordinates."""
    inverse = np.linalg.inv(atlas.affine)
    shape = atlas.fractions.shape[1:]
    grid = [((where[a] * inverse[a, a] + inverse[a, 3]) * 2 + 1) / shape[a] - 1 for a in (2, 1, 0)]
    return functional.grid_sample(
        torch.from_numpy(atlas.fractions)[None], torch.stack(grid, -1)[None], align_corners=False
    )[0]


def _displaced(field: Tensor, push_mm: Tensor, box: Box) -> Tensor:
    """A field carried along by a displacement."""
    axes = box.axes_mm()
    grid = [
        ((axes[a] - push_mm[a] - box.origin_mm[a]) / box.spacing_mm * 2 + 1) / box.shape[a] - 1
        for a in (2, 1, 0)
    ]
    return functional.grid_sample(
        field[None], torch.stack(grid, -1)[None], padding_mode="border", align_corners=False
    )[0]


def _folded(
    fractions: Tensor,
    inside: Tensor,
    folds: Tensor,
    person: dict[str, Any],
    where: Tensor,
    box: Box,
) -> Tensor:
    """Give the smooth average cortex the sulci of an individual.

    The zero sheets of a smooth random field run through the cortex like sulci: on the sheet is
    CSF, beside it a ribbon of grey matter as thick as a cortex.
    """
    coarse = box.coarse(max(3.0, box.spacing_mm))
    mask = resample(inside[None], box, coarse)
    depth = blur(mask, 12.0 / coarse.spacing_mm)
    deep = resample(((depth - 0.62) / 0.3).clamp(0, 1), coarse, box)[0]
    csf, grey, white = fractions
    csf = 0.25 * csf + 0.75 * torch.sigmoid(
        (csf - 0.5) * 10
    )  # one person's edges, not an average's
    ventricle = (csf * deep).clamp(0, 1)
    reach = (1 - deep) * (1 - 0.9 * ventricle) * (1 - _below(where))
    slope = 0.85 / person["fold_mm"]
    distance = folds.abs() / slope
    width = person["sulcus_mm"] * (0.6 + person["atrophy"])
    sulcus = torch.sigmoid((width - distance) / 0.35) * reach
    ribbon = torch.sigmoid((width + person["cortex_mm"] - distance) / 0.45) * reach
    sharp_white = torch.sigmoid((white - 0.75 * grey - csf) * 9)
    body = 1 - csf
    white = body * (0.35 * white + 0.65 * sharp_white * body) * (1 - ribbon)
    grey = (body - white).clamp_min(0)
    spill = sulcus * grey
    out = torch.stack([csf + spill, grey - spill, white])
    return out / out.sum(0).clamp_min(1e-3)


def _below(where: Tensor) -> Tensor:
    """1 in cerebellum and brain stem, which do not fold like the cortex; 0 above."""
    _, y, z = where
    return torch.sigmoid((-22 - z) / 3) * torch.sigmoid((-20 - y) / 4)
