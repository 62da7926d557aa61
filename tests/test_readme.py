"""What README and docs/records.md say is so: commands parse, the tree exists, CI runs tests."""

import itertools
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from medsynth.cli import parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RECORDS = (ROOT / "docs/records.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README + RECORDS, re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()
            if line.startswith("medsynth ")]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    arguments = parser().parse_args(shlex.split(command)[1:])
    assert arguments.make(arguments)
    config = next((word for word in shlex.split(command) if word.startswith("configs/")), None)
    assert config is None or (ROOT / config).exists()


def test_the_commands_of_records_are_among_them() -> None:
    assert "medsynth generate private --rows 4000 --epsilon 3 -o rows.csv" in COMMANDS


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
