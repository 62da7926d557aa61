"""Model files: half the bytes, nothing of the machine, voxels of several sizes, old files."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medsynth.build import image as build
from medsynth.cli import main
from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.core.volume import Volume
from medsynth.errors import ModelError
from medsynth.imaging import load
from medsynth.imaging.intensity import UNITS
from medsynth.imaging.synthesizer import STRETCH, _in_style, halve
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


def test_what_is_made_has_the_means_and_spreads_that_were_asked_for(
    trained: Path, phantoms: Path
) -> None:
    """After six steps of training, too, and in thin structures; background stays 0."""
    labels = read_labels(next(phantoms.glob("*-00000-000/*-brain.nii.gz")), BRAIN)
    model = load(trained, precision="fp32")
    assert model.prior is not None
    asked = model.prior.draw(Key(3))
    made = model.generate(labels, Key(0), asked)
    assert not made.data[:, labels.data == 0].any()
    for index, name in enumerate(BRAIN.abbreviations[1:], 1):
        where = labels.mask(name)
        if where.sum() < 100:
            continue
        mean, spread = (f(made.data[:, where] / UNITS, 1) for f in (np.mean, np.std))
        dark = asked[0, :, index] < 3 * np.exp(asked[1, :, index])  # cut off at 0
        if dark.all():
            continue
        np.testing.assert_allclose(mean[~dark], asked[0, :, index][~dark], atol=0.01)
        share = spread[~dark] / np.exp(asked[1, :, index][~dark])
        assert share.max() < 1.05
        assert np.median(share) > 0.9  # less where stretching has its limit


def test_a_generator_is_told_the_voxels_of_its_label_map(trained: Path, phantoms: Path) -> None:
    labels = read_labels(next(phantoms.glob("*-00000-000/*-brain.nii.gz")), BRAIN)
    model = load(trained, device="cpu", precision="fp32")
    told: list[torch.Tensor] = []
    model.generator.register_forward_pre_hook(lambda _, given: told.append(given[3]))
    turned = labels.affine[:, [1, 0, 2, 3]] * [1, 0.5, 1, 1]  # second axis first, and half as long
    for affine in (labels.affine, turned):
        model.generate(replace(labels, affine=affine), Key(0))
    one, two = (edges[0].tolist() for edges in told)
    assert one == pytest.approx(labels.spacing_mm)
    assert two == pytest.approx((one[1], one[0] / 2, one[2]))


def test_a_network_names_no_vessels_however_it_scores_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody has asked it for them, so what it says of them is arbitrary."""
    model = load("tissue", device="cpu", precision="fp32")
    scores = torch.arange(11.0).view(11, 1, 1, 1).expand(11, 8, 8, 8)
    monkeypatch.setattr(type(model), "_run", lambda *_: scores)
    scans = Volume(np.ones((2, 8, 8, 8), np.float32), np.eye(4), ("t1n", "t2w"))
    assert set(np.unique(model.segment(scans).data)) == {BRAIN.value("RC")}
    assert set(np.unique(model.segment(scans, ("GM", "VES")).data)) == {BRAIN.value("VES")}


def test_structures_are_stretched_within_limits_and_few_voxels_not_at_all() -> None:
    names = torch.zeros(8, 8, 8, dtype=torch.int32)
    names[:4, :, :4], names[4:, :, :4], names[0, 0, 7] = 1, 2, 3
    noise = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    out = (5 + torch.where(names == 2, 0.01, 1) * noise) * (names > 0)
    style = np.log(np.full((2, 1, 4), 0.5, np.float32))
    style[0] = 3
    made = _in_style(out, names, style)
    assert abs(float(made[0, names == 1].mean()) - 3) < 1e-4
    assert abs(float(made[0, names == 1].std()) - 0.5) < 0.01
    even = names == 2
    torch.testing.assert_close(made[0, even].std(), STRETCH * out[0, even].std(), rtol=1e-3, atol=0)
    assert made[0, 0, 0, 7] == out[0, 0, 0, 7]
    assert not made[0, names == 0].any()


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
