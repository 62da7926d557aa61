"""Small games: a ring of Gaussians, and a table with dropout."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medsynth.core.random import Key
from medsynth.training.game import Metrics, Noise, Phase
from medsynth.training.order import positions, share
from medsynth.training.precision import choose_precision
from medsynth.training.trainer import Trainer
from medsynth.training.world import World

CASES = 40


class Toy:
    """A GAN on dictionaries of rows, with dropout and lazy R1: what tables look like."""

    def __init__(self, width: int = 16, dropout: float = 0.2) -> None:
        torch.manual_seed(0)
        self.players = nn.ModuleDict(
            {
                "generator": nn.Sequential(
                    nn.Linear(2, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 2)
                ),
                "discriminator": nn.Sequential(
                    nn.Linear(2, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
                ),
            }
        )
        self.phases: Sequence[Phase] = (
            Phase("critic", "discriminator"),
            Phase("penalty", "discriminator", 2),
            Phase("generator", "generator"),
        )

    def loss(self, phase: str, batch: Any, noise: Noise) -> tuple[Tensor, Metrics]:
        rows = batch["rows"]
        critic = self.players["discriminator"]
        if phase == "penalty":
            real = rows.clone().requires_grad_()
            (slope,) = torch.autograd.grad(critic(real).sum(), real, create_graph=True)
            return 0.05 * slope.square().sum(1).mean(), {}
        fake = self.players["generator"](noise.normal(2))
        if phase == "critic":
            loss = (
                functional.softplus(critic(fake.detach())).mean()
                + functional.softplus(-critic(rows)).mean()
            )
            return loss, {"loss_critic": loss.detach()}
        loss = functional.softplus(-critic(fake)).mean()
        return loss, {"loss_generator": loss.detach()}


def table() -> Tensor:
    rng = Key(7).numpy()
    angle = rng.integers(0, 8, CASES) * np.pi / 4
    return torch.tensor(np.stack([np.cos(angle), np.sin(angle)], 1), dtype=torch.float32)


def batches(
    step: int, batch: int, world: World, accumulate: int, seed: int = 3
) -> Iterator[dict[str, Tensor]]:
    rows = table()
    while True:
        cases = positions(step, batch, CASES, seed)
        for micro in range(accumulate):
            part = share(batch, world.rank, world.size, micro, accumulate)
            yield {"rows": rows[cases[part.first : part.first + part.size]]}
        step += 1


def trainer(
    game: Any = None,
    *,
    world: World | None = None,
    batch: int = 8,
    accumulate: int = 1,
    dropout: float = 0.2,
) -> Trainer:
    game = game or Toy(dropout=dropout)
    world = world or World(0, 1, torch.device("cpu"))
    optimizers = {
        name: torch.optim.Adam(player.parameters(), 1e-2, (0.5, 0.9))
        for name, player in game.players.items()
    }
    return Trainer(
        game,
        optimizers,
        world=world,
        seed=3,
        batch=batch,
        precision=choose_precision("fp32", world.device),
        accumulate=accumulate,
        clip_norm=1.0,
        ema_halflife_cases=50,
    )


def run(playing: Trainer, steps: int) -> list[Metrics]:
    return list(
        playing.fit(batches(playing.step, playing.batch, playing.world, playing.accumulate), steps)
    )
