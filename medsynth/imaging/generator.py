"""The generator: source channels and noise in, target channels out, in one pass.

Knows tensors only. What a scanner and a patient add globally comes in as a *style*: the mean and
spread of every target channel in every structure (see `medsynth.imaging.style`). The image that
has these means everywhere, as if painted by numbers, with grain of these spreads and seen through
what blurs a scan, is the starting point; the network adds what paint lacks: texture, folds, and
borders that are not alike everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from medsynth.imaging.network import FoldedUNet

POINT_SPREAD_MM = 1.0
"""Standard deviation of the point spread through which the painted image is seen: a Gaussian, about
what blurs the borders of structures in phantoms of 1 and of 2 mm alike (least squares,
docs/log.md). Sampled at voxels, it is narrower in those of less than 0.8 or more than 2.2 mm."""

SCALES = (((), 1.0, 0.5), ((1, 2), 14.034, 0.25), ((4,), 2.928, 0.25))
"""Noise comes at three scales, each the one before blurred by binomial filters with neighbours so
many voxels away, then brought back to variance 1 by a factor: grain of a voxel, patches and blobs
(Gaussians of 1.6 and 3.2 voxels). Last, how much of each a fresh generator takes, before the point
spread takes most of the grain away."""


@dataclass(frozen=True)
class GeneratorSpec:
    """Everything that is needed to build a generator; stored in the model file.

    Args:
        kind: `folded` (ours) or `unet` (pix2pix, Shin et al. 2018).
        source: Channels in; the structures of a label map or scans.
        target: Channels out; scans or the structures of a label map.
        labels_in: Whether the source is a one-hot label map.
        labels_out: Whether the target is a label map: outputs are then logits.
        widths: Channels per level.
        head: Channels of the full-resolution layers (`folded` only).
    """

    kind: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    labels_in: bool
    labels_out: bool
    widths: tuple[int, ...]
    head: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "GeneratorSpec":
        """The inverse of `dataclasses.asdict` after a round trip through JSON."""
        return cls(
            data["kind"],
            tuple(data["source"]),
            tuple(data["target"]),
            data["labels_in"],
            data["labels_out"],
            tuple(data["widths"]),
            data["head"],
        )

    @property
    def styled(self) -> bool:
        """Whether the generator takes a style: scans made from labels do."""
        return self.kind == "folded" and self.labels_in and not self.labels_out

    @property
    def style_size(self) -> int:
        """Features of a style and its grid: mean and log-spread, per structure and target channel,
        and the log of the voxel's three edges."""
        return 2 * len(self.source) * len(self.target) + 3 if self.styled else 0

    @property
    def grains(self) -> int:
        """Channels of noise: with styles one for each scan, so that textures may differ."""
        return len(self.target) if self.styled else 1

    @property
    def stride(self) -> int:
        """Grids must be multiples of this along each axis."""
        return 2 ** len(self.widths)


class FoldedGenerator(nn.Module):
    """Our generator: a folded U-Net, conditioned on the source at every level.

    Args:
        spec: Channels and widths.
    """

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.net = FoldedUNet(
            len(spec.source) + (len(SCALES) * spec.grains if spec.labels_in else 0),
            len(spec.target),
            spec.widths,
            spec.head,
            condition=len(spec.source) if spec.labels_in else 0,
            style=spec.style_size,
            late=len(spec.target) if spec.styled else 0,
        )
        if spec.styled:
            _start_as_paint(self.net.out, len(spec.target))
            start = torch.tensor([amount for *_, amount in SCALES]).view(-1, 1, 1)
            self.scales = nn.Parameter(start.repeat(1, len(spec.source), len(spec.target)))

    def forward(
        self, source: Tensor, noise: Tensor, style: Tensor | None, spacing_mm: Tensor | None
    ) -> Tensor:
        """Make the target.

        Args:
            source: `(B, S, I, J, K)`: one-hot structures in label order, background first, or
                scans on the scale of `medsynth.imaging.intensity`.
            noise: Standard normal `(B, spec.grains, I, J, K)`.
            style: `(B, 2, T, S)`: means and log-spreads, raw units, when `spec.styled`.
            spacing_mm: `(B, 3)`: edges of voxels along i, j, k, when there is a style.

        Returns:
            `(B, T, I, J, K)`: scans, exactly 0 in the background, or logits.
        """
        if not self.spec.labels_in:
            brain = (source > 0).any(1, keepdim=True)
            return self.net([4 * source - 2 * brain])  # centred, or the first layers learn slowly
        every = _at_scales(noise.contiguous(memory_format=torch.channels_last_3d))
        seen = [source, *every]
        if style is None or spacing_mm is None:
            return self.net(seen, source)
        means, spreads = style[:, 0], style[:, 1]
        table = torch.stack([2 * means - 1, 0.5 * (spreads + 3)], 1).flatten(1)
        features = torch.cat([table, spacing_mm.log().to(table.dtype)], 1)
        paint = _painted(source, means.transpose(1, 2))
        for drawn, amount in zip(every, self.scales, strict=True):
            paint.addcmul_(_painted(source, spreads.exp().transpose(1, 2) * amount), drawn)
        out = self.net(seen, source, features, _blurred(paint, spacing_mm))
        return out.relu() * (1 - source[:, :1])


def _painted(source: Tensor, tables: Tensor) -> Tensor:
    """Each voxel's row of a table `(B, S, T)`, by its structure: `(B, T, I, J, K)`."""
    flat = source.permute(0, 2, 3, 4, 1)
    rows = torch.bmm(flat.flatten(1, 3), tables.to(flat.dtype))
    return rows.view(*flat.shape[:-1], -1).permute(0, 4, 1, 2, 3)


def _blurred(image: Tensor, spacing_mm: Tensor) -> Tensor:
    """An image `(B, T, I, J, K)` seen through `POINT_SPREAD_MM`, cut off at two voxels; beyond the
    grid it is 0. In fp32: rounded weights would not add up to 1."""
    values = image.float()
    for axis, edge in zip((2, 3, 4), spacing_mm.float().unbind(1), strict=True):
        near, far = (torch.exp(-0.5 * (n * edge / POINT_SPREAD_MM) ** 2) for n in (1, 2))
        taps = torch.stack([torch.ones_like(near), near, far]) / (1 + 2 * near + 2 * far)
        taps = taps.view(3, -1, 1, 1, 1, 1)
        blurred = taps[0] * values
        for reach in (1, 2):
            n = values.shape[axis] - reach
            low, high = (values.narrow(axis, at, n) * taps[reach] for at in (0, reach))
            blurred.narrow(axis, reach, n).add_(low)
            blurred.narrow(axis, 0, n).add_(high)
        values = blurred
    return values.to(image.dtype)


def _at_scales(noise: Tensor) -> list[Tensor]:
    """White noise `(B, N, I, J, K)` at each of `SCALES`, of variance 1, less at the grid's ends.

    Source:
        Binomial filters with holes: the à trous transform, Holschneider et al., *Wavelets*, 1989.
    """
    scales = []
    spare, blurred = torch.empty_like(noise), torch.empty_like(noise)  # fresh memory is slow
    for reaches, factor, _ in SCALES:
        for reach, axis in product(reaches, (2, 3, 4)):
            torch.mul(noise, 2, out=blurred)
            n = noise.shape[axis] - reach
            if n > 0:
                blurred.narrow(axis, reach, n).add_(noise.narrow(axis, 0, n))
                blurred.narrow(axis, 0, n).add_(noise.narrow(axis, reach, n))
            noise, blurred, spare = blurred, spare, blurred
        noise = factor / 4 ** (3 * len(reaches)) * noise
        scales.append(noise)
    return scales


def _start_as_paint(conv: nn.Conv3d, channels: int) -> None:
    """Start as paint, the last `channels` inputs; the rest starts near zero."""
    middle = tuple(n // 2 for n in conv.kernel_size)
    with torch.no_grad():
        conv.weight.normal_(std=1e-2)
        conv.weight[:, -channels:] = 0
        for channel in range(channels):
            conv.weight[(channel, channel - channels, *middle)] = 1
        if conv.bias is not None:
            conv.bias.zero_()


class UNetGenerator(nn.Module):
    """The U-Net of pix2pix in three dimensions, as in Shin et al. 2018.

    MONAI's `UNet` with strided convolutions, instance norm and dropout in place of noise.

    Args:
        spec: Channels and widths.

    Source:
        Isola et al. (arXiv 1611.07004), Shin et al. (arXiv 1807.10225).
    """

    def __init__(self, spec: GeneratorSpec) -> None:
        from monai.networks.nets import UNet

        super().__init__()
        self.spec = spec
        self.net = UNet(
            3,
            len(spec.source),
            len(spec.target),
            spec.widths,
            (2,) * (len(spec.widths) - 1),
            norm="INSTANCE",
            act="LEAKYRELU",
            dropout=0.5,
        )

    def forward(
        self, source: Tensor, noise: Tensor, style: Tensor | None, spacing_mm: Tensor | None
    ) -> Tensor:
        """As `FoldedGenerator.forward`; noise, style and voxels are not used."""
        out = self.net(source)
        if self.spec.labels_out or not self.spec.labels_in:
            return out
        return out.relu() * (1 - source[:, :1])


Generator = FoldedGenerator | UNetGenerator


def make_generator(spec: GeneratorSpec) -> Generator:
    """The generator that a specification describes, freshly initialised."""
    return FoldedGenerator(spec) if spec.kind == "folded" else UNetGenerator(spec)
