"""What README, docs/records.md and docs/howto say is so: commands parse, the tree exists, CI runs
tests, scripts of how-tos do what they say."""

import itertools
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from medsynth.cli import parser
from medsynth.core.labels import scheme
from medsynth.io import cohort as cohorts
from medsynth.io.layouts import find
from medsynth.io.nifti import read_labels, write_labels

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
HOWTOS = sorted((ROOT / "docs/howto").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "docs/records.md", *HOWTOS]


def blocks(text: str, language: str = "bash") -> list[str]:
    """Fenced blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[str]:
    """Every `medsynth …` of a page, on one line each, those that torchrun starts, too."""
    lines = [line for block in blocks(text)
             for line in re.sub(r" *\\\n *", " ", block).splitlines()]  # fmt: skip
    found = (re.match(r"(?:.*torchrun .*-m )?(medsynth .*)", line) for line in lines)
    return [match[1].split(" #")[0].strip() for match in found if match]


COMMANDS = [command for page in PAGES for command in commands(page.read_text())]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    arguments = parser().parse_args(shlex.split(command)[1:])
    assert arguments.make(arguments)
    config = next((word for word in shlex.split(command) if word.startswith("configs/")), None)
    assert config is None or (ROOT / config).exists()


def test_the_commands_of_all_pages_are_among_them() -> None:
    assert "medsynth generate private --rows 4000 --epsilon 3 -o rows.csv" in COMMANDS
    assert "medsynth train configs/image/brats.yaml --set train.batch=32 --out run" in COMMANDS
    shard = '--shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"'
    assert [command for command in COMMANDS if shard in command]


@pytest.mark.parametrize("page", HOWTOS, ids=lambda page: page.stem)
def test_scripts_in_howtos_are_scripts(page: Path) -> None:
    text = page.read_text()
    assert blocks(text) or blocks(text, "python")
    for script in blocks(text):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for script in blocks(text, "python"):
        compile(script, page.name, "exec")
        imports = re.findall(r"^(?:from|import) .*", script, re.MULTILINE)
        exec("\n".join(imports), {})


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert link.startswith("https:") or (page.parent / link).exists(), f"{page}: {link}"


def test_nnunet_gets_synthetic_cases_and_splits_without_relatives(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scripts of docs/howto/nnunet.md, on phantoms that claim to be made from one another."""
    raw = tmp_path / "nnUNet_raw" / "Dataset137_BraTS2021"
    of = scheme("nnunet-brats21")
    made = cohorts.read(phantoms)
    for case in made:
        for number, path in enumerate(case.images.values()):
            (raw / "imagesTr").mkdir(parents=True, exist_ok=True)
            shutil.copy(path, raw / "imagesTr" / f"{case.subject}_{number:04d}.nii.gz")
        tumour = read_labels(case.label or Path(), scheme(made.scheme)).to_scheme(of)
        write_labels(raw / "labelsTr" / f"{case.subject}.nii.gz", tumour)
    names = {"0": "T1", "1": "T1ce", "2": "T2", "3": "Flair"}
    listing = {"channel_names": names, "labels": {"background": 0, "enhancing tumor": 3},
               "numTraining": len(made), "file_ending": ".nii.gz"}  # fmt: skip
    (raw / "dataset.json").write_text(json.dumps(listing))
    cohorts.write(tmp_path / "cohort.json", find(raw, of.name)[1])
    (tmp_path / "synthetic").symlink_to(phantoms)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("nnUNet_preprocessed", "nnUNet_preprocessed")
    for script in blocks((ROOT / "docs/howto/nnunet.md").read_text(), "python"):
        exec(compile(script, "nnunet.md", "exec"), {})
    plus = find(tmp_path / "nnUNet_raw/Dataset138_BraTS2021plus", of.name)[1]
    assert len(plus) == 2 * len(made)
    assert plus.modalities == made.modalities
    for case in made:
        again = read_labels(plus.case(case.name).label or Path(), of)
        own = read_labels(case.label or Path(), scheme(made.scheme))
        assert again.volume_mm3("ET") == own.volume_mm3("ET")
        assert (again.mask("ED") == own.mask("ED")).all()
    (splits,) = (tmp_path / "nnUNet_preprocessed").rglob("splits_final.json")
    folds = json.loads(splits.read_text())
    assert sorted(name for fold in folds for name in fold["val"]) == sorted(
        case.subject for case in made
    )
    for fold in folds:
        assert not {name.rpartition("-")[0] for name in fold["train"]} & set(fold["val"])


def test_git_ignores_what_the_readme_makes(tmp_path: Path) -> None:
    """In a fresh checkout: cohorts, scans, label maps and weights of a person who follows it."""
    made = {
        word
        for command in COMMANDS
        for flag, word in itertools.pairwise(shlex.split(command))
        if flag in ("-o", "--out")
    }
    assert {"cohort.json", "tissue", "real", "run", "edited", "synthetic", "report"} <= made
    files = {f"{name}/x/x-t1n.nii.gz" for name in made if "." not in name}
    files |= {name for name in made if "." in name} | {f"{name}/x.json" for name in made - files}
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    shown = subprocess.run(
        ["git", "-C", str(tmp_path), "check-ignore", *sorted(files)],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    assert files - set(shown.split()) <= {f"{name}/x.json" for name in made if "." in name}


def test_the_tree_is_the_tree() -> None:
    tree = README.split("## Where everything lives")[1]
    for name in re.findall(r"^(\w+/)", tree, re.MULTILINE):
        assert (ROOT / name).is_dir()
    names = re.findall(r"^ {2}(\w+(?:/|\.py))", tree, re.MULTILINE)
    assert set(names) == {
        path.name + ("/" if path.is_dir() else "")
        for path in (ROOT / "medsynth").iterdir()
        if path.name not in ("__init__.py", "__main__.py", "__pycache__", "errors.py")
    }


def test_ci_runs_the_command_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert "<!-- tests -->" in script
    assert re.search(r"<!-- tests -->\n```bash\n(.*pytest)\n```", README)


def test_the_picture_is_there() -> None:
    for name in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / name).stat().st_size < 3e6


def test_no_page_has_a_gap() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        assert not re.search(r"@[A-Z]+@", page.read_text()), page
