"""How far a label map is from those that a model was trained on, before anything is made of it.

Knows values and numbers; what to say about them is the command's, and what is no brain at all is
refused by `core.volume.require_brain`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from medsynth.core.labels import TISSUE
from medsynth.core.volume import LabelMap
from medsynth.imaging.style import MIN_VOXELS

HUMAN_ML = (700, 2000)
"""Brains with their cerebrospinal fluid, from small children to the largest adults. Half a
litre and less are newborns and animals; more is not skull-stripped, or has other voxels than its
header says."""

FAR = 1.5
"""Voxels whose edges differ by more than this factor are not just less sharp: what the model
learnt about thickness and texture is about other things."""

ALIKE = 1.02
"""Up to this factor voxels count as the same."""

CUT_MM2 = 4000.0
"""A face of the grid with more brain than this has cut off about a centimetre. Whole brains in a
grid cropped to them touch it with less, and so does what BraTS's field of view cuts at the foot."""

FACES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
"""Names of the first and the last slice along each axis, RAS."""


class Odd(NamedTuple):
    """One thing that a model does not know.

    Args:
        kind: `far` and `unlike` (voxels), `small` and `large` (brain), `cut` (by the grid's edge),
            `lacking` (tissue), `fluid` (more than white matter), `unseen` (structures).
        found: The voxels in mm, the brain or its fluid in ml, or the names of the sides or
            structures.
    """

    kind: str
    found: tuple[float, ...] | tuple[str, ...]


def oddities(
    labels: LabelMap,
    known_mm: tuple[Sequence[float], Sequence[float]] | None,
    unseen: Sequence[str] = (),
) -> list[Odd]:
    """What about a label map is outside of what a model knows.

    Args:
        labels: A map in the *brain* scheme.
        known_mm: Smallest and largest voxels that the model was trained on; None when it does not
            say.
        unseen: Structures that none of its training cases had `MIN_VOXELS` of; who has fewer
            lacks no more than they did.

    Returns:
        At most one of each kind; nothing for a map like those that the model was trained on.
    """
    odd = []
    if known_mm is not None:
        factor = unlikeness(labels.spacing_mm, *known_mm)
        if factor > ALIKE:
            odd.append(Odd("far" if factor > FAR else "unlike", labels.spacing_mm))
    voxels = np.bincount(labels.data.reshape(-1), minlength=256)
    of = {x.abbreviation: voxels[x.value] for x in labels.scheme.labels[1:]}
    present = [name for name, count in of.items() if count]
    volume_ml = float(voxels[1:].sum()) * labels.voxel_mm3 / 1000
    if volume_ml < HUMAN_ML[0]:
        odd.append(Odd("small", (volume_ml,)))
    elif volume_ml > HUMAN_ML[1]:
        odd.append(Odd("large", (volume_ml,)))
    if of["CSF"] > of["WM"] > 0:
        odd.append(Odd("fluid", (float(of["CSF"]) * labels.voxel_mm3 / 1000,)))
    for kind, names in (
        ("cut", tuple(_cut(labels))),
        ("lacking", tuple(name for name in TISSUE if name not in present)),
        ("unseen", tuple(name for name in present if name in unseen and of[name] >= MIN_VOXELS)),
    ):
        if names:
            odd.append(Odd(kind, names))
    return odd


def _cut(labels: LabelMap) -> Iterator[str]:
    """Names of the faces of the grid on which more than `CUT_MM2` of brain lies."""
    brain = labels.data > 0
    for axis, names in enumerate(FACES):
        voxel_mm2 = labels.voxel_mm3 / labels.spacing_mm[axis]
        for name, index in zip(names, (0, -1), strict=True):
            if brain.take(index, axis).sum() * voxel_mm2 > CUT_MM2:
                yield name


def unlikeness(
    spacing_mm: Sequence[float], low_mm: Sequence[float], high_mm: Sequence[float]
) -> float:
    """The largest factor by which an edge of a voxel lies outside of a range of voxels, at least 1.

    Edges are compared in the order of their lengths: a turned voxel is the same voxel.
    """
    edges, low, high = np.sort(spacing_mm), np.sort(low_mm), np.sort(high_mm)
    return float(np.maximum(low / edges, edges / high).max(initial=1.0))
