"""Tissue without training: right on phantoms, plausible on real scans, careful with skulls."""

from pathlib import Path

import numpy as np
import pytest

from medsynth.core.labels import scheme
from medsynth.core.random import Key
from medsynth.core.volume import LabelMap, Volume
from medsynth.errors import DataError
from medsynth.imaging.tissue import segment
from medsynth.io.nifti import read_labels, read_volume
from medsynth.phantom import Phantom, make


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make(Key(11), spacing_mm=2.0)


def _tumour(labels: LabelMap) -> LabelMap:
    return labels.to_scheme(scheme("brats2024-gli"))


def test_phantom_tissue_is_found_and_the_tumour_kept(phantom: Phantom) -> None:
    found = segment(phantom.scans, _tumour(phantom.labels))
    truth = phantom.labels.without_fine()
    sick = truth.mask("lesion")
    assert (found.data[sick] == truth.data[sick]).all()
    for name, least in (("GM", 0.75), ("WM", 0.8), ("CSF", 0.5)):
        one, two = found.mask(name), truth.mask(name)
        assert 2 * (one & two).sum() / (one.sum() + two.sum()) > least, name


def test_the_same_scans_give_the_same_labels(phantom: Phantom) -> None:
    one, two = (segment(phantom.scans, _tumour(phantom.labels)) for _ in range(2))
    assert (one.data == two.data).all()


def test_a_head_with_its_skull_is_refused() -> None:
    head = np.random.default_rng(0).random((1, 40, 40, 40)).astype(np.float32) + 0.1
    with pytest.raises(DataError, match="HD-BET"):
        segment(Volume(head, np.eye(4), ("t1n",)))
    with pytest.raises(DataError, match="a T1 scan"):
        segment(Volume(head, np.eye(4), ("t2w",)))
    with pytest.raises(DataError, match="no positive voxel"):
        segment(Volume(head * 0, np.eye(4), ("t1n",)))


@pytest.mark.real
def test_real_tissue_is_plausible(real_data: Path) -> None:
    glioma = real_data / "brats2021" / "BraTS2021_01481"
    ms = real_data / "open_ms" / "patient19"
    cases = [
        (
            {m: glioma / f"{glioma.name}_{s}.nii.gz" for m, s in (("t1n", "t1"), ("t2w", "t2"))},
            read_labels(glioma / f"{glioma.name}_seg.nii.gz", scheme("brats2021")),
        ),
        ({"t1n": ms / "T1.nii.gz", "t2w": ms / "T2.nii.gz"}, None),
    ]
    for files, tumour in cases:
        scans = read_volume(files)
        labels = segment(scans, tumour)
        brain = labels.volume_mm3("brain")
        share = {name: labels.volume_mm3(name) / brain for name in ("CSF", "GM", "WM")}
        assert 0.05 < share["CSF"] < 0.3
        assert 0.3 < share["GM"] < 0.6
        assert 0.25 < share["WM"] < 0.5
        t1 = scans.channel("t1n")
        means = [t1[labels.mask(name)].mean() for name in ("CSF", "GM", "WM")]
        assert means == sorted(means)
        half = labels.data.shape[0] // 2
        left, right = (labels.mask("WM")[part].sum() for part in (slice(half), slice(half, None)))
        assert 0.6 < left / right < 1.7
