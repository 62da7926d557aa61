"""The trainer: phases in turn, one flat all-reduce each, everything a function of (seed, step).

It opens no batch: games do. It writes no file, prints nothing and has no callbacks: `fit` is a
generator, and saving, logging and previews are the caller's loop.
"""

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medsynth.core.random import Key
from medsynth.errors import TrainingError
from medsynth.training.game import Game, Metrics, Noise, Phase
from medsynth.training.order import share
from medsynth.training.precision import Precision
from medsynth.training.weights import mismatch
from medsynth.training.world import World

SKIPS_ALLOWED = 20
"""fp16 gradients may overflow while the scaler finds its scale; this many times in a row is no
search any more."""


class Trainer:
    """Plays a game.

    Args:
        game: Players on their device, phases, losses.
        optimizers: One per player.
        world: Ranks and device.
        seed: Root of noise and dropout.
        batch: Cases per step, all ranks together.
        precision: Arithmetic of the forward pass.
        accumulate: Micro-batches per step and rank.
        clip_norm: Largest gradient norm per player; None for no limit.
        ema_halflife_cases: Half-life of the averaged weights in cases seen; None for none.
        ema_players: Players that are averaged.

    Raises:
        TrainingError: The batch cannot be shared evenly.
    """

    def __init__(
        self,
        game: Game,
        optimizers: Mapping[str, torch.optim.Optimizer],
        *,
        world: World,
        seed: int,
        batch: int,
        precision: Precision,
        accumulate: int = 1,
        clip_norm: float | None = None,
        ema_halflife_cases: float | None = None,
        ema_players: Sequence[str] = ("generator",),
    ) -> None:
        if batch % (world.size * accumulate):
            raise TrainingError(
                f"a batch that {world.size} ranks × {accumulate} micro-batches share evenly",
                str(batch),
                "train.batch",
                "Choose a multiple.",
            )
        self.game, self.optimizers, self.world = game, dict(optimizers), world
        self.seed, self.batch, self.precision = seed, batch, precision
        self.accumulate, self.clip_norm = accumulate, clip_norm
        self.step = 0
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=precision.scaled)
        self.halflife = ema_halflife_cases
        self.ema = nn.ModuleDict(
            {name: copy.deepcopy(game.players[name]).requires_grad_(False) for name in ema_players}
            if ema_halflife_cases
            else {}
        )
        self._skipped = 0

    @property
    def cases(self) -> int:
        """Cases seen so far."""
        return self.step * self.batch

    def averaged(self, player: str) -> nn.Module:
        """The player to use after training: the averaged one when there is one."""
        return self.ema[player] if player in self.ema else self.game.players[player]

    def fit(self, batches: Iterator[Any], steps: int) -> Iterator[Metrics]:
        """Play until `steps`.

        Args:
            batches: This rank's micro-batches; `accumulate` of them are taken per step and every
                phase of the step sees them. It must start at the trainer's step.
            steps: Step to stop at, counted from the beginning of the run.

        Yields:
            Metrics of each step, tensors on the device; reading them is what costs time.

        Raises:
            TrainingError: A loss or gradient is not a number. The step was not taken.
        """
        while self.step < steps:
            micros = list(itertools.islice(batches, self.accumulate))
            if len(micros) < self.accumulate:
                raise TrainingError("batches without end", "the last one", f"step {self.step}")
            metrics: Metrics = {}
            for phase in self.game.phases:
                if self.step % phase.every == 0:
                    metrics |= self._turn(phase, micros)
            self._average()
            self.step += 1
            yield metrics

    def _turn(self, phase: Phase, micros: Sequence[Any]) -> Metrics:
        for name, player in self.game.players.items():
            player.requires_grad_(name == phase.player)
        optimizer = self.optimizers[phase.player]
        optimizer.zero_grad(set_to_none=False)
        total: Metrics = {}
        for index, batch in enumerate(micros):
            self._seed_dropout(phase, index)
            noise = Noise(
                self._number(phase.name, "noise"),
                share(self.batch, self.world.rank, self.world.size, index, self.accumulate),
                self.world.device,
            )
            with torch.autocast(
                self.world.device.type, self.precision.dtype, enabled=self.precision.mixed
            ):
                loss, metrics = self.game.loss(phase.name, batch, noise)
            self.scaler.scale(loss * (phase.every / self.accumulate)).backward()
            for key, value in metrics.items():
                total[key] = total.get(key, 0.0) + value / self.accumulate
        gradients = self._reduce(self.game.players[phase.player])
        self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._may_step(phase, norm):
            if self.clip_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(
                    self.game.players[phase.player].parameters(), self.clip_norm, norm
                )
            self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return total | {f"gradient_{phase.name}": norm}

    def _reduce(self, player: nn.Module) -> list[Tensor]:
        """Average the gradients over ranks in one flat all-reduce."""
        for parameter in player.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in player.parameters() if p.grad is not None]
        if self.world.size > 1:
            flat = self.world.mean(torch.cat([g.reshape(-1) for g in gradients]))
            at = 0
            for gradient in gradients:
                gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
                at += gradient.numel()
        return gradients

    def _may_step(self, phase: Phase, norm: Tensor) -> bool:
        if torch.isfinite(norm):
            self._skipped = 0
            return True
        self._skipped += 1
        if not self.precision.scaled or self._skipped > SKIPS_ALLOWED:
            raise TrainingError(
                "finite gradients", f"{float(norm)}", f"step {self.step}, phase {phase.name!r}"
            )
        return True  # the scaler skips the step by itself and lowers its scale

    def _average(self) -> None:
        if not self.halflife:
            return
        keep = 0.5 ** (self.batch / self.halflife)
        with torch.no_grad():
            for name, averaged in self.ema.items():
                player = self.game.players[name]
                torch._foreach_lerp_(
                    list(averaged.parameters()), list(player.parameters()), 1 - keep
                )
                for mine, theirs in zip(averaged.buffers(), player.buffers(), strict=True):
                    mine.copy_(theirs)

    def _seed_dropout(self, phase: Phase, micro: int) -> None:
        torch.manual_seed(self._number(phase.name, "dropout", self.world.rank, micro))

    def _number(self, *parts: str | int) -> int:
        return Key(self.seed, ("train", self.step, *parts)).integer()

    def state_dict(self) -> dict[str, Any]:
        """Everything that must survive: no random state, because there is none."""
        return {
            "step": self.step,
            "batch": self.batch,
            "seed": self.seed,
            "players": self.game.players.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": {k: v.state_dict() for k, v in self.optimizers.items()},
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            TrainingError: The state is of another game.
        """
        try:
            self.game.players.load_state_dict(state["players"])
            self.ema.load_state_dict(state["ema"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            if self.precision.scaled and state["scaler"]:
                self.scaler.load_state_dict(state["scaler"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrainingError(
                "a checkpoint of this game",
                mismatch(error),
                None,
                "Resume with the configuration that the run was started with.",
            ) from error
        if (state["batch"], state["seed"]) != (self.batch, self.seed):
            raise TrainingError(
                f"a checkpoint with batch {self.batch} and seed {self.seed}",
                f"batch {state['batch']} and seed {state['seed']}",
                None,
                "Both decide which cases come next and cannot change midway.",
            )
        self.step = state["step"]
