"""The utility table: guard, steps, resuming, columns."""

import json
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from medsynth.cli import main
from medsynth.core.labels import BRAIN, BRATS2023, LabelScheme
from medsynth.errors import DataError
from medsynth.evaluation import origin, segmentors, utility, utility_words
from medsynth.evaluation.records import Section
from medsynth.evaluation.segmentors import Recipe, SegmentationGame
from medsynth.evaluation.utility import TRAININGS, Axes, Cell, Fold
from medsynth.imaging.examples import Example
from medsynth.imaging.game import ImageBatch
from medsynth.io import cohort as cohorts
from medsynth.io.nifti import read_labels, write_labels
from medsynth.training.game import Noise, Share


def config(coarse: Path, generated: Path, folder: Path, more: str = "") -> Path:
    path = folder / "utility.yaml"
    path.write_text(f"""
kind: utility
real: {coarse / "cohort.json"}
synthetic: {generated / "cohort.json"}
phantoms: {generated / "cohort.json"}
training: [real, real+synthetic, synthetic, synthetic+10%real, real+phantoms]
segmentors: [dynunet]
augmentation: [true]
seeds: 1
steps: 3
batch: 2
patch: [32, 32, 32]
{more}
""")
    return path


def test_the_guard_drops_whoever_descends_from_the_test_set(coarse: Path, generated: Path) -> None:
    test, made = cohorts.read(coarse).part("test"), cohorts.read(generated)
    guard = origin.guard(test.cases, made)
    assert {name for name, _ in guard.dropped} == {case.name for case in test}
    assert all("ancestors" in why for _, why in guard.dropped)
    assert len(guard.kept) == 8
    assert guard.unknown == ()
    with pytest.raises(DataError, match="do not descend"):
        origin.guard(cohorts.read(coarse).cases, made)


def test_the_table_its_report_and_going_on(
    coarse: Path, generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    command = ["evaluate", "utility", str(config(coarse, generated, tmp_path)), "-o", str(out)]
    assert main([*command, "--json"]) == 0
    printed = capsys.readouterr()
    assert "left out BraTS-PHM-00008-000" in printed.err
    assert "warning: no `model` given" in printed.err
    records = json.loads(printed.out)
    dice = [r for r in records if r["metric"] == "dice" and r["where"]["region"] == "WT"]
    assert {r["where"]["training"] for r in dice} == set(TRAININGS) - {"phantoms"}
    assert {(r["steps"], r["seeds"], r["n"]) for r in dice} == {(3, 1, 4)}
    p = next(r for r in records if r["metric"] == "dice_p")
    assert p["value"] is None
    assert p["where"]["refused"] == "needs 6 test people"
    assert "synthetic+10%real (1 case)" in (out / "report.html").read_text()
    report = json.loads((out / "report.json").read_text())
    assert report["schema"] == "medsynth-report/1"
    cells = sorted((out / "cells").glob("*.json"))
    assert len(cells) == 5
    times = {c: c.stat().st_mtime_ns for c in cells}
    gone = cells[0].read_bytes()
    cells[0].unlink()
    before = (out / "report.json").read_bytes()
    assert main(command) == 0
    assert cells[0].read_bytes() == gone
    assert f"4 of 5 cells already there, in {out / 'cells'}" in capsys.readouterr().err
    assert all(c.stat().st_mtime_ns == t for c, t in times.items() if c != cells[0])
    assert (out / "report.json").read_bytes() == before


def test_learning_curves(coarse: Path, generated: Path, tmp_path: Path) -> None:
    path, out = config(coarse, generated, tmp_path, "shares: [0.5, 1.0]\nratios: [1.0, 2.0]"), "r"
    command = ["evaluate", "utility", str(path), "-o", str(tmp_path / out), "--set", "steps=1"]
    assert main([*command, "--set", "training=[real,real+synthetic]"]) == 0
    titles = {t["title"] for t in json.loads((tmp_path / out / "report.json").read_text())
              ["sections"]["utility"]["tables"]}  # fmt: skip
    assert "Learning curve: share of the real cases" in titles
    assert "Learning curve: synthetic cases per real one" in titles
    made = {p.name for p in (tmp_path / out / "pictures").iterdir()}
    assert {"utility-share.png", "utility-ratio.png"} <= made


def test_a_generator_that_saw_test_subjects_is_refused(
    phantoms: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = json.loads((phantoms / "cohort.json").read_text())["training"][0]["subject"]
    command = ["evaluate", "utility", str(tmp_path / "u.yaml"), "-o", str(tmp_path / "report")]
    for model, code, words in (
        (f"model: {trained}\nfolds: [{{test: [{seen}]}}]", 1, f"one trained on {seen}"),
        (f"folds: [{{test: [{seen}], model: {trained}}}]", 1, f"one trained on {seen}"),
        (f"folds: [{{test: [{seen}], model: nowhere}}]", 2, "in nowhere"),
    ):
        config(phantoms, phantoms, tmp_path, model).rename(tmp_path / "u.yaml")
        assert main(command) == code
        assert words in capsys.readouterr().err


def test_synthetic_cases_without_sidecars_are_used_and_named(
    coarse: Path, generated: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    listing = json.loads((generated / "cohort.json").read_text())
    for case in listing["training"]:
        for key in ("label", "brain"):
            case[key] = str(_moved(generated / case[key], bare))
        case["image"] = [str(_moved(generated / image, bare)) for image in case["image"]]
    (bare / "cohort.json").write_text(json.dumps(listing))
    guard = origin.guard(cohorts.read(coarse).part("test").cases, cohorts.read(bare))
    assert len(guard.unknown) == 12
    sizes = utility_words.Sizes(8, 4, 12, 0, 0, len(guard.unknown), 1)
    axes = Axes(("real",), ("dynunet",), (True,), 1)
    section = utility_words.section([], axes, Recipe("dynunet", True, 3), sizes)
    assert section.verdicts[0].grade == "bad"
    assert "could not work for 12" in section.verdicts[0].text


def results(seeds: int, people: int, lacking: int) -> list[dict[str, Any]]:
    """Cells of two columns; the last `lacking` people have no enhancing tumour, which the mixed
    column always finds out and the real one never does."""
    made = []
    for seed, (training, gain) in product(range(seeds), (("real", 0.0), ("real+synthetic", 0.1))):
        cell = asdict(Cell(0, training, "gan", False, seed))
        rows = [
            {
                "case": f"c{i}", "subject": f"s{i}", "region": region, "hd95": 9.0,
                "lesion_dice": 0.2, "lesion_hd95": 9.0, "present": present,
                "dice": 0.5 + gain + 0.02 * i if present else float(gain > 0),
            }
            for i in range(people)
            for region in ("WT", "TC", "ET")
            for present in [region != "ET" or i < people - lacking]
        ]  # fmt: skip
        made.append({"cell": cell, "steps": 3, "scores": rows})
    return made


def words_of(seeds: int, people: int, lacking: int) -> Section:
    return told_of(results(seeds, people, lacking), seeds, people)


def told_of(made: list[dict[str, Any]], seeds: int, people: int) -> Section:
    axes = Axes(("real", "real+synthetic"), ("gan",), (False,), seeds)
    recipe = Recipe("gan", False, 3)
    records = list(utility.figures(made, axes, recipe, _key()))
    return utility_words.section(
        records, axes, recipe, utility_words.Sizes(4, people, 8, 0, 0, 0, 1)
    )


def test_a_map_edited_by_hand_and_renamed_is_not_vouched_for(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Saved under another name it has no sidecar: nobody knows that it is a test person's brain,
    and neither an edit on top nor generation may make it look known."""
    person = next(case for case in cohorts.read(phantoms) if case.brain)
    assert person.brain is not None
    labels = read_labels(person.brain, BRAIN)
    shown = labels.data.copy()
    shown[shown == BRAIN.value("ET")] = BRAIN.value("NCR")
    write_labels(tmp_path / "mine.nii.gz", labels.with_data(shown))
    again = ["edit", str(tmp_path / "mine.nii.gz"), "-o", str(tmp_path / "again.nii.gz")]
    assert main([*again, "--op", "mirror"]) == 0
    for name, warned in (("mine", True), ("again", True)):
        capsys.readouterr()
        source, out = str(tmp_path / f"{name}.nii.gz"), tmp_path / f"made-{name}"
        assert main(["generate", str(trained), source, "-o", str(out)]) == 0
        assert ("no sidecar that says whose brain" in capsys.readouterr().err) == warned
        assert origin.guard([person], cohorts.read(out)).unknown == (name,)
    edit = ["edit", str(person.brain), "-o", str(tmp_path / "known.nii.gz"), "--op", "mirror"]
    assert main(edit) == 0  # its own file has a sidecar: the person is known, and is left out
    assert main(["generate", str(trained), str(tmp_path / "known.nii.gz"),
                 "-o", str(tmp_path / "made")]) == 0  # fmt: skip
    with pytest.raises(DataError, match="do not descend from test subjects"):
        origin.guard([person], cohorts.read(tmp_path / "made"))


def test_dice_where_the_region_is_present_stands_beside_the_convention() -> None:
    section = words_of(1, 3, 1)
    table = next(t for t in section.tables if t.title.startswith("Dice, enhancing"))
    assert "predicting nothing gives 0.33" in table.title  # which is all that the gain is
    assert table.rows[0][2:] == (
        "0.34; where present 0.51 (n = 2)", "0.74; where present 0.61 (n = 2)",
    )  # fmt: skip
    whole = next(t for t in section.tables if t.title.startswith("Dice, whole"))
    assert whole.rows[0][2:] == ("0.52", "0.62")


def test_differences_and_p_stand_in_the_tables() -> None:
    few, enough = words_of(1, 3, 0), words_of(3, 6, 0)
    for section, cell, p in ((few, "0.10", "needs 6 test people"), (enough, "0.10 [0.10", "0.031")):
        table = next(t for t in section.tables if t.title.startswith("Difference in Dice"))
        assert table.rows[0][3].startswith(cell)
        assert table.rows[0][4] == p
    assert "[" not in few.tables[0].rows[0][2]


def test_below_the_limit_nothing_is_said_to_exclude_0() -> None:
    few, enough = words_of(1, 3, 0), words_of(3, 6, 0)
    assert "excludes" not in few.verdicts[1].text
    assert "needs 6 test people and 3 seeds to be judged" in few.verdicts[1].text
    assert few.verdicts[1].grade == "unknown"
    assert "excludes 0 in 1 of 1" in enough.verdicts[1].text
    assert enough.verdicts[1].grade == "good"


def test_a_region_that_was_not_learnt_is_no_verdict_on_the_data() -> None:
    made = results(1, 6, 2)
    assert not any("hardly found" in v.text for v in told_of(made, 1, 6).verdicts)
    for row in made[1]["scores"]:
        if row["region"] == "ET" and row["present"]:
            row["dice"] = 0.0
    (told,) = [v for v in told_of(made, 1, 6).verdicts if "hardly found" in v.text]
    assert told.grade == "unknown"
    assert told.text.startswith(
        "Enhancing tumour was hardly found in any of 4 test people with it by real+synthetic (gan,"
    )


def _moved(path: Path, folder: Path) -> Path:
    target = folder / path.name
    target.write_bytes(path.read_bytes())
    return target


def _key():  # type: ignore[no-untyped-def]
    from medsynth.core.random import Key

    return Key(0)


def example(name: str) -> Example:
    return Example(name, Path(name), BRATS2023, name)


def test_every_column_gets_the_same_steps_and_its_share() -> None:
    real, made = tuple(map(example, "abcde")), tuple(map(example, "uvwxyz"))
    fold = Fold(real, (), made, tuple(map(example, "pq")))
    for training in TRAININGS:
        cell = Cell(0, training, "gan", True, 0)
        assert utility.courses(cell, fold, 90)[-1][1] == 90
    tuned = utility.courses(Cell(0, "synthetic+10%real", "gan", True, 0), fold, 90)
    assert [len(cases) for cases, _ in tuned] == [6, 1]
    assert tuned[0][1] == 60
    mixed, _ = utility.courses(Cell(0, "real+synthetic", "gan", True, 0, ratio=2.0), fold, 90)[0]
    share = sum(e.name in "uvwxyz" for e in mixed) / len(mixed)
    assert share == pytest.approx(2 / 3, abs=0.05)
    few, _ = utility.courses(Cell(0, "real", "gan", True, 0, share=0.4), fold, 90)[0]
    assert len(few) == 2


def _tumours(cohort: Path, cache: Path) -> list[Example]:
    """Test cases, prepared."""
    from medsynth.core.cohort import MODALITIES
    from medsynth.imaging.examples import prepare

    part = cohorts.read(cohort).part("test")
    return [e for e in prepare(part, MODALITIES, "tumour", cache) if isinstance(e, Example)]


@pytest.mark.parametrize("kind", segmentors.KINDS)
def test_the_same_seed_gives_the_same_segmentor(kind: str, coarse: Path, tmp_path: Path) -> None:
    cases = _tumours(coarse, tmp_path)
    recipe = Recipe(kind, True, 2, 1, (48, 48, 48), seed=5)
    one, two = (segmentors.train(recipe, [(cases, 2)], BRATS2023, 4) for _ in range(2))
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    if kind == "dynunet":
        assert one.voxels_seen.sum() == 2 * 48**3  # two steps of a patch
        tuned = segmentors.train(recipe, [(cases, 1), (cases, 2)], BRATS2023, 4)
        assert tuned.voxels_seen.sum() == 48**3  # of the last course alone
    named = segmentors.predict(one, recipe, cases[0].scans, BRATS2023)
    assert named.shape == cases[0].labels.shape
    assert set(named.ravel()) <= {0, 1, 2, 3}


def test_the_rate_of_a_dynunet_falls_to_0_in_each_of_its_courses(
    coarse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.9 is nnU-Net's power; a GAN is left at its rate."""
    cases = _tumours(coarse, tmp_path)
    rates: list[float] = []
    step = torch.optim.Adam.step

    def noted(optimizer: torch.optim.Adam, closure: None = None) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        step(optimizer, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    courses = [(cases[:1], 3), (cases[1:], 5)]
    segmentors.train(Recipe("dynunet", False, 5, 1, (32, 32, 32)), courses, BRATS2023, 4)
    left = np.array([1, 2 / 3, 1 / 3, 1, 1 / 2])
    assert rates == pytest.approx(list(2e-3 * left**0.9))
    rates.clear()
    segmentors.train(Recipe("gan", False, 5, 1, (48, 48, 48)), courses, BRATS2023, 4)
    assert set(rates) == {2e-3, 2e-4}


@pytest.mark.parametrize("kind", segmentors.KINDS)
@pytest.mark.parametrize(("habit", "other"), [("USUAL", segmentors.PLAIN), ("SPECK", 0.0)])
def test_results_of_other_augmentation_or_specks_are_not_kept(
    kind: str, habit: str, other: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(kind, True, 3)
    before = segmentors.habits(recipe)
    monkeypatch.setattr(segmentors, habit, other)
    assert segmentors.habits(recipe) != before


def test_missing_enhancing_tumour_costs_more_than_missing_oedema() -> None:
    truth = torch.zeros(1, 4, 8, 8, 8)
    truth[:, 0] = 1
    index = {structure: BRATS2023.abbreviations.index(structure) for structure in ("ED", "ET")}
    for at, channel in enumerate(index.values()):
        truth[:, [0, channel], 2 * at + 1] = truth[:, [channel, 0], 2 * at + 1]
    network = torch.nn.Identity()
    network.register_buffer("voxels_seen", torch.zeros(4))
    game = SegmentationGame(network, BRATS2023)
    noise = Noise(0, Share(0, 1, 1), torch.device("cpu"))
    cost = {}
    for structure, channel in index.items():
        said = truth.clone()
        said[:, 0] += said[:, channel]
        said[:, channel] = 0
        batch = ImageBatch(10 * said, truth, None, None)
        cost[structure] = float(game.loss("segmentor", batch, noise)[0])
    assert cost["ET"] > 2 * cost["ED"]
    assert torch.equal(network.voxels_seen, 2 * truth.sum((0, 2, 3, 4)))  # it was shown it twice


def test_cells_of_another_loss_or_window_are_not_taken_for_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = Fold((example("a"),), (example("b"),), (), ())

    def names() -> list[Path]:
        return [
            utility.result_file(
                tmp_path, Cell(0, "real", kind, True, 0), fold, Recipe(kind, True, 3)
            )
            for kind in segmentors.KINDS
        ]

    gan, dynunet = names()
    with monkeypatch.context() as patch:
        patch.setattr(segmentors, "FLIPS", segmentors.FLIPS[:1])
        assert not set(names()) & {gan, dynunet}
    for habit in ("CONTEXT", "FALL", "KEPT"):
        with monkeypatch.context() as patch:
            patch.setattr(segmentors, habit, 1.0)
            assert names()[0] == gan
            assert names()[1] != dynunet


class Sure(torch.nn.Module):
    """A network that scores enhancing tumour above oedema by as much as the first scan says."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("voxels_seen", torch.zeros(len(BRATS2023.labels)))

    def forward(self, scans: torch.Tensor, *_: object) -> torch.Tensor:
        scores = torch.full((len(scans), len(BRATS2023.labels), *scans.shape[2:]), -9.0)
        scores[:, BRATS2023.abbreviations.index("ED")] = 0
        scores[:, BRATS2023.abbreviations.index("ET")] = scans[:, 0]
        return scores


def test_what_counted_more_in_the_loss_must_be_surer_to_be_named() -> None:
    """At a weight w the loss teaches w·p instead of p; ED counts 1, ET 3."""
    edge = np.log(segmentors.WEIGHTS["ET"])
    scans = np.full((4, 32, 32, 32), edge - 0.05, np.float32)
    scans[:, 16:] = edge + 0.05
    named = segmentors.predict(Sure(), Recipe("dynunet", True, 1), scans, BRATS2023)
    assert (named[:16] == BRATS2023.value("ED")).all()
    assert (named[16:] == BRATS2023.value("ET")).all()
    named = segmentors.predict(Sure(), Recipe("gan", True, 1), scans, BRATS2023)
    assert (named == BRATS2023.value("ET")).all()


@pytest.mark.parametrize("kind", segmentors.KINDS)
def test_left_and_right_are_read_alike_by_who_trained_on_mirrored_brains(kind: str) -> None:
    """The mirror image of a case is named as the mirror image of its names."""
    torch.manual_seed(0)
    scans = np.random.default_rng(0).random((4, 56, 48, 48), np.float32)
    for augmented in (True, False):
        recipe = Recipe(kind, augmented, 1)
        network = segmentors.blank(recipe, BRATS2023, 4).eval()
        named, mirrored = (
            segmentors.predict(network, recipe, s, BRATS2023) for s in (scans, scans[:, ::-1])
        )
        assert len(np.unique(named)) > 1
        assert (mirrored[::-1] == named).all() == augmented


@pytest.mark.parametrize("kept", [0, segmentors.KEPT])
def test_a_tumour_is_read_by_what_it_is_made_of_itself(
    kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores of a world of one mixture become those of another, by Bayes, without being told it, as
    far as what was learnt is let go; how likely tumour is does not change."""
    monkeypatch.setattr(segmentors, "KEPT", kept)
    names, scheme = ("NCR", "ED", "ET"), BRATS2023
    at = [scheme.abbreviations.index(name) for name in names]
    learnt, own = torch.tensor([0.35, 0.4, 0.25]), torch.tensor([0.59, 0.4, 0.01])
    rng = np.random.default_rng(0)
    made_of = torch.from_numpy(rng.choice(3, (30, 30, 30), p=[0.59, 0.4, 0.01]))
    seen = made_of + 0.7 * torch.from_numpy(rng.standard_normal(made_of.shape))
    evidence = -((seen - torch.arange(3).view(-1, 1, 1, 1)) ** 2) / (2 * 0.7**2)
    scores = torch.full((4, 30, 30, 30), -9.0)
    scores[at] = (evidence + learnt.log().view(-1, 1, 1, 1)).float()
    seen = torch.zeros(4)
    seen[0], seen[at] = 5000, 1000 * learnt
    where = torch.ones(made_of.shape, dtype=torch.bool)
    before = scores.clone()
    adjusted = segmentors._with_own_priors(scores, seen, where, scheme)
    assert torch.equal(scores, before)
    wanted = (evidence + own.log().view(-1, 1, 1, 1)).softmax(0).float()
    if not kept:
        torch.testing.assert_close(adjusted[at].softmax(0), wanted, atol=0.05, rtol=0)
    named = adjusted[at].softmax(0).flatten(1).mean(1)
    priors = learnt * (adjusted - scores)[at, 0, 0, 0].exp()
    fixed = (named + kept * learnt) / (1 + kept)  # expectation maximisation has come to rest
    torch.testing.assert_close(priors / priors.sum(), fixed, atol=0.01, rtol=0)
    torch.testing.assert_close(adjusted[at].logsumexp(0), scores[at].logsumexp(0))
    assert torch.equal(adjusted[0], scores[0])
    right = [(s[at].argmax(0) == made_of).float().mean() for s in (scores, adjusted)]
    assert right[1] > right[0] + 0.02
    for nothing in (0 * seen, seen * (torch.arange(4) == at[2])):  # of one kind nothing is learnt
        assert torch.equal(segmentors._with_own_priors(scores, nothing, where, scheme), scores)
    elsewhere = segmentors._with_own_priors(scores, seen, ~where, scheme)
    assert torch.equal(elsewhere, scores)


def test_a_trace_of_enhancement_is_not_estimated_away() -> None:
    """30 of 27,000 voxels speak for enhancing tumour by 50 to 1, all others against it by 10 to 1:
    by maximum likelihood nothing enhances."""
    ed, et = (BRATS2023.abbreviations.index(name) for name in ("ED", "ET"))
    scores = torch.full((4, 30, 30, 30), -9.0)
    scores[ed], scores[et] = 0, np.log(0.1)
    scores[et, 0, 0] = np.log(50)
    seen = torch.zeros(4)
    seen[[ed, et]] = 1000
    everywhere = torch.ones(30, 30, 30, dtype=torch.bool)
    named = segmentors._with_own_priors(scores, seen, everywhere, BRATS2023).argmax(0) == et
    assert torch.equal(named, scores[et] > 0)


def test_a_structure_that_training_hardly_showed_keeps_its_scores() -> None:
    scores = torch.randn(4, 8, 8, 8)
    scores[0] -= 5
    names = ("NCR", "ED", "ET")
    ncr, ed, et = (BRATS2023.abbreviations.index(name) for name in names)
    seen = torch.zeros(4)
    seen[[ncr, ed, et]] = torch.tensor([7000.0, 3000, 1])
    adjusted = segmentors._with_own_priors(scores, seen, torch.ones(8, 8, 8) > 0, BRATS2023)
    assert torch.equal(adjusted[et], scores[et])
    assert not torch.equal(adjusted[ncr], scores[ncr])


def test_a_network_of_much_enhancement_finds_none_in_a_tumour_without() -> None:
    scans = np.full((4, 48, 48, 48), 1e-3, np.float32)
    noisy = 0.7 * np.random.default_rng(0).standard_normal((24, 24, 24))
    scans[0, 4:28, 4:28, 4:28] = 10 + noisy
    named = segmentors.predict(Leaning(), Recipe("dynunet", True, 1), scans, BRATS2023)
    assert (noisy > 1).sum() > 500  # so many are likelier to enhance, if half of the tumour does
    assert (named == BRATS2023.value("ET")).sum() < 150
    assert (named > 0).sum() == noisy.size


class Leaning(torch.nn.Module):
    """A network that learnt of as much enhancing tumour as oedema: oedema is 10 ± 0.7 in the first
    scan, enhancing tumour 12 ± 0.7, and what is less than 5 is healthy."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("voxels_seen", torch.tensor([900.0, 0, 100, 100]))

    def forward(self, scans: torch.Tensor) -> torch.Tensor:
        of, scan = BRATS2023.abbreviations.index, scans[:, 0]
        scores = torch.full((len(scans), len(BRATS2023.labels), *scan.shape[1:]), -40.0)
        scores[:, of("BG")] = np.log(segmentors.WEIGHTS["BG"]) - 20 * (scan > 5)
        scores[:, of("ED")] = -((scan - 10) ** 2) / (2 * 0.7**2)
        scores[:, of("ET")] = np.log(segmentors.WEIGHTS["ET"]) - (scan - 12) ** 2 / (2 * 0.7**2)
        return scores


class Drawn(torch.nn.Module):
    """A network that sees what is drawn: the first scan is the structure's index, over 10; what it
    takes for enhancing tumour could be white matter, too."""

    def __init__(self, scheme: LabelScheme) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("voxels_seen", torch.zeros(len(scheme.labels)))
        self.scheme = scheme

    def forward(self, scans: torch.Tensor, *_: object) -> torch.Tensor:
        index = (10 * scans[:, 0]).round().long()
        scores = functional.one_hot(index, len(self.scheme.labels)).permute(0, 4, 1, 2, 3).float()
        names = self.scheme.abbreviations
        if "WM" in names:
            scores[:, names.index("WM")] += 0.5 * scores[:, names.index("ET")]
        return 9 * scores


@pytest.mark.parametrize(("of", "instead"), [(BRATS2023, "BG"), (BRAIN, "WM")])
def test_specks_of_tumour_are_named_as_what_else_they_may_be(of: LabelScheme, instead: str) -> None:
    at = of.abbreviations.index
    drawn = np.full((48, 48, 48), at("BG" if of is BRATS2023 else "GM"))
    drawn[4:20, 4:20, 4:20] = at("ED")
    drawn[20:22, 20:22, 20:22] = at("ET")  # touches it by a corner
    drawn[6:9, 6:9, 6:9] = at("NCR")  # inside of it
    drawn[30:38, 30:38, 30:38] = at("ED")  # an eighth of it
    specks = np.zeros(drawn.shape, bool)
    specks[30:37, 4:11, 4:11] = specks[24:26, 24:26, 40] = True  # a twelfth, four voxels
    drawn[specks] = at("ET")
    if "RC" in of.abbreviations:
        drawn[40:48, 4:20, 4:40] = at("RC")  # larger than the tumour
        drawn[45:48, 20, 30:33] = at("ET")  # at its wall, and no larger than a speck
        drawn[2, 40:42, 40:42] = at("RC")
        specks |= drawn == at("ET")
        specks[20:22, 20:22, 20:22] = False
    scans = np.tile(np.maximum(drawn / 10, 1e-3), (4, 1, 1, 1)).astype(np.float32)
    for kind in segmentors.KINDS:
        named = segmentors.predict(Drawn(of), Recipe(kind, True, 1), scans, of)
        wanted = np.asarray(of.values)[drawn]
        wanted[specks] = of.value(instead)
        np.testing.assert_array_equal(named, wanted)


def test_tumour_along_a_cavity_is_one_piece_and_healthy_brains_have_no_specks() -> None:
    at = BRAIN.abbreviations.index
    drawn = np.full((48, 48, 48), at("GM"))
    healthy = drawn.copy()
    drawn[4:44, 4:24, 4:24] = at("RC")
    drawn[4:44, 24, 4:14] = at("ED")
    drawn[8, 2:4, 8] = at("ET")  # apart from the rest but for the cavity
    drawn[40:42, 40:42, 40] = at("ET")
    for labels in (drawn, healthy):
        scans = np.tile(labels / 10, (4, 1, 1, 1)).astype(np.float32)
        named = segmentors.predict(Drawn(BRAIN), Recipe("gan", True, 1), scans, BRAIN)
        wanted = np.asarray(BRAIN.values)[labels]
        wanted[40:42, 40:42, 40] = BRAIN.value("WM" if labels is drawn else "GM")
        np.testing.assert_array_equal(named, wanted)


class Asked(torch.nn.Module):
    """A network that remembers the sizes it was asked in, and calls the third scan oedema."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("voxels_seen", torch.zeros(len(BRATS2023.labels)))
        self.sizes: set[tuple[int, ...]] = set()

    def forward(self, scans: torch.Tensor) -> torch.Tensor:
        self.sizes.add(tuple(scans.shape[2:]))
        nothing = 0 * scans[:, :1]
        return torch.cat([nothing + 0.5, nothing, 3 * scans[:, 2:3], nothing], 1)


@pytest.mark.parametrize(
    ("patch", "shape", "sizes"),
    [
        (48, (70, 85, 61), {(56, 56, 56)}),
        (96, (137, 170, 109), {(112, 112, 104)}),  # 112 of 109 voxels would be air in part
        (48, (40, 50, 85), {(48, 48, 56)}),  # never less than it was trained on
    ],
)
def test_windows_hold_more_brain_than_patches_but_no_more_than_there_is(
    patch: int, shape: tuple[int, ...], sizes: set[tuple[int, ...]]
) -> None:
    network = Asked()
    scans = np.full((4, *shape), 0.1, np.float32)
    scans[2, 20:30, 20:30, 20:30] = 1
    recipe = Recipe("dynunet", True, 1, patch=(patch,) * 3)
    named = segmentors.predict(network, recipe, scans, BRATS2023)
    assert network.sizes == sizes
    assert segmentors.windows("gan", (patch,) * 3, shape) == (patch,) * 3
    np.testing.assert_array_equal(named == BRATS2023.value("ED"), scans[2] == 1)
