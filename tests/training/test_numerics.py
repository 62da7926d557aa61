"""The self-check of convolutions: sound arithmetic passes, wrong arithmetic does not."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medsynth.training import numerics

CPU = torch.device("cpu")
GRID = (4, 6, 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_this_machine_multiplies_right(dtype: torch.dtype) -> None:
    found = numerics.deviations(dtype, CPU, GRID)
    assert list(found) == ["values", "input gradients", "weight gradients"]
    assert 0 < max(found.values()) < numerics.tolerance(dtype, CPU)


@pytest.mark.parametrize(("factor", "gap"), [(1.1, 0.1), (float("nan"), float("inf"))])
def test_a_wrong_result_is_found_out(
    factor: float, gap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = functional.conv3d

    def wrong(x: Tensor, *rest: Any, **more: Any) -> Tensor:
        return right(x, *rest, **more) * (1 if x.dtype == torch.float64 else factor)

    monkeypatch.setattr(functional, "conv3d", wrong)
    found = numerics.deviations(torch.float32, CPU, GRID)
    assert found["values"] == pytest.approx(gap, rel=1e-3)
    assert min(found.values()) > numerics.tolerance(torch.float32, CPU)


def test_gpus_may_multiply_with_fewer_bits() -> None:
    gpu = torch.device("cuda")
    assert numerics.tolerance(torch.float32, gpu) > numerics.tolerance(torch.float32, CPU)
    assert numerics.tolerance(torch.bfloat16, gpu) == numerics.tolerance(torch.bfloat16, CPU)
