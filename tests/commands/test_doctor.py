"""The doctor: what it calls a fault, a warning, and fit; for people and for scripts."""

import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from medsynth.cli import main
from medsynth.commands import machine
from medsynth.io import memory
from medsynth.training import numerics, precision
from medsynth.training.precision import Precision
from tests.conftest import small_config

CPU = torch.device("cpu")
FP32 = Precision(torch.float32, "asked for")


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine at rest with memory, whatever else is at work here."""
    monkeypatch.setattr(memory, "free", lambda: 16e9)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


def _findings(text: str) -> dict[str, dict[str, str]]:
    answer = json.loads(text)
    assert answer["schema"] == "medsynth-doctor/1"
    assert {f["verdict"] for f in answer["findings"]} <= {"ok", "warning", "fault"}
    assert answer["faults"] == sum(f["verdict"] == "fault" for f in answer["findings"])
    return {finding["about"]: finding for finding in answer["findings"]}


def test_a_page_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    page = capsys.readouterr().out
    lines = [line for line in page.splitlines() if line.startswith("  ")]
    for about in ("python", "medsynth", *machine.LIBRARIES, "CPU", "memory", "precision"):
        assert sum(line.split()[0] == about for line in lines) == 1, about
    assert all(" ok" in line or " warning: " in line for line in lines)


def test_a_configuration_that_fits(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config(phantoms, tmp_path)
    assert main(["doctor", str(config), "--json"]) == 0
    found = _findings(capsys.readouterr().out)
    assert found["cohort"]["found"] == "3 training cases"
    disk = found["disk"]
    assert disk["verdict"] == "ok"
    assert disk["found"].startswith("needs about 0.0")
    assert "checkpoints and prepared cases" in disk["found"]


def test_what_training_would_refuse_is_told(
    phantoms: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "_cpu_flags", lambda: {"avx512_bf16"})
    config = str(small_config(phantoms, tmp_path))
    wrong = ["--set", "train.init=phantm", "--set", "train.precision=bf16"]
    assert main(["doctor", config, "--json", *wrong]) == 1
    found = _findings(capsys.readouterr().out)
    assert found["init"]["verdict"] == "fault"
    assert "phantom" in found["init"]["todo"]
    assert found["precision"]["verdict"] == "warning"
    assert "fp32 likely is faster" in found["precision"]["todo"]
    for init, code, verdict in (("phantom", 1, "fault"), (trained, 0, "ok")):
        assert main(["doctor", config, "--json", "--set", f"train.init={init}"]) == code
        found = _findings(capsys.readouterr().out)
        assert found["init"]["verdict"] == verdict
    assert found["precision"]["verdict"] == "ok"


def test_a_configuration_that_does_not_fit(
    phantoms: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(memory, "free", lambda: 1e8)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1e9, 1e9, 1e3))
    config = str(small_config(phantoms, tmp_path))
    gone = f"data.cohort={tmp_path / 'gone.json'}"
    assert main(["doctor", config, "--set", gone, "--set", "data.workers=4096"]) == 1
    written = capsys.readouterr()
    lines = {line.split()[0]: line for line in written.out.splitlines() if line.startswith("  ")}
    assert "fault: " in lines["disk"]
    assert "fault: check the path" in lines["cohort"]
    assert "warning: --set data.workers=" in lines["workers"]
    assert "3 faults" in written.err or torch.cuda.is_available()


def test_other_configurations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = f"data.table={tmp_path / 'none.csv'}"
    assert main(["doctor", "configs/tabular/table.yaml", "--set", table, "--json"]) == 1
    assert _findings(capsys.readouterr().out)["table"]["verdict"] == "fault"
    assert main(["doctor", "configs/evaluate/utility.yaml"]) == 2
    assert "image or tabular" in capsys.readouterr().err


def test_wrong_arithmetic_is_a_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics, "deviations", lambda *a: {"values": 1e-7, "gradients": 0.5})
    assert main(["doctor"]) == 1
    written = capsys.readouterr()
    assert "gradients off by 0.5 of their norm" in written.out
    assert "fault: do not train here" in written.out
    assert "1 fault" in written.err


def test_a_device_that_cannot_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*of: object) -> None:
        raise RuntimeError("no kernel image is available\nfor execution on the device")

    monkeypatch.setattr(numerics, "deviations", fail)
    last = list(machine.arithmetic(FP32, CPU))[-1]
    assert (last.verdict, last.found) == ("fault", "no kernel image is available")


def test_versions_that_are_known_to_be_bad() -> None:
    assert "mixed precision" in (machine.known_bad("torch", "2.9.1+cu128") or "")
    assert not any(machine.known_bad("torch", v) for v in ("2.8.0", "2.10.0", "2.15.1"))
    bad = {v: machine.bad_cudnn(v) for v in (90701, 90800, 91002, 91100, 91500)}
    assert bad == {90701: False, 90800: True, 91002: True, 91100: False, 91500: False}


def test_torchvision_must_be_made_for_torch() -> None:
    asks = ["numpy", "torch==2.14.1"]
    assert machine.pair("2.14.1+cpu", "0.29.1+cpu", asks).verdict == "ok"
    assert machine.pair("2.14.1", "0.29.1", asks).verdict == "ok"
    other = machine.pair("2.15.0", "0.29.1", asks)
    assert other.verdict == "fault"
    assert "made for torch==2.14.1" in (other.todo or "")
    mixed = machine.pair("2.14.1+cpu", "0.29.1+cu130", asks)
    assert mixed.verdict == "fault"
    assert "from one index" in (mixed.todo or "")


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    cpu = next(f for f in machine.hardware(FP32) if f.about == "CPU")
    assert cpu.verdict == "warning"
    assert "OMP_NUM_THREADS=2" in (cpu.todo or "")
