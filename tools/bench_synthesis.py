"""One 240×240×155 label map to four .nii.gz files, end to end, against MONAI's SPADENet.

    python tools/bench_synthesis.py [--device cuda]

Prints JSON. "end_to_end" is a fresh process: start-up, imports, model, label map, four files.
The network is the default of configs/image/brats.yaml with random weights: speed does not depend
on them. SPADENet is run on the same bounding box as its user would, in fp32.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from medsynth.core.labels import BRAIN
from medsynth.core.random import Key
from medsynth.core.volume import bounding_box
from medsynth.imaging.generator import GeneratorSpec, make_generator
from medsynth.imaging.style import StylePrior
from medsynth.imaging.synthesizer import load, save
from medsynth.io.nifti import read_labels, write_labels
from medsynth.phantom import make

TARGET = ("t1n", "t1c", "t2w", "t2f")
WIDTHS, HEAD = (48, 96, 192, 256), 16
SPADE_CHANNELS = [16, 32, 64, 128]


def best_s(work: Callable[[], object], repeats: int = 3) -> float:
    """Shortest of several runs."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def prepare(folder: Path) -> tuple[Path, Path]:
    """A model with the default widths and a phantom's label map at 1 mm."""
    torch.manual_seed(0)
    spec = GeneratorSpec("folded", BRAIN.abbreviations, TARGET, True, False, WIDTHS, HEAD)
    shape = 4, 2, len(TARGET), len(BRAIN.labels)
    styles = np.random.default_rng(0).normal(0.5, 0.1, shape).astype(np.float32)
    styles[:, 1] -= 3.5
    model, labels = folder / "model.safetensors", folder / "case-brain.nii.gz"
    save(
        model,
        make_generator(spec),
        StylePrior.fit(styles, BRAIN.abbreviations.index("WM")),
        None,
        "",
    )
    write_labels(labels, make(Key(0), spacing_mm=1.0).labels)
    return model, labels


def spade_s(shape: tuple[int, ...], device: torch.device) -> tuple[float, float]:
    """Seconds of a SPADENet forward pass, and millions of parameters."""
    from monai.networks.nets import SPADENet

    size, structures = [-(-n // 16) * 16 for n in shape], len(BRAIN.labels)
    net = SPADENet(3, structures, len(TARGET), structures, size, list(SPADE_CHANNELS), is_vae=False)
    net = net.eval().to(device)
    labels = torch.zeros(1, structures, *size, device=device)
    labels[:, 2] = 1

    def forward() -> None:
        with torch.inference_mode():
            net(labels)
        if device.type == "cuda":
            torch.cuda.synchronize()

    forward()
    return best_s(forward, 2), sum(p.numel() for p in net.parameters()) / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default=None)
    device = parser.parse_args().device
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, labels = prepare(folder)
        command = [sys.executable, "-m", "medsynth", "generate", str(model), str(labels), "-o"]
        runs = iter(range(100))
        end_to_end = best_s(
            lambda: subprocess.run(
                [*command, str(folder / f"out{next(runs)}")], check=True, capture_output=True
            )
        )
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        ready, brain = load(model, device=str(where)), read_labels(labels, BRAIN)
        ready.generate(brain, Key(0))
        generate = best_s(lambda: ready.generate(brain, Key(0)))
        box = bounding_box(brain.data > 0)
        shape = tuple(s.stop - s.start for s in box)
        ours = sum(p.numel() for p in ready.generator.parameters()) / 1e6
        seconds, theirs = spade_s(shape, where)
    print(
        json.dumps(
            {
                "device": str(where),
                "threads": torch.get_num_threads(),
                "box": shape,
                "end_to_end_s": round(end_to_end, 2),
                "end_to_end_peak_mb": round(peak),
                "generate_s": round(generate, 2),
                "parameters_millions": round(ours, 1),
                "spadenet_forward_s": round(seconds, 2),
                "spadenet_parameters_millions": round(theirs, 1),
                "spadenet_over_generate": round(seconds / generate, 2),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
