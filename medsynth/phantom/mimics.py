"""What is bright or dark in a brain and no tumour: vessels and venous sinuses, meninges and what a
skull-stripping tool leaves of the skull, choroid plexus, caps around the ventricles, spots that
come with age.

No label names them. A network that has never seen them takes them for tumours.
"""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from medsynth.core.random import Key
from medsynth.phantom.anatomy import VENTRICLES_MM
from medsynth.phantom.fields import Box, blur, smooth_fields
from medsynth.phantom.signal import Protocol, Substance

T1C = 1
"""Index of the scan with contrast agent."""

Course = tuple[tuple[float, float, float], ...]

LARGE_VESSELS: dict[str, tuple[float, Course]] = {
    "superior sagittal sinus": (
        3.2,
        ((0, 66, 30), (0, 40, 58), (0, 0, 74), (0, -40, 70), (0, -80, 42), (0, -102, 2)),
    ),
    "straight sinus": (2.4, ((0, -42, 6), (0, -62, -2), (0, -92, -12))),
    "right internal cerebral vein": (1.3, ((3, 2, 14), (2, -20, 16), (0, -42, 6))),
    "left internal cerebral vein": (1.3, ((-3, 2, 14), (-2, -20, 16), (0, -42, 6))),
    "right transverse sinus": (
        3.0,
        ((0, -96, -12), (30, -88, -18), (52, -66, -24), (54, -46, -36)),
    ),
    "left transverse sinus": (
        3.0,
        ((0, -96, -12), (-30, -88, -18), (-52, -66, -24), (-54, -46, -36)),
    ),
    "right middle cerebral artery": (
        1.8,
        ((9, 4, -26), (14, 6, -18), (30, 6, -16), (44, 0, -4), (48, -18, 6)),
    ),
    "left middle cerebral artery": (
        1.8,
        ((-9, 4, -26), (-14, 6, -18), (-30, 6, -16), (-44, 0, -4), (-48, -18, 6)),
    ),
    "anterior cerebral arteries": (1.5, ((0, 30, -18), (0, 44, 0), (0, 36, 24), (0, 12, 32))),
    "basilar artery": (1.8, ((0, -26, -50), (0, -20, -34), (0, -16, -22))),
}
"""Radius in mm and course in MNI mm, drawn by hand along the average atlas: nobody's vessels."""

BENDS_MM = 2.5
"""How far, in standard deviations, a course strays."""


def add(
    signals: Tensor,
    fractions: Tensor,
    of: Mapping[str, tuple[Substance, float]],
    protocol: Protocol,
    key: Key,
    box: Box,
) -> None:
    """Mix them into the signals of a brain.

    Args:
        signals: T1, T1c, T2, FLAIR, `(4, I, J, K)`; changed in place.
        fractions: CSF, grey, white, `(3, I, J, K)`.
        of: Substances of the person.
        protocol: Turns substances into signals.
        key: How much of what, and where.
        box: The grid.

    Source:
        Fluid in white matter: Fazekas et al., AJR 149(2), 1987.
    """
    rng = key.numpy()
    blood = torch.from_numpy(protocol.signals(*of["BLOOD"]))
    wet = torch.from_numpy(protocol.signals(*of["ED"]))
    flowing = torch.where(torch.arange(4) == T1C, blood, 0.35 * blood)
    csf, _, white = fractions
    inside = (fractions.sum(0) > 0.5).float()
    ventricles = csf * _middle(box)
    caps = 2.5 * blur(ventricles[None], 3.0 / box.spacing_mm)[0].clamp(0, 0.4) * white
    spots = smooth_fields(key.fold("spots"), 1, box, 2.6)[0]
    spots = torch.sigmoid((spots - float(rng.uniform(2.2, 5))) / 0.15) * white
    plexus = (smooth_fields(key.fold("plexus"), 1, box, 3.5)[0] > 1.3) * ventricles
    edge = inside * ((1 - blur(inside[None], 1.8 / box.spacing_mm)[0]) * 3 - 0.4).clamp(0, 1)
    bone, dura = smooth_fields(key.fold("rim"), 2, box, 9.0)
    bone = (bone - float(rng.uniform(-1.5, 1.0))).clamp(0, 1)
    dura = (dura - float(rng.uniform(-0.5, 1.5))).clamp(0, 1)
    _mix(signals, wet, 0.7 * float(rng.random()) ** 2 * caps)
    _mix(signals, wet, float(rng.uniform(0.3, 0.9)) * spots)
    _mix(signals, blood, float(rng.uniform(0.3, 1)) * plexus)
    _mix(signals, 0.1 * blood, float(rng.uniform(0.5, 1)) * edge * bone)
    _mix(signals, blood, float(rng.uniform(0.3, 1)) * edge * dura)
    _mix(signals, flowing, small_vessels(csf, inside, key.fold("vessels"), box))
    _mix(signals, flowing, large_vessels(key.fold("sinuses"), box) * inside)


def _mix(signals: Tensor, with_: Tensor, share: Tensor) -> None:
    for signal, value in zip(signals, with_, strict=True):
        signal.lerp_(value, share)


def small_vessels(csf: Tensor, inside: Tensor, key: Key, box: Box) -> Tensor:
    """Tubes where two smooth fields vanish together, most of them near CSF."""
    rng = key.fold("size").numpy()
    pair = smooth_fields(key, 2, box, 6.0)
    width = float(rng.uniform(0.07, 0.22)) * max(1.0, box.spacing_mm / 1.5)
    tube = torch.exp(-pair.square().sum(0) / width**2)
    near = (0.15 + 0.85 * blur(csf[None], 1.5 / box.spacing_mm)[0]).clamp(0, 1)
    return float(rng.uniform(0.5, 1)) * tube * inside * near


def large_vessels(key: Key, box: Box) -> Tensor:
    """Share of a voxel inside of `LARGE_VESSELS`, each with its own calibre and some bends."""
    rng = key.numpy()
    bends = BENDS_MM * smooth_fields(key.fold("bends"), 3, box, 14.0)
    x = torch.stack([a + b for a, b in zip(box.axes_mm(), bends, strict=True)])
    share = torch.zeros(box.shape)
    for radius, course in LARGE_VESSELS.values():
        calibre, filled = radius * float(rng.uniform(0.5, 1.5)), float(rng.uniform(0.3, 1))
        for start, end in pairwise(course):
            near = _around(start, end, calibre + 4 * BENDS_MM, box)
            away = _distance(x[(slice(None), *near)], start, end)
            tube = torch.sigmoid((calibre - away) / (0.35 * box.spacing_mm + 0.15))
            share[near] = torch.maximum(share[near], filled * tube)
    return share


def _around(
    start: tuple[float, float, float], end: tuple[float, float, float], margin_mm: float, box: Box
) -> tuple[slice, ...]:
    """The voxels of a straight piece and its neighbourhood."""
    return tuple(
        slice(
            max(int((min(a, b) - margin_mm - o) / box.spacing_mm), 0),
            max(int((max(a, b) + margin_mm - o) / box.spacing_mm) + 1, 0),
        )
        for a, b, o in zip(start, end, box.origin_mm, strict=True)
    )


def _distance(
    x: Tensor, start: tuple[float, float, float], end: tuple[float, float, float]
) -> Tensor:
    """From points `(3, I, J, K)` to a straight piece, mm."""
    a, b = (torch.tensor(p, dtype=torch.float32).view(3, 1, 1, 1) for p in (start, end))
    along = (((x - a) * (b - a)).sum(0) / (b - a).square().sum()).clamp(0, 1)
    return (x - a - along * (b - a)).square().sum(0).sqrt()


def _middle(box: Box) -> Tensor:
    """1 where the ventricles are, 0 at the surface of the brain."""
    x = torch.stack(torch.broadcast_tensors(*box.axes_mm()))
    away = (x - torch.tensor(VENTRICLES_MM).view(3, 1, 1, 1)) / torch.tensor(
        [34.0, 62.0, 34.0]
    ).view(3, 1, 1, 1)
    return torch.sigmoid((1 - away.square().sum(0)) / 0.1)
