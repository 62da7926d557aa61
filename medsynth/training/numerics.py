"""Does this machine multiply right? A 3-D convolution and its gradients against float64.

Libraries have returned wrong convolutions without a word: cuDNN 9.8 to 9.10 in bf16
(pytorch#163539), oneDNN 3.13 in bf16 where an axis has 2 voxels (docs/log.md). Knows tensors only.
"""

import torch
from torch import Tensor
from torch.nn import functional

TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 2.5e-3, torch.float32: 1e-5}
"""Largest error, as a share of the norm, by precision: some two to three units in the last place.
Sound arithmetic errs by a tenth of it, the known faults by half and more."""

TF32 = 2.5e-3
"""The same for fp32 on GPUs, which may multiply with 10 bits."""

CHANNELS = (32, 48)
POISON = 2**22


def tolerance(dtype: torch.dtype, device: torch.device) -> float:
    """Largest error of `deviations` that is no fault."""
    if dtype == torch.float32 and device.type != "cpu":
        return TF32
    return TOLERANCE[dtype]


def deviations(
    dtype: torch.dtype, device: torch.device, grid: tuple[int, int, int]
) -> dict[str, float]:
    """How far a 3×3×3 convolution is from the same one in float64.

    Args:
        dtype: Precision to try; inputs are rounded to it first, so that only arithmetic errs.
        device: Where.
        grid: Voxels along i, j, k.

    Returns:
        Norm of the error over the norm of the result: of `values`, of `input gradients` and of
        `weight gradients`. Infinite where a result is not a number.

    Raises:
        RuntimeError: The device cannot do it at all.
    """
    draw = torch.Generator().manual_seed(0)
    shapes = (2, CHANNELS[0], *grid), (CHANNELS[1], CHANNELS[0], 3, 3, 3), (2, CHANNELS[1], *grid)
    parts = [torch.randn(shape, generator=draw).to(dtype) for shape in shapes]
    truth = _convolution(*(part.double() for part in parts))
    _poison(device)
    tried = _convolution(
        *(part.to(device).contiguous(memory_format=torch.channels_last_3d) for part in parts)
    )
    names = ("values", "input gradients", "weight gradients")
    return {n: _gap(a.cpu().double(), b) for n, a, b in zip(names, tried, truth, strict=True)}


def _convolution(x: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = functional.conv3d(x, weight, padding=1)
    by_x, by_weight = torch.autograd.grad(y, (x, weight), gradient)
    return y.detach(), by_x, by_weight


def _poison(device: torch.device) -> None:
    """Leave memory that is not a number behind: who reads what nobody set is found out."""
    for size in (POISON // 256, POISON // 16, POISON):
        torch.full((size,), torch.nan, device=device)


def _gap(found: Tensor, truth: Tensor) -> float:
    gap = float((found - truth).norm() / truth.norm())
    return gap if gap == gap else float("inf")
