"""A brain of simple shapes: volumes can be worked out by hand."""

import numpy as np
import pytest

from medsynth.core.labels import BRAIN
from medsynth.core.volume import LabelMap


def brain(
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    *,
    centre_mm: tuple[float, float, float] = (28, 5, 4),
    radius_mm: float = 14,
    tumour: bool = True,
) -> LabelMap:
    """An ellipsoid with a cortex, a core of white matter, two ventricles, and a round tumour:
    necrosis inside enhancing rim inside oedema."""
    spacing = np.array(spacing_mm)
    shape = np.ceil(np.array([150, 180, 140]) / spacing).astype(int)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(shape - 1) * spacing / 2
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    mm = grid * spacing + affine[:3, 3]
    depth = np.sqrt(((mm / [66, 82, 62]) ** 2).sum(-1))
    data = np.zeros(shape, np.uint8)
    data[depth < 1] = BRAIN.value("CSF")
    data[depth < 0.96] = BRAIN.value("GM")
    data[depth < 0.84] = BRAIN.value("WM")
    for side in (-10, 10):
        data[np.linalg.norm((mm - [side, -5, 8]) / [5, 20, 7], axis=-1) < 1] = BRAIN.value("CSF")
    if tumour:
        away = np.linalg.norm(mm - centre_mm, axis=-1)
        data[(away < radius_mm) & (data > 0)] = BRAIN.value("ED")
        data[(away < 0.7 * radius_mm) & (data > 0)] = BRAIN.value("ET")
        data[(away < 0.4 * radius_mm) & (data > 0)] = BRAIN.value("NCR")
    return LabelMap(data, affine, BRAIN)


@pytest.fixture(scope="session")
def sick() -> LabelMap:
    return brain()


@pytest.fixture(scope="session")
def healthy() -> LabelMap:
    return brain((2.5, 2.0, 3.0), tumour=False)
