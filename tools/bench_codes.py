"""Codes at full size: time of an epoch beside a dense MedGAN, memory, and how like the rows are.

    python tools/bench_codes.py [--subjects 46520] [--codes 1071] [--npz FILE] [--epochs N]

Prints JSON. One thread; every part runs in a process of its own, one after the other, so that peak
memory is its own. The dense MedGAN is the peer: the published networks written plainly, a dense
matrix in memory, batches of 1,000, two turns of the discriminator to one of the generator.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

KINDS = ("autoregressive", "emr-wgan", "medgan")


def main() -> None:
    """Run all parts and print what they say."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--subjects", type=int, default=46_520)
    p.add_argument("--codes", type=int, default=1_071)
    p.add_argument("--npz", type=Path, help="codes to use instead of simulated ones")
    p.add_argument("--epochs", type=int, help="of every kind; default: the kind's own")
    p.add_argument("--kinds", default=",".join(KINDS))
    p.add_argument("--part", help=argparse.SUPPRESS)
    p.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.part:
        print(json.dumps(part(a.part, a.folder, a.epochs)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder, a)
        parts = ["dense", *a.kinds.split(",")]
        found = {name: run(name, folder, a.epochs) for name in parts}
    for name in parts[1:]:
        found[name]["epoch_ratio"] = round(
            found[name]["epoch_cpu_s"] / found["dense"]["epoch_cpu_s"], 3
        )
    print(json.dumps(found, indent=2))


def prepare(folder: Path, a: argparse.Namespace) -> None:
    """Real and held-out subjects as files."""
    from medsynth.core.codes import Codes
    from medsynth.core.random import Key
    from medsynth.io import tables
    from medsynth.phantom import records

    if a.npz:
        every, _ = tables.read_codes(a.npz)
    else:
        every = Codes(*records.codes(a.subjects + a.subjects // 4, a.codes, Key(0)))
    kept = len(every) * 4 // 5
    tables.write_codes(folder / "real.npz", every.take(np.arange(kept)))
    tables.write_codes(folder / "held.npz", every.take(np.arange(kept, len(every))))


def run(name: str, folder: Path, epochs: int | None) -> dict[str, Any]:
    """One part in its own process."""
    command = [sys.executable, __file__, "--part", name, "--folder", str(folder)]
    command += ["--epochs", str(epochs)] if epochs else []
    print(f"… {name}", file=sys.stderr, flush=True)
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    if name in KINDS:
        found |= run(f"judge:{name}", folder, None)
    return found


def part(name: str, folder: Path, epochs: int | None) -> dict[str, Any]:
    """What a child process does."""
    import torch

    torch.set_num_threads(1)
    if name == "dense":
        return dense(folder)
    if name.startswith("judge:"):
        return judged(name.removeprefix("judge:"), folder)
    return ours(name, folder, epochs)


def ours(kind: str, folder: Path, epochs: int | None) -> dict[str, Any]:
    """Fit a kind, sample as many subjects, and measure both."""
    from medsynth import tabular
    from medsynth.config.tabular import with_options
    from medsynth.core.random import Key
    from medsynth.io import tables
    from medsynth.tabular.fitting import Fitting
    from medsynth.training.world import World

    before = peak_mb()
    real, _ = tables.read_codes(folder / "real.npz")
    options: dict[str, Any] = {"kind": kind} | ({"epochs": epochs} if epochs else {})
    fitting = Fitting(real, with_options(0, options), World.from_environment())
    begun = time.process_time()
    for _ in fitting.play():
        pass
    seconds = time.process_time() - begun
    seen = fitting.trainer.step * fitting.trainer.batch / fitting.material.records
    model = fitting.synthesizer()
    assert isinstance(model, tabular.CodesSynthesizer)
    begun = time.process_time()
    made = model.sample(len(real), Key(1, ("bench",)))
    sampled = time.process_time() - begun
    tables.write_codes(folder / f"{kind}.npz", made)
    return {
        "epochs": round(seen, 1), "epoch_cpu_s": round(seconds / seen, 2),
        "fit_cpu_s": round(seconds, 1), "sample_cpu_s": round(sampled, 1), "peak_mb": peak_mb(),
        "of_which_imports_mb": before,
    }  # fmt: skip


def judged(kind: str, folder: Path) -> dict[str, Any]:
    """The judge's figures, beside held-out subjects and independent codes."""
    from medsynth.core.random import Key
    from medsynth.evaluation import codes as judge
    from medsynth.io import tables

    real, made, held = (tables.read_codes(folder / f"{n}.npz")[0] for n in ("real", kind, "held"))
    section = judge.measure(real, made, Key(0, ("bench",)), held)
    return {
        r.metric: {"value": r.value, "floor": r.floor, "ceiling": r.ceiling}
        for r in section.records
        if r.value is not None and "control" not in r.where
    }


def dense(folder: Path) -> dict[str, Any]:
    """An epoch of a plain, dense MedGAN (Choi et al., arXiv 1703.06490)."""
    import torch
    from torch import nn

    from medsynth.io import tables

    real = torch.from_numpy(tables.read_codes(folder / "real.npz")[0].presence.toarray())
    count, batch = real.shape[1], 1000
    decode = nn.Sequential(nn.Linear(128, count), nn.Sigmoid())
    layers = nn.ModuleList(
        nn.Sequential(nn.Linear(128, 128, bias=False), nn.BatchNorm1d(128)) for _ in range(2)
    )
    judge = nn.Sequential(
        nn.Linear(2 * count, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 1),
        nn.Sigmoid(),
    )  # fmt: skip
    of_generator = torch.optim.Adam([*decode.parameters(), *layers.parameters()], 1e-3)
    of_judge = torch.optim.Adam(judge.parameters(), 1e-3)
    bce = nn.BCELoss()

    def made() -> torch.Tensor:
        h = torch.randn(batch, 128)
        h = torch.relu(layers[0](h)) + h
        return decode(torch.tanh(layers[1](h)) + h)

    def seen(records: torch.Tensor) -> torch.Tensor:
        mean = records.mean(0, keepdim=True).expand(len(records), -1)
        return judge(torch.cat([records, mean], 1))

    ones, zeros = torch.ones(batch, 1), torch.zeros(batch, 1)
    steps = len(real) // batch
    epochs: list[float] = []
    for _ in range(3):
        begun = time.process_time()
        for at in torch.randperm(len(real))[: steps * batch].reshape(steps, batch):
            for _ in range(2):
                of_judge.zero_grad()
                loss = bce(seen(real[at]), ones) + bce(seen(made().detach()), zeros)
                loss.backward()
                of_judge.step()
            of_generator.zero_grad()
            bce(seen(made()), ones).backward()
            of_generator.step()
        epochs.append(time.process_time() - begun)
    return {"epoch_cpu_s": round(min(epochs), 2), "peak_mb": peak_mb()}


def peak_mb() -> int:
    """Largest resident memory of this process so far; not its parent's, as `getrusage` has it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


if __name__ == "__main__":
    main()
