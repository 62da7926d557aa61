"""The command line: help, exit codes, errors in words, training that goes on bit for bit."""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medsynth.cli import GROUPS, VERBS, main, parser
from medsynth.commands.demo import Demo
from medsynth.core.cohort import Cohort
from medsynth.core.labels import BRAIN
from medsynth.errors import Interrupted
from medsynth.evaluation import enough
from medsynth.generation.cases import list_cases
from medsynth.imaging.synthesizer import load
from medsynth.io import cohort as cohorts
from medsynth.io.nifti import read_array, read_labels, write_labels
from tests.conftest import small_config, train_on_two_ranks

NAMES = [module.__name__.rpartition(".")[2] for module in VERBS]


@pytest.mark.parametrize("verb", NAMES)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: medsynth {verb}")
    assert "xample" in text


HEAVY = {"torch", "monai", "nibabel", "scipy", "pandas", "numpy", "skimage", "SimpleITK", "yaml"}


def test_help_and_import_wait_for_no_library() -> None:
    code = "import sys, medsynth.cli; medsynth.cli.main(['--help']); " \
           f"print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


def test_a_verb_that_is_nearly_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian", "configs/image/phantom.yaml"]) == 2
    assert "no verb 'trian'; did you mean train?" in capsys.readouterr().err


def test_help_is_a_page_of_verbs_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    lines = page.splitlines()
    assert [line for line in lines if line in GROUPS] == list(GROUPS)
    for verb in NAMES:
        assert sum(line.startswith(f"  {verb} ") for line in lines) == 1, verb
    assert "  medsynth demo --out demo" in lines
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 80
    assert main([]) == 2
    assert capsys.readouterr().out == page


def test_training_six_steps_is_three_and_three(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config(phantoms, tmp_path, steps=3)
    assert main(["train", str(config), "--out", str(tmp_path / "run")]) == 0
    assert main(["train", "--resume", str(tmp_path / "run"), "--set", "train.steps=6"]) == 0
    one, two = (torch.load(r / "last.pt", weights_only=True) for r in (trained, tmp_path / "run"))
    for part in ("players", "ema"):
        assert all(torch.equal(one[part][k], two[part][k]) for k in one[part])
    steps = [json.loads(line)["step"]
             for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]  # fmt: skip
    assert steps == [1, 2, 3, 4, 5, 6]
    assert "step 3 to 6" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path / "run"), "--set", "train.steps=3"]) == 0
    assert "all of its 6 steps are done" in capsys.readouterr().err


def test_a_run_is_what_the_contract_says(trained: Path) -> None:
    from safetensors import safe_open

    for name in ("config.yaml", "metrics.jsonl", "last.pt", "model.safetensors"):
        assert (trained / name).exists()
    assert list((trained / "previews").glob("*.png"))
    with safe_open(trained / "model.safetensors", "pt") as file:
        metadata = json.loads(file.metadata()["medsynth"])
    assert "steps: 6" in metadata["config"]
    assert str(trained.parent) not in json.dumps(metadata)  # no path of this machine
    assert metadata["medsynth"]


def test_the_same_seed_trains_the_same_bytes(trained: Path, phantoms: Path, tmp_path: Path) -> None:
    config = small_config(phantoms, tmp_path)
    assert main(["train", str(config), "--out", str(tmp_path / "run")]) == 0
    digests = [hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
               for run in (trained, tmp_path / "run")]  # fmt: skip
    assert digests[0] == digests[1]


def test_two_ranks_train_as_one(phantoms: Path, tmp_path: Path) -> None:
    """Two steps: later, Adam blows the last bits of near-zero gradients up (docs/log.md)."""
    config = small_config(phantoms, tmp_path, steps=2)
    told = (str(config), "--set", "train.precision=fp32")
    train_on_two_ranks(*told, "--out", str(tmp_path / "two"))
    assert main(["train", *told, "--out", str(tmp_path / "one")]) == 0
    one, two = (torch.load(tmp_path / r / "last.pt", weights_only=True) for r in ("one", "two"))
    gaps = [(two["players"][name] - value).abs() for name, value in one["players"].items()]
    gap = torch.cat([g.flatten() for g in gaps])
    assert gap.mean() < 1e-5  # 2e-4 if gradients are not averaged
    # where a gradient is nearly zero, its last bits decide on the sign of an update of 4e-4
    assert (gap > 2e-5).float().mean() < 0.03


def test_every_phantom_is_the_same_whoever_makes_it(phantoms: Path, tmp_path: Path) -> None:
    assert main(["phantom", str(tmp_path / "c"), "--cases", "4", "--spacing-mm", "4", "--healthy",
                 "1", "--test", "1", "--workers", "2"]) == 0  # fmt: skip
    for path in sorted(phantoms.rglob("*.*")):
        if path.is_file():
            twin = tmp_path / "c" / path.relative_to(phantoms)
            assert twin.read_bytes() == path.read_bytes()


def test_one_case_and_one_label_map_are_enough(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = phantoms / "BraTS-PHM-00000-000"
    assert main(["show", str(case), "-o", str(tmp_path / "case.png")]) == 0
    assert (tmp_path / "case.png").stat().st_size > 10_000
    for files in ([phantoms], [case, phantoms / "cohort.json"]):  # as `show gen/*` passes
        assert main(["show", *map(str, files), "-o", str(tmp_path / "all.png")]) == 1
        assert "folder of one case" in capsys.readouterr().err
    assert main(["show", str(phantoms / "nobody"), "-o", str(tmp_path / "all.png")]) == 1
    assert "Check the path" in capsys.readouterr().err
    brain, out = case / f"{case.name}-brain.nii.gz", tmp_path / "coarse-brain.nii.gz"
    assert main(["resample", str(brain), "--spacing-mm", "5", "-o", str(out)]) == 0
    assert read_labels(out, BRAIN).spacing_mm == pytest.approx((5, 5, 5), abs=0.1)
    told = json.loads((tmp_path / "coarse.json").read_text())
    assert told["subject"] == "BraTS-PHM-00000"
    assert told["asked"] == {"spacing_mm": 5.0}
    assert main(["generate", "phantom", str(out), "-o", str(tmp_path / "made")]) == 0
    assert main(["resample", str(brain), "--spacing-mm", "5", "-o", str(out)]) == 1
    assert main(["resample", str(brain), "-o", str(tmp_path / "folder")]) == 2


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("medsynth.commands.phantom.__version__", "9.9", "medsynth"),
        ("medsynth.phantom.REVISION", 99, "revision"),
    ],
)
def test_a_cohort_is_not_finished_by_another_version(
    name: str, value: object, said: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    command = ["phantom", str(tmp_path / "c"), "--spacing-mm", "5", "--cases"]
    assert main([*command, "1"]) == 0
    monkeypatch.setattr(name, value)
    assert main([*command, "2"]) == 1
    assert f"made with the same {said}" in capsys.readouterr().err
    assert not (tmp_path / "c" / "BraTS-PHM-00001-000").exists()


def test_index_check_tissue_and_show(phantoms: Path, tmp_path: Path) -> None:
    cohort = tmp_path / "cohort.json"
    assert main(["index", str(phantoms), "--scheme", "brats2024-gli", "-o", str(cohort),
                 "--split", "training=0.5,test=0.5"]) == 0  # fmt: skip
    assert main(["check", str(cohort)]) == 0
    assert main(["show", str(next(phantoms.rglob("*-t1c.nii.gz"))),
                 str(next(phantoms.rglob("*-brain.nii.gz"))),
                 "-o", str(tmp_path / "p.png")]) == 0  # fmt: skip
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_editing_a_cohort_by_a_recipe(phantoms: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps: [{scale: {volume: [0.9, 1.1]}}]")
    command = ["edit", str(phantoms / "cohort.json"), "-o", str(tmp_path / "e"), "--recipe",
               str(recipe), "--per-case", "2"]  # fmt: skip
    assert main(command) == 0
    assert not (tmp_path / "e/failures.json").exists()
    assert len(list((tmp_path / "e").glob("*/*-brain.nii.gz"))) == 6


def test_tumours_alone_are_not_edited_as_brains(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = cohorts.read(phantoms)
    bare = Cohort(whole.scheme, tuple(replace(case, brain=None) for case in whole))
    cohorts.write(tmp_path / "bare.json", bare)
    command = ["edit", str(tmp_path / "bare.json"), "-o", str(tmp_path / "e")]
    assert main([*command, "--op", "mirror"]) == 1
    _says(capsys, "label map with tissue, found one of tumour alone", "--onto")
    assert not (tmp_path / "e").exists()
    healthy = next(phantoms.glob("*-00003-000/*-brain.nii.gz"))
    cohorts.write(tmp_path / "bare.json", Cohort(whole.scheme, bare.cases[:1]))
    assert main([*command, "--onto", str(healthy)]) == 0  # its tissue is the host's
    (made,) = (tmp_path / "e").glob("*/*-brain.nii.gz")
    assert read_labels(made, BRAIN).has("GM")
    seg = next(phantoms.glob("*-00000-000/*-seg.nii.gz"))
    alone = [
        "edit",
        str(seg),
        "--scheme",
        whole.scheme,
        "-o",
        str(tmp_path / "s"),
        "--op",
        "mirror",
    ]
    assert main(alone) == 0
    assert [p.name[-11:] for p in (tmp_path / "s").glob("*/*.nii.gz")] == ["-seg.nii.gz"]


def without_enhancement(path: Path) -> None:
    """What a person does in a viewer: the file is replaced, its sidecar is not."""
    labels = read_labels(path, BRAIN)
    drawn = labels.data.copy()
    drawn[drawn == BRAIN.value("ET")] = BRAIN.value("NCR")
    write_labels(path, labels.with_data(drawn), overwrite=True)


def sidecar(path: Path) -> dict[str, Any]:
    name = path.name.removesuffix(".nii.gz").removesuffix("-brain")
    found: dict[str, Any] = json.loads((path.parent / f"{name}.json").read_text())
    return found


def test_a_change_by_hand_is_told_and_does_not_pretend_to_replay(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Saved over the file that `edit` made, beside its sidecar, as the README says."""
    brain = next(phantoms.rglob("*-brain.nii.gz"))
    one, two, out = tmp_path / "one.nii.gz", tmp_path / "two.nii.gz", tmp_path / "made"
    assert main(["edit", str(brain), "-o", str(one), "--op", "mirror"]) == 0
    assert "changed_by_hand" not in sidecar(one)
    without_enhancement(one)
    assert main(["edit", str(one), "-o", str(two), "--op", "scale:1.1"]) == 0
    assert sidecar(two)["changed_by_hand"] is True
    for source in (one, two):
        assert main(["generate", str(trained), str(source), "-o", str(out)]) == 0
        assert sidecar(next(out.rglob(f"{source.name[:3]}*-brain.nii.gz")))["changed_by_hand"]
    for told in (tmp_path / "one.json", tmp_path / "two.json"):
        capsys.readouterr()
        replay = ["edit", str(brain), "--recipe", str(told), "-o", str(tmp_path / "three.nii.gz")]
        assert main(replay) != 0
        assert "that somebody changed by hand" in capsys.readouterr().err


def test_only_a_change_by_hand_counts_as_one(phantoms: Path, tmp_path: Path) -> None:
    """Neither another compression, nor other voxels by `resample`, nor the tumour alone."""
    cohort, edited = tmp_path / "cohort", tmp_path / "edited.nii.gz"
    shutil.copytree(phantoms, cohort)
    brain = next(cohort.rglob("*-brain.nii.gz"))
    assert main(["resample", str(cohort), "--spacing-mm", "5", "-o", str(tmp_path / "5mm")]) == 0
    nib.save(nib.load(brain), brain)
    seg = brain.with_name(brain.name.replace("brain", "seg"))
    for source in (brain, seg, next((tmp_path / "5mm").rglob("*-brain.nii.gz"))):
        told = ["--scheme", "brats2023"] if source == seg else []
        again = ["edit", str(source), "-o", str(edited), "--op", "mirror", "--overwrite", *told]
        assert main(again) == 0
        assert "changed_by_hand" not in sidecar(edited)
    without_enhancement(brain)
    assert main(["edit", str(brain), "-o", str(edited), "--op", "mirror", "--overwrite"]) == 0
    assert sidecar(edited)["changed_by_hand"] is True
    assert main(["resample", str(cohort), "--spacing-mm", "4.5", "-o", str(tmp_path / "b")]) == 0
    assert sidecar(tmp_path / "b" / brain.parent.name / brain.name)["changed_by_hand"] is True


def test_a_sidecar_replays_its_edits(phantoms: Path, tmp_path: Path) -> None:
    brain = next(phantoms.glob("*-00000-000/*-brain.nii.gz"))
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps: [{scale: {volume: [0.9, 1.1]}}, {rotate: {z_deg: [-9, 9]}}]")
    for name, seed, how in (("a", "5", recipe), ("b", "9", tmp_path / "a.json")):
        assert main(["edit", str(brain), "-o", str(tmp_path / f"{name}.nii.gz"), "--recipe",
                     str(how), "--seed", seed]) == 0  # fmt: skip
    one, two = (read_array(tmp_path / f"{name}.nii.gz") for name in "ab")
    assert (one == two).all()


def test_the_sidecar_names_the_other_brain(phantoms: Path, tmp_path: Path) -> None:
    brain, host = (next(phantoms.glob(f"*-0000{n}-000/*-brain.nii.gz")) for n in (0, 3))
    out = tmp_path / "onto.nii.gz"
    assert main(["edit", str(brain), "-o", str(out), "--onto", str(host)]) == 0
    onto = json.loads((tmp_path / "onto.json").read_text())["onto"]
    digest = hashlib.sha256(host.read_bytes()).hexdigest()
    assert onto == {"label": host.name, "sha256": digest}


def test_label_maps_by_name_or_by_header(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with a map of one's own name beside a `-brain`, a tumour map and a scan."""
    place, source = tmp_path / "maps", next(phantoms.glob("*-00000-000"))
    place.mkdir()
    for path in source.glob("*.nii.gz"):
        shutil.copy(path, place)
    shutil.copy(next(source.glob("*-brain.nii.gz")), place / "mine.nii.gz")
    assert main(["generate", str(trained), str(place), "-o", str(tmp_path / "s")]) == 0
    assert {p.parent.name for p in (tmp_path / "s").glob("*/*.json")} == {source.name, "mine"}
    _says(capsys, "5 files that are no brain label maps", "2 scans")
    assert main(["generate", str(trained), str(place), "-o", str(tmp_path / "s")]) == 0
    _says(capsys, "2 of them from before")
    assert main(["show", str(place / "mine.nii.gz"), "-o", str(tmp_path / "mine.png")]) == 0


def test_index_says_how_it_was_split(phantoms: Path, tmp_path: Path,
                                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert main(["index", str(phantoms), "--scheme", "brats2023", "-o", str(tmp_path / "c.json"),
                 "--split", "training=0.75,test=0.25"]) == 0  # fmt: skip
    text = capsys.readouterr().err
    assert "training: 3 cases" in text
    assert re.search(r"test: 1 case\b", text)


def test_index_warns_of_cohorts_too_small_to_judge_by(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["index", str(phantoms), "--scheme", "brats2023", "-o", str(tmp_path / "c.json")]
    assert main([*command, "--split", "training=0.75,test=0.25"]) == 0
    _says(capsys, "3 training and 1 test people are too few", "utility is judged from 6 test",
          "privacy from 8 training and 8 held-out", "fidelity from 8 people on")  # fmt: skip
    assert enough.short_of(8, 8) == []
    assert [text.split()[0] for text in enough.short_of(20, 6)] == ["privacy"]


def test_index_does_not_replace_another_cohort(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its split decides who was trained on; the same cohort again is no change."""
    command = ["index", str(phantoms), "--scheme", "brats2023", "-o", str(tmp_path / "c.json")]
    split = ["--split", "training=0.75,test=0.25"]
    assert main([*command, *split]) == 0
    before = (tmp_path / "c.json").read_bytes()
    assert main([*command, *split]) == 0
    capsys.readouterr()
    assert main(command) == 1
    _says(capsys, "--overwrite")
    assert (tmp_path / "c.json").read_bytes() == before
    assert main([*command, "--overwrite"]) == 0
    assert (tmp_path / "c.json").read_bytes() != before


def test_generate_warns_of_voxels_that_the_model_has_not_seen(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load(trained).spacing_mm == (4, 4, 4)
    fine = tmp_path / "fine"
    assert main(["resample", str(phantoms), "-o", str(fine), "--spacing-mm", "5"]) == 0
    brain = next(fine.glob("*-00000-000/*-brain.nii.gz"))
    capsys.readouterr()
    assert main(["generate", str(trained), str(brain), "-o", str(tmp_path / "s")]) == 0
    _says(
        capsys,
        "warning: 1 of 1 label maps",
        "(5 × 5 × 5",
        "in BraTS-PHM-00000-000, not 4 × 4 × 4 mm",
    )
    own = next(phantoms.glob("*-00000-000/*-brain.nii.gz"))
    assert main(["generate", str(trained), str(own), "-o", str(tmp_path / "t")]) == 0
    assert "warning" not in capsys.readouterr().err


def test_every_option_is_explained() -> None:
    """Of all verbs but that of tables."""
    unexplained, parsers = [], [parser()]
    for each in parsers:
        for action in each._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            elif not action.help and not each.prog.endswith("table"):
                unexplained.append(f"{each.prog}: {action.dest}")
    assert unexplained == []


def test_a_stopped_demo_says_how_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training within it would name a command that does not finish the demo."""

    def stopped(self: Demo) -> int:
        raise Interrupted(15, "go on with: medsynth train --resume demo/run")

    monkeypatch.setattr(Demo, "_run", stopped)
    assert main(["demo", "--out", str(tmp_path), "--steps", "9"]) == 143
    words = capsys.readouterr().err
    assert f"`medsynth demo --out {tmp_path} --steps 9` goes on where it was" in words
    assert "--resume" not in words


def _says(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    text = capsys.readouterr().err
    assert "Traceback" not in text
    for word in words:
        assert word in text, text


def test_healthy_cases_of_a_cohort_are_left_out_of_edits(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = cohorts.read(phantoms)
    healthy = [c for c in whole if c.brain and not read_labels(c.brain, BRAIN).has("WT")]
    assert healthy
    edit = ["edit", str(phantoms), "-o", str(tmp_path / "edited"), "--op", "mirror"]
    assert main(edit) == 0
    assert f"left out {', '.join(c.name for c in healthy)}: no tumour" in capsys.readouterr().err
    assert len(cohorts.read(tmp_path / "edited")) == len(whole) - len(healthy)
    cohorts.write(tmp_path / "none" / "cohort.json", Cohort(whole.scheme, tuple(healthy)))
    alone = ["edit", str(tmp_path / "none"), "-o", str(tmp_path / "e"), "--op", "mirror"]
    assert main(alone) == 1
    assert "a case with a tumour to edit" in capsys.readouterr().err


def test_mistakes_are_answered_in_words(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brain = next(phantoms.glob("*-00000-000/*-brain.nii.gz"))
    healthy = next(phantoms.glob("*-00003-000/*-brain.nii.gz"))
    seg = next(phantoms.glob("*-00000-000/*-seg.nii.gz"))
    out = tmp_path / "x.nii.gz"
    bad = tmp_path / "bad.yaml"
    bad.write_text("data: {cohort: c, pach: [1]}")
    spent = [
        (["train", str(bad)], 2, ("data.patch", "bad.yaml")),
        (["train", "nowhere.yaml"], 2, ("nowhere.yaml",)),
        (["train", "--resume", str(tmp_path)], 2, ("last.pt",)),
        (["train", str(small_config(phantoms, tmp_path)), "--out", str(trained)], 1, ("--resume",)),
        (["edit", str(healthy), "-o", str(out), "--op", "mirror"], 1, ("a tumour to edit",)),
        (["edit", str(brain), "-o", str(out), "--op", "miror"], 2, ("mirror",)),
        (["edit", str(brain), "-o", str(out)], 2, ("--op",)),
        (["edit", str(brain), "-o", str(out), "--op", "shift:90,0,0"], 1, ("outside",)),
        (["edit", str(brain), "-o", str(brain), "--op", "mirror"], 1, ("exists",)),
        (["generate", str(trained), str(tmp_path / "no.nii.gz"), "-o", str(tmp_path)], 2, ()),
        (["generate", str(tmp_path), str(brain), "-o", str(tmp_path)], 2, ("model.safetensors",)),
        (["generate", str(trained), str(seg), "-o", str(tmp_path / "s")], 1, ("medsynth tissue",)),
        (["generate", str(trained), str(brain), "-o", str(tmp_path), "--shard", "3/3"], 2, ()),
        (["index", str(tmp_path / "nothing"), "--scheme", "brats2021"], 1, ("a folder",)),
        (["index", str(phantoms), "--scheme", "brats1999"], 2, ("brats2021",)),
        (["check", str(tmp_path / "none.json")], 1, ("none.json",)),
        (["phantom", str(tmp_path / "p"), "--cases", "0"], 2, ("--cases",)),
        (["edit", str(seg), "-o", str(out), "--op", "mirror"], 1, ("--scheme",)),
        (["edit", str(brain), "-o", str(out), "--op", "mirror", "--per-case", "2"], 2,
         ("--seed",)),
        (["edit", str(brain), "-o", str(out), "--op", "shift:200,0,0"], 1,
         ("100.0 % of it outside",)),
        (["edit", str(brain), "-o", str(out), "--op", "relabel:ED=WM"], 1, ("remove",)),
        (["edit", str(brain), "-o", str(out), "--recipe", str(brain)], 2, ("UTF-8",)),
        (["train", str(brain), "--out", str(out)], 2, ("UTF-8",)),
        (["train", "--resume", str(trained), "--set", "generator.head=5"], 1, ("size mismatch",)),
        (["show", str(brain), "-o", str(tmp_path / "x.foo")], 2, ("*.png",)),
    ]  # fmt: skip
    before = (trained / "config.yaml").read_bytes()
    for command, code, words in spent:
        assert main(command) == code, command
        _says(capsys, *words)
    assert (trained / "config.yaml").read_bytes() == before


def test_a_model_for_other_channels_is_refused(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["-o", str(tmp_path / "t")]
    assert main(["tissue", str(phantoms), *out, "--model", str(trained)]) == 1
    _says(capsys, "makes label maps", "`tissue`, the one in the box")
    assert main(["generate", "tissue", str(phantoms), *out]) == 1
    _says(capsys, "makes scans from labels", "`phantom`, the one in the box")
    assert not (tmp_path / "t").exists()


def test_the_network_labels_tissue(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tissue.yaml"
    config.write_text(f"""
data: {{cohort: {phantoms / "cohort.json"}, source: [t1n, t2w], target: [labels],
  patch: [16, 16, 16]}}
generator: {{widths: [8, 8], head: 4}}
discriminator: {{kind: patch, widths: [8]}}
train: {{steps: 3}}
""")
    assert main(["train", str(config), "--out", str(tmp_path / "run")]) == 0
    assert main(["tissue", str(phantoms / "cohort.json"), "-o", str(tmp_path / "t"),
                 "--model", str(tmp_path / "run")]) == 0  # fmt: skip
    made = sorted((tmp_path / "t").glob("*/*-brain.nii.gz"))
    assert len(made) == 4
    truth = nib.load(next(phantoms.glob("*-00000-000/*-brain.nii.gz")))
    labels = np.asarray(nib.load(made[0]).dataobj)
    assert ((labels > 0) == (np.asarray(truth.dataobj) > 0)).all()
    sick = BRAIN.mask(labels, "lesion")
    assert (sick == BRAIN.mask(np.asarray(truth.dataobj), "lesion")).all()
    assert not BRAIN.mask(labels, "fine").any()
    edited = tmp_path / "edited.nii.gz"
    assert main(["edit", str(made[0]), "-o", str(edited), "--op", "mirror"]) == 0
    told = json.loads((tmp_path / "edited.json").read_text())
    assert told["subject"] == cohorts.read(phantoms).cases[0].subject
    assert not list_cases(tmp_path / "t").cases  # no scans stand there
    for sidecar in (tmp_path / "t").glob("*/*.json"):
        sidecar.unlink()  # as if killed between the map and its sidecar
    assert main(["tissue", str(phantoms / "cohort.json"), "-o", str(tmp_path / "t"),
                 "--model", str(tmp_path / "run")]) == 0  # fmt: skip
    assert len(list((tmp_path / "t").glob("*/*.json"))) == 4
    assert "warning" not in capsys.readouterr().err
    shutil.rmtree(made[1].parent)  # some are there, some are not
    again = ["tissue", str(phantoms), "-o", str(tmp_path / "t"), "--model"]
    assert main([*again, str(tmp_path / "run")]) == 0
    there = {p: p.read_bytes() for p in (tmp_path / "t").rglob("*.*")}
    shutil.rmtree(made[2].parent)
    assert main([*again, "tissue"]) == 1
    _says(capsys, "for label maps by the network", "Give another -o")
    kept = {p: b for p, b in there.items() if made[2].parent not in p.parents}
    assert {p: p.read_bytes() for p in (tmp_path / "t").rglob("*.*")} == kept
    assert main(["tissue", str(phantoms), "-o", str(tmp_path / "u"), "--model", "tissue"]) == 0
    _says(capsys, "4 of 4 label maps have voxels that the network was not trained on (4 × 4 × 4 mm")
    assert "subject_from" not in told  # whose brain it is need not be guessed from a file's name


def test_nothing_is_downloaded(tmp_path: Path) -> None:
    """From a phantom to scans and to tissue by atlas and by network, without sockets."""
    program = """
import socket, sys
from medsynth.cli import main
def refused(*arguments, **options):
    raise AssertionError("a connection was asked for")
socket.socket.connect = socket.getaddrinfo = refused
people, scans, atlas, network = (sys.argv[1] + name for name in ("/p", "/s", "/a", "/n"))
for command in (
    ["phantom", people, "--cases", "1", "--spacing-mm", "4"],
    ["generate", "phantom", people, "-o", scans],
    ["tissue", people, "-o", atlas],
    ["tissue", people, "-o", network, "--model", "tissue"],
):
    assert main(command) == 0, command
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert len(list(tmp_path.glob("[san]/*/*-brain.nii.gz"))) == 3
