"""Models in the box: weights that come with the package, trained on phantoms, no patient in them.

Knows names and files; what is in the files is for `medsynth.imaging`. `CARD.md` beside them says
what they are good for; `tools/make_box.py` makes them.
"""

from pathlib import Path

from medsynth.errors import UsageError

NAMES = {
    "phantom": "label maps to T1, T1c, T2 and FLAIR",
    "tissue": "T1 and T2 to label maps of tissue and tumour",
}
"""What is in the box, and what it makes of what."""

FOLDER = Path(__file__).parent


def path(name: str) -> Path:
    """The file of a model in the box.

    Raises:
        UsageError: No model of that name, or an installation without its weights.
    """
    if name not in NAMES:
        raise UsageError("a model in the box", repr(name), None, inside())
    file = FOLDER / f"{name}.safetensors"
    if not file.exists():
        raise UsageError(
            f"the weights of {name!r}, {file.name}", "none", FOLDER,
            "This installation lacks them: install the package again, or make them with "
            "tools/make_box.py of a checkout.",
        )  # fmt: skip
    return file


def named(model: Path | str) -> str | None:
    """The name in the box that a user means by a bare name, unless a model or a run is there.

    A folder of that name that is no run (`medsynth tissue … -o tissue` makes one) is neither.
    """
    return str(model) if str(model) in NAMES and not _stands(model) else None


def hidden(model: Path | str) -> bool:
    """Whether a local model stands before the one in the box of the same name."""
    return str(model) in NAMES and _stands(model)


def model_file(model: Path | str) -> Path:
    """The model file that a user means: of a run, named itself, or in the box.

    Args:
        model: A run folder, a `model.safetensors`, or a name in the box; a model that stands on
            disk under that name comes first.

    Raises:
        UsageError: There is none.
    """
    name = named(model)
    if name is not None:
        return path(name)
    file = _on_disk(model)
    if not file.exists():
        raise UsageError(
            "a run with model.safetensors",
            "none" if Path(model).is_dir() else "nothing",
            model,
            f"Give the folder that `medsynth train --out RUN` wrote, or a name. {inside()}",
        )
    return file


def _stands(model: Path | str) -> bool:
    """Whether a model is on disk under that name, or a run that may not have one yet."""
    begun = [Path(model) / name for name in ("config.yaml", "last.pt")]
    return _on_disk(model).exists() or any(path.exists() for path in begun)


def _on_disk(model: Path | str) -> Path:
    given = Path(model)
    return given / "model.safetensors" if given.is_dir() else given


def inside() -> str:
    """What is in the box, in a sentence."""
    return f"In the box: {'; '.join(f'{name} ({what})' for name, what in NAMES.items())}."
