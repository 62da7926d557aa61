"""What a game is: players, phases, and a loss for each phase.

A game opens the batch; the trainer does not. Images and tables are two games.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Metrics = dict[str, Tensor | float]


class Phase(NamedTuple):
    """One optimiser's turn within a step.

    Args:
        name: Passed to `Game.loss`.
        player: Whose parameters are updated.
        every: Steps between two turns; above 1 it is lazy regularisation, and the trainer
            multiplies the loss by `every` so that its weight does not depend on how often it runs.
        first, last: Steps between which it is played, `last` not included; None for no end.

    Source:
        Karras et al., *Analyzing and improving the image quality of StyleGAN*
        (arXiv 1912.04958), section 3.1 for lazy regularisation.
    """

    name: str
    player: str
    every: int = 1
    first: int = 0
    last: int | None = None

    def due(self, step: int) -> bool:
        """Whether it is played in a step."""
        inside = self.first <= step and (self.last is None or step < self.last)
        return inside and step % self.every == 0


class Share(NamedTuple):
    """Which cases of the global batch a micro-batch holds.

    Args:
        first: Position of its first case in the global batch.
        size: Number of its cases.
        total: Cases of the global batch.
    """

    first: int
    size: int
    total: int


class Noise:
    """Random numbers for the cases at hand, whoever computes them.

    Numbers are drawn for the *global* batch from a generator seeded by (seed, step, phase), and
    this share is cut out, so that one rank and many see the same noise.

    Args:
        seed: Already mixed from run seed, step and phase.
        share: Which cases.
        device: Where the numbers are wanted; they are drawn on the CPU.
    """

    def __init__(self, seed: int, share: Share, device: torch.device) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._share, self._device = share, device

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers `(cases, *shape)`."""
        return self._cut(torch.randn(self._share.total, *shape, generator=self._generator))

    def uniform(self, *shape: int) -> Tensor:
        """Numbers uniform on [0, 1), `(cases, *shape)`."""
        return self._cut(torch.rand(self._share.total, *shape, generator=self._generator))

    def _cut(self, drawn: Tensor) -> Tensor:
        first = self._share.first
        return drawn[first : first + self._share.size].to(self._device, non_blocking=True)


class Game(Protocol):
    """Players, whose turn it is, and what each turn minimises."""

    @property
    def players(self) -> nn.ModuleDict:
        """Networks by name."""
        ...

    @property
    def phases(self) -> Sequence[Phase]:
        """Turns of one step, in order."""
        ...

    def loss(self, phase: str, batch: Any, noise: Noise) -> tuple[Tensor, Metrics]:
        """The loss of one phase on one micro-batch: a mean over its cases.

        Metrics are detached tensors or numbers, averaged over micro-batches and ranks.
        """
        ...


@runtime_checkable
class PrivateGame(Game, Protocol):
    """A game some of whose players are trained with differential privacy.

    The trainer calls `private_loss` for the phases of private players and `loss`, *with None for
    the batch*, for all others: who has no noise sees no record. (Averages, discrete conditions
    and whatever else the others need of the table must come out of mechanisms in the ledger.)
    """

    def private_loss(self, phase: str, batch: Any, noise: Noise) -> tuple[Tensor, Tensor, Metrics]:
        """The loss of one phase, taken apart into what touches records and what does not.

        Records and everything else go through the player in calls of their own. With Poisson
        sampling the number of records `R` varies and may be 0; `noise` serves the public part
        and always has the cases of the *expected* batch.

        Returns:
            Losses of the records at hand, `(R,)`, not divided by their number: the trainer divides
                the sum by the expected batch. No loss may depend on another record
                (`medsynth.training.privacy.refuse_mixing`).
            The public loss: a scalar, the mean over the cases of `noise`, of what touches no
                record: the critic on fakes, a gradient penalty on fakes. It is differentiated
                plainly, without clipping or noise. Zero when there is none.
            Metrics. They are written down and published without noise, so that they too must
                touch no record, not even count the records.
        """
        ...
