"""Brightness per structure against numbers known by construction."""

import numpy as np
import pytest

from medsynth.core.labels import BRAIN
from medsynth.core.volume import LabelMap, Volume
from medsynth.errors import GeometryError
from medsynth.evaluation.contrast import compare


def test_means_of_structures() -> None:
    data = np.zeros((6, 6, 6), np.uint8)
    data[:3], data[3:5], data[5, 5, :2] = 2, 3, 6  # two voxels of ET are too few
    labels = LabelMap(data, np.eye(4), BRAIN)
    reference = Volume(0.1 * data[None].astype(np.float32), np.eye(4), ("t1n",))
    generated = Volume(reference.data + 0.05, np.eye(4), ("t1n",))
    rows = {row.structure: row for row in compare(generated, reference, labels)}
    assert set(rows) == {"GM", "WM"}
    assert rows["WM"].reference == pytest.approx(0.3)
    assert rows["WM"].gap == pytest.approx(0.05)
    assert rows["GM"].voxels == 108
    with pytest.raises(GeometryError):
        compare(Volume(generated.data[:, :5], np.eye(4), ("t1n",)), reference, labels)
