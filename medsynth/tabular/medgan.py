"""MedGAN, as published: an autoencoder learns codes, a GAN plays in its latent space.

Knows codes by number; no names, no files.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from medsynth.core.random import Key
from medsynth.tabular.models import CodeBatch, CodeModel
from medsynth.tabular.wasserstein import given_codes
from medsynth.training.game import Metrics, Noise, Phase


class MedGan(CodeModel):
    """Encoder, decoder, and a generator of latent vectors with shortcuts and batch norm.

    Args:
        count: Codes.
        latent: Numbers of the autoencoder's and of the noise.
        binary: Whether codes are there or not, rather than counted.
        rounding: Round the decoder's outputs, as published, which loses rare codes; else a code is
            there (or counted once more) with the probability that is left over.

    Source:
        Choi et al. (arXiv 1703.06490), section 3.2 and its appendix for sizes.
    """

    def __init__(self, count: int, latent: int, binary: bool, rounding: bool) -> None:
        super().__init__(count)
        self.latent, self.binary, self.rounding = latent, binary, rounding
        self.encode = nn.EmbeddingBag(count + 1, latent, mode="sum", padding_idx=count)
        self.encode_bias = nn.Parameter(torch.zeros(latent))
        self.decode = nn.Linear(latent, count)
        self.layers = nn.ModuleList(nn.Linear(latent, latent) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm1d(latent) for _ in range(2))
        nn.init.normal_(self.encode.weight, std=count**-0.5)

    def reconstructed(self, batch: CodeBatch) -> Tensor:
        """The decoder's raw output for real subjects, `(B, V)`."""
        given = batch.counts.clamp(max=1) if self.binary else batch.counts
        h = self.encode(batch.codes, per_sample_weights=given) + self.encode_bias
        return self.decode(h.tanh() if self.binary else functional.relu(h))

    def forward(self, z: Tensor) -> Tensor:
        """Noise `(B, latent)` to what the decoder makes of it, `(B, V)`."""
        h = z
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            out = norm(layer(h))
            last = index == len(self.layers) - 1
            h = (out.tanh() if last and self.binary else functional.relu(out)) + h
        raw = self.decode(h).float()
        return raw.sigmoid() if self.binary else functional.relu(raw)

    @torch.inference_mode()
    def draw(self, rows: int, key: Key, present: Sequence[int], absent: Sequence[int]) -> Any:
        """See `CodeModel.draw`; conditions are met by rejection."""
        self.eval()

        def some(count: int, root: Key) -> Any:
            rng = root.numpy()
            made = self(torch.from_numpy(rng.standard_normal((count, self.latent), np.float32)))
            threshold = 0.5 if self.rounding else rng.random(made.shape, np.float32)
            values = np.floor(made.numpy() + threshold)
            return sparse.csr_matrix(np.minimum(values, 1) if self.binary else values).astype(
                np.int32
            )

        return given_codes(some, rows, key, present, absent)


class Discriminator(nn.Module):
    """Two hidden layers; each subject is seen beside the mean of the batch.

    The mean is the same for the whole batch, so that its half of the first layer is computed
    once; real subjects stay sparse.

    Args:
        count: Codes.
        hidden: Sizes of the layers, as published 256 and 128.
    """

    def __init__(self, count: int, hidden: tuple[int, int] = (256, 128)) -> None:
        super().__init__()
        self.count = count
        self.own = nn.EmbeddingBag(count + 1, hidden[0], mode="sum", padding_idx=count)
        self.mean = nn.Linear(count, hidden[0])
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(*hidden), nn.ReLU(), nn.Linear(hidden[1], 1))
        nn.init.uniform_(self.own.weight, -((2 * count) ** -0.5), (2 * count) ** -0.5)

    def real(self, batch: CodeBatch, binary: bool) -> Tensor:
        """Logits of real subjects, `(B,)`."""
        given = batch.counts.clamp(max=1) if binary else batch.counts
        mean = given.new_zeros(self.count + 1).index_add_(0, batch.codes.ravel(), given.ravel())
        own = self.own(batch.codes, per_sample_weights=given)
        return self.rest(own + self.mean(mean[:-1] / len(given))).squeeze(1)

    def fake(self, made: Tensor) -> Tensor:
        """Logits of made subjects `(B, V)`, `(B,)`."""
        own = made @ self.own.weight[:-1]
        return self.rest(own + self.mean(made.mean(0))).squeeze(1)


class MedGanGame:
    """First the autoencoder, then two turns of the discriminator to one of the generator.

    Args:
        generator: The player that is kept.
        judge: Its adversary.
        pretraining: Steps of the autoencoder.
    """

    def __init__(self, generator: MedGan, judge: Discriminator, pretraining: int) -> None:
        self.players = nn.ModuleDict({"generator": generator, "discriminator": judge})
        self.phases = (
            Phase("reconstruct", "generator", last=pretraining),
            Phase("judge", "discriminator", first=pretraining),
            Phase("generate", "generator", 2, first=pretraining),
        )

    def loss(self, phase: str, batch: CodeBatch, noise: Noise) -> tuple[Tensor, Metrics]:
        """The loss of one phase, a mean over subjects."""
        generator, judge = self.players["generator"], self.players["discriminator"]
        assert isinstance(generator, MedGan)
        assert isinstance(judge, Discriminator)
        if phase == "reconstruct":
            truth = batch.dense(generator.count)
            raw = generator.reconstructed(batch).float()
            if generator.binary:
                truth = truth.clamp(max=1)
                loss = functional.binary_cross_entropy_with_logits(raw, truth, reduction="sum")
            else:
                loss = (functional.relu(raw) - truth).square().sum()
            loss = loss / len(truth)
            return loss, {"loss_reconstruct": loss.detach()}
        made = generator(noise.normal(generator.latent))
        if phase == "generate":
            verdict = judge.fake(made)
            loss = functional.softplus(-verdict).mean()
            with torch.no_grad():
                real = batch.dense(generator.count)
                spread = made.std(0).mean() / real.std(0).mean().clamp(min=1e-6)
            return loss, {"loss_generator": loss.detach(), "diversity": spread}
        real_logits, fake_logits = judge.real(batch, generator.binary), judge.fake(made.detach())
        loss = functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()
        return loss, {
            "loss_discriminator": loss.detach(),
            "accuracy_real": (real_logits > 0).float().mean(),
            "accuracy_fake": (fake_logits < 0).float().mean(),
        }
