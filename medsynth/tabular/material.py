"""Records made ready for a game: rows of columns, or subjects with codes.

What differs between the two stands here; how they are fitted is the same and stands in `fitting`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from medsynth.config.tabular import Model, Tabular
from medsynth.core.codes import Codes
from medsynth.core.random import Key
from medsynth.core.table import Schema, Table
from medsynth.errors import ConfigError, DataError
from medsynth.tabular import canaries
from medsynth.tabular.autoregressive import AutoregressiveGame, AutoregressiveNetwork, hidden_nats
from medsynth.tabular.baselines import Copula
from medsynth.tabular.canaries import Planted
from medsynth.tabular.codec import Cells, Codec
from medsynth.tabular.contradictions import Contradictions
from medsynth.tabular.kinds import BOUNDED, SMALL, planned
from medsynth.tabular.medgan import Discriminator, MedGan, MedGanGame
from medsynth.tabular.models import CodeModel, RowModel
from medsynth.tabular.sets import CodeRates, SetGame, SetNetwork, set_nats
from medsynth.tabular.spans import Spans
from medsynth.tabular.supply import Rows, Subjects
from medsynth.tabular.vae import VariationalGame, VariationalNetwork, negative_bound
from medsynth.tabular.vectors import Layout
from medsynth.tabular.wasserstein import CodeGenerator, RowGenerator, WassersteinGame, critic
from medsynth.training.game import Game, Noise, Share
from medsynth.training.trainer import Trainer

FEWEST = 50
"""Records that a model needs."""

DRAWS = (4, 64)
"""Random orders, or draws of latents, over which a likelihood is estimated: at least, at most."""

RANKING_DRAWS = 16
"""Random orders under which canaries are ranked among candidates."""

ESTIMATES = 2000
"""Records times draws that a mean likelihood should rest on."""


@dataclass(frozen=True, eq=False)
class Material(ABC):
    """Records and the game that is played on them.

    Args:
        config: Resolved.
        game: With its players.
        planted: Canaries that were put in, or None.
    """

    config: Tabular
    game: Game
    planted: Planted | None

    @property
    def bounded(self) -> bool:
        """Whether the model says how likely a record is."""
        return self.config.model.kind in BOUNDED

    @property
    @abstractmethod
    def records(self) -> int:
        """How many are learnt from, canaries included."""

    @abstractmethod
    def batches(self, trainer: Trainer) -> Iterator[Any]:
        """This rank's micro-batches, from the trainer's step on."""

    @abstractmethod
    def scores(self, network: nn.Module, which: str, device: torch.device) -> np.ndarray:
        """How likely the network finds records, `(N,)`: minus nats; for a GAN what its critic says.

        Args:
            network: The generator, as it would be released.
            which: `held out`, `canaries` or `candidates`.
            device: Where it is.
        """


def row_network(model: Model, layout: Layout) -> RowModel:
    """The network of a kind that makes rows, new; the configuration is resolved."""
    width, latent = model.width or 1, model.latent or 1
    if model.kind == "autoregressive":
        return AutoregressiveNetwork(layout, width, model.depth, model.embedding, model.drop or 0)
    if model.kind == "vae":
        return VariationalNetwork(layout, width, model.depth, latent)
    return RowGenerator(layout, width, model.depth, latent, bool(model.conditional))


def code_network(model: Model, known: CodeRates, *, binary: bool) -> CodeModel:
    """The network of a kind that makes codes, new; the configuration is resolved."""
    width, latent = model.width or 1, model.latent or 1
    if model.kind == "autoregressive":
        return SetNetwork(known, width, model.depth, model.drop or 0)
    if model.kind == "medgan":
        return MedGan(len(known.rates), latent, binary, model.rounding)
    return CodeGenerator(known, width, model.depth, latent)


@dataclass(frozen=True, eq=False)
class RowMaterial(Material):
    """Rows of a table.

    Args:
        schema: Of the rows.
        spans: Dates that are learnt as days since others; none with privacy.
        codec: Columns to cells, spans in place of these dates.
        layout: Of the cells.
        cells: Rows that are learnt from, canaries included.
        held_out: Rows that tell when to stop.
        warm: Rows that a copula makes, to start from; None for none.
        never: What no row that is learnt from contradicts; nothing with privacy.
    """

    schema: Schema
    spans: Spans
    codec: Codec
    layout: Layout
    cells: Cells
    held_out: Cells
    warm: Cells | None
    never: Contradictions

    @classmethod
    def of(
        cls, table: Table, config: Tabular, given: tuple[Codec, Layout] | None = None
    ) -> "RowMaterial":
        """Encode a table, split it, plant canaries and set up the game.

        Args:
            table: All rows that may be used.
            config: Resolved.
            given: Private cells and their shares; None looks at the table.

        Raises:
            DataError: Too few rows, or nothing to model.
            ConfigError: A target that is not there.
        """
        key = Key(config.seed)
        order = split(table.rows, config, key)
        never, spans, schema = Contradictions(), Spans(), table.schema
        if given is not None:
            codec = given[0]
        else:
            never = Contradictions.of(table.take(order.learnt))
            spans = Spans.find(table.take(order.learnt))
            table = spans.shortened(table)
            rows = table.take(np.sort(order.learnt))
            codec = Codec.fit(rows, config.data.numbers == "modes", config.data.rare)
        whole = codec.cells(table)
        learnt, held_out = (Cells(*(p[at] for p in whole)) for at in (order.learnt, order.held_out))
        planted, how = None, config.canaries
        layout = Layout.of(codec, learnt.tokens) if given is None else given[1]
        warm = None
        if config.model.kind == "autoregressive" and len(order.learnt) < SMALL:
            warm = _warm(table, order.learnt, codec, key)
        if how.copies:
            planted = canaries.of_rows(
                learnt.tokens, how.copies, how.each, how.candidates, key.fold("canaries")
            )
            more = (p[planted.again] for p in planted.canaries)
            learnt = Cells(*(np.concatenate(both) for both in zip(learnt, more, strict=True)))
        torch.manual_seed(key.fold("network").integer())
        game = _row_game(config.model, layout, codec, anchored=given is not None)
        return cls(
            config, game, planted, schema, spans, codec, layout, learnt, held_out, warm, never
        )

    @property
    def records(self) -> int:
        """Rows that are learnt from."""
        return len(self.cells.tokens)

    @property
    def warm_steps(self) -> int:
        """Steps on a copula's rows before the real ones: a quarter of the plan, for few rows."""
        return 0 if self.warm is None else planned(self.config, self.records) // 4

    def batches(self, trainer: Trainer) -> Iterator[Any]:
        """See `Material.batches`; with a copula's rows before the real ones."""
        named = self.layout.named if self.config.model.conditional else ()
        supply = Rows(self.cells, self.config.seed, named)
        if self.warm is not None and trainer.step < self.warm_steps:
            before = Rows(self.warm, self.config.seed).batches(trainer)
            while trainer.step < self.warm_steps:
                yield next(before)
        yield from supply.batches(trainer)

    def scores(self, network: nn.Module, which: str, device: torch.device) -> np.ndarray:
        """See `Material.scores`."""
        cells = self._which(which)
        batch = Rows(cells, 0).batch(np.arange(len(cells.tokens)), device)
        total = np.zeros(len(cells.tokens))
        with torch.inference_mode(), evaluating(network):
            noises = measuring(which, len(total), device)
            for noise in noises:
                if isinstance(network, AutoregressiveNetwork):
                    nats = hidden_nats(network, batch.tokens, noise) * batch.tokens.shape[1]
                elif isinstance(network, VariationalNetwork):
                    nats = negative_bound(network, batch, noise)
                else:
                    return self._verdicts(batch)
                total -= nats.cpu().numpy()
        return total / len(noises)

    def _verdicts(self, batch: Any) -> np.ndarray:
        game = self.game
        assert isinstance(game, WassersteinGame)
        assert isinstance(game.generator, RowGenerator)
        with evaluating(game.players):
            real = game.generator.real(batch).repeat_interleave(game.pack, 0)
            return np.asarray(game.verdict(real).cpu(), float)

    def _which(self, which: str) -> Cells:
        if which == "held out":
            return self.held_out
        assert self.planted is not None
        found: Cells = self.planted.canaries if which == "canaries" else self.planted.candidates
        return found


def _row_game(model: Model, layout: Layout, codec: Codec, *, anchored: bool) -> Game:
    network = row_network(model, layout)
    if isinstance(network, AutoregressiveNetwork):
        return AutoregressiveGame(network)
    if isinstance(network, VariationalNetwork):
        return VariationalGame(network, model.beta)
    assert isinstance(network, RowGenerator)
    target = None
    if model.target is not None:
        column = codec.schema.column(model.target)
        if not column.named:
            raise ConfigError("model.target as a column of names", column.kind, model.target)
        target = codec.names.index(column.name)
    pack = model.pack or 1
    judge = critic(network.width * pack, model.critic)
    return WassersteinGame(
        network, judge, penalty=model.penalty, turns=model.turns, pack=pack, target=target,
        agreement=model.agreement, anchor=model.anchor if anchored else 0.0,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class CodeMaterial(Material):
    """Subjects with codes.

    Args:
        names: Of the codes.
        known: What was counted of them.
        binary: Whether no code is counted twice.
        matrix: Subjects that are learnt from, CSR, canaries included.
        held_out: Subjects that tell when to stop, CSR.
    """

    names: tuple[str, ...]
    known: CodeRates
    binary: bool
    matrix: Any
    held_out: Any

    @classmethod
    def of(cls, codes: Codes, config: Tabular) -> "CodeMaterial":
        """Split subjects, plant canaries and set up the game.

        Raises:
            DataError: Too few subjects, or no codes.
        """
        private, key = config.privacy.epsilon is not None, Key(config.seed)
        order = split(len(codes), config, key)
        learnt, held_out = codes.matrix[order.learnt], codes.matrix[order.held_out]
        if not learnt.nnz:
            raise DataError("codes", "none", None, "Every subject is empty.")
        known = CodeRates.unknown(len(codes.names)) if private else CodeRates.of(learnt)
        planted, how = None, config.canaries
        if how.copies:
            planted = canaries.of_codes(
                learnt, how.copies, how.each, how.candidates, key.fold("canaries")
            )
            learnt = sparse.vstack([learnt, planted.canaries[planted.again]], "csr")
        torch.manual_seed(key.fold("network").integer())
        game = _code_game(config, known, learnt.shape[0], binary=codes.binary)
        # with privacy not even that somebody has a code twice is told
        binary = codes.binary or private
        return cls(config, game, planted, codes.names, known, binary, learnt, held_out)

    @property
    def records(self) -> int:
        """Subjects that are learnt from."""
        return int(self.matrix.shape[0])

    def batches(self, trainer: Trainer) -> Iterator[Any]:
        """See `Material.batches`."""
        return Subjects(self.matrix, self.config.seed).batches(trainer)

    def scores(self, network: nn.Module, which: str, device: torch.device) -> np.ndarray:
        """See `Material.scores`."""
        matrix = self.held_out
        if which != "held out":
            assert self.planted is not None
            matrix = self.planted.canaries if which == "canaries" else self.planted.candidates
        batch = Subjects(matrix, 0).batch(np.arange(matrix.shape[0]), device)
        with torch.inference_mode(), evaluating(network), evaluating(self.game.players):
            if isinstance(network, SetNetwork):
                draws = [
                    set_nats(network, batch, noise)
                    for noise in measuring(which, matrix.shape[0], device)
                ]
                return -np.asarray(torch.stack(draws).mean(0).cpu(), float)
            if isinstance(network, CodeGenerator):
                assert isinstance(self.game, WassersteinGame)
                found = self.game.verdict(network.real(batch))
            else:
                judge = self.game.players["discriminator"]
                assert isinstance(judge, Discriminator)
                assert isinstance(network, MedGan)
                found = judge.real(batch, network.binary)
            return np.asarray(found.cpu(), float)


def _code_game(config: Tabular, known: CodeRates, subjects: int, *, binary: bool) -> Game:
    model = config.model
    network = code_network(model, known, binary=binary)
    if isinstance(network, SetNetwork):
        return SetGame(network)
    if isinstance(network, MedGan):
        pretraining = int(model.pretraining * planned(config, subjects))
        layers = model.critic[0], model.critic[1]
        return MedGanGame(network, Discriminator(network.count, layers), pretraining)
    assert isinstance(network, CodeGenerator)
    judge = critic(network.width, model.critic)
    return WassersteinGame(network, judge, penalty=model.penalty, turns=model.turns)


@dataclass(frozen=True)
class Split:
    """Records by position: learnt from, and held out."""

    learnt: np.ndarray
    held_out: np.ndarray


def split(records: int, config: Tabular, key: Key) -> Split:
    """Which records tell when to stop; none for kinds that do not ask, and none with privacy.

    Raises:
        DataError: Too few records.
    """
    if records < FEWEST:
        raise DataError(f"at least {FEWEST} records", str(records))
    order = key.fold("held out").numpy().permutation(records)
    few = 0
    if config.model.kind in BOUNDED and config.data.held_out:
        few = max(int(config.data.held_out * records), 10)
    return Split(order[few:], order[:few])


def _warm(table: Table, learnt: np.ndarray, codec: Codec, key: Key) -> Cells:
    rows = table.take(np.sort(learnt))
    return codec.cells(Copula.fit(rows, codec).sample(20_000, key.fold("copula")))


class Same(Noise):
    """The same numbers for all records: they are compared under one order of columns."""

    def _cut(self, drawn: Tensor) -> Tensor:
        return super()._cut(drawn[:1].expand_as(drawn))


def measuring(which: str, records: int, device: torch.device) -> list[Noise]:
    """Noise under which records are measured, the same at every look.

    Canaries and candidates are ranked, so that they share their orders; the likelihood of few
    held-out records is estimated by more draws.
    """
    share = Share(0, records, records)
    if which != "held out":
        return [Same(draw, share, device) for draw in range(RANKING_DRAWS)]
    draws = int(np.clip(ESTIMATES // max(records, 1), *DRAWS))
    return [Noise(draw, share, device) for draw in range(draws)]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """A network in evaluation mode, and afterwards as it was."""
    modes = {part: part.training for part in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
