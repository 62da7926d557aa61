"""Fixtures that several test folders share."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch: threads of two workers wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes longest begins first: last, one worker would wait minutes for another."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans; skips when it is not there."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real scans, which are not part of the project")
    return folder


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four phantoms at 4 mm, the last one healthy, made by the command."""
    from medsynth.commands.phantom import Phantom

    folder = tmp_path_factory.mktemp("phantoms") / "cohort"
    assert Phantom(folder, cases=4, spacing_mm=4.0, healthy=1, test=1).run() == 0
    return folder


@pytest.fixture(scope="session")
def trained(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six small steps on the phantoms."""
    from medsynth.cli import main

    folder = tmp_path_factory.mktemp("runs") / "six"
    assert main(["train", str(small_config(phantoms, folder.parent)), "--out", str(folder)]) == 0
    return folder


def small_config(phantoms: Path, folder: Path, steps: int = 6) -> Path:
    """A configuration small enough for a test."""
    path = folder / "small.yaml"
    path.write_text(f"""
data: {{cohort: {phantoms / "cohort.json"}, patch: [16, 16, 16], workers: 2}}
generator: {{widths: [8, 8], head: 4}}
discriminator: {{widths: [8, 8], head: 4}}
loss: {{r1_every: 2}}
train: {{steps: {steps}, batch: 2, save_every: 3, preview_every: 6, log_every: 1}}
""")
    return path


def train_on_two_ranks(*arguments: str) -> None:
    """`medsynth train` by torchrun on two ranks of this machine.

    Ranks meet on the loopback device, because a host's own name need not resolve. When they cannot
    connect, before anything of ours has run, they are started once more; any other end fails with
    its log.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
               "--standalone", "-m", "medsynth", "train", *arguments]  # fmt: skip
    environment = dict(os.environ)
    if any(name == "lo" for _, name in socket.if_nameindex()):
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    for again in (True, False):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode == 0 or not (again and "connectFullMesh" in done.stderr):
            break
    assert done.returncode == 0, done.stderr[-8000:]
