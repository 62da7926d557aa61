"""Model files: half the bytes, nothing of the machine, voxels of several sizes, old files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from medsynth.build import image as build
from medsynth.cli import main
from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.errors import ModelError
from medsynth.imaging import load
from medsynth.imaging.synthesizer import halve
from medsynth.io import cohort as cohorts
from medsynth.io.nifti import read_labels
from medsynth.training.weights import load_model, save_model
from tests.conftest import small_config
from tools import make_box


def test_fp16_in_the_file_hardly_changes_what_is_made(
    trained: Path, phantoms: Path, tmp_path: Path
) -> None:
    file = tmp_path / "half.safetensors"
    build.export(trained, file, recipe="abc")
    labels = read_labels(next(phantoms.glob("*-00000-000/*-brain.nii.gz")), BRAIN)
    whole, half = (load(model, precision="fp32") for model in (trained, file))
    assert {p.dtype for p in half.generator.parameters()} == {torch.float32}
    one, two = (model.generate(labels, Key(0)).data for model in (whole, half))
    assert np.abs(one - two).max() < 1e-2 * np.ptp(one)
    tensors, metadata, _ = load_model(file)
    weights = {k: v for k, v in tensors.items() if k.startswith("generator.")}
    assert {v.dtype for v in weights.values()} == {torch.float16}
    assert file.stat().st_size < 0.8 * (trained / "model.safetensors").stat().st_size
    assert metadata["recipe"] == "abc"
    assert "cohort: cohort.json\n" in metadata["config"]
    assert "cache: null" in metadata["config"]
    assert str(phantoms.parents[1]) not in json.dumps(metadata)


def test_weights_beyond_fp16_are_refused(trained: Path, tmp_path: Path) -> None:
    tensors, metadata, _ = load_model(trained / "model.safetensors")
    tensors["generator.net.out.weight"] *= 1e9
    save_model(tmp_path / "large.safetensors", tensors, metadata)
    with pytest.raises(ModelError, match=r"fp16 can hold.*net\.out"):
        halve(tmp_path / "large.safetensors", tmp_path / "half.safetensors")
    assert not (tmp_path / "half.safetensors").exists()


def test_a_model_can_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    """On a cluster one trains and others generate."""
    before = os.umask(0o027)
    try:
        save_model(tmp_path / "model.safetensors", {"a": torch.ones(2)}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o640


def test_models_of_another_version_are_refused_and_foreign_files_not_called_that(
    trained: Path, tmp_path: Path
) -> None:
    tensors, metadata, _ = load_model(trained / "model.safetensors")
    save_model(tmp_path / "old.safetensors", tensors, metadata | {"format": "medsynth-image/1"})
    with pytest.raises(ModelError, match=r"medsynth-image/1.*train again"):
        load(tmp_path / "old.safetensors")
    save_model(tmp_path / "rows.safetensors", {}, {"format": "medsynth-records/1"})
    with pytest.raises(ModelError, match="medsynth-records/1") as refused:
        load(tmp_path / "rows.safetensors")
    assert "another version" not in str(refused.value)


def test_old_files_know_one_size_of_voxels(trained: Path, tmp_path: Path) -> None:
    tensors, metadata, _ = load_model(trained / "model.safetensors")
    del metadata["range_mm"]
    save_model(tmp_path / "old.safetensors", tensors, metadata)
    old = load(tmp_path / "old.safetensors")
    assert old.range_mm is None
    assert old.known_mm == ((4, 4, 4), (4, 4, 4))


def test_a_cohort_of_two_sizes(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cases from two folders in one listing; the model knows the range of their voxels."""
    assert main(["phantom", str(tmp_path / "5mm"), "--cases", "1", "--spacing-mm", "5"]) == 0
    both = {"4mm": cohorts.read(phantoms), "5mm": cohorts.read(tmp_path / "5mm")}
    cohorts.write(tmp_path / "cohort.json", make_box.joined(both))
    config = small_config(tmp_path, tmp_path, steps=2)
    assert main(["train", str(config), "--out", str(tmp_path / "run")]) == 0
    model = load(tmp_path / "run")
    assert model.range_mm == ((4, 4, 4), (5, 5, 5))
    assert model.known_mm == model.range_mm
    brain = next(phantoms.glob("*-00000-000/*-brain.nii.gz"))
    assert main(["resample", str(phantoms), "-o", str(tmp_path / "r"), "--spacing-mm", "3"]) == 0
    capsys.readouterr()
    fine = next((tmp_path / "r").glob("*-00000-000/*-brain.nii.gz"))
    for path, warned in ((brain, False), (fine, True)):
        out = tmp_path / f"made-{warned}"
        assert main(["generate", str(tmp_path / "run"), str(path), "-o", str(out)]) == 0
        words = capsys.readouterr().err
        assert ("not 4 × 4 × 4 mm to 5 × 5 × 5 mm" in words) == warned, words
