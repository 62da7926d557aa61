"""A fitted table, ready to use: `fit(frame).sample(10_000)`.

Knows tables and networks; nothing of configurations.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.errors import ConfigError, DataError, ModelError, UsageError
from medsynth.tabular.codec import Codec
from medsynth.tabular.game import AutoregressiveGame, RowBatch, hidden_likelihood
from medsynth.tabular.network import AutoregressiveNetwork
from medsynth.training.game import Noise, Share
from medsynth.training.order import positions, share
from medsynth.training.precision import choose_precision
from medsynth.training.trainer import Trainer
from medsynth.training.weights import load_model, mismatch, save_model
from medsynth.training.world import World

FORMAT = "medsynth-table/1"
CHUNK = 4096
"""Rows sampled at a time; each chunk visits the columns in an order of its own."""

FEWEST_ROWS = 50
LEAST_STEPS = 4
"""Steps between two looks at the held-out rows, when an epoch has fewer."""

HELD_OUT = 0.1
"""Share of the rows that tell when to stop and are not learnt from."""


@dataclass(frozen=True)
class Spec:
    """How large the network is and how long it learns.

    Args:
        width, depth, embedding: See `AutoregressiveNetwork`.
        batch: Rows per step.
        rate: Learning rate of Adam.
        epochs: At most, of 4 steps at least; training stops when held-out rows are no longer
            predicted better.
        patience: Looks at the held-out rows, one an epoch, without a better one.
    """

    width: int = 256
    depth: int = 2
    embedding: int = 8
    batch: int = 256
    rate: float = 2e-3
    epochs: int = 60
    patience: int = 4


@dataclass(frozen=True, eq=False)
class TableSynthesizer:
    """A network that has learnt how rows of a table look.

    Args:
        codec: Columns to tokens.
        network: In evaluation mode.
        spec: How it was made.
        fingerprint: First 16 digits of the SHA-256 of its file, or "unsaved".
    """

    codec: Codec
    network: AutoregressiveNetwork
    spec: Spec
    fingerprint: str = "unsaved"

    def sample(
        self, rows: int, key: Key | int = 0, where: Mapping[str, str] | None = None
    ) -> Table:
        """Make rows.

        Args:
            rows: How many.
            key: The same key gives the same rows.
            where: Column → value that all rows have; the others are drawn given these.

        Raises:
            UsageError: Less than one row.
            ConfigError: A column or level that there is not.
        """
        if rows < 1:
            raise UsageError("at least 1 row", str(rows))
        root = key if isinstance(key, Key) else Key(key, ("table",))
        allowed = {
            self.codec.names.index(self.codec.schema.column(name).name): self.codec.allowed(name, v)
            for name, v in (where or {}).items()
        }
        parts = [
            self._chunk(min(CHUNK, rows - start), root.fold("rows", start), allowed)
            for start in range(0, rows, CHUNK)
        ]
        return self.codec.decode(np.concatenate(parts), root.fold("values"))

    @torch.inference_mode()
    def _chunk(self, rows: int, key: Key, allowed: Mapping[int, np.ndarray]) -> np.ndarray:
        count = len(self.codec.sizes)
        rng = key.numpy()
        given = list(allowed)
        rest = [i for i in rng.permutation(count).tolist() if i not in allowed]
        tokens = torch.zeros(rows, count, dtype=torch.long)
        known = torch.zeros(rows, count, dtype=torch.bool)
        self.network.eval()
        for index in (*given, *rest):
            logits = self.network.column(self.network.features(tokens, known), index).float()
            if index in allowed:
                logits = logits.masked_fill(~torch.from_numpy(allowed[index]), -torch.inf)
            tokens[:, index] = _drawn(logits, torch.from_numpy(rng.random(rows, np.float32)))
            known[:, index] = True
        return tokens.numpy()

    def log_likelihood(self, table: Table, draws: int = 8) -> np.ndarray:
        """An estimate of each row's log-likelihood, nats, `(N,)`: the mean over random orders.

        Args:
            table: Rows with the same columns.
            draws: Random orders and numbers of shown columns.
        """
        tokens = torch.from_numpy(self.codec.encode(table)).long()
        total = np.zeros(len(tokens))
        with torch.inference_mode():
            for draw in range(draws):
                whole = Noise(draw, Share(0, len(tokens), len(tokens)), torch.device("cpu"))
                total -= hidden_likelihood(self.network, tokens, whole).numpy()
        return total / draws * tokens.shape[1]

    def save(self, path: Path) -> None:
        """Write `model.safetensors`; what it needs to be used again stands inside."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        arrays = {f"codec.{k}": torch.from_numpy(v) for k, v in self.codec.arrays().items()}
        told = {
            "format": FORMAT,
            "codec": json.dumps(self.codec.to_json()),
            "spec": json.dumps(vars(self.spec)),
        }
        save_model(path, tensors | arrays, told)


def _drawn(logits: Tensor, u: Tensor) -> Tensor:
    """One token per row from its distribution, by the inverse of the cumulative sum."""
    steps = logits.softmax(1).cumsum(1)
    steps = steps / steps[:, -1:]
    return (
        torch.searchsorted(steps, u[:, None].contiguous()).squeeze(1).clamp(max=logits.shape[1] - 1)
    )


def load(path: Path | str) -> TableSynthesizer:
    """A table's model from a run folder or a `model.safetensors`.

    Raises:
        UsageError: No model there.
        ModelError: The file is not a table's model of this version.
    """
    file = Path(path)
    file = file / "model.safetensors" if file.is_dir() else file
    if not file.exists():
        raise UsageError("a run with model.safetensors", "none", path)
    tensors, metadata, fingerprint = load_model(file)
    if metadata.get("format") != FORMAT:
        raise ModelError(f"a model of format {FORMAT!r}", repr(metadata.get("format")), file)
    arrays = {k.removeprefix("codec."): v.numpy() for k, v in tensors.items() if k[:6] == "codec."}
    codec = Codec.from_json(json.loads(metadata["codec"]), arrays)
    spec = Spec(**json.loads(metadata["spec"]))
    network = AutoregressiveNetwork(codec.sizes, spec.width, spec.depth, spec.embedding)
    weights = {k.removeprefix("network."): v for k, v in tensors.items() if k[:8] == "network."}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError("the weights of that network", mismatch(error), file) from error
    return TableSynthesizer(codec, network.eval().requires_grad_(False), spec, fingerprint)


def fit_table(
    table: Table,
    spec: Spec | None = None,
    seed: int = 0,
    shown: Callable[[Iterator[Any], int], Iterator[Any]] = lambda steps, total: steps,
) -> TableSynthesizer:
    """Learn how the rows of a table look.

    Args:
        table: At least 50 rows.
        spec: Size and length; None takes what suits most tables.
        seed: Root of initial weights, order and noise.
        shown: Shows progress over steps.

    Raises:
        DataError: Too few rows, or nothing to model.
    """
    if table.rows < FEWEST_ROWS:
        raise DataError(f"at least {FEWEST_ROWS} rows", str(table.rows))
    spec = spec or Spec()
    if min(spec.width, spec.depth, spec.embedding, spec.batch, spec.epochs) < 1:
        raise ConfigError("width, depth, embedding, batch and epochs of at least 1", "less")
    codec = Codec.fit(table)
    tokens = torch.from_numpy(codec.encode(table)).long()
    order = Key(seed, ("held out",)).numpy().permutation(len(tokens))
    few = max(int(HELD_OUT * len(tokens)), 10)
    held_out, learnt = tokens[order[:few]], tokens[order[few:]]
    batch = min(spec.batch, len(learnt))
    torch.manual_seed(Key(seed, ("network",)).integer())
    game = AutoregressiveGame(
        AutoregressiveNetwork(codec.sizes, spec.width, spec.depth, spec.embedding)
    )
    world = World.from_environment()
    game.players.to(world.device)
    trainer = Trainer(
        game,
        {"generator": torch.optim.AdamW(game.players.parameters(), spec.rate, weight_decay=0.01)},
        world=world,
        seed=seed,
        batch=batch,
        precision=choose_precision("fp32", world.device),
        clip_norm=5.0,
        ema_halflife_cases=1.0 * len(learnt),
    )
    look = max(-(-len(learnt) // batch), LEAST_STEPS)
    best, since, kept = np.inf, 0, copy.deepcopy(trainer.averaged("generator").state_dict())
    work = trainer.fit(rows_in_turn(learnt, trainer, batch), spec.epochs * look)
    for _ in shown(work, spec.epochs * look):
        if trainer.step % look:
            continue
        now = _held_out(trainer, held_out)
        if now < best - 1e-4:
            best, since, kept = now, 0, copy.deepcopy(trainer.averaged("generator").state_dict())
        else:
            since += 1
            if since >= spec.patience:
                break
    network = AutoregressiveNetwork(codec.sizes, spec.width, spec.depth, spec.embedding)
    network.load_state_dict(kept)
    return TableSynthesizer(codec, network.eval().requires_grad_(False), spec)


def rows_in_turn(tokens: Tensor, trainer: Trainer, batch: int) -> Iterator[RowBatch]:
    """This rank's micro-batches, from the trainer's step on."""
    world, step = trainer.world, trainer.step
    while True:
        at = positions(step, batch, len(tokens), trainer.seed)
        for micro in range(trainer.accumulate):
            part = share(batch, world.rank, world.size, micro, trainer.accumulate)
            rows = at[part.first : part.first + part.size]
            yield RowBatch(tokens[rows].to(world.device))
        step += 1


@torch.inference_mode()
def _held_out(trainer: Trainer, tokens: Tensor) -> float:
    """Negative log-likelihood of held-out rows by the averaged network, always the same draws."""
    network = trainer.averaged("generator")
    assert isinstance(network, AutoregressiveNetwork)
    network.eval()
    device = trainer.world.device
    draws = [Noise(draw, Share(0, len(tokens), len(tokens)), device) for draw in range(4)]
    return float(
        np.mean(
            [hidden_likelihood(network, tokens.to(device), noise).mean().item() for noise in draws]
        )
    )
