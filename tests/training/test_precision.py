"""Which arithmetic is chosen, and that the same machine always chooses alike."""

import pytest
import torch

from medsynth.training import precision


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx512f", "avx512_bf16"}, "fp32"),  # instructions without a matrix unit: slower
        ({"avx512_bf16", "amx_bf16"}, "bf16"),
        ({"asimd", "bf16"}, "bf16"),
        (set(), "fp32"),
    ],
)
def test_bf16_is_taken_where_it_pays(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: str
) -> None:
    monkeypatch.setattr(precision, "_cpu_flags", lambda: flags)
    chosen = precision.choose_precision("auto", torch.device("cpu"))
    assert chosen.name == expected
    assert chosen.reason
    asked = precision.choose_precision("bf16", torch.device("cpu"))
    assert asked.name == "bf16"
    assert asked.slow == (expected == "fp32")
