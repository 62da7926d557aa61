"""A β-VAE on rows, with a likelihood for each kind of cell.

Knows cells; no columns' names, no files.
"""

import numpy as np
import torch
from torch import Tensor, nn

from medsynth.core.random import Key
from medsynth.tabular.codec import Cells
from medsynth.tabular.models import Allowed, Residual, RowBatch, RowModel, obeying
from medsynth.tabular.vectors import Layout, Vectors, logs
from medsynth.training.game import Metrics, Noise, Phase


class VariationalNetwork(RowModel):
    """Encoder to a normal posterior, decoder to distributions of cells.

    Args:
        layout: Of the table.
        width, depth: Of the residual blocks, encoder and decoder alike.
        latent: Dimensions of the posterior.

    Source:
        Kingma and Welling (arXiv 1312.6114); on tables: Xu et al. (arXiv 1907.00503), section 4.4.
    """

    def __init__(self, layout: Layout, width: int, depth: int, latent: int) -> None:
        super().__init__(layout.sizes)
        self.vectors, self.latent = Vectors(layout), latent
        self.encoder = _network(self.vectors.width, width, depth, 2 * latent)
        self.decoder = _network(latent, width, depth, self.vectors.width)
        self.log_sd = nn.Parameter(torch.full((self.vectors.columns,), -1.0))
        leave = self.decoder[-1]
        assert isinstance(leave, nn.Linear)
        with torch.no_grad():
            leave.bias[: self.vectors.tokens] = logs(layout.shares)

    def decoded(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of tokens `(B, T)` and means of offsets from −1 to 1 `(B, D)`."""
        out = self.decoder(z).float()
        return out[:, : self.vectors.tokens], out[:, self.vectors.tokens :].tanh()

    @torch.inference_mode()
    def draw(self, rows: int, key: Key, allowed: Allowed) -> Cells:
        """See `RowModel.draw`; conditions are met by rejection."""
        self.eval()

        def some(count: int, root: Key) -> Cells:
            rng = root.numpy()
            z = torch.from_numpy(rng.standard_normal((count, self.latent), np.float32))
            logits, means = self.decoded(z)
            noise = torch.from_numpy(rng.standard_normal(tuple(means.shape), np.float32))
            return self.vectors.drawn(logits, means + self.log_sd.exp() * noise, rng)

        return obeying(some, rows, key, allowed)


class VariationalGame:
    """Evidence lower bound, with a weight on the divergence.

    Args:
        network: The player.
        beta: Weight of the divergence; below 1 rows are kept sharper, above 1 latents simpler.

    Source:
        Higgins et al., *beta-VAE*, ICLR 2017.
    """

    phases = (Phase("bound", "generator"),)

    def __init__(self, network: VariationalNetwork, beta: float) -> None:
        self.players = nn.ModuleDict({"generator": network})
        self.beta = beta

    def loss(self, phase: str, batch: RowBatch, noise: Noise) -> tuple[Tensor, Metrics]:
        """Negative bound, nats a row."""
        network = self.players["generator"]
        assert isinstance(network, VariationalNetwork)
        bound = negative_bound(network, batch, noise, self.beta).mean()
        return bound, {"nats_per_row": bound.detach()}


def negative_bound(
    network: VariationalNetwork, batch: RowBatch, noise: Noise, beta: float = 1.0
) -> Tensor:
    """What a row costs at most, nats, `(B,)`: tokens, offsets of numbers, divergence."""
    vectors = network.vectors
    real = vectors.real(batch.tokens, batch.offsets)
    mean, log_variance = network.encoder(real).float().chunk(2, 1)
    log_variance = log_variance.clamp(-10, 10)
    z = mean + (log_variance / 2).exp() * noise.normal(network.latent)
    logits, offsets = network.decoded(z)
    assert isinstance(vectors.spans, Tensor)
    spanned = real[:, : vectors.tokens] @ vectors.spans
    log_sd = network.log_sd.clamp(min=-4)
    away = (2 * batch.offsets - 1 - offsets) / log_sd.exp()
    numbers = (away.square() / 2 + log_sd + 0.919) * spanned
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return vectors.nats(logits, batch.tokens).sum(1) + numbers.sum(1) + beta * divergence


def _network(enter: int, width: int, depth: int, leave: int) -> nn.Sequential:
    blocks = [Residual(width) for _ in range(depth)]
    return nn.Sequential(
        nn.Linear(enter, width), *blocks, nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, leave)
    )
