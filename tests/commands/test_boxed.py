"""Models in the box by their names, wherever a run is taken."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from medsynth import box
from medsynth.build import people
from medsynth.cli import main
from medsynth.commands import given
from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.imaging import load
from medsynth.io.nifti import read_labels
from medsynth.training import precision


@pytest.fixture
def boxed(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A box with a model of six steps, and an empty folder to work in."""
    folder, here = tmp_path / "box", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    shutil.copy(trained / "model.safetensors", folder / "phantom.safetensors")
    monkeypatch.setattr(box, "FOLDER", folder)
    monkeypatch.chdir(here)
    return folder


def test_load_by_name(boxed: Path, trained: Path, phantoms: Path) -> None:
    labels = read_labels(next(phantoms.glob("*-00000-000/*-brain.nii.gz")), BRAIN)
    made = [load(model).generate(labels, Key(0)).data for model in ("phantom", trained)]
    assert np.array_equal(*made)


def test_generate_by_name(boxed: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    brain = next(phantoms.glob("*-00000-000/*-brain.nii.gz"))
    assert main(["generate", "phantom", str(brain), "-o", "synthetic"]) == 0
    assert list(Path("synthetic").glob("*/*-t2f.nii.gz"))
    assert "not the model of that name" not in capsys.readouterr().err


def test_a_model_in_a_folder_of_that_name_wins_and_says_so(
    boxed: Path, trained: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brain = str(next(phantoms.glob("*-00000-000/*-brain.nii.gz")))
    Path("phantom").mkdir()  # as `medsynth phantom phantom` makes it: no model in it
    assert main(["generate", "phantom", brain, "-o", "synthetic"]) == 0
    assert "the one in this folder" not in capsys.readouterr().err
    shutil.copy(trained / "model.safetensors", "phantom")
    (boxed / "phantom.safetensors").write_bytes(b"broken")
    assert main(["generate", "phantom", brain, "-o", "synthetic"]) == 0
    assert "phantom: the one in this folder, not the model" in capsys.readouterr().err


def test_unknown_and_missing_models_are_told(
    boxed: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brain = str(next(phantoms.glob("*-00000-000/*-brain.nii.gz")))
    for command, words in (
        (["generate", "phantoms", brain, "-o", "s"], "In the box: phantom (label maps"),
        (["tissue", str(phantoms), "-o", "t", "--model", "tissue"], "tools/make_box.py"),
    ):
        assert main(command) == 2
        assert words in capsys.readouterr().err


def test_the_box_has_seen_nobody(boxed: Path) -> None:
    assert people.training_subjects(Path("phantom")) == set()
    assert given.model(Path("phantom")) == boxed / "phantom.safetensors"


def test_a_precision_that_is_slow_here_is_warned_of(
    boxed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_cpu_flags", set)
    with pytest.warns(UserWarning, match="bf16: asked for, but this CPU is not known to be fast"):
        load("phantom", device="cpu", precision="bf16")
