"""Small JSON files: stable bytes, written whole, read with clear errors; digests of files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError("JSON", str(error), path) from error
    if not isinstance(data, dict):
        raise DataError("a JSON object", type(data).__name__, path)
    return data


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
