"""A run: a folder and everything that trains in it, whatever is trained."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from medsynth.training.game import Metrics
from medsynth.training.sinks import Sinks
from medsynth.training.trainer import Trainer
from medsynth.training.watch import Watch


@dataclass(frozen=True)
class Pace:
    """How long, and how often what is done: steps; `batch` is cases per step."""

    steps: int
    batch: int
    log_every: int
    save_every: int
    preview_every: int


class Run(ABC):
    """A folder and a trainer; what is trained is for the subclasses.

    Args:
        folder: `RUN`.
        trainer: At the step to go on from.
        pace: How long, and how often to log and save.
        size: What is trained on, for a person, for example `"20 cases"`.
        warnings: What a person should know of the data.
    """

    def __init__(
        self, folder: Path, trainer: Trainer, pace: Pace, size: str, warnings: Sequence[str] = ()
    ) -> None:
        self.folder, self.trainer, self.pace, self.size = folder, trainer, pace, size
        self.warnings = tuple(warnings)
        self.watch = Watch()
        self._sums: dict[str, tuple[Tensor | float, int]] = {}
        self._sinks = Sinks(folder, trainer.step) if trainer.world.leads else None
        self._began = time.monotonic()

    @property
    def ended(self) -> str | None:
        """Why training is over before its last step, in words; None as long as it is not."""
        return None

    @abstractmethod
    def play(self) -> Iterator[Metrics]:
        """Train until the last step, or until training has ended by itself."""

    @abstractmethod
    def save(self) -> None:
        """Write `last.pt` and `model.safetensors`."""

    @abstractmethod
    def preview(self, step: int) -> None:
        """Write `previews/step-….png` where there is something to look at."""

    def collect(self, metrics: Metrics) -> None:
        """Add one step's metrics to what the next `log` averages; no synchronisation."""
        for key, value in metrics.items():
            total, count = self._sums.get(key, (0.0, 0))
            self._sums[key] = total + value, count + 1

    def log(self, step: int) -> dict[str, float]:
        """Average since the last call, over steps and ranks, and write it down."""
        world = self.trainer.world
        means = torch.tensor([float(total) / count for total, count in self._sums.values()])
        if len(means):
            means = world.mean(means.to(world.device)).cpu()
        reading = dict(zip(self._sums, map(float, means), strict=True))
        self._sums = {}
        if self._sinks is not None:
            elapsed = time.monotonic() - self._began
            self._sinks.write(step, reading | {"cases": self.trainer.cases, "seconds": elapsed})
        return reading

    def close(self) -> None:
        """Close the metrics files."""
        if self._sinks is not None:
            self._sinks.close()
