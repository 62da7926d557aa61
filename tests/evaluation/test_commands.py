"""`medsynth evaluate fidelity`, `consistency` and `privacy` write into one report."""

import json
from pathlib import Path

import pytest

from medsynth.cli import main
from tests.conftest import small_config


@pytest.fixture(scope="module")
def learnt(coarse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the training split of the real cohort."""
    folder = tmp_path_factory.mktemp("learnt")
    config = small_config(coarse, folder, steps=1)
    assert main(["train", str(config), "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_three_sections_in_one_report(
    coarse: Path, generated: Path, learnt: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "report"
    both = ["--real", str(coarse), "--synthetic", str(generated), "-o", str(out)]
    assert main(["evaluate", "fidelity", *both]) == 0
    assert main(["evaluate", "consistency", *both, "--steps", "2"]) == 0
    assert main(["evaluate", "privacy", *both, "--model", str(learnt)]) == 0
    words = capsys.readouterr().err
    assert words.count("train segmentor: 2 steps") == 1
    report = json.loads((out / "report.json").read_text())
    worse = {r["section"] for r in report["records"] if "degradation" in r["where"]}
    assert worse == {"fidelity", "consistency"}  # bad examples are made, as a user runs it
    assert all(r["ceiling"] for r in report["records"] if r["metric"] == "frechet")
    found = {record["section"] for record in report["records"]}
    assert found == {"fidelity", "consistency", "privacy"}
    attacks = {r["where"].get("attack") for r in report["records"]} - {None}
    assert "discriminator: realness" in attacks
    assert {"fidelity.png", "privacy.png"} <= {p.name for p in (out / "pictures").iterdir()}
    html = (out / "report.html").read_text()
    assert html.count("data:image/png;base64") >= 2
    assert main(["evaluate", "consistency", *both, "--steps", "2"]) == 0
    assert "train segmentor" not in capsys.readouterr().err  # the one from before is used


def test_what_cannot_be_evaluated(
    coarse: Path, generated: Path, phantoms: Path, tmp_path: Path,
    trained: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = ["-o", str(tmp_path / "r")]
    both = ["--real", str(coarse), "--synthetic", str(generated), *out]
    spent = [
        (["fidelity", *both, "--backbone", "resnet18"], 2, "--weights together"),
        (["consistency", *both, "--patch", "32"], 2, "from 48 on"),
        (["privacy", "--real", str(generated), "--synthetic", str(coarse), *out], 1, "--held-out"),
        (["consistency", "--real", str(generated), "--synthetic", str(coarse), *out], 1, "--split"),
        (["fidelity", "--real", str(coarse), "--synthetic", str(phantoms), *out], 1, "resample"),
        (["privacy", *both, "--model", str(tmp_path)], 2, "model.safetensors"),
        (["privacy", *both, "--model", str(trained)], 1, "it has not seen"),
        (["privacy", *both, "--held-out", str(coarse)], 1, "in both"),
    ]  # fmt: skip
    for command, code, words in spent:
        assert main(["evaluate", *command]) == code, command
        text = capsys.readouterr().err
        assert words in text, text
        assert "Traceback" not in text
