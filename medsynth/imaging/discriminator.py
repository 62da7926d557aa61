"""Discriminators: one that segments, one that looks at patches.

Knows tensors only.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from medsynth.imaging.network import FoldedUNet


class SegmentationDiscriminator(nn.Module):
    """Names the structure of every voxel of a scan, or calls it fake.

    A generator that must be segmented right puts structures where the label map says.

    Args:
        channels: Scans in.
        structures: Structures that a brain voxel can belong to.
        widths, head: As in `FoldedUNet`.

    Source:
        OASIS, Schönfeld et al., *You only need adversarial supervision for semantic image
        synthesis* (arXiv 2012.04781).
    """

    def __init__(self, channels: int, structures: int, widths: Sequence[int], head: int) -> None:
        super().__init__()
        self.net = FoldedUNet(channels, structures + 1, widths, head)

    def forward(self, scans: Tensor) -> Tensor:
        """`(B, T, I, J, K)` → logits `(B, 1 + structures, I, J, K)`; the first one says *fake*."""
        return self.net([4 * scans - 2])


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches of a pair (source, target).

    Args:
        channels: Channels of source and target together.
        width: Channels of the first layer.
        layers: Strided layers; each doubles the patch that a value speaks for.

    Source:
        Isola et al. (arXiv 1611.07004), by MONAI's `PatchDiscriminator`.
    """

    def __init__(self, channels: int, width: int, layers: int) -> None:
        from monai.networks.nets import PatchDiscriminator as Monai

        super().__init__()
        self.net = Monai(3, width, channels, num_layers_d=layers, norm="INSTANCE")

    def forward(self, pair: Tensor) -> Tensor:
        """`(B, S + T, I, J, K)` → one logit per patch, `(B, 1, I', J', K')`."""
        return self.net(pair)[-1]
