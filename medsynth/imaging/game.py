"""The two games that images play on the trainer.

`SynthesisGame` (labels → MRI, the default): the discriminator segments, and calls fake voxels
fake. `PairGame` (anything → anything): pix2pix, a patch discriminator judges pairs. Knows tensors
and losses; no files, no devices, no optimisers.
"""

from itertools import combinations, product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from medsynth.imaging.discriminator import PatchDiscriminator, SegmentationDiscriminator
from medsynth.imaging.generator import FoldedGenerator, Generator
from medsynth.imaging.network import halve
from medsynth.training.game import Metrics, Noise, Phase

CONTRAST = 3.0
"""Weight of the mean brightness of structures within the distance."""

VOXELWISE = 0.25
"""Share of the distance that is taken voxel by voxel, the rest over blocks."""

LAGS = (1, 2, 4)
"""Voxels between two whose difference is texture."""

MIN_VOXELS = 32
"""Structures with fewer voxels in a patch have no statistics worth comparing."""

MAX_WEIGHT = 8.0
"""Rare structures count at most this much more than the average voxel."""


class ImageBatch(NamedTuple):
    """Patches of some cases.

    Args:
        source: `(B, S, I, J, K)`, one-hot structures or scans.
        target: `(B, T, I, J, K)`, scans or one-hot structures.
        style: `(B, 2, T, S)` when the generator takes one, else None.
        spacing_mm: Edges of voxels along i, j, k, `(B, 3)`, when there are styles, else None.
    """

    source: Tensor
    target: Tensor
    style: Tensor | None
    spacing_mm: Tensor | None


class SynthesisGame:
    """Labels → MRI against a discriminator that segments.

    The discriminator's class 0 means *fake*: background is exactly zero on both sides, so it is
    not judged, and its place is free.

    Args:
        generator: Makes scans from one-hot labels, noise and style.
        discriminator: Names the structure of every voxel.
        adversarial: Weight of the discriminator's verdict.
        l1: Weight of the distance to the real scan, voxels and means of structures.
        texture: Weight of the difference in texture, per structure.
        r1: Weight of the gradient penalty on real scans.
        r1_every: Steps between two penalties.

    Source:
        OASIS (arXiv 2012.04781); L1 of pix2pix (arXiv 1611.07004); R1, Mescheder et al.
        (arXiv 1801.04406), lazily as in StyleGAN2 (arXiv 1912.04958).
    """

    def __init__(
        self,
        generator: FoldedGenerator,
        discriminator: SegmentationDiscriminator,
        *,
        adversarial: float,
        l1: float,
        texture: float,
        r1: float,
        r1_every: int,
    ) -> None:
        self.players = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
        self.phases = (
            Phase("discriminator", "discriminator"),
            *([Phase("penalty", "discriminator", r1_every)] if r1 > 0 else []),
            Phase("generator", "generator"),
        )
        self.adversarial, self.l1, self.texture, self.r1 = adversarial, l1, texture, r1
        self.grains = generator.spec.grains

    def loss(self, phase: str, batch: Any, noise: Noise) -> tuple[Tensor, Metrics]:
        """One phase's loss and what is worth knowing about it."""
        if phase == "penalty":
            return self._penalty(batch, noise)
        generator, discriminator = self.players["generator"], self.players["discriminator"]
        structure, weight = _balanced(batch.source)
        drawn = noise.normal(self.grains, *batch.source.shape[2:])
        if phase == "discriminator":
            with torch.no_grad():
                fake = generator(batch.source, drawn, batch.style, batch.spacing_mm)
            both = discriminator(torch.cat([batch.target.to(fake.dtype), fake]))
            on_real, on_fake = both.chunk(2)
            real_loss = _cross_entropy(on_real, structure, weight)
            fake_loss = _cross_entropy(on_fake, torch.zeros_like(structure), weight)
            odds = realness(on_real), realness(on_fake)
            inside = weight > 0
            return real_loss + fake_loss, {
                "loss_discriminator": (real_loss + fake_loss).detach(),
                "accuracy_real": _share(odds[0] > 0, inside),
                "accuracy_fake": _share(odds[1] < 0, inside),
            }
        fake = generator(batch.source, drawn, batch.style, batch.spacing_mm)
        adversarial = _cross_entropy(discriminator(fake), structure, weight)
        distance = _distance(fake, batch.target, weight)
        with torch.autocast(fake.device.type, enabled=False):  # sums of brightness overflow fp16
            every = fake.float(), batch.target.float(), batch.source.float()
            texture, contrast = _texture_gap(*every), _contrast_gap(*every)
        total = (
            self.adversarial * adversarial
            + self.l1 * (distance + CONTRAST * contrast)
            + self.texture * texture
        )
        return total, {
            "loss_generator": total.detach(),
            "adversarial": adversarial.detach(),
            "l1": distance.detach(),
            "contrast": contrast.detach(),
            "texture": texture.detach(),
        }

    def _penalty(self, batch: ImageBatch, noise: Noise) -> tuple[Tensor, Metrics]:
        generator, discriminator = self.players["generator"], self.players["discriminator"]
        inside = (batch.source[:, 0] < 0.5).float()
        voxels = inside.sum((1, 2, 3)).clamp_min(1)
        with torch.no_grad():
            one, two = (
                generator(
                    batch.source,
                    noise.normal(self.grains, *batch.source.shape[2:]),
                    batch.style,
                    batch.spacing_mm,
                ).float()
                for _ in range(2)
            )
            diversity = ((one - two).abs().mean(1) * inside).sum((1, 2, 3)) / voxels
        with torch.autocast(batch.target.device.type, enabled=False):
            real = batch.target.float().requires_grad_()
            score = (realness(discriminator(real)) * inside).sum((1, 2, 3)) / voxels
            (gradient,) = torch.autograd.grad(score.sum(), real, create_graph=True)
            penalty = (gradient.square().sum((1, 2, 3, 4)) * voxels).mean()
        return 0.5 * self.r1 * penalty, {"r1": penalty.detach(), "diversity": diversity.mean()}


class PairGame:
    """pix2pix: a patch discriminator judges (source, target) pairs.

    Args:
        generator: Any generator.
        discriminator: Judges concatenated pairs.
        distance: Weight of L1 to the real scans, or of Dice and cross-entropy for label maps.

    Source:
        Isola et al. (arXiv 1611.07004); Shin et al. (arXiv 1807.10225).
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: PatchDiscriminator,
        *,
        distance: float,
    ) -> None:
        from monai.losses import DiceCELoss, PatchAdversarialLoss

        self.players = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
        self.phases = (Phase("discriminator", "discriminator"), Phase("generator", "generator"))
        self.distance = distance
        self.labels_out, self.grains = generator.spec.labels_out, generator.spec.grains
        self._adversarial = PatchAdversarialLoss(criterion="bce")
        self._segmentation = DiceCELoss(softmax=True)

    def loss(self, phase: str, batch: Any, noise: Noise) -> tuple[Tensor, Metrics]:
        """One phase's loss and what is worth knowing about it."""
        generator, discriminator = self.players["generator"], self.players["discriminator"]
        drawn = noise.normal(self.grains, *batch.source.shape[2:])
        if phase == "discriminator":
            with torch.no_grad():
                fake = self._visible(generator(batch.source, drawn, batch.style, batch.spacing_mm))
            on_real = discriminator(torch.cat([batch.source, batch.target], 1)).float()
            on_fake = discriminator(torch.cat([batch.source, fake], 1)).float()
            loss = 0.5 * (
                self._adversarial(on_real, True, True) + self._adversarial(on_fake, False, True)
            )
            return loss, {
                "loss_discriminator": loss.detach(),
                "accuracy_real": (on_real > 0).float().mean(),
                "accuracy_fake": (on_fake < 0).float().mean(),
            }
        out = generator(batch.source, drawn, batch.style, batch.spacing_mm)
        pair = torch.cat([batch.source, self._visible(out)], 1)
        adversarial = self._adversarial(discriminator(pair).float(), True, False)
        distance = (
            self._segmentation(out.float(), batch.target.float())
            if self.labels_out
            else functional.l1_loss(out.float(), batch.target.float())
        )
        total = adversarial + self.distance * distance
        return total, {
            "loss_generator": total.detach(),
            "adversarial": adversarial.detach(),
            "distance": distance.detach(),
        }

    def _visible(self, out: Tensor) -> Tensor:
        return out.softmax(1) if self.labels_out else out


def _balanced(source: Tensor) -> tuple[Tensor, Tensor]:
    """Structure index and weight of every voxel, `(B, I, J, K)`; background weighs nothing.

    Weights are those of a case, whatever else is in the batch, and add up to 1 in each.
    """
    structure = source.argmax(1)
    count = source.float().sum((2, 3, 4))
    count = torch.cat([torch.zeros_like(count[:, :1]), count[:, 1:]], 1)
    total, present = count.sum(1, keepdim=True), (count > 0).sum(1, keepdim=True)
    share = (total / present.clamp_min(1) / count.clamp_min(1)).clamp_max(MAX_WEIGHT)
    share = share * (count > 0)
    weight = share.gather(1, structure.flatten(1)).view_as(structure)
    return structure, weight / weight.sum((1, 2, 3), keepdim=True).clamp_min(1e-6)


def _cross_entropy(logits: Tensor, structure: Tensor, weight: Tensor) -> Tensor:
    loss = functional.cross_entropy(logits.float(), structure, reduction="none")
    return (loss * weight).sum((1, 2, 3)).mean()


def _distance(fake: Tensor, real: Tensor, weight: Tensor) -> Tensor:
    """L1, mostly of blocks of 2×2×2 voxels: noise of a single voxel cannot be predicted, and an
    L1 per voxel would teach the generator to leave it out."""
    gap = (fake - real).abs().mean(1)
    coarse = halve(fake - real).abs().mean(1)
    share = 8 * halve(weight[:, None])[:, 0]
    return (
        VOXELWISE * (gap * weight).sum((1, 2, 3))
        + (1 - VOXELWISE) * (coarse * share).sum((1, 2, 3))
    ).mean()


def realness(logits: Tensor) -> Tensor:
    """Log-odds of *real* against *fake*, `(B, I, J, K)`."""
    logits = logits.float()
    return logits[:, 1:].logsumexp(1) - logits[:, 0]


def _share(hit: Tensor, inside: Tensor) -> Tensor:
    return (hit & inside).sum() / inside.sum().clamp_min(1)


def _contrast_gap(fake: Tensor, real: Tensor, source: Tensor) -> Tensor:
    """Difference of mean brightness, averaged over the structures of each case and channels.

    A voxel-wise distance hardly notices a thin rim that is too dark; this does.
    """
    inside = source[:, 1:]
    count = inside.sum((2, 3, 4))
    gap = torch.einsum("bsijk,btijk->bst", inside, fake - real) / count[..., None].clamp_min(1)
    return _over_structures(gap.abs(), count)


def _texture_gap(fake: Tensor, real: Tensor, source: Tensor) -> Tensor:
    """Difference in texture, averaged over the structures of each case and channels.

    Texture is the mean absolute difference between voxels that lie `LAGS` apart along an axis and
    in one structure, added up over lags, plus the mean absolute deviation from the structure's
    mean; this of the difference of any two channels, too, which tells whether they vary together.
    Noise can meet these statistics without meeting the real voxels. The shortest lag sees grain
    alone; what is coarser costs distance as long as nothing asks for it, and would be left out.

    Source:
        The variogram (Matheron, Economic Geology 58, 1963) and its sill, of first order.
    """
    structures = source[:, 1:]
    count = structures.sum((2, 3, 4))
    one, two = (_deviation(_with_differences(x), structures, count) for x in (fake, real))
    total = _over_structures((one - two).abs(), count)
    for lag, axis in product(LAGS, (2, 3, 4)):
        n = source.shape[axis] - lag
        if n < 1:
            continue
        both = structures.narrow(axis, 0, n) * structures.narrow(axis, lag, n)
        count = both.sum((2, 3, 4))
        one, two = (
            torch.einsum(
                "bsijk,btijk->bst", both, (x.narrow(axis, 0, n) - x.narrow(axis, lag, n)).abs()
            )
            for x in (fake, real)
        )
        gap = (one - two).abs() / count[..., None].clamp_min(1)
        total = total + _over_structures(gap, count) / 3
    return total


def _with_differences(x: Tensor) -> Tensor:
    """Channels of `(B, T, I, J, K)`, and each less each that follows."""
    pairs = combinations(range(x.shape[1]), 2)
    return torch.cat([x, *(x[:, [i]] - x[:, [j]] for i, j in pairs)], 1)


def _deviation(x: Tensor, structures: Tensor, count: Tensor) -> Tensor:
    """Mean absolute deviation `(B, S, T)` of `(B, T, I, J, K)` from the mean of each structure."""
    voxels = count[..., None].clamp_min(1)
    means = torch.einsum("bsijk,btijk->bst", structures, x) / voxels
    away = (x - torch.einsum("bsijk,bst->btijk", structures, means)).abs()
    return torch.einsum("bsijk,btijk->bst", structures, away) / voxels


def _over_structures(gap: Tensor, count: Tensor) -> Tensor:
    """Mean of `(B, S, T)` over channels and the structures that have enough voxels `(B, S)`."""
    valid = (count > MIN_VOXELS).float()
    per_case = (gap.mean(2) * valid).sum(1) / valid.sum(1).clamp_min(1)
    return per_case.mean()
