"""The recipe of the box, from nothing to the two files, as small as it can be."""

import json
import sys
from pathlib import Path

import pytest

from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.errors import ModelError
from medsynth.imaging import load
from medsynth.io.nifti import read_labels
from medsynth.training.weights import load_model
from tools import make_box


def test_one_command_makes_the_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ["data.patch=[16,16,16]", "generator.widths=[8,8]", "generator.head=4",
             "discriminator.widths=[8,8]", "train.steps=2"]  # fmt: skip
    arguments = ["make_box", str(tmp_path / "work"), "--sizes-mm", "5", "4", "--cases", "1", "1",
                 "--out", str(tmp_path / "box")]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [*arguments, *(a for s in small for a in ("--set", s))])
    make_box.main()
    made = load(tmp_path / "box" / "phantom.safetensors")
    assert made.range_mm == ((4, 4, 4), (5, 5, 5))
    brain = next((tmp_path / "work" / "4mm").glob("*/*-brain.nii.gz"))
    scans = made.generate(read_labels(brain, BRAIN), Key(0))
    assert scans.channels == ("t1n", "t1c", "t2w", "t2f")
    tissue = load(tmp_path / "box" / "tissue.safetensors")
    assert tissue.segment(scans).data.any()
    made_at = {p: p.stat().st_mtime_ns for p in (tmp_path / "work").rglob("*.nii.gz")}
    steps = (tmp_path / "work" / "phantom" / "metrics.jsonl").read_text()
    make_box.main()  # what is there is not made again
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "work").rglob("*.nii.gz")} == made_at
    assert (tmp_path / "work" / "phantom" / "metrics.jsonl").read_text() == steps
    made_of = (tmp_path / "work" / "phantom" / "last.pt").read_bytes()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--set", "train.steps=3"])
    with pytest.raises(ModelError, match=r"by generator.yaml, found .*steps: 2"):
        make_box.main()
    assert (tmp_path / "work" / "phantom" / "last.pt").read_bytes() == made_of
    assert (
        json.loads(load_model(tmp_path / "box" / "phantom.safetensors")[1]["recipe"])["settings"]
        == small
    )
