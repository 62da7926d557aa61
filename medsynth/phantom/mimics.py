"""What is bright or dark in a brain and no tumour: vessels and venous sinuses, meninges and what a
skull-stripping tool leaves of the skull, choroid plexus, caps around the ventricles, spots that
come with age.

A network that has never seen them takes them for tumours. The label map names vessels, plexus
and meninges; the rest is painted into what it names.
"""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from medsynth.core.random import Key
from medsynth.phantom.anatomy import VENTRICLES_MM
from medsynth.phantom.fields import Box, blur, smooth_fields
from medsynth.phantom.signal import Protocol, Substance

T1C = 1
"""Index of the scan with contrast agent."""

Course = tuple[tuple[float, float, float], ...]

VEINS: dict[str, tuple[float, Course]] = {
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
    "inferior sagittal sinus": (1.1, ((0, 34, 22), (0, 12, 36), (0, -16, 36), (0, -42, 6))),
    "great cerebral vein": (2.2, ((0, -36, 8), (0, -46, 4))),
}
"""Radius in mm and course in MNI mm, drawn by hand along the average atlas: nobody's vessels."""

ARTERIES: dict[str, tuple[float, Course]] = {
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
"""The same of arteries."""

PLEXUS: dict[str, tuple[float, Course]] = {
    "right lateral": (
        2.6,
        ((5, 0, 14), (10, -14, 20), (16, -30, 18), (23, -42, 8), (28, -34, -6), (32, -20, -16)),
    ),
    "left lateral": (
        2.6,
        (
            (-5, 0, 14),
            (-10, -14, 20),
            (-16, -30, 18),
            (-23, -42, 8),
            (-28, -34, -6),
            (-32, -20, -16),
        ),
    ),
    "right glomus": (4.5, ((20, -38, 14), (23, -42, 8))),
    "left glomus": (4.5, ((-20, -38, 14), (-23, -42, 8))),
    "fourth": (2.0, ((-9, -40, -40), (0, -44, -34), (9, -40, -40))),
}
"""The same of choroid plexus, which lies in the ventricles alone."""

SLOW_FLOW = ((0.4, 1.3), (1.0, 2.4), (0.3, 1.0), (0.3, 1.0))
"""Factors, drawn by hand and whatever the sequence, by which flow changes what veins show on T1,
T1c, T2 and FLAIR: spin echoes lose signal, blood that flows into a gradient echo's slices gains
some: much in one person of ten, little in most."""

BENDS_MM = 2.5
"""How far, in standard deviations, a course strays."""

PIECE_MM = 10.0
"""A course is put into a person's brain in straight pieces no longer than this in the atlas."""


def add(
    signals: Tensor,
    fractions: Tensor,
    where: Tensor,
    sinuses: Tensor,
    of: Mapping[str, tuple[Substance, float]],
    protocol: Protocol,
    key: Key,
    box: Box,
) -> dict[str, Tensor]:
    """Mix them into the signals of a brain.

    Args:
        signals: T1, T1c, T2, FLAIR, `(4, I, J, K)`; changed in place.
        fractions: CSF, grey, white, `(3, I, J, K)`.
        where: Where in the atlas each voxel comes from, `(3, I, J, K)`, MNI mm.
        sinuses: Share of each voxel that `VEINS` have, `(I, J, K)`.
        of: Substances of the person.
        protocol: Turns substances into signals.
        key: How much of what, and where.
        box: The grid.

    Returns:
        Share of each voxel that each of `FINE` has, `(I, J, K)`.

    Source:
        Fluid in white matter: Fazekas et al., AJR 149(2), 1987.
    """
    rng = key.numpy()
    blood = torch.from_numpy(protocol.signals(*of["BLOOD"]))
    wet = torch.from_numpy(protocol.signals(*of["ED"]))
    # what streams has left before it is read out; the blood of veins is slow enough to be seen
    arteries = blood * torch.tensor([float(rng.uniform(0.2, 0.8)), 1, 0.35, 0.35])
    slow = Substance(of["BLOOD"][0].t1, float(rng.uniform(40, 130)), of["BLOOD"][0].density)
    veins = torch.from_numpy(protocol.signals(slow, of["BLOOD"][1]))
    flow = rng.random(4)
    flow[T1C] **= 3  # much in one person of ten
    veins *= torch.tensor(
        [low + (high - low) * f for (low, high), f in zip(SLOW_FLOW, flow.tolist(), strict=True)]
    )
    tuft = Substance(float(rng.uniform(1200, 1800)), float(rng.uniform(100, 220)), 0.85)
    villi = torch.from_numpy(protocol.signals(tuft, float(rng.uniform(0.7, 2))))
    csf, _, white = fractions
    inside = (fractions.sum(0) > 0.5).float()
    ventricles = csf * _middle(where)
    caps = 2.5 * blur(ventricles[None], 3.0 / box.spacing_mm)[0].clamp(0, 0.4) * white
    spots = smooth_fields(key.fold("spots"), 1, box, 2.6)[0]
    spots = torch.sigmoid((spots - float(rng.uniform(2.2, 5))) / 0.15) * white
    tufts = (smooth_fields(key.fold("tufts"), 1, box, 3.5)[0] > 1.3).float()
    plexus = torch.maximum(tubes(PLEXUS, where, key.fold("plexus"), box) * csf, tufts * ventricles)
    edge = inside * ((1 - blur(inside[None], 1.8 / box.spacing_mm)[0]) * 3 - 0.4).clamp(0, 1)
    bone, dura = smooth_fields(key.fold("rim"), 2, box, 9.0)
    bone = (bone - float(rng.uniform(-1.0, 1.5))).clamp(0, 1)
    dura = (dura - float(rng.uniform(-0.5, 1.5))).clamp(0, 1)
    _mix(signals, wet, 0.7 * float(rng.random()) ** 2 * caps)
    _mix(signals, wet, float(rng.uniform(0.3, 0.9)) * spots)
    plexus *= float(rng.uniform(0.3, 1))
    _mix(signals, villi, plexus)
    _mix(signals, 0.1 * blood, float(rng.uniform(0.5, 1)) * edge * bone)
    meninges = float(rng.uniform(0.3, 1)) * edge * dura
    _mix(signals, blood, meninges)
    small = small_vessels(csf, inside, key.fold("vessels"), box)
    fast = tubes(ARTERIES, where, key.fold("arteries"), box) * inside
    slow_ones = sinuses * inside
    _mix(signals, veins, small)
    _mix(signals, arteries, fast)
    _mix(signals, veins, slow_ones)
    vessels = 1 - (1 - small) * (1 - fast) * (1 - slow_ones)
    return {"VES": vessels, "PLX": plexus, "MEN": meninges}


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


def tubes(along: Mapping[str, tuple[float, Course]], where: Tensor, key: Key, box: Box) -> Tensor:
    """Share of a voxel inside of tubes, each with its own calibre and some bends.

    Args:
        along: Radius and course, mm in the atlas.
        where: Where in the atlas each voxel comes from, `(3, I, J, K)`, MNI mm.
        key: Calibres and bends.
        box: The grid.
    """
    rng = key.numpy()
    bends = BENDS_MM * smooth_fields(key.fold("bends"), 3, box, 14.0)
    x = torch.stack([a + b for a, b in zip(box.axes_mm(), bends, strict=True)])
    share = torch.zeros(box.shape)
    for radius, course in along.values():
        calibre, filled = radius * float(rng.uniform(0.5, 1.5)), float(rng.uniform(0.3, 1))
        for start, end in pairwise(_placed(course, where, box)):
            near = _around(start, end, calibre + 4 * BENDS_MM, box)
            away = _distance(x[(slice(None), *near)], start, end)
            tube = torch.sigmoid((calibre - away) / (0.35 * box.spacing_mm + 0.15))
            share[near] = torch.maximum(share[near], filled * tube)
    return share


def _placed(course: Course, where: Tensor, box: Box) -> Course:
    """A course of the atlas in the brain of a person."""
    points = [torch.tensor(course[0], dtype=torch.float32)]
    for start, end in pairwise(torch.tensor(course, dtype=torch.float32)):
        count = max(int(torch.ceil((end - start).norm() / PIECE_MM)), 1)
        points += [torch.lerp(start, end, n / count) for n in range(1, count + 1)]
    wanted = torch.stack(points)
    found = wanted.clone()
    for _ in range(20):  # where(found) = wanted, by fixed-point iteration
        found += 0.8 * (wanted - _at(found, where, box))
    return tuple((float(x), float(y), float(z)) for x, y, z in found)


def _at(points: Tensor, field: Tensor, box: Box) -> Tensor:
    """A field `(3, I, J, K)` at points `(N, 3)` in mm, interpolated linearly: `(N, 3)`."""
    last = torch.tensor(box.shape) - 1
    at = (points - torch.tensor(box.origin_mm, dtype=torch.float32)) / box.spacing_mm / last * 2 - 1
    read = functional.grid_sample(
        field[None], at.flip(-1).view(1, 1, 1, -1, 3), padding_mode="border", align_corners=True
    )
    return read[0, :, 0, 0].T


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


def _middle(where: Tensor) -> Tensor:
    """1 where the ventricles are, 0 at the surface of the brain."""
    away = (where - torch.tensor(VENTRICLES_MM).view(3, 1, 1, 1)) / torch.tensor(
        [34.0, 62.0, 34.0]
    ).view(3, 1, 1, 1)
    return torch.sigmoid((1 - away.square().sum(0)) / 0.1)
