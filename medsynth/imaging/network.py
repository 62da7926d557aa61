"""The folded U-Net from which generator and segmentation discriminator are made.

Knows tensors only: no files, no label schemes, no losses. Most of the arithmetic happens at half
resolution: blocks of 2×2×2 voxels are folded into channels on the way in and unfolded on the way
out, by convolutions that see one block each. There is no statistic over space anywhere
(normalisation is per voxel, over channels), so a crop is computed exactly as the same voxels of the
whole volume, up to the receptive field.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

FOLD = 2
"""Edge of the blocks, in voxels. A convolution of that stride is a space-to-depth (Shi et al., CVPR
2016, arXiv 1609.05158) with a 1×1×1 convolution behind, without the copy; the way out likewise."""


def halve(x: Tensor) -> Tensor:
    """Mean over blocks of 2×2×2 (by sums of slices: `mean` takes twenty times as long, and
    `avg_pool3d` has no bf16 kernel on CPUs)."""
    x = x.permute(0, 2, 3, 4, 1)
    for axis in (3, 2, 1):
        x = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
        x = x[0] + x[1]
    return (x / 8).permute(0, 4, 1, 2, 3)


def double(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling by two, channels last in memory."""
    b, c, i, j, k = x.shape
    x = x.permute(0, 2, 3, 4, 1).reshape(b, i, 1, j, 1, k, 1, c).expand(b, i, 2, j, 2, k, 2, c)
    return x.reshape(b, 2 * i, 2 * j, 2 * k, c).permute(0, 4, 1, 2, 3)


class Modulation(nn.Module):
    """Per-voxel normalisation, then gain and shift that depend on the condition at that voxel.

    With one-hot labels as condition this is class-adaptive normalisation; gains and shifts depend
    on the style as well. Without condition it is a plain gain and shift per channel.

    Args:
        channels: Channels of the features.
        condition: Channels of the condition; 0 for none.
        style: Features of the style and its grid; 0 for none.

    Source:
        Tan et al., *Efficient semantic image synthesis via class-adaptive normalization*
        (arXiv 2012.04644); layer norm over channels, Ba et al. (arXiv 1607.06450).
    """

    def __init__(self, channels: int, condition: int, style: int) -> None:
        super().__init__()
        rows = max(condition, 1)
        self.table = nn.Parameter(
            torch.cat([torch.ones(rows, channels), torch.zeros(rows, channels)], 1)
        )
        self.of_style = nn.Linear(style, rows * 2 * channels) if style else None
        if self.of_style is not None:
            nn.init.normal_(self.of_style.weight, std=0.1 / style**0.5)
            nn.init.zeros_(self.of_style.bias)

    def forward(self, x: Tensor, condition: Tensor | None, style: Tensor | None) -> Tensor:
        """Features `(B, C, I, J, K)`, condition `(B, L, I, J, K)`, style `(B, S)`."""
        x = _norm(x).permute(0, 2, 3, 4, 1)
        table = self.table.expand(len(x), -1, -1)
        if self.of_style is not None and style is not None:
            table = table + self.of_style(style).view_as(table)
        gain, shift = table.to(x.dtype).chunk(2, -1)
        if condition is None:
            x = torch.addcmul(shift[:, :, None, None], x, gain[:, :, None, None])
        else:
            at = condition.permute(0, 2, 3, 4, 1).flatten(1, 3).to(x.dtype)
            scaled = torch.bmm(at, gain) * x.flatten(1, 3)
            x = torch.baddbmm(scaled, at, shift).view_as(x)
        return x.permute(0, 4, 1, 2, 3)


class Block(nn.Module):
    """Two modulated 3×3×3 convolutions beside a shortcut.

    Args:
        inputs, outputs: Channels.
        condition, style: As in `Modulation`.
    """

    def __init__(self, inputs: int, outputs: int, condition: int, style: int) -> None:
        super().__init__()
        self.norm1 = Modulation(inputs, condition, style)
        self.conv1 = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.norm2 = Modulation(outputs, condition, style)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv3d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor, condition: Tensor | None, style: Tensor | None) -> Tensor:
        """Features in, features out, same grid."""
        h = self.conv1(_active(self.norm1(x, condition, style)))
        h = self.conv2(_active(self.norm2(h, condition, style)))
        return h + (x if self.shortcut is None else self.shortcut(x))


class FoldedUNet(nn.Module):
    """U-Net over folded voxels, conditioned at every level.

    Args:
        inputs: Channels in.
        outputs: Channels out, at full resolution.
        widths: Channels at 1/2, 1/4, 1/8 … of the resolution.
        head: Channels of the thin full-resolution layers.
        condition: Channels of the condition seen by the decoder; 0 for none.
        style: Features of the style and its grid; 0 for none.
        late: Channels that join the last convolution at full resolution.

    The grid must be a multiple of `2 ** len(widths)` along each axis.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int],
        head: int,
        condition: int = 0,
        style: int = 0,
        late: int = 0,
    ) -> None:
        super().__init__()
        self.stride = FOLD ** len(widths)
        self.enter = nn.Conv3d(inputs, widths[0], FOLD, stride=FOLD)
        self.down = nn.ModuleList(nn.Conv3d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.encode = nn.ModuleList(nn.Conv3d(b, b, 3, padding=1) for b in widths[1:])
        self.bottom = Block(widths[-1], widths[-1], condition, style)
        self.up = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in pairwise(widths))
        self.decode = nn.ModuleList(Block(a, a, condition, style) for a in widths[:-1])
        self.leave = nn.ConvTranspose3d(widths[0], head, FOLD, stride=FOLD)
        self.full_norm = Modulation(head, condition, style)
        self.full = nn.Conv3d(head, head, 3, padding=1)
        self.out = nn.Conv3d(head + late, outputs, 3, padding=1)
        _same_in_each_block(self.leave)

    def forward(
        self,
        x: Sequence[Tensor],
        condition: Tensor | None = None,
        style: Tensor | None = None,
        late: Tensor | None = None,
    ) -> Tensor:
        """Channels side by side, all together `(B, inputs, I, J, K)` → `(B, outputs, I, J, K)`."""
        at = _pyramid(condition, len(self.down) + 2)
        h = _active(_side_by_side(self.enter, x))
        skips = []
        for down, encode in zip(self.down, self.encode, strict=True):
            skips.append(h)
            h = _active(down(h))
            h = h + _active(encode(h))
        h = self.bottom(h, at[-1], style)
        for level in range(len(skips) - 1, -1, -1):
            h = double(self.up[level](h)) + skips[level]
            h = self.decode[level](h, at[level + 1], style)
        h = self.leave(_active(_norm(h)))
        h = self.full(_active(self.full_norm(h, at[0], style)))
        h = _active(h)
        return _side_by_side(self.out, [h] if late is None else [h, late])


def _side_by_side(conv: nn.Conv3d, parts: Sequence[Tensor]) -> Tensor:
    """A convolution of `torch.cat(parts, 1)`, which is large and never made. In half precision
    what each part gives is rounded before it is added."""
    weights = conv.weight.split([part.shape[1] for part in parts], 1)
    first = functional.conv3d(parts[0], weights[0], conv.bias, conv.stride, conv.padding)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        first += functional.conv3d(part, weight, None, conv.stride, conv.padding)
    return first


def _active(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2, inplace=True)


def _norm(x: Tensor) -> Tensor:
    """Layer norm over channels, voxel by voxel, in the precision of its input."""
    x = x.permute(0, 2, 3, 4, 1)
    with torch.autocast(x.device.type, enabled=False):
        return functional.layer_norm(x, x.shape[-1:]).permute(0, 4, 1, 2, 3)


def _pyramid(condition: Tensor | None, levels: int) -> list[Tensor | None]:
    if condition is None:
        return [None] * levels
    pyramid: list[Tensor | None] = [condition]
    for _ in range(levels - 1):
        condition = halve(condition)
        pyramid.append(condition)
    return pyramid


def _same_in_each_block(conv: nn.ConvTranspose3d) -> None:
    """ICNR: sub-voxels of a block start out equal, so that no checkerboard is there to unlearn.

    Source: Aitken et al., *Checkerboard artifact free sub-pixel convolution* (arXiv 1707.02937).
    """
    with torch.no_grad():
        conv.weight.copy_(conv.weight[:, :, :1, :1, :1].expand_as(conv.weight))
