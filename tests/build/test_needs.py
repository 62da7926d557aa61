"""What a configuration needs: estimates that grow with what they should, and fit what is made."""

from pathlib import Path

import pytest
import torch

from medsynth import config as configs
from medsynth.build import needs
from medsynth.io import cohort as cohorts
from medsynth.training.precision import Precision
from tests.conftest import small_config

FP32, BF16 = (Precision(dtype, "asked for") for dtype in (torch.float32, torch.bfloat16))
SMALL = (
    "generator.widths=[8,8]",
    "generator.head=4",
    "discriminator.widths=[8,8]",
    "data.patch=[16,16,16]",
    "data.cohort=cohort.json",
)


def _config(file: str, *settings: str) -> configs.Config:
    path = Path("configs/image") / file
    return configs.parse(path.read_text(), str(path), [*SMALL, *settings])


@pytest.mark.parametrize("file", ["phantom.yaml", "pix2pix.yaml", "segment.yaml"])
def test_every_kind_of_game_can_be_counted(file: str) -> None:
    memory = needs.training_memory(_config(file), FP32)
    assert 0 < memory.weights < 1e8
    assert 0 < memory.kept < memory.total - needs.BASE < 2e9


def test_networks_of_one_level_can_be_counted() -> None:
    """Their smallest grid is shorter than the longest lag of texture."""
    one = ("generator.widths=[8]", "discriminator.widths=[8]", "data.patch=[6,6,6]")
    assert needs.training_memory(_config("phantom.yaml", *one), FP32).kept > 0


def test_memory_grows_with_what_is_on_the_device_at_once() -> None:
    base, twice, split, half = (
        needs.training_memory(_config("phantom.yaml", *settings), precision).kept
        for settings, precision in (
            (["train.batch=2"], FP32),
            (["train.batch=4"], FP32),
            (["train.batch=4", "train.accumulate=2"], FP32),
            (["train.batch=2"], BF16),
        )
    )
    assert twice == pytest.approx(2 * base, rel=0.02)
    assert split == base
    assert 0.4 * base < half < base


def test_disk_is_that_of_a_run(trained: Path, phantoms: Path, tmp_path: Path) -> None:
    path = small_config(phantoms, tmp_path)
    config = configs.parse(path.read_text(), str(path))
    cohort = cohorts.read(phantoms).part("training")
    cache = needs.run_bytes(trained / "cache")
    assert needs.case_bytes(config, cohort) * len(cohort) == pytest.approx(cache, rel=0.5)
    last, model = ((trained / name).stat().st_size for name in ("last.pt", "model.safetensors"))
    assert needs.checkpoint_bytes(config) > 2 * last
    assert needs.checkpoint_bytes(config) < 2 * last + model + 2e6
