"""Training speed of the default configuration against SPADENet and MONAI's discriminator.

    python tools/bench_training.py [--patch 64] [--steps 6]

Prints JSON: cases per second and peak memory, each in a process of its own. SPADENet is trained
as its user would: fp32, L1 + adversarial loss, MONAI's multi-scale patch discriminator.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from medsynth import config as configs
from medsynth.build import image as build
from medsynth.core.labels import BRAIN
from medsynth.imaging.game import ImageBatch
from medsynth.training.world import World

BATCH = 2
STRUCTURES = len(BRAIN.labels)


def batch(patch: int, device: torch.device) -> ImageBatch:
    """Random structures and scans."""
    torch.manual_seed(0)
    names = torch.randint(0, STRUCTURES, (BATCH, patch, patch, patch))
    source = nn.functional.one_hot(names, STRUCTURES).permute(0, 4, 1, 2, 3).float()
    return ImageBatch(
        source.to(device),
        torch.rand(BATCH, 4, patch, patch, patch, device=device),
        torch.rand(BATCH, 2, 4, STRUCTURES, device=device),
        torch.ones(BATCH, 3, device=device),
    )


def ours(patch: int, device: torch.device) -> Callable[[int], None]:
    """Steps of our trainer with the default networks."""
    config = configs.parse(
        f"data: {{cohort: none, patch: [{patch}, {patch}, {patch}]}}\n"
        f"train: {{batch: {BATCH}, steps: 100000}}",
        "bench",
    )
    trainer = build.trainer(config, World(0, 1, device))
    data = batch(patch, device)

    def run(steps: int) -> None:
        for _ in trainer.fit(iter([data] * steps), trainer.step + steps):
            pass

    return run


def monai(patch: int, device: torch.device) -> Callable[[int], None]:
    """Steps of SPADENet against MultiScalePatchDiscriminator."""
    from monai.losses import PatchAdversarialLoss
    from monai.networks.nets import MultiScalePatchDiscriminator, SPADENet

    net = SPADENet(3, STRUCTURES, 4, STRUCTURES, [patch] * 3, [16, 32, 64, 128], is_vae=False).to(
        device
    )
    judge = MultiScalePatchDiscriminator(2, 2, 3, 32, 12, minimum_size_im=patch).to(device)
    optimizers = [torch.optim.Adam(m.parameters(), 2e-4, (0.5, 0.999)) for m in (net, judge)]
    adversarial = PatchAdversarialLoss(criterion="least_squares")
    data = batch(patch, device)

    def judged(target: torch.Tensor) -> list[torch.Tensor]:
        return judge(torch.cat([data.source, target], 1))[0]

    def run(steps: int) -> None:
        for _ in range(steps):
            fake = net(data.source)[0]
            loss = adversarial(judged(fake.detach()), False, True) + adversarial(
                judged(data.target), True, True
            )
            optimizers[1].zero_grad()
            loss.backward()
            optimizers[1].step()
            loss = (fake - data.target).abs().mean() + adversarial(judged(fake), True, False)
            optimizers[0].zero_grad()
            loss.backward()
            optimizers[0].step()

    return run


def measure(which: str, patch: int, steps: int) -> dict[str, float | str]:
    """Cases per second and peak memory of this process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = {"medsynth": ours, "monai": monai}[which](patch, device)
    run(1)
    begun = time.perf_counter()
    run(steps)
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    peak = (
        torch.cuda.max_memory_allocated() / 2**20
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
    return {
        "device": str(device),
        "cases_per_s": round(BATCH * steps / seconds, 2),
        "peak_mb": round(peak),
    }


def main() -> None:
    """Measure both, each in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--only", choices=("medsynth", "monai"))
    a = parser.parse_args()
    if a.only:
        print(json.dumps(measure(a.only, a.patch, a.steps)))
        return
    result = {}
    for which in ("medsynth", "monai"):
        done = subprocess.run(
            [
                sys.executable,
                __file__,
                "--only",
                which,
                "--patch",
                str(a.patch),
                "--steps",
                str(a.steps),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        result[which] = json.loads(done.stdout)
    ratio = result["medsynth"]["cases_per_s"] / result["monai"]["cases_per_s"]
    print(
        json.dumps({"patch": a.patch, "batch": BATCH, **result, "ratio": round(ratio, 2)}, indent=1)
    )


if __name__ == "__main__":
    main()
