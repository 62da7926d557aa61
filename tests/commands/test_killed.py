"""Killed at any moment: what stands under a final name is whole, and the next run goes on."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from medsynth.cli import main
from medsynth.io.nifti import read_array

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
