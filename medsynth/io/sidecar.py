"""Small JSON files: stable bytes, written whole, read with clear errors; digests of files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsynth.core.cohort import Case
from medsynth.errors import DataError
from medsynth.io.files import reading, writing


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write sorted, indented JSON; the same content gives the same bytes.

    Raises:
        DataError: The disk is full, or the folder cannot be written to.
    """
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    with writing(path, overwrite=True) as beside:
        beside.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: Missing, not to be read, or not a JSON object.
    """
    try:
        with reading(path) as stream:
            data = json.loads(stream.read().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        found = f"text that is none, at line {error.lineno}, column {error.colno}"
        raise DataError("JSON", found, path, "Is it the right file?") from error
    except UnicodeDecodeError as error:
        raise DataError(
            "JSON", "bytes that are no utf-8 text", path, "Is it the right file?"
        ) from error
    if not isinstance(data, dict):
        raise DataError("a JSON object", type(data).__name__, path)
    return data


def of_case(case: Case) -> dict[str, Any] | None:
    """What stands beside a case's files, `<case>.json`, or None for scans of unknown origin."""
    for file in (*case.images.values(), case.brain, case.label):
        if file is not None:
            path = file.parent / f"{case.name}.json"
            return read_json(path) if path.exists() else None
    return None


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
