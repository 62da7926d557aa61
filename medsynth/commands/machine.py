"""What `medsynth doctor` finds out about software and hardware; downloads nothing."""

import math
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medsynth import __version__
from medsynth.io import memory

if TYPE_CHECKING:
    import torch

    from medsynth.training.precision import Precision

OURS = "medsynth-mri"
LIBRARIES = ("torch", "torchvision", "monai", "nibabel", "numpy", "scikit-image", "SimpleITK")
KNOWN_GRID, GRID = (2, 8, 8), (12, 16, 14)
GB = 1e9

DEMO_GB = 6
"""What `medsynth demo` needs at most."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Args:
        about: What was looked at.
        found: What there is.
        verdict: `ok`, `warning` or `fault`.
        todo: What it means, or what to do about it.
    """

    about: str
    found: str
    verdict: str = "ok"
    todo: str | None = None


def software() -> Iterator[Finding]:
    """Versions, and which of them are known to be bad."""
    from importlib import metadata

    from packaging.requirements import Requirement

    yield Finding("python", platform.python_version())
    yield Finding("medsynth", __version__)
    try:
        asked = [Requirement(text) for text in metadata.requires(OURS) or ()]
    except metadata.PackageNotFoundError:
        asked = []  # a checkout that is not installed
    ranges = {r.name.lower(): r.specifier for r in asked if r.marker is None}
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, "not there", "fault", f"pip install {name}")
            continue
        allowed = ranges.get(name.lower())
        bad = known_bad(name, found[name])
        if bad:
            yield Finding(name, found[name], "warning", bad)
        elif allowed is not None and not allowed.contains(found[name], prereleases=True):
            todo = f"pip install '{name}{allowed}'"
            yield Finding(name, found[name], "warning", f"medsynth is made for {allowed}: {todo}")
        elif name == "torchvision" and "torch" in found:
            yield pair(found["torch"], found[name], metadata.requires(name) or ())
        else:
            yield Finding(name, found[name])


def known_bad(name: str, version: str) -> str | None:
    """What is wrong with a version of a library, and what to do; None when nothing is known."""
    if name == "torch" and version.startswith("2.9."):
        return (
            "3-D convolutions in mixed precision are 4 times slower and take 3 times the memory "
            "(pytorch#166122): pip install 'torch>=2.10'"
        )
    return None


def pair(torch_version: str, version: str, requires: Iterable[str]) -> Finding:
    """Whether torchvision was built for this torch: others fail when they are imported."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    wants = next((r for r in map(Requirement, requires) if r.name == "torch"), None)
    builds = [Version(v).local for v in (torch_version, version)]
    todo = f"made for torch{wants.specifier if wants else ''}: pip install -U torch torchvision"
    if wants and not wants.specifier.contains(torch_version, prereleases=True):
        return Finding("torchvision", version, "fault", todo)
    if None not in builds and builds[0] != builds[1]:
        todo = f"a build for {builds[1]}, torch is one for {builds[0]}: install both from one index"
        return Finding("torchvision", version, "fault", todo)
    return Finding("torchvision", version)


def bad_cudnn(version: int) -> bool:
    """Whether cuDNN, as PyTorch numbers it (91002 for 9.10.2), may get bf16 convolutions wrong."""
    return 90800 <= version < 91100


def hardware(precision: "Precision") -> Iterator[Finding]:
    """GPUs, cores, memory."""
    import torch

    yield from _gpus(precision)
    cores, threads = usable_cores(), torch.get_num_threads()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    text = f"cores: {cores}, threads: {threads}, load: {load:.1f}"
    if threads > cores:
        todo = f"more threads than cores wait for each other: OMP_NUM_THREADS={cores}"
        yield Finding("CPU", text, "warning", todo)
    elif load > cores and not torch.cuda.is_available():
        todo = "other programs are at work, all will be slower"
        todo += "; OMP_NUM_THREADS=1 may be quicker" if threads > 1 else ""
        yield Finding("CPU", text, "warning", todo)
    else:
        yield Finding("CPU", text)
    free = memory.free()
    low = free < DEMO_GB * GB
    todo = f"the demo takes up to {DEMO_GB} GB: close other programs, or use smaller patches"
    found = f"{free / GB:.1f} GB free" if math.isfinite(free) else "unknown"
    yield Finding("memory", found, "warning" if low else "ok", todo if low else None)


def _gpus(precision: "Precision") -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        if not Path("/proc/driver/nvidia/version").exists():
            yield Finding("GPU", "none", "ok", "training and generation run on the CPU")
        elif torch.version.cuda is None:
            todo = "a driver is there, but this torch is made for CPUs: install one with CUDA"
            yield Finding("GPU", "none that torch can use", "warning", todo)
        else:
            todo = f"does the driver know CUDA {torch.version.cuda}? See nvidia-smi"
            yield Finding("GPU", "none that torch can use", "warning", todo)
        return
    for index in range(torch.cuda.device_count()):
        of = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        text = (
            f"{of.name}, {free / GB:.1f} of {total / GB:.1f} GB free, "
            f"capability {of.major}.{of.minor}"
        )
        busy = free < 0.5 * total
        yield Finding(f"GPU {index}", text, "warning" if busy else "ok",
                      "another program holds more than half of it" if busy else None)  # fmt: skip
    version = torch.backends.cudnn.version() or 0
    text = f"{version // 10000}.{version // 100 % 100}.{version % 100}"
    if bad_cudnn(version) and precision.name == "bf16":
        todo = (
            "may get 3-D convolutions in bf16 wrong without a word (pytorch#163539): install a "
            "newer torch, which brings a newer cuDNN, or --set train.precision=fp32"
        )
        yield Finding("cuDNN", text, "fault", todo)
    else:
        yield Finding("cuDNN", text)


def arithmetic(precision: "Precision", device: "torch.device") -> Iterator[Finding]:
    """The precision, why it was chosen, and whether convolutions in it are right."""
    from medsynth.training.numerics import deviations, tolerance

    verdict = "warning" if precision.slow else "ok"
    yield Finding("precision", f"{precision.name} on {device.type}", verdict, precision.reason)
    limit = tolerance(precision.dtype, device)
    name = "convolution"
    try:
        found = deviations(precision.dtype, device, GRID)
    except RuntimeError as error:
        todo = "install a torch that is made for this device"
        yield Finding(name, str(error).splitlines()[0], "fault", todo)
        return
    worst = max(found, key=lambda part: found[part])
    text = f"{worst} off by {found[worst]:.1g} of their norm ({limit:.1g} allowed)"
    if found[worst] > limit:
        todo = "do not train here in it: --set train.precision=fp32, or another version of torch"
        yield Finding(name, text, "fault", todo)
        return
    yield Finding(name, text)
    if device.type == "cpu" and precision.name == "bf16":
        known = deviations(precision.dtype, device, KNOWN_GRID)["weight gradients"]
        if known > limit:
            todo = (
                "a known fault of oneDNN where an axis has 2 voxels; medsynth's networks keep 3, "
                "mind it in your own"
            )
            text = f"weight gradients off by {known:.1g} with 2 voxels"
            yield Finding(name, text, "warning", todo)


def usable_cores() -> int:
    """Cores that this process may use: a cluster or a container may lend fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores
