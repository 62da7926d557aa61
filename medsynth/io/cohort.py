"""`cohort.json`: a cohort on disk, readable by MONAI's `load_decathlon_datalist`."""

from pathlib import Path

from medsynth.core.cohort import Cohort
from medsynth.errors import DataError
from medsynth.io.sidecar import read_json, write_json


def write(path: Path, cohort: Cohort) -> None:
    """Write a cohort; file names are kept relative to the file."""
    write_json(path, cohort.to_json(path.parent))


def write_found(folder: Path, cohort: Cohort) -> Path | None:
    """Write `FOLDER/cohort.json`, unless there are no cases: a cohort of nothing helps nobody.

    Returns:
        The file, or None.
    """
    if not cohort.cases:
        return None
    write(folder / "cohort.json", cohort)
    return folder / "cohort.json"


def read(path: Path | str) -> Cohort:
    """Read a cohort.

    Raises:
        DataError: Missing, not JSON, or not a cohort.
    """
    folder = path = Path(path)
    if path.is_dir():
        path = path / "cohort.json"
    if not path.exists():
        raise DataError(
            "a cohort.json or the folder of one",
            "a folder without one" if folder.is_dir() else "nothing",
            folder,
            "Check the path, or make one with `medsynth index DATA --scheme … -o cohort.json`.",
        )
    data = read_json(path)
    if data.get("schema") != "medsynth-cohort/1":
        raise DataError(
            "a cohort file (schema medsynth-cohort/1)",
            f"schema {data.get('schema')!r}",
            path,
            "Make one with `medsynth index DATA --scheme … -o cohort.json`.",
        )
    return Cohort.from_json(data, path.parent)
