"""`train --init`: weights to start from."""

from pathlib import Path

import pytest
import torch

from medsynth import config as configs
from medsynth.build import image as build
from medsynth.cli import main
from medsynth.imaging import load
from medsynth.io.sidecar import read_json
from medsynth.training.weights import load_model
from medsynth.training.world import World
from tests.conftest import small_config


def test_a_run_begins_with_the_weights_of_another(trained: Path, phantoms: Path) -> None:
    text = small_config(phantoms, trained.parent).read_text()
    config = configs.parse(text, "test", [f"train.init={trained}", "seed=5"])
    playing = build.trainer(config, World(0, 1, torch.device("cpu")))
    fingerprint = build.begin_with(playing, config)
    there = load(trained, precision="fp32")
    assert fingerprint == there.fingerprint
    for own in (playing.game.players["generator"], playing.averaged("generator")):
        for key, value in there.generator.state_dict().items():
            assert torch.equal(own.state_dict()[key], value)


def test_a_resumed_run_goes_on_and_does_not_begin_again(
    trained: Path, phantoms: Path, tmp_path: Path
) -> None:
    config = str(small_config(phantoms, tmp_path, steps=4))
    begin = ["train", config, "--init", str(trained), "--set", "train.rate_generator=1e-3"]
    assert main([*begin, "--out", str(tmp_path / "whole")]) == 0
    assert main([*begin, "--out", str(tmp_path / "parts"), "--set", "train.steps=2"]) == 0
    assert main(["train", "--resume", str(tmp_path / "parts"), "--set", "train.steps=4"]) == 0
    whole, parts = (load_model(tmp_path / n / "model.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(whole[0][k], parts[0][k]) for k in whole[0])
    began = load(trained).fingerprint
    assert whole[1]["began_with"] == parts[1]["began_with"] == began
    assert read_json(tmp_path / "whole" / "init.json")["model"] == began
    assert str(tmp_path) not in whole[1]["config"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--init", "TRAINED", "--set", "generator.widths=[8,16]"], "generator.widths [8, 8]"),
        (
            [
                "--init",
                "TRAINED",
                "--set",
                "data.source=[t1n]",
                "--set",
                "data.target=[labels]",
                "--set",
                "discriminator.kind=patch",
            ],
            "found data.source [labels]; data.target [t1n, t1c, t2w, t2f] in",
        ),
        (["--init", "nowhere"], "In the box: phantom"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_words(
    trained: Path,
    phantoms: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    given = [str(trained) if a == "TRAINED" else a for a in arguments]
    config = str(small_config(phantoms, tmp_path))
    assert main(["train", config, *given, "--out", str(tmp_path / "run")]) != 0
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_whom_the_first_model_saw_counts_as_seen(
    trained: Path, phantoms: Path, tmp_path: Path
) -> None:
    """A generator that began with another's weights knows the other's people, too."""
    from medsynth.build.people import training_subjects
    from medsynth.core.cohort import Cohort
    from medsynth.errors import DataError
    from medsynth.io import cohort as cohorts

    every = cohorts.read(phantoms)
    one = every.part("training").cases[:1]
    cohorts.write(tmp_path / "cohort.json", Cohort(every.scheme, one))
    config = str(small_config(tmp_path, tmp_path, steps=1))
    assert main(["train", config, "--init", str(trained), "--out", str(tmp_path / "run")]) == 0
    assert training_subjects(tmp_path / "run") == training_subjects(trained)
    assert len(training_subjects(trained)) > 1
    alone = str(trained / "model.safetensors")
    assert main(["train", config, "--init", alone, "--out", str(tmp_path / "other")]) == 0
    with pytest.raises(DataError, match="a model file alone"):
        training_subjects(tmp_path / "other")


def test_a_start_without_weights_forgets_one_that_was_killed_before_it_saved(
    trained: Path, phantoms: Path, tmp_path: Path
) -> None:
    config = str(small_config(phantoms, tmp_path, steps=1))
    run = tmp_path / "run"
    assert main(["train", config, "--init", str(trained), "--out", str(run)]) == 0
    for file in ("last.pt", "model.safetensors"):
        (run / file).unlink()
    assert main(["train", config, "--out", str(run)]) == 0
    assert "began_with" not in load_model(run / "model.safetensors")[1]


def test_weights_of_other_voxels_are_warned_of(
    phantoms: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = tmp_path / "fine"
    assert main(["resample", str(phantoms / "cohort.json"), "--spacing-mm", "3", "-o", str(fine),
                 ]) == 0  # fmt: skip
    config = str(small_config(fine, tmp_path, steps=1))
    capsys.readouterr()
    assert main(["train", config, "--init", str(trained), "--out", str(tmp_path / "a")]) == 0
    assert "cases have other voxels (3 × 3 × 3 mm) than" in capsys.readouterr().err
    config = str(small_config(phantoms, tmp_path, steps=1))
    assert main(["train", config, "--init", str(trained), "--out", str(tmp_path / "b")]) == 0
    assert "other voxels" not in capsys.readouterr().err


def test_a_run_remembers_whom_it_was_trained_on_and_takes_no_others(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever becomes of its cohort's file, the leak guard must know whom a model has seen."""
    from medsynth.build.people import training_subjects
    from medsynth.core.cohort import Cohort
    from medsynth.io import cohort as cohorts

    whole = cohorts.read(phantoms)
    some = Cohort(whole.scheme, whole.cases[:2])
    cohorts.write(tmp_path / "cohort.json", some)
    config = str(small_config(tmp_path, tmp_path, steps=2))
    run = tmp_path / "run"
    assert main(["train", config, "--out", str(run)]) == 0
    seen = {case.subject for case in some}
    cohorts.write(tmp_path / "cohort.json", Cohort(whole.scheme, whole.cases[2:4]))
    assert training_subjects(run) == seen
    before = (run / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert main(["train", "--resume", str(run), "--set", "train.steps=4"]) == 1
    told = capsys.readouterr().err
    assert f"others: {', '.join(sorted(case.subject for case in whole.cases[2:4]))}" in told
    assert "--init" in told
    assert training_subjects(run) == seen
    assert (run / "model.safetensors").read_bytes() == before
