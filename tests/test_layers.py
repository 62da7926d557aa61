"""The import diagram of the README holds, and modules say what they are for."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "medsynth"
LEVELS = {
    "errors": 0, "core": 1, "config": 1, "box": 1, "io": 2, "phantom": 2, "edit": 2, "training": 2,
    "imaging": 3, "tabular": 3, "generation": 4, "evaluation": 4, "show": 4, "build": 5,
    "commands": 6, "cli": 7, "__main__": 8, "__init__": -1,
}  # fmt: skip
HOMES = {
    "monai": {"imaging", "evaluation"},
    "skimage": {"imaging", "evaluation", "phantom", "edit"},
    "SimpleITK": {"io", "imaging"},
    "nilearn": {"phantom"},
    "matplotlib": {"show"},
    "opacus": {"training"},
    "dp_accounting": {"training"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            if node.module == "medsynth":
                names += [f"medsynth.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nobody_imports_sideways_or_up(path: Path) -> None:
    here = _part(path)
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "medsynth" and len(parts) > 1 and parts[1] in LEVELS:
            there = parts[1]
            assert there == here or LEVELS[there] < LEVELS[here], f"{path} imports {name}"
        assert here in HOMES.get(parts[0], {here}), f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
