"""Resampling: places in the world stay, volumes stay, nothing is invented."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medsynth.cli import main
from medsynth.core.cohort import Cohort
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


def _ball(radius: float) -> np.ndarray:
    """About the middle of the grid, mm."""
    x, y, z = np.indices((60, 56, 30)) - np.array([29.3, 28.1, 14.6])[:, None, None, None]
    return x**2 + y**2 + (2 * z) ** 2 < radius**2


@pytest.mark.parametrize("spacing_mm", [0.7, 2.0, 3.0])
def test_a_stripped_brain_keeps_its_brightness_to_the_rim_and_its_volume(
    spacing_mm: float,
) -> None:
    """Whether it is stripped tighter on one scan, and whatever ringing is around it."""
    brain, tighter, air = _ball(25), _ball(24), ~_ball(27)
    halo = -40.0 * ~(brain | air)
    scans = Volume(np.stack([500 * brain + halo, 300 * tighter]).astype(np.float32), AFFINE,
                   ("t1n", "t2w"))  # fmt: skip
    moved = resample(scans, spacing_mm)
    for scan, mask, value in zip(moved.data, (brain, tighter), (500, 300), strict=True):
        np.testing.assert_allclose(scan[scan > 0], value, rtol=1e-4)
        if value == 500:
            volume = (scan > 0).sum() * moved.voxel_mm3
            assert volume == pytest.approx(mask.sum() * scans.voxel_mm3, rel=0.03)


def test_what_is_0_within_a_brain_is_brain() -> None:
    brain = 500.0 * _ball(25)
    brain[28:31, 26:29, 13:16] = 0
    scans = Volume(brain[None].astype(np.float32), AFFINE, ("t2f",))
    coarse = resample(scans, 4.0).data[0]
    inside = resample(Volume(500.0 * _ball(20)[None].astype(np.float32), AFFINE, ("t2f",)), 4.0)
    inside = ndimage.binary_erosion(inside.data[0] > 0)
    assert coarse[inside].sum() == pytest.approx(500 * inside.sum() - 500 * 27 * 2 / 64, rel=1e-5)
    assert coarse[inside].min() < 400


def test_what_a_label_map_names_is_shown_and_nearly_all_that_is_shown_is_named() -> None:
    rng = np.random.default_rng(0)
    brain = _ball(25)
    labels = LabelMap((brain * rng.integers(1, 4, brain.shape)).astype(np.uint8), AFFINE, BRAIN)
    scans = Volume(100 * brain[None].astype(np.float32), AFFINE, ("t1n",))
    named, shown = resample_labels(labels, 4.0).data > 0, resample(scans, 4.0).data[0] > 0
    assert not (named & ~shown).any()
    assert (shown & ~named).sum() < 0.04 * shown.sum()  # where half of a voxel is brain


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medsynth.imaging.resample.REVISION", 99)
        assert main(command) == 1  # and another version's scans


@pytest.mark.parametrize("told", [True, False])
def test_only_what_is_missing_is_made_again(told: bool, phantoms: Path, tmp_path: Path) -> None:
    """Also of cases that have fewer scans than their sidecars tell, and of those without one."""
    shutil.copytree(phantoms, tmp_path / "own")
    for sidecar in () if told else (tmp_path / "own").glob("*/*.json"):
        sidecar.unlink()
    whole = cohorts.read(tmp_path / "own")
    pairs = (replace(c, images={m: c.images[m] for m in ("t1c", "t2w")}) for c in whole)
    cohorts.write(tmp_path / "pairs.json", Cohort(whole.scheme, tuple(pairs)))
    out = tmp_path / "out"
    command = ["resample", str(tmp_path / "pairs.json"), "--spacing-mm", "5", "-o", str(out)]
    assert main(command) == 0
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/*.nii.gz")}
    assert len(before) == 4 * len(whole)
    gone = next(out.glob("*/*-t2w.nii.gz"))
    gone.unlink()
    assert main(command) == 0
    again = {p.parent for p, t in before.items() if p.stat().st_mtime_ns != t}
    assert again == {gone.parent}
