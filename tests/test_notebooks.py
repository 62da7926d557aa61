"""The notebooks run from top to bottom on phantoms, show pictures, and are committed stripped."""

import json
import re
import shlex
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from medsynth.cli import parser
from tests.test_readme import commands

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OF_A_MACHINE = re.compile(r"/(home|Users|root|tmp|work|mnt|media|opt)/|[A-Za-z]:\\\\")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """This interpreter with this checkout, whatever kernels this machine has."""
    folder = tmp_path / "jupyter" / "kernels" / "here"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "language": "python", "display_name": "here"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return "here"


@each
def test_notebooks_run_and_show_pictures(path: Path, kernel: str, tmp_path: Path) -> None:
    """In an empty folder, as somebody has it who took the notebook alone."""
    notebook = nbformat.read(path, 4)
    folder = tmp_path / "work"
    folder.mkdir()
    NotebookClient(
        notebook, timeout=900, kernel_name=kernel, resources={"metadata": {"path": str(folder)}}
    ).execute()  # raises when a cell does
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert [output for output in outputs if "image/png" in output.get("data", {})]
    assert list(folder.rglob("*-t1c.nii.gz"))


@each
def test_notebooks_are_committed_stripped(path: Path) -> None:
    text = path.read_text()
    for cell in json.loads(text)["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert not cell["metadata"]
    assert not OF_A_MACHINE.search(text)


@each
def test_commands_in_notebooks_parse(path: Path) -> None:
    """In their text, as in a README."""
    cells = json.loads(path.read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for command in commands(text):
        arguments = parser().parse_args(shlex.split(command)[1:])
        assert arguments.make(arguments)


def test_there_are_notebooks() -> None:
    assert [path.stem[0] for path in NOTEBOOKS] == ["1", "2", "3"]
