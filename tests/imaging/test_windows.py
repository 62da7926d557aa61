"""A device that runs out of memory: windows instead, halved until they fit, said once."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medsynth.cli import main
from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.errors import ModelError, UsageError
from medsynth.imaging.generator import FoldedGenerator
from medsynth.imaging.synthesizer import Synthesizer, load
from medsynth.io.nifti import read_labels

CPU = torch.device("cpu")


def _identity(source: Tensor, room: int, error: Exception) -> tuple[Callable[..., Tensor], list]:
    """A forward pass that gives the source back, as long as it has at most `room` voxels."""
    tried: list[int] = []

    def forward(box: tuple[slice, ...]) -> Tensor:
        part = source[(slice(None), *box)]
        tried.append(part[0].numel())
        if tried[-1] > room:
            raise error
        return part

    return forward, tried


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_windows_are_halved_until_they_fit(trained: Path, error: Exception) -> None:
    model = load(trained)
    source = torch.rand(len(model.spec.target), 192, 160, 64)
    forward, tried = _identity(source, 50 * 50 * 50, error)
    with pytest.warns(UserWarning, match="192 × 160 × 64 voxels at once: worked in windows of 48"):
        out = model._within_memory(forward, (192, 160, 64), CPU)
    torch.testing.assert_close(out, source)
    assert tried[:4] == [192 * 160 * 64, 96 * 96 * 64, 48**3, 48**3]
    assert model.room.window == 48
    tried.clear()
    with warnings.catch_warnings(action="error"):  # neither said nor tried again
        torch.testing.assert_close(model._within_memory(forward, (192, 160, 64), CPU), source)
    assert max(tried) == 48**3
    tried.clear()
    small = torch.rand(len(model.spec.target), 64, 48, 32)  # bytes must not depend on the order
    forward, tried = _identity(small, 50 * 50 * 50, error)
    model._within_memory(forward, (64, 48, 32), CPU)
    assert tried == [64 * 48 * 32]


def test_other_errors_are_not_taken_for_a_lack_of_memory(trained: Path) -> None:
    forward, tried = _identity(torch.rand(4, 64, 64, 64), 0, RuntimeError("no kernel image"))
    with pytest.raises(RuntimeError, match="no kernel image"):
        load(trained)._within_memory(forward, (64, 64, 64), CPU)
    assert len(tried) == 1


def test_a_device_without_any_room_is_told_of(trained: Path) -> None:
    forward, _ = _identity(torch.rand(4, 64, 64, 64), 0, torch.OutOfMemoryError("CUDA"))
    with pytest.raises(ModelError, match=r"memory for 40 × 40 × 40 voxels.*on the CPU"):
        load(trained)._within_memory(forward, (64, 64, 64), CPU)


def test_windows_that_do_not_fit_the_levels_are_refused(trained: Path) -> None:
    for window in (32, 41):
        with pytest.raises(UsageError, match="multiples of 4 from 36 on"):
            load(trained, window=window)


def _short(monkeypatch: pytest.MonkeyPatch, edge: int) -> None:
    whole = FoldedGenerator.forward

    def forward(self: FoldedGenerator, source: Tensor, *rest: Any) -> Tensor:
        if max(source.shape[2:]) > edge:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, source, *rest)

    monkeypatch.setattr(FoldedGenerator, "forward", forward)


def test_the_scan_is_that_of_windows(
    trained: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = read_labels(next(phantoms.glob("*-00000-000/*-brain.nii.gz")), BRAIN)
    asked = load(trained, window=40).generate(labels, Key(0)).data
    _short(monkeypatch, 40)
    model: Synthesizer = load(trained)
    with pytest.warns(UserWarning, match="windows of 40"):
        np.testing.assert_array_equal(model.generate(labels, Key(0)).data, asked)


@pytest.mark.filterwarnings("default::UserWarning")
def test_the_command_says_it_once(
    trained: Path,
    phantoms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _short(monkeypatch, 40)
    assert main(["generate", str(trained), str(phantoms), "-o", str(tmp_path / "s")]) == 0
    text = capsys.readouterr().err
    assert text.count("warning: cpu has too little memory") == 1
    assert ".py" not in text
    assert len(list((tmp_path / "s").glob("*/*-t1c.nii.gz"))) == 4
