"""Killed at any moment: what stands under a final name is whole, and the next run goes on."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medsynth.cli import main
from medsynth.io.nifti import read_array
from tests.conftest import small_config

COMMAND = ["--cases", "3", "--spacing-mm", "5", "--seed", "4"]


def test_phantoms_killed_on_the_way(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["phantom", str(whole), *COMMAND]) == 0
    command = [sys.executable, "-m", "medsynth", "phantom", str(cut), *COMMAND]
    for least in (2, 8):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list(cut.glob("*/BraTS*"))) < least and time.monotonic() < deadline:
            if process.poll() is not None:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in cut.glob("*/BraTS*"):
            if path.suffix == ".json":
                json.loads(path.read_text())
            else:
                assert read_array(path).size
    assert main(["phantom", str(cut), *COMMAND]) == 0
    for path in whole.rglob("*.*"):
        if path.is_file():
            assert (cut / path.relative_to(whole)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_training_asked_to_stop_saves_first(
    number: signal.Signals, phantoms: Path, tmp_path: Path
) -> None:
    config, run = small_config(phantoms, tmp_path, steps=100_000), tmp_path / "run"
    command = [sys.executable, "-m", "medsynth", "train", str(config), "--out", str(run),
               "--set", "train.save_every=100000"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    log = run / "metrics.jsonl"
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    words = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert f"--resume {run}" in words
    assert "Traceback" not in words
    step = torch.load(run / "last.pt", weights_only=True)["step"]
    assert step > 0
    assert f"step {step}" in words


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_stopped_is_told_how_to_go_on(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "medsynth", "phantom", str(tmp_path), "--cases", "300"]
    process = subprocess.Popen(  # a shell's background job would inherit a deaf ear to SIGINT
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/BraTS*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    words = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert f"goes on where it was: medsynth phantom {tmp_path} --cases 300" in words
    assert "Traceback" not in words
