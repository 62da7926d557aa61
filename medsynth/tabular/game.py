"""The games that tables play on the trainer.

`AutoregressiveGame`: guess the columns that are hidden. Knows tokens; no files, no columns' names.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from medsynth.tabular.network import AutoregressiveNetwork
from medsynth.training.game import Metrics, Noise, Phase


class RowBatch(NamedTuple):
    """Rows as tokens `(B, D)`, int64."""

    tokens: Tensor


class AutoregressiveGame:
    """One player that predicts hidden columns from shown ones; how many are shown is random.

    Args:
        network: The player.
    """

    phases = (Phase("predict", "generator"),)

    def __init__(self, network: AutoregressiveNetwork) -> None:
        self.players = nn.ModuleDict({"generator": network})

    def loss(self, phase: str, batch: RowBatch, noise: Noise) -> tuple[Tensor, Metrics]:
        """Mean negative log-likelihood of a hidden column, nats."""
        network = self.players["generator"]
        assert isinstance(network, AutoregressiveNetwork)
        loss = hidden_likelihood(network, batch.tokens, noise).mean()
        return loss, {"nats_per_column": loss.detach()}


def hidden_likelihood(network: AutoregressiveNetwork, tokens: Tensor, noise: Noise) -> Tensor:
    """Mean negative log-likelihood of the hidden columns of each row, nats, `(B,)`.

    In expectation over orders and counts it is the negative log-likelihood of a row, over the
    number of its columns.
    """
    count = tokens.shape[1]
    order = noise.uniform(count).argsort(1).argsort(1)
    shown = (noise.uniform(1) * count).long()
    known = order < shown
    logits = network(tokens, known)
    losses = torch.stack(
        [
            functional.cross_entropy(part.float(), tokens[:, index], reduction="none")
            for index, part in enumerate(logits)
        ],
        1,
    )
    hidden = ~known
    return (losses * hidden).sum(1) / hidden.sum(1)
