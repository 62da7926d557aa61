"""`last.pt`: the state from which training goes on, written whole or not at all."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medsynth.core.paths import replacing
from medsynth.errors import TrainingError
from medsynth.training.trainer import Trainer


def save(path: Path, trainer: Trainer, extra: Mapping[str, Any] | None = None) -> None:
    """Write the trainer's state, and what else a run needs; only the leading rank does."""
    if trainer.world.leads:
        with replacing(path) as beside:
            torch.save({**trainer.state_dict(), "extra": dict(extra or {})}, beside)
            beside.chmod(0o600)  # a private run keeps its secret there
    trainer.world.barrier()


def read(path: Path, device: torch.device) -> dict[str, Any]:
    """What a checkpoint holds.

    Raises:
        TrainingError: No checkpoint, or a broken one.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(
            "a checkpoint", "none", path, "Start the run without --resume."
        ) from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError) as error:
        raise TrainingError(
            "a whole checkpoint",
            str(error).splitlines()[0],
            path,
            "The file is damaged: start the run again.",
        ) from error
    return state


def load(path: Path, trainer: Trainer) -> dict[str, Any]:
    """Put the trainer where `save` left it, and give back what else was saved.

    Raises:
        TrainingError: No checkpoint, a broken one, or one of another game.
    """
    state = read(path, trainer.world.device)
    trainer.load_state_dict(state)
    return dict(state.get("extra", {}))
