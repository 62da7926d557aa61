"""A model on its way: the trainer, what it learns from, and what tells when to stop.

`fit` and `medsynth train` are two callers of the same loop. Opens no file.
"""

import copy
import hashlib
import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from medsynth.config.tabular import Tabular
from medsynth.core.codes import Codes
from medsynth.core.random import Key
from medsynth.core.table import Schema, Table
from medsynth.errors import ConfigError, TrainingError
from medsynth.tabular import canaries, private
from medsynth.tabular.canaries import Exposure, Planted
from medsynth.tabular.kinds import BOUNDED, habits_of, kind_of, per_epoch, planned, resolved
from medsynth.tabular.material import CodeMaterial, Material, RowMaterial
from medsynth.tabular.synthesizer import CodesSynthesizer, TableSynthesizer
from medsynth.training.game import Metrics
from medsynth.training.precision import choose_precision
from medsynth.training.privacy import Ledger
from medsynth.training.trainer import Trainer
from medsynth.training.world import World

WARM_UP = 100
"""Steps over which the learning rate rises, a tenth of all steps at most."""

BETTER = 1e-4
"""Nats, as a share, by which held-out records must be predicted better to count."""


class Fitting:
    """A game on records, from its first step to a synthesizer.

    Args:
        records: Rows of columns, or codes of subjects.
        config: As validated; what is open is decided here, see `config`.
        world: Ranks and device.
        declared: The schema that the user declared, which privacy needs; None when inferred.
        secret: Root of private noise when a run is resumed; None draws one.

    Raises:
        DataError: Too few records, or nothing to model.
        ConfigError: A configuration that does not fit the records, or voids privacy.
    """

    def __init__(
        self,
        records: Table | Codes,
        config: Tabular,
        world: World,
        *,
        declared: Schema | None = None,
        secret: int | None = None,
    ) -> None:
        codes = isinstance(records, Codes)
        kind = kind_of(config, codes=codes)
        self.config = config = resolved(config, _learnt(len(records), config, kind), codes=codes)
        self._digest = _digest(records)
        pack = config.model.pack or 1
        if (config.train.batch or 0) % (pack * world.size):
            raise ConfigError(
                f"train.batch as a multiple of {pack * world.size} ({pack} packed × {world.size} "
                "ranks)", str(config.train.batch), "train.batch",
            )  # fmt: skip
        if config.model.kind == "medgan" and world.size > 1:
            raise ConfigError(
                "one rank for medgan", str(world.size), "model.kind",
                "Batch norm and minibatch averaging see one rank's records only.",
            )  # fmt: skip
        ledger, spec, delta = Ledger(), None, None
        if config.privacy.epsilon is not None:
            secret = world.agree(secrets.randbits(126)) if secret is None else secret
            delta = 0.1 / len(records) if config.privacy.delta is None else config.privacy.delta
            if not 0 < delta < 1 / len(records):
                raise ConfigError(
                    f"privacy.delta above 0 and below 1/{len(records)}, one over the records",
                    f"{delta:g}", "privacy.delta", "Above it a whole record may be given away.",
                )  # fmt: skip
            private.refuse_undeclared(records, declared, config)
        cells = None
        if delta is not None and isinstance(records, Table):
            cells, ledger = private.layout(records, config.privacy.preprocessing, Key(secret or 0))
        self.material: Material = (
            CodeMaterial.of(records, config)
            if isinstance(records, Codes)
            else RowMaterial.of(records, config, cells)
        )
        if delta is not None:
            spec = private.spec(config, self.material.records, delta, ledger)
            private.refuse_mixing(self.material)
        self.delta = delta
        train, habits = config.train, habits_of(config.model.kind, codes=codes)
        assert train.rate is not None
        assert train.batch is not None
        game = self.material.game
        assert train.ema_epochs is not None
        half_life = train.ema_epochs * self.material.records
        if config.model.kind == "medgan":
            half_life = 0  # averaged weights do not fit the statistics of batch norm
        game.players.to(world.device)
        rates = {
            name: train.rate if name == "generator" else train.rate_critic or train.rate
            for name in game.players
        }
        optimizers = {
            name: torch.optim.AdamW(
                player.parameters(), rates[name], habits.betas, weight_decay=habits.decay,
                fused=True,
            )
            for name, player in game.players.items()
        }  # fmt: skip
        self.trainer = Trainer(
            game,
            optimizers,
            world=world,
            seed=config.seed,
            batch=train.batch,
            precision=choose_precision(train.precision, world.device),
            clip_norm=train.clip,
            ema_halflife_cases=half_life or None,
            private={"critic": spec} if spec else None,
            secret=secret,
            spent=ledger if spec else None,
        )
        self.ended: str | None = None
        self._best, self._since = math.inf, 0
        self._kept = copy.deepcopy(self.trainer.averaged("generator").state_dict())
        self._kept_at = 0

    @property
    def steps(self) -> int:
        """Steps in all, unless training ends by itself."""
        assert self.config.train.steps is not None
        return self.config.train.steps

    def play(self) -> Iterator[Metrics]:
        """Train on, until the last step or until training has ended by itself.

        Yields:
            Metrics of each step; at the end of an epoch also `held_out_nats` and exposures.
        """
        trainer = self.trainer
        look = per_epoch(self.material.records, trainer.batch)
        work = trainer.fit(self.material.batches(trainer), self.steps)
        while trainer.step < self.steps and self.ended is None:
            trainer.scale_learning_rates(self._schedule(trainer.step))
            metrics = next(work)
            if trainer.step % look == 0 or trainer.step == self.steps:
                metrics = metrics | self._look(trainer.step // look)
            yield metrics

    def _schedule(self, step: int) -> float:
        """Factor of the learning rates in a step: a rise, then half a cosine."""
        plan = planned(self.config, self.material.records)
        factor = min(1.0, (step + 1) / max(min(WARM_UP, plan // 10), 1))
        if self.config.train.decay:
            factor *= 0.5 * (1 + math.cos(math.pi * step / plan))
        return factor

    def _look(self, epoch: int) -> Metrics:
        """Measure held-out records and canaries; keep the weights, or end."""
        trainer, material, how = self.trainer, self.material, self.config.canaries
        network = trainer.averaged("generator")
        device = trainer.world.device
        metrics: dict[str, Any] = {}
        measured = material.planted is not None and epoch % how.every == 0
        if material.planted is not None and measured:
            found = self._exposures(material.planted, network)
            metrics |= canaries.metrics(found, proxy=not material.bounded)
            least = found[0]
            if how.bound is not None and least.mean > how.bound:
                self.ended = (
                    f"records put in {least.copies} time(s) have an exposure of {least.mean:.1f} "
                    f"bits [{least.low:.1f}, {least.high:.1f}], above the bound {how.bound:g} "
                    f"({canaries.CHANCE_BITS} by chance); the weights of step {self._kept_at} are "
                    "kept, where it was below" + ("" if self._kept_at else ": untrained ones")
                )
                return metrics
        if how.bound is not None and material.planted is not None and not measured:
            return metrics  # weights whose exposure nobody knows are not kept
        better = True
        if material.bounded and _held_out(material):
            nats = -float(material.scores(network, "held out", device).mean())
            metrics["held_out_nats"] = nats
            better = self._warming() or nats < self._best - BETTER * abs(nats)
            if better:
                self._best, self._since = nats if not self._warming() else math.inf, 0
            else:
                self._since += 1
        if better:
            self._kept, self._kept_at = copy.deepcopy(network.state_dict()), trainer.step
        if self._since >= (self.config.train.patience or 1):
            self.ended = f"held-out records were last predicted better {self._since} epochs ago"
        return metrics

    def _exposures(self, planted: Planted, network: nn.Module) -> list[Exposure]:
        device = self.trainer.world.device
        return canaries.exposures(
            planted,
            self.material.scores(network, "canaries", device),
            self.material.scores(network, "candidates", device),
            Key(self.config.seed, ("exposure", self.trainer.step)),
        )

    @property
    def exposed(self) -> str | None:
        """How exposed canaries are by the weights that were kept, in words; None without any."""
        planted = self.material.planted
        if planted is None:
            return None
        network = copy.deepcopy(self.trainer.averaged("generator"))
        network.load_state_dict(self._kept)
        found = self._exposures(planted, network)
        return canaries.words(found, self.config.canaries.candidates, not self.material.bounded)

    def _warming(self) -> bool:
        material = self.material
        return isinstance(material, RowMaterial) and self.trainer.step <= material.warm_steps

    def synthesizer(self) -> TableSynthesizer | CodesSynthesizer:
        """The model as it would be released: with the weights that were kept."""
        material, model = self.material, self.config.model
        state = {k: v.detach().cpu().clone() for k, v in self._kept.items()}
        promise = None
        if self.delta is not None:
            promise = {"delta": self.delta, **self.trainer.ledger.as_dict()}
        planted = material.planted
        if isinstance(material, RowMaterial):
            tokens = np.zeros((0, len(material.codec.sizes)), np.int32)
            if planted is not None:
                tokens = planted.canaries.tokens
            return TableSynthesizer.of(
                material.schema, material.spans, material.codec, material.layout, model, state,
                tokens, material.never, promise,
            )  # fmt: skip
        assert isinstance(material, CodeMaterial)
        hidden = None if planted is None else planted.canaries
        return CodesSynthesizer.of(
            material.names, material.known, model, state, material.binary, hidden, promise
        )

    def state_dict(self) -> dict[str, Any]:
        """What a run needs besides the trainer's state to go on bit for bit."""
        return {
            "best": self._best, "since": self._since, "kept": self._kept,
            "kept_at": self._kept_at, "ended": self.ended, "records": self._digest,
            "asked": self._asked(),
        }  # fmt: skip

    def _asked(self) -> str:
        """What must not change in a private run: the same noise would protect other gradients."""
        if self.delta is None:
            return ""
        told = replace(self.config.train, save_every=1, preview_every=1, log_every=1)
        return repr((self.config.model, told, self.config.privacy))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            TrainingError: It was taken from other records, or from a private run that was asked
                for otherwise.
        """
        for name, mine, what in (
            ("records", self._digest, "the records that the run was started with"),
            ("asked", self._asked(), "the configuration that a private run was started with"),
        ):
            if state[name] != mine:
                raise TrainingError(what, "others", None, "Start another run.")
        self._best, self._since = state["best"], state["since"]
        self._kept, self._kept_at = state["kept"], state["kept_at"]
        self.ended = state["ended"]


def _learnt(records: int, config: Tabular, kind: str) -> int:
    """Records that may be learnt from, at least."""
    planted = sum(config.canaries.copies) * config.canaries.each
    few = 0
    if kind in BOUNDED and config.data.held_out:
        few = max(int(config.data.held_out * records), 10)
    return max(records - few, 1) + planted


def _held_out(material: Material) -> bool:
    if isinstance(material, RowMaterial):
        return len(material.held_out.tokens) > 0
    assert isinstance(material, CodeMaterial)
    return int(material.held_out.shape[0]) > 0


def _digest(records: Table | Codes) -> str:
    """Of the records, for `last.pt`, which is not published."""
    found = hashlib.sha256()
    if isinstance(records, Codes):
        arrays = [records.matrix.indptr, records.matrix.indices, records.matrix.data]
    else:
        arrays = [records.values[c.name] for c in records.schema.modelled]
        arrays += [records.absent(c.name) for c in records.schema.modelled]
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
