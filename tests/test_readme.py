"""What the README says is so: commands parse, the tree exists, CI runs the test command."""

import re
import shlex
from pathlib import Path

import pytest

from medsynth.cli import parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()
            if line.startswith("medsynth ")]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    arguments = parser().parse_args(shlex.split(command)[1:])
    assert arguments.make(arguments)
    config = next((word for word in shlex.split(command) if word.startswith("configs/")), None)
    assert config is None or (ROOT / config).exists()


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
