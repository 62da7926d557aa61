"""Small cohorts on disk: real ones and generated ones, all phantoms at 5 mm."""

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve phantoms, four of them the test split."""
    from medsynth.commands.phantom import Phantom

    folder = tmp_path_factory.mktemp("coarse") / "cohort"
    assert Phantom(folder, cases=12, spacing_mm=5.0, healthy=0, test=4, seed=1).run() == 0
    return folder


@pytest.fixture(scope="session")
def generated(coarse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve other phantoms that claim to be made from the first twelve, one each."""
    from medsynth.commands.phantom import Phantom
    from medsynth.generation.cases import lineage, write_listing
    from medsynth.io.sidecar import read_json, write_json

    folder = tmp_path_factory.mktemp("generated") / "cohort"
    assert Phantom(folder, cases=12, spacing_mm=5.0, seed=2).run() == 0
    for path in sorted(folder.glob("*/*.json")):
        parent = coarse / path.stem / f"{path.stem}-brain.nii.gz"
        story = read_json(path) | {
            "made_by": "generate",
            "subject": f"made-{path.stem}",
            "parent": {"case": path.stem, "label": parent.name},
            "ancestors": lineage(parent),
            "edits": [{"operation": "mirror"}],
        }
        write_json(path, story)
    write_listing(folder)
    assert len(json.loads((folder / "cohort.json").read_text())["training"]) == 12
    return folder
