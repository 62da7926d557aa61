"""`model.safetensors`: weights, with everything needed to use them in the file's metadata."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from medsynth import __version__
from medsynth.core.paths import replacing
from medsynth.errors import ModelError

KEY = "medsynth"
"""All metadata stand under one key, as JSON: safetensors writes several in a random order."""


def save_model(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata, whole or not at all; the same content gives the same bytes."""
    from safetensors.torch import save

    data = save(
        {k: v.detach().cpu().contiguous() for k, v in tensors.items()},
        {KEY: json.dumps({"medsynth": __version__, **metadata}, sort_keys=True)},
    )
    with replacing(path) as beside:
        beside.write_bytes(data)  # `save_file` lets nobody but the owner read it


def mismatch(error: Exception) -> str:
    """The line of PyTorch's error that tells which weights do not fit, not the one that only
    says that some do not."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)] if lines else repr(error)


def load_model(path: Path) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """Read a model.

    Returns:
        Tensors, metadata, and the first 16 hexadecimal digits of the file's SHA-256.

    Raises:
        ModelError: The file is not a whole safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get(KEY, "{}"))
    except (SafetensorError, OSError) as error:
        raise ModelError(
            "a whole safetensors file", str(error), path, "Copy it again or train again."
        ) from error
    return tensors, metadata, hashlib.sha256(path.read_bytes()).hexdigest()[:16]
