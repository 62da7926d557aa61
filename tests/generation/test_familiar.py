"""Label maps outside of what a model knows: found by kind, said once a kind, before running."""

from pathlib import Path

import numpy as np
import pytest

from medsynth.cli import main
from medsynth.core.labels import BRAIN
from medsynth.core.volume import LabelMap
from medsynth.generation.familiar import Odd, oddities, unlikeness
from medsynth.io.nifti import read_labels, write_labels

MM = ((1, 1, 1), (1, 1, 1))


def _brain(*edges_mm: float, without: str = "", core: str | None = None) -> LabelMap:
    """A million voxels within a margin of background of one: a quarter each of the three
    tissues, the last quarter white matter or another structure."""
    data = np.repeat(np.array([1, 2, 3, BRAIN.value(core or "WM")], np.uint8), 25)
    data = np.broadcast_to(data[:, None, None], (100, 100, 100)).copy()
    if without:
        data[data == BRAIN.value(without)] = BRAIN.value("WM")
    data = np.pad(data, 1)
    return LabelMap(data, np.diag([*(edges_mm or (1, 1, 1)), 1.0]), BRAIN)


def test_a_brain_like_those_of_training_is_not_odd() -> None:
    assert oddities(_brain(), MM) == []
    assert oddities(_brain(core="RC"), ((1, 1, 1), (1, 1, 1.01)), unseen=("ET",)) == []
    assert oddities(_brain(1.2, 1.2, 1.2), None) == []  # a model that does not say


def test_each_oddity_is_found() -> None:
    assert oddities(_brain(0.8, 0.8, 0.8), MM) == [
        Odd("unlike", (0.8, 0.8, 0.8)), Odd("small", (pytest.approx(512),)),
    ]  # fmt: skip
    assert oddities(_brain(1, 1, 5), MM) == [
        Odd("far", (1, 1, 5)), Odd("large", (pytest.approx(5000),)),
    ]  # fmt: skip
    assert oddities(_brain(without="CSF"), MM) == [Odd("lacking", ("CSF",))]
    grey = _brain()  # no white matter: that it has less of it than fluid goes without saying
    grey = grey.with_data(np.where(grey.mask("WM"), BRAIN.value("GM"), grey.data))
    assert oddities(grey, MM) == [Odd("lacking", ("WM",))]
    whole = _brain()
    half = LabelMap(whole.data[:, 10:-10, :80], whole.affine, BRAIN)
    assert oddities(half, MM)[-1] == Odd("cut", ("posterior", "anterior", "superior"))
    tall = np.diag([0.6, 0.6, 5, 1.0])
    assert oddities(LabelMap(whole.data[:, :, 1:], tall, BRAIN), None) == []  # 36 cm² at the foot
    aside = LabelMap(whole.data[1:], tall, BRAIN)  # 300 cm²
    assert oddities(aside, None) == [Odd("cut", ("left",))]
    assert oddities(_brain(core="RC"), None, ("RC", "ET")) == [Odd("unseen", ("RC",))]
    order = np.arange(256, dtype=np.uint8)
    order[[1, 2, 3]] = 2, 3, 1  # 1 grey matter, 2 white matter, 3 fluid: half is white matter
    turned = whole.with_data(order[whole.data])
    assert oddities(turned, MM) == [Odd("fluid", (pytest.approx(500),))]


def test_turned_voxels_are_the_same_voxels() -> None:
    assert unlikeness((1, 1, 5), *2 * [(5, 1, 1)]) == 1
    assert unlikeness((1, 1, 1), *2 * [(1, 1, 2)]) == unlikeness((1, 1, 2), *MM) == 2


def test_a_range_of_voxels_is_known_in_between_too() -> None:
    known = (1, 1, 1), (2, 2, 3)
    assert unlikeness((1.5, 1, 2.9), *known) == 1
    assert unlikeness((1, 1, 0.5), *known) == 2
    assert unlikeness((2, 2, 6), *known) == 2
    assert [odd.kind for odd in oddities(_brain(1.1, 1.1, 1.1), known)] == []
    assert [odd.kind for odd in oddities(_brain(1, 1, 2), ((1, 1, 1), (1, 1, 1.9)))] == ["unlike"]


def test_generate_warns_once_of_each_kind(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brains = [read_labels(path, BRAIN) for path in sorted(phantoms.glob("*/*-brain.nii.gz"))]
    for name, labels, was, becomes in (
        ("one", brains[0], ("CSF",), "GM"),
        ("two", brains[1], ("CSF",), "GM"),
        ("three", brains[2], ("NCR", "ED", "ET"), "RC"),
        ("four", brains[3], (), "BG"),
    ):
        data = labels.data.copy()
        for structure in was:
            data[labels.mask(structure)] = BRAIN.value(becomes)
        write_labels(tmp_path / f"maps/{name}-brain.nii.gz", labels.with_data(data))
    command = ["generate", str(trained), str(tmp_path / "maps"), "-o", str(tmp_path / "s")]
    assert main([*command, "--per-case", "2"]) == 0
    text = capsys.readouterr().err
    assert "warning: 2 of 4 label maps lack tissue (CSF; one for one)" in text
    assert "warning: 1 of 4 label maps have structures that the model has never seen (RC" in text
    assert "warning: 4 of 4 label maps have no sidecar that says whose brain it is (four" in text
    assert text.count("warning") == 3
    assert main([*command, "--per-case", "2"]) == 0  # all is there
    assert "warning" not in capsys.readouterr().err


def test_an_animal_is_refused_as_one(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = read_labels(next(phantoms.glob("*-00003-000/*-brain.nii.gz")), BRAIN)
    dog = LabelMap(labels.data, labels.affine @ np.diag([0.4, 0.4, 0.4, 1]), BRAIN)
    write_labels(tmp_path / "dog.nii.gz", dog)
    command = ["generate", str(trained), str(tmp_path / "dog.nii.gz"), "-o", str(tmp_path / "s")]
    assert main(command) == 1
    text = capsys.readouterr().err
    assert "a brain that is not a person's" in text
    assert "check the voxels in its header, 1.6 × 1.6 × 1.6 mm" in text
    assert text.count("warning") == text.count("no sidecar") == 1  # of its size nothing is warned
    assert "0 scans; 1 failed" in text
    assert not (tmp_path / "s/cohort.json").exists()  # a cohort of nothing helps nobody
