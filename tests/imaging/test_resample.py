"""Resampling: places in the world stay, volumes stay, nothing is invented."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medsynth.cli import main
from medsynth.core.labels import BRAIN
from medsynth.core.volume import LabelMap, Volume
from medsynth.errors import UsageError
from medsynth.imaging.resample import resample, resample_labels
from medsynth.io import cohort as cohorts
from medsynth.io.nifti import read_labels, read_volume

AFFINE = np.array([[1.0, 0, 0, -30], [0, 1, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1]])


def _ramp() -> Volume:
    """A scan whose value is its place along x in mm, from the left of 100 mm on."""
    x = AFFINE[0, 0] * np.arange(60) + AFFINE[0, 3] + 100
    return Volume(np.broadcast_to(x[:, None, None], (1, 60, 40, 30)).astype(np.float32), AFFINE,
                  ("t1n",))  # fmt: skip


@pytest.mark.parametrize("spacing_mm", [4.0, 2.0])
def test_a_ramp_stays_where_it_was(spacing_mm: float) -> None:
    coarse = resample(_ramp(), spacing_mm)
    np.testing.assert_allclose(coarse.spacing_mm, spacing_mm)
    x = coarse.affine[0, 0] * np.arange(coarse.shape[0]) + coarse.affine[0, 3] + 100
    np.testing.assert_allclose(coarse.data[0, :, 3, 3], x, atol=1e-3)


@pytest.mark.parametrize("spacing_mm", [0.7, 2.0, 3.0])
def test_a_stripped_brain_keeps_its_brightness_to_the_rim_and_its_volume(
    spacing_mm: float,
) -> None:
    x, y, z = np.indices((60, 56, 30)) - np.array([29.3, 28.1, 14.6])[:, None, None, None]
    brain = (x**2 + y**2 + (2 * z) ** 2 < 25**2).astype(np.float32)
    brain[28:30, 27:30, 13:15] = 0  # a ventricle that a scan shows as 0 is no background
    scans = Volume(np.stack([500 * brain, 300 * brain]), AFFINE, ("t1n", "t2w"))
    moved = resample(scans, spacing_mm)
    there = ndimage.binary_fill_holes(moved.data[0] > 0)
    assert there.sum() * moved.voxel_mm3 == pytest.approx(brain.sum() * scans.voxel_mm3, rel=0.03)
    rim = there & ~ndimage.binary_erosion(there, iterations=2)
    np.testing.assert_allclose(moved.data[:, rim].T, [[500, 300]] * rim.sum(), rtol=1e-5)


def test_volumes_of_structures_stay() -> None:
    data = np.zeros((60, 40, 30), np.uint8)
    data[4:56, 4:36, 4:25] = BRAIN.value("WM")
    data[21:40, 10:30, 8:20] = BRAIN.value("ET")
    labels = LabelMap(data, AFFINE, BRAIN)
    coarse = resample_labels(labels, 2.0)
    for name in ("WM", "ET"):
        assert coarse.volume_mm3(name) == pytest.approx(labels.volume_mm3(name), rel=0.06)


@pytest.mark.parametrize("spacing_mm", [0.1, 20.0])
def test_absurd_voxels(spacing_mm: float) -> None:
    with pytest.raises(UsageError, match="a spacing from"):
        resample(_ramp(), spacing_mm)


def test_a_cohort_remembers_where_it_comes_from(phantoms: Path, tmp_path: Path) -> None:
    out = tmp_path / "coarse"
    command = ["resample", str(phantoms), "-o", str(out), "--spacing-mm", "6"]
    assert main(command) == 0
    before, after = cohorts.read(phantoms), cohorts.read(out)
    assert [c.name for c in after] == [c.name for c in before]
    assert len(after.part("test")) == 1
    case = after.cases[0]
    assert read_volume(case.images).shape == read_labels(case.brain or Path(), BRAIN).shape
    story = json.loads((out / case.name / f"{case.name}.json").read_text())
    assert len(story["ancestors"]) == 2
    stamp = {p: p.stat().st_mtime_ns for p in out.rglob("*.nii.gz")}
    assert main(command) == 0
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.nii.gz")} == stamp
    assert main([*command[:-1], "5"]) == 1  # another spacing into the same folder
