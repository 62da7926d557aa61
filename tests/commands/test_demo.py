"""Which held-out phantom the demo shows, and what it makes again when training goes on."""

import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from medsynth.cli import main
from medsynth.commands import console, demo
from medsynth.core.labels import BRAIN
from medsynth.core.volume import LabelMap
from medsynth.io.sidecar import write_json


def _tumour(*, oedema_at: int) -> LabelMap:
    """Most tumour in slice 4; two voxels of oedema in a slice, twenty of the rest in slice 4."""
    data = np.full((8, 8, 9), BRAIN.value("WM"), np.uint8)
    data[:2, :5, 4] = BRAIN.value("NCR")
    data[2:4, :5, 4] = BRAIN.value("ET")
    data[6, :2, oedema_at] = BRAIN.value("ED")
    return LabelMap(data, np.eye(4), BRAIN)


def test_what_shows_least_is_counted_in_the_slice_of_the_figure() -> None:
    assert demo._least_shown(_tumour(oedema_at=4)) == 2
    assert demo._least_shown(_tumour(oedema_at=7)) == 0


def test_no_steps_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    assert main(["demo", "--out", str(tmp_path / "d"), "--steps", "0"]) == 2
    assert not (tmp_path / "d").exists()


def test_the_next_commands_call_what_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "a venv" / "bin" / "medsynth"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert console.program() == f"'{program}'"
    monkeypatch.setenv("PATH", str(program.parent))
    assert console.program() == "medsynth"
    monkeypatch.setattr("sys.argv", ["/x/medsynth/__main__.py"])
    assert console.program() == f"{shlex.quote(sys.executable)} -m medsynth"


def test_scans_of_an_earlier_model_are_made_again(tmp_path: Path) -> None:
    now = cast(Any, SimpleNamespace(fingerprint="now"))
    for folder, model in (("old", "before"), ("new", "now")):
        write_json(tmp_path / folder / "case" / "case.json", {"model": model})
        demo._forget_others(tmp_path / folder, now)
    assert not (tmp_path / "old").exists()
    assert (tmp_path / "new" / "case" / "case.json").exists()
    demo._forget_others(tmp_path / "none", now)
