"""`last.pt`: the state from which training goes on, written whole or not at all."""

import pickle
from pathlib import Path
from typing import Any

import torch

from medsynth.core.paths import replacing
from medsynth.errors import TrainingError
from medsynth.training.trainer import Trainer


def save(path: Path, trainer: Trainer) -> None:
    """Write the trainer's state; only the leading rank does."""
    if trainer.world.leads:
        with replacing(path) as beside:
            torch.save(trainer.state_dict(), beside)
    trainer.world.barrier()


def load(path: Path, trainer: Trainer) -> None:
    """Put the trainer where `save` left it.

    Raises:
        TrainingError: No checkpoint, a broken one, or one of another game.
    """
    try:
        state: dict[str, Any] = torch.load(
            path, map_location=trainer.world.device, weights_only=True
        )
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
    trainer.load_state_dict(state)
