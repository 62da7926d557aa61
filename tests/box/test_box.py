"""The box: what a wheel takes along, how a name is understood, and what is refused in words."""

import hashlib
import json
import subprocess
import tomllib
from pathlib import Path

import pytest
from safetensors import safe_open

from medsynth import box
from medsynth.errors import UsageError
from medsynth.training.weights import load_model
from tools import make_box

ROOT = Path(__file__).parents[2]
LARGEST_MB = 25


def test_a_wheel_takes_the_weights_along_although_git_ignores_others() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert "/medsynth/box/*.safetensors" in build["artifacts"]
    assert build["targets"]["wheel"]["packages"] == ["medsynth"]
    if not (ROOT / ".git").exists():
        pytest.skip("git is not there to ask what it ignores")
    names = ["medsynth/box/phantom.safetensors", "medsynth/box/CARD.md", "medsynth/x.safetensors"]
    ignored = subprocess.run(
        ["git", "-C", str(ROOT), "check-ignore", *names],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    assert ignored == ["medsynth/x.safetensors"]


def test_the_box_is_small_and_has_no_pickles() -> None:
    files = [path for path in box.FOLDER.iterdir() if path.is_file()]
    assert {path.suffix for path in files} <= {".py", ".md", ".json", ".safetensors"}
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert {path.stem for path in weights} == set(box.NAMES)
    assert sum(path.stat().st_size for path in weights) <= LARGEST_MB * 1e6
    for path in weights:
        with safe_open(path, "pt") as file:
            assert list(file.keys())
        metadata = load_model(path)[1]
        recipe = json.loads(metadata["recipe"])
        made_by = ROOT / "configs" / "box" / make_box.RECIPES[path.stem]
        assert recipe["configuration"] == hashlib.sha256(made_by.read_bytes()).hexdigest()
        make_box.require_recipe(metadata["config"], path.stem)


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(box, "FOLDER", tmp_path / "box")
    with pytest.raises(UsageError, match=r"lacks them.*make_box"):
        box.model_file("phantom")
    (tmp_path / "box").mkdir()
    for name in box.NAMES:
        (tmp_path / "box" / f"{name}.safetensors").touch()
    assert box.model_file(Path("phantom")) == tmp_path / "box/phantom.safetensors"
    with pytest.raises(UsageError, match=r"'brain'.*phantom .*tissue "):
        box.path("brain")
    with pytest.raises(UsageError, match=r"found nothing in brain.*In the box: phantom .*tissue "):
        box.model_file("brain")
    (tmp_path / "phantom").mkdir()  # a folder, but no model
    assert box.model_file("phantom") == tmp_path / "box/phantom.safetensors"
    (tmp_path / "phantom/config.yaml").touch()  # a run that has no model yet
    with pytest.raises(UsageError, match=r"run with model\.safetensors.*none in phantom"):
        box.model_file("phantom")
    (tmp_path / "phantom/model.safetensors").touch()
    assert box.hidden("phantom")
    assert not box.hidden("tissue")
    assert box.model_file("phantom") == Path("phantom/model.safetensors")
