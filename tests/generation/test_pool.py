"""Generation: shards and writers do not change a byte; failures are named; nothing is redone."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medsynth.cli import main
from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.core.volume import LabelMap
from medsynth.errors import LabelError
from medsynth.imaging.synthesizer import Synthesizer, load
from medsynth.io.nifti import read_labels, read_volume


def _bytes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def _generate(trained: Path, source: Path, out: Path, *options: str) -> int:
    return main(["generate", str(trained), str(source), "-o", str(out), *options])


def test_shards_and_writers_give_the_same_bytes(
    trained: Path, phantoms: Path, tmp_path: Path
) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    assert _generate(trained, phantoms, one, "--per-case", "2", "--writers", "1") == 0
    assert _generate(trained, phantoms, two, "--per-case", "2", "--writers", "4") == 0
    for shard in (2, 0, 1):
        assert _generate(trained, phantoms, three, "--per-case", "2", "--shard", f"{shard}/3") == 0
    assert _bytes(one) == _bytes(two) == _bytes(three)
    assert len(list(one.glob("*/*-t1c.nii.gz"))) == 8


@pytest.mark.parametrize("file", ["json", "t2w.nii.gz", "seg.nii.gz", "brain.nii.gz"])
def test_a_second_run_does_only_what_is_missing(
    file: str, trained: Path, phantoms: Path, tmp_path: Path
) -> None:
    assert _generate(trained, phantoms, tmp_path) == 0
    before = _bytes(tmp_path)
    gone = next(tmp_path.glob(f"*/*{file}"))
    times = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*.nii.gz")}
    gone.unlink()
    assert _generate(trained, phantoms, tmp_path) == 0
    assert _bytes(tmp_path) == before
    redone = {p.parent.name for p, t in times.items() if p.stat().st_mtime_ns != t}
    assert redone == {gone.parent.name}


def test_a_case_made_otherwise_is_not_taken_for_done(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _generate(trained, phantoms, tmp_path) == 0
    before = _bytes(tmp_path)
    assert _generate(trained, phantoms, tmp_path, "--seed", "1") == 1
    assert "same seed" in capsys.readouterr().err
    gone = next(tmp_path.glob("*/*-t2w.nii.gz"))
    scan = gone.read_bytes()
    gone.unlink()
    assert _generate(trained, phantoms, tmp_path, "--seed", "1") == 1  # not even what lacks a file
    assert not gone.exists()
    gone.write_bytes(scan)
    assert main(["phantom", str(tmp_path), "--cases", "4", "--spacing-mm", "4"]) == 1
    assert _bytes(tmp_path) == before


def test_grid_labels_and_provenance(trained: Path, phantoms: Path, tmp_path: Path) -> None:
    parent = next(phantoms.glob("*-00000-000/*-brain.nii.gz"))
    edited = tmp_path / "edited.nii.gz"
    assert main(["edit", str(parent), "-o", str(edited), "--op", "mirror"]) == 0
    assert _generate(trained, edited, tmp_path / "out") == 0
    case = tmp_path / "out" / "edited"
    scans = read_volume({m: case / f"edited-{m}.nii.gz" for m in ("t1n", "t1c", "t2w", "t2f")})
    labels = read_labels(edited, BRAIN)
    assert scans.same_grid(labels)
    assert (scans.source.affine == labels.source.affine).all()  # type: ignore[union-attr]
    assert not scans.data[:, labels.data == 0].any()
    assert (read_labels(case / "edited-brain.nii.gz", BRAIN).data == labels.data).all()
    sidecar = json.loads((case / "edited.json").read_text())
    assert sidecar["synthetic"] is True
    assert sidecar["edits"][0]["operation"] == "mirror"
    assert sidecar["parent"]["sha256"] == hashlib.sha256(edited.read_bytes()).hexdigest()


def test_scans_of_one_style_differ_by_the_edit_alone(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = next(phantoms.glob("*-00000-000/*-brain.nii.gz"))
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "before-brain.nii.gz").write_bytes(parent.read_bytes())
    where = ["--op", "scale:0.6", "-o", str(maps / "after-brain.nii.gz")]
    assert main(["edit", str(parent), *where]) == 0
    apart = {}
    for name, option in (("same", ["--same-style"]), ("own", [])):
        assert _generate(trained, maps, tmp_path / name, *option) == 0
        before, after = (
            read_volume({m: tmp_path / name / c / f"{c}-{m}.nii.gz" for m in ("t1n", "t2w")}).data
            for c in ("before", "after")
        )
        labels = [read_labels(maps / f"{c}-brain.nii.gz", BRAIN).data for c in ("before", "after")]
        far = ~ndimage.binary_dilation(labels[0] != labels[1], iterations=5) & (labels[0] > 0)
        apart[name] = np.abs(before - after)[:, far].mean()
    assert apart["same"] < 0.2 * apart["own"]
    assert _generate(trained, maps, tmp_path / "same") == 1
    assert "same style" in capsys.readouterr().err


def test_whoever_a_map_was_made_from_is_remembered(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = next(phantoms.glob("*-00000-000/*-brain.nii.gz"))
    healthy = next(phantoms.glob("*-00003-000/*-brain.nii.gz"))
    onto, again = tmp_path / "onto-brain.nii.gz", tmp_path / "again-brain.nii.gz"
    assert main(["edit", str(parent), "-o", str(onto), "--onto", str(healthy)]) == 0
    assert main(["edit", str(onto), "-o", str(again), "--op", "scale:1.1"]) == 0
    assert _generate(trained, again, tmp_path / "out") == 0
    sidecar = json.loads((tmp_path / "out" / "again" / "again.json").read_text())
    files = (parent, healthy, onto, again)
    assert set(sidecar["ancestors"]) == {hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    assert sidecar["subject"] == "BraTS-PHM-00000"


def test_an_edited_cohort_is_not_taken_for_done_when_the_recipe_changes(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = tmp_path / "one" / "cohort.json"
    listing = json.loads((phantoms / "cohort.json").read_text())
    listing["training"] = [c for c in listing["training"] if c["case"].endswith("-00000-000")]
    for case in listing["training"]:
        for key in ("label", "brain"):
            case[key] = str((phantoms / case[key]).resolve())
        case["image"] = [str((phantoms / file).resolve()) for file in case["image"]]
    listing["test"] = []
    cohort.parent.mkdir()
    cohort.write_text(json.dumps(listing))
    out = ["edit", str(cohort), "-o", str(tmp_path / "edited"), "--op"]
    assert main([*out, "mirror"]) == 0
    assert main([*out, "mirror"]) == 0
    assert main([*out, "scale:1.1"]) == 1
    assert "same recipe" in capsys.readouterr().err
    assert main([*out, "scale:1.1", "--overwrite"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medsynth.edit.REVISION", 99)
        assert main([*out, "scale:1.1"]) == 1
        assert "same revision" in capsys.readouterr().err


def test_good_cases_are_done_and_bad_ones_named(
    trained: Path, phantoms: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for index, path in enumerate(sorted(phantoms.glob("*/*-brain.nii.gz"))[:2]):
        (labels / f"good{index}-brain.nii.gz").write_bytes(path.read_bytes())
    (labels / "cut-brain.nii.gz").write_bytes(path.read_bytes()[:500])
    seg = next(phantoms.glob("*-00000-000/*-seg.nii.gz"))
    (labels / "tumour-brain.nii.gz").write_bytes(seg.read_bytes())
    assert _generate(trained, labels, tmp_path / "out") == 1
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())["failures"]
    assert {f["case"]: f["error"] for f in failures} == {"cut": "DataError", "tumour": "LabelError"}
    assert "medsynth tissue" in next(f for f in failures if f["case"] == "tumour")["message"]
    assert (tmp_path / "out" / "good1" / "good1.json").exists()
    for name in ("cut", "tumour"):
        (labels / f"{name}-brain.nii.gz").write_bytes(path.read_bytes())
    assert _generate(trained, labels, tmp_path / "out") == 0
    assert not (tmp_path / "out" / "failures.json").exists()


@pytest.fixture(scope="module")
def brain(phantoms: Path) -> LabelMap:
    return read_labels(next(phantoms.glob("*-00000-000/*-brain.nii.gz")), BRAIN)


def test_windows_agree_with_the_whole_volume(trained: Path, brain: LabelMap) -> None:
    whole = load(trained, precision="fp32").generate(brain, Key(0))
    parts = load(trained, precision="fp32", window=40).generate(brain, Key(0))
    inside = brain.data > 0
    gap = np.abs(whole.data - parts.data)[:, inside]
    assert np.median(gap) < 1  # of 1,000
    assert gap.max() < 60


def test_one_key_one_scan(trained: Path, brain: LabelMap) -> None:
    model: Synthesizer = load(trained)
    one, two, other = (model.generate(brain, Key(k)) for k in (0, 0, 1))
    assert one.data.tobytes() == two.data.tobytes()
    assert one.data.tobytes() != other.data.tobytes()


def test_what_is_no_brain_is_refused(trained: Path, brain: LabelMap) -> None:
    model = load(trained)
    empty = brain.with_data(np.zeros_like(brain.data))
    with pytest.raises(LabelError, match="only background"):
        model.generate(empty, Key(0))
    tumour = brain.with_data(np.where(brain.mask("WT"), brain.data, 0))
    with pytest.raises(LabelError, match="medsynth tissue"):
        model.generate(tumour, Key(0))


def test_a_folder_is_of_one_model_and_seed(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where no name comes twice."""
    first, second = sorted(phantoms.glob("*/*-brain.nii.gz"))[:2]
    assert _generate(trained, first, tmp_path) == 0
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "list.json").write_text("[1, 2]")  # nobody's business
    before = _bytes(tmp_path)
    assert _generate(trained, second, tmp_path, "--seed", "1") == 1
    assert "same seed, or none, found seed 0 (now 1)" in capsys.readouterr().err
    assert main(["generate", "phantom", str(second), "-o", str(tmp_path)]) == 1
    assert "same model" in capsys.readouterr().err
    assert _bytes(tmp_path) == before
    assert _generate(trained, second, tmp_path) == 0
