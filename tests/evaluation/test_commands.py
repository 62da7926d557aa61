"""`medsynth evaluate fidelity`, `consistency` and `privacy` write into one report."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from medsynth.cli import main
from medsynth.commands.evaluate import EvaluateConsistency
from medsynth.core.cohort import Cohort
from medsynth.core.random import Key
from medsynth.errors import DataError
from medsynth.evaluation import origin
from medsynth.io import cohort as cohorts
from medsynth.training.weights import load_model
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
    reader = ["evaluate", "consistency", *both, "--steps", "2", "--batch", "1"]
    assert main(reader) == 0
    assert main(["evaluate", "privacy", *both, "--model", str(learnt)]) == 0
    words = capsys.readouterr().err
    assert words.count("train segmentor: 2 steps") == 1
    assert "training a dynunet on" in words  # said before the minutes that it takes
    assert "2 steps: minutes" in words
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
    (kept,) = out.glob("segmentor-*.safetensors")
    assert load_model(kept)[0]["voxels_seen"].sum() == 2 * 48**3
    assert EvaluateConsistency(coarse, generated, out, steps=2, batch=1, degraded=1).run() == 0
    assert "train segmentor" not in capsys.readouterr().err  # the one from before is used
    again = json.loads((out / "report.json").read_text())["records"]
    ones, others = (
        [
            r["value"]
            for r in records
            if r["section"] == "consistency" and "degradation" not in r["where"]
        ]
        for records in (report["records"], again)
    )
    assert ones == pytest.approx(others, abs=1e-4)


def test_what_cannot_be_evaluated(
    coarse: Path, generated: Path, phantoms: Path, tmp_path: Path,
    trained: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = ["-o", str(tmp_path / "r")]
    both = ["--real", str(coarse), "--synthetic", str(generated), *out]
    whole = cohorts.read(coarse)
    cohorts.write(tmp_path / "whole.json", Cohort(whole.scheme, whole.cases))
    undivided = ["--real", str(tmp_path / "whole.json"), "--synthetic", str(generated), *out]
    spent = [
        (["fidelity", *both, "--backbone", "resnet18"], 2, "--weights together"),
        (["consistency", *both, "--patch", "16"], 2, "from 32 on"),
        (["consistency", *both, "--segmentor", "gan", "--patch", "32"], 2, "from 48 on"),
        (["privacy", *undivided], 1, "--held-out"),
        (["consistency", *undivided], 1, "--split"),
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


def test_synthetic_scans_cannot_stand_for_people(
    coarse: Path, generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Phantoms can: the cohort `coarse` is made of them, and its sidecars say so."""
    listing = tmp_path / "made.json"
    made = cohorts.read(generated)
    cohorts.write(listing, made.split({"training": 0.5, "test": 0.5}, Key(0)))
    config = tmp_path / "utility.yaml"
    config.write_text(f"{{real: {listing}, synthetic: {generated}, training: [real, synthetic]}}")
    out = ["-o", str(tmp_path / "r")]
    pair = ["--real", str(listing), "--synthetic", str(generated), *out]
    held = ["--real", str(coarse), "--synthetic", str(generated), "--held-out", str(listing), *out]
    for command in (
        ["fidelity", *pair], ["consistency", *pair], ["privacy", *pair], ["privacy", *held],
        ["utility", str(config), *out],
    ):  # fmt: skip
        assert main(["evaluate", *command]) == 1, command
        words = capsys.readouterr().err
        assert "12 of 12 cases that a generator made (BraTS-PHM-0" in words, words
        assert "warning" not in words  # of no `model`: the fault itself comes first
    assert not (tmp_path / "r").exists()


def test_a_resampled_synthetic_scan_is_still_synthetic(generated: Path, tmp_path: Path) -> None:
    """Also when its tissue labels stand elsewhere, where no sidecar is."""
    made = cohorts.read(generated)
    case = made.cases[0]
    assert case.brain
    moved = tmp_path / "tissue" / case.brain.name
    moved.parent.mkdir()
    moved.write_bytes(case.brain.read_bytes())
    cohorts.write(tmp_path / "c.json", Cohort(made.scheme, (replace(case, brain=moved),)))
    command = ["resample", str(tmp_path / "c.json"), "-o", str(tmp_path / "out")]
    assert main([*command, "--spacing-mm", "5"]) == 0
    with pytest.raises(DataError, match="that a generator made"):
        origin.require_real(cohorts.read(tmp_path / "out"), "--real")


def test_mistakes_are_answered_before_anything_heavy_is_imported(
    coarse: Path, generated: Path, tmp_path: Path
) -> None:
    """Each within a second or two: PyTorch alone takes longer than that to import."""
    maps = tmp_path / "edited.json"
    whole = cohorts.read(coarse)
    bare = tuple(replace(case, images={}) for case in whole)
    cohorts.write(maps, Cohort(whole.scheme, bare))
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.json").write_text("{")
    r = ["-o", str(tmp_path / "r")]
    real, made = ["--real", str(coarse)], ["--synthetic", str(generated)]
    image = "configs/image/phantom.yaml"
    spent = [
        (["fidelity", *real, "--synthetic", str(maps), *r], "medsynth generate RUN"),
        (["fidelity", "--real", str(tmp_path / "empty"), *made, *r], "a folder without one"),
        (["fidelity", "--real", str(tmp_path / "no"), *made, *r], "nothing in"),
        (["fidelity", "--real", str(tmp_path / "torn.json"), *made, *r], "at line 1, column 2"),
        (["fidelity", "--real", str(generated), *made, *r], "that a generator made"),
        (["privacy", "--real", "no", "--synthetic", "no", "--model", "no", *r], "in no."),
        (["consistency", "--real", str(maps), *made, *r], "for --real"),
        (["utility", image, *r], "kind: image"),
        (["utility", "configs/evaluate/utility.yaml", "--set", "setps=3", *r], "in --set setps=3"),
        (["utility", "configs/evaluate/utility.yaml", "--set", "steps=x", *r], "in --set steps=x"),
        (["utility", "configs/evaluate/utility.yaml", "--set", "model=nowhere", *r], "in nowhere."),
        (["train", image, "--set", "data.cohort=nowhere"], "in nowhere."),
        (["generate", "nowhere", "x.nii.gz", *r], "in nowhere."),
    ]
    program = """
import json, sys
from medsynth.cli import main
from medsynth.commands.evaluate import EvaluateConsistency
for command in json.loads(sys.argv[1]):
    verb = [] if command[0] in ("train", "generate") else ["evaluate"]
    print("##", main([*verb, *command]), file=sys.stderr)
    heavy = {"torch", "monai", "sklearn", "matplotlib"} & set(sys.modules)
    assert not heavy, (command, heavy)
"""
    commands = json.dumps([command for command, _ in spent])
    done = subprocess.run(
        [sys.executable, "-c", program, commands], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    said = done.stderr.split("## ")
    for (command, words), text in zip(spent, said, strict=False):
        assert words in text, (command, text)
    assert [text[0] for text in said[1:]] == ["1"] * 5 + ["2", "1", *["2"] * 4, "1", "2"]
