"""Which arithmetic a device does well, and why it was chosen."""

from dataclasses import dataclass
from pathlib import Path

import torch

from medsynth.errors import ConfigError

FAST_BF16 = {"amx_bf16", "bf16"}
"""Flags of CPUs on which bf16 pays: AMX of x86, BFMMLA of ARM. `avx512_bf16` alone made a step
1.6 times as long as fp32. A flag rather than a stopwatch: the same machine must always decide
alike, or the same seed would give other bytes."""


@dataclass(frozen=True)
class Precision:
    """Arithmetic of convolutions and matrix products; weights stay in fp32 while training.

    Args:
        dtype: `torch.bfloat16`, `torch.float16` or `torch.float32`.
        reason: Why, in words, for the log.
        slow: Whether it was asked for where fp32 is likely faster.
    """

    dtype: torch.dtype
    reason: str
    slow: bool = False

    @property
    def name(self) -> str:
        """`bf16`, `fp16` or `fp32`."""
        return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(self.dtype, "fp32")

    @property
    def mixed(self) -> bool:
        """Whether autocast is on."""
        return self.dtype != torch.float32

    @property
    def scaled(self) -> bool:
        """Whether gradients must be scaled lest they underflow."""
        return self.dtype == torch.float16


def choose_precision(wish: str, device: torch.device) -> Precision:
    """Pick a precision for a device.

    Args:
        wish: `auto`, `bf16`, `fp16` or `fp32`.
        device: Where the work is done.

    Raises:
        ConfigError: fp16 on a CPU, where it is slower than fp32 and has no scaler to rely on.
    """
    if wish == "fp32":
        return Precision(torch.float32, "asked for")
    if wish == "fp16" and device.type == "cpu":
        raise ConfigError(
            "train.precision bf16, fp32 or auto on a CPU",
            "fp16",
            None,
            "fp16 is for GPUs without bf16.",
        )
    if wish == "bf16" and device.type == "cpu" and not FAST_BF16 & _cpu_flags():
        reason = "asked for, but this CPU is not known to be fast in it: fp32 likely is faster"
        return Precision(torch.bfloat16, reason, slow=True)
    if wish in ("bf16", "fp16"):
        return Precision(torch.bfloat16 if wish == "bf16" else torch.float16, "asked for")
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return Precision(torch.bfloat16, f"the GPU has it (capability {major}.{minor})")
        return Precision(torch.float16, f"the GPU has no bf16 (capability {major}.{minor})")
    if device.type == "cpu" and FAST_BF16 & _cpu_flags():
        return Precision(torch.bfloat16, "the CPU multiplies matrices of bf16")
    return Precision(torch.float32, f"no fast bf16 on this {device.type}")


def _cpu_flags() -> set[str]:
    """The flags that Linux reports; elsewhere none."""
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()
