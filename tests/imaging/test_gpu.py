"""On a GPU: the same scans as on a CPU, and a few steps of training."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medsynth.cli import main
from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.imaging import load
from medsynth.io.nifti import read_labels
from tests.conftest import small_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_scans_are_those_of_the_cpu(trained: Path, phantoms: Path) -> None:
    labels = read_labels(next(phantoms.glob("*-00000-000/*-brain.nii.gz")), BRAIN)
    scans = [load(trained, device=device, precision="fp32").generate(labels, Key(0)).data
             for device in ("cpu", "cuda")]  # fmt: skip
    assert np.abs(scans[0] - scans[1]).max() < 1  # of 1,000


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp32"])
def test_training_runs_in_every_precision(precision: str, phantoms: Path, tmp_path: Path) -> None:
    config = small_config(phantoms, tmp_path)
    assert main(["train", str(config), "--out", str(tmp_path / "run"),
                 "--set", f"train.precision={precision}"]) == 0  # fmt: skip
