"""The trainer: phases in turn, one flat all-reduce each, everything a function of (seed, step).

It opens no batch: games do. It writes no file, prints nothing and has no callbacks: `fit` is a
generator, and saving, logging and previews are the caller's loop.
"""

import copy
import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medsynth.core.random import Key
from medsynth.errors import ConfigError, TrainingError
from medsynth.training.game import Game, Metrics, Noise, Phase, PrivateGame
from medsynth.training.ghost import add_noise, clipped, listening
from medsynth.training.order import share
from medsynth.training.precision import Precision
from medsynth.training.privacy import Ledger, Private, joint, refuse_player
from medsynth.training.weights import mismatch
from medsynth.training.world import World

SKIPS_ALLOWED = 20
"""fp16 gradients may overflow while the scaler finds its scale; this many times in a row is no
search any more."""

AUDIT_EVERY = 100
"""Steps between two comparisons of the norms of private gradients with autograd's; the first
three steps are compared too."""


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
        private: How players that see records are trained with differential privacy, by name; the
            game is then a `PrivateGame`. Their gradient is that of the records, clipped one by
            one, summed, with noise, over `batch`, plus that of the public loss; times `every`.
            `clip_norm` does not apply to it.
        secret: Root of the noise that protects records, and of Poisson sampling; at least 0 and
            below 2¹²⁶; drawn by the operating system when None; never use one for two runs.
            Whoever knows it can draw the same noise and subtract it, and then no promise is left.
            It is kept in `state_dict`, that is in `last.pt`, so that a run can be resumed, and
            nowhere else: never publish `last.pt` of a private run, and delete it when training is
            done.
        spent: What preparation has spent before the first step.

    Attributes:
        ledger: What was spent so far, this step's turns included before they are taken.
        secret: None when nobody is private.

    Raises:
        TrainingError: The batch cannot be shared evenly.
        ConfigError: A private player, its precision or the game cannot keep the promise.
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
        private: Mapping[str, Private] | None = None,
        secret: int | None = None,
        spent: Ledger | None = None,
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
        self.private = dict(private or {})
        self.ledger = spent or Ledger()
        self.secret: int | None = None
        if self.private:
            self._refuse_leaks()
            self.secret = world.agree(secrets.randbits(126)) if secret is None else secret
        self._before, self._turns = self.ledger, list[Private]()

    @property
    def cases(self) -> int:
        """Cases seen so far."""
        return self.step * self.batch

    def averaged(self, player: str) -> nn.Module:
        """The player to use after training: the averaged one when there is one."""
        return self.ema[player] if player in self.ema else self.game.players[player]

    def scale_learning_rates(self, factor: float) -> None:
        """Set the learning rates of all parameters to `factor` times what their optimiser was made
        with."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * factor

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
            self._before, self._turns = self.ledger, list[Private]()
            for phase in self.game.phases:
                if phase.due(self.step):
                    metrics |= self._turn(phase, micros)
            self._average()
            self.step += 1
            yield metrics

    def _turn(self, phase: Phase, micros: Sequence[Any]) -> Metrics:
        for name, player in self.game.players.items():
            player.requires_grad_(name == phase.player)
        optimizer = self.optimizers[phase.player]
        optimizer.zero_grad(set_to_none=False)
        spec = self.private.get(phase.player)
        if spec is not None:
            self._record(spec)
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
                if spec is not None:
                    loss, metrics = self._private_loss(phase, batch, noise, spec)
                else:
                    seen = None if self.private else batch
                    loss, metrics = self.game.loss(phase.name, seen, noise)
            self.scaler.scale(loss * (phase.every / self.accumulate)).backward()
            for key, value in metrics.items():
                total[key] = total.get(key, 0.0) + value / self.accumulate
        gradients = self._reduce(self.game.players[phase.player])
        if spec is not None and self.secret is not None:
            deviation = phase.every * spec.sigma * spec.clip_norm / self.batch
            add_noise(gradients, deviation, Key(self.secret, ("noise", self.step, phase.name)))
        self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._may_step(phase, norm):
            if self.clip_norm is not None and spec is None:
                torch.nn.utils.clip_grads_with_norm_(
                    self.game.players[phase.player].parameters(), self.clip_norm, norm
                )
            self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return total | {f"gradient_{phase.name}": norm}

    def _private_loss(
        self, phase: Phase, batch: Any, noise: Noise, spec: Private
    ) -> tuple[Tensor, Metrics]:
        """A scalar with the gradient of the clipped records and of the public loss.

        Micro-batches and ranks will be averaged, but the sum over records has to be over the
        expected batch.
        """
        assert isinstance(self.game, PrivateGame)
        player = self.game.players[phase.player]
        with listening(player) as passes:
            losses, public, metrics = self.game.private_loss(phase.name, batch, noise)
        audit = self.step < 3 or self.step % AUDIT_EVERY == 0
        records = clipped(losses, passes, spec.clip_norm, player if audit else None)
        loss = records * (self.accumulate * self.world.size / self.batch) + public
        return loss if loss.requires_grad else loss.requires_grad_(), metrics

    def _record(self, spec: Private) -> None:
        """Enter a turn, before it is taken: turns of one step see one sample, and are one entry."""
        self._turns.append(spec)
        clips = {turn.clip_norm for turn in self._turns}
        self.ledger = self._before.step(
            joint([turn.sigma for turn in self._turns]),
            spec.rate,
            clip=spec.clip_norm if len(clips) == 1 else None,
        )

    def _refuse_leaks(self) -> None:
        if not isinstance(self.game, PrivateGame):
            raise ConfigError("a game with private losses", type(self.game).__name__, "privacy")
        if self.precision.mixed:
            raise ConfigError(
                "train.precision fp32 with privacy",
                self.precision.name,
                None,
                "Rounding to fewer bits moves gradients by more than the bound that the noise is "
                "measured by.",
            )
        if len(rates := {spec.rate for spec in self.private.values()}) > 1:
            raise ConfigError("one sampling rate", f"{sorted(rates)}", "privacy")
        for name in self.private:
            if name not in self.game.players:
                raise ConfigError(f"one of {', '.join(self.game.players)}", repr(name), "privacy")
            refuse_player(name, self.game.players[name])

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
        """Everything that must survive: no random state, because there is none.

        With private players it holds the secret, which whoever publishes it gives away.
        """
        private = {
            "secret": self.secret,
            "ledger": self.ledger.as_dict(),
            "private": self._specs(),
        }
        return {
            "step": self.step,
            "batch": self.batch,
            "seed": self.seed,
            "players": self.game.players.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": {k: v.state_dict() for k, v in self.optimizers.items()},
            "scaler": self.scaler.state_dict(),
            **(private if self.private else {}),
        }

    def _specs(self) -> dict[str, dict[str, float]]:
        return {name: dict(vars(spec)) for name, spec in self.private.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            TrainingError: The state is of another game.
        """
        if ("secret" in state) != bool(self.private):
            raise TrainingError(
                f"a checkpoint {'with' if self.private else 'without'} privacy",
                f"one {'with' if 'secret' in state else 'without'}",
                None,
                "A promise holds for a whole run: start another one.",
            )
        if state.get("private", {}) != self._specs():
            raise TrainingError(
                f"a checkpoint trained with {self._specs()}",
                f"{state['private']}",
                None,
                "Another clip norm under the same noise would give the noise away: start another "
                "run.",
            )
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
                "Resume with the configuration and the version that the run was started with, or "
                "start another run.",
            ) from error
        if (state["batch"], state["seed"]) != (self.batch, self.seed):
            raise TrainingError(
                f"a checkpoint with batch {self.batch} and seed {self.seed}",
                f"batch {state['batch']} and seed {state['seed']}",
                None,
                "Both decide which cases come next and cannot change midway.",
            )
        self.step = state["step"]
        if self.private:
            self.secret, self.ledger = state["secret"], Ledger.from_dict(state["ledger"])
