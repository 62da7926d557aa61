"""Small JSON files: stable bytes, written whole, read with clear errors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsynth.core.paths import write_text
from medsynth.errors import DataError


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write sorted, indented JSON; the same content gives the same bytes."""
    write_text(path, json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: Missing or not a JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError("a JSON file", "none", path) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError("JSON", str(error), path) from error
    if not isinstance(data, dict):
        raise DataError("a JSON object", type(data).__name__, path)
    return data
