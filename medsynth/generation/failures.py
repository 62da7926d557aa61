"""What could not be done, and why: `OUT/failures.json`.

Each failed case leaves a small file, so that shards do not write over each other; the listing is
made from all of them and disappears when every case has been done in a later run.
"""

from pathlib import Path

from medsynth.io.sidecar import read_json, write_json

FOLDER = ".failures"


def note(folder: Path, name: str, error: Exception) -> None:
    """Remember that a case failed."""
    write_json(
        folder / FOLDER / f"{name}.json",
        {"case": name, "error": type(error).__name__, "message": str(error)},
    )


def forget(folder: Path, name: str) -> None:
    """A case was done after all."""
    (folder / FOLDER / f"{name}.json").unlink(missing_ok=True)


def write_listing(folder: Path) -> int:
    """Write `OUT/failures.json`, or remove it when nothing failed.

    Returns:
        Number of failed cases.
    """
    failed = [read_json(path) for path in sorted((folder / FOLDER).glob("*.json"))]
    listing = folder / "failures.json"
    if failed:
        write_json(listing, {"schema": "medsynth-failures/1", "failures": failed})
    else:
        listing.unlink(missing_ok=True)
        if (folder / FOLDER).is_dir():
            (folder / FOLDER).rmdir()
    return len(failed)
