"""Seconds per case and most memory of `medsynth evaluate` on many scans of BraTS's size.

python tools/bench_evaluate.py [--cases 200] [--different 8]

The cases are a few phantoms at 1 mm under many names: every file is read, and every figure (but
PSNR and SSIM) computed, as often as there are cases. What the report says of them means nothing.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from medsynth.commands.phantom import Phantom
from medsynth.core.cohort import Cohort
from medsynth.io import cohort as cohorts

WHAT = {
    "fidelity": (),
    "privacy": (),
    "consistency": ("--steps", "1"),
}


def cohort(cases: int, different: int, folder: Path, seed: int) -> Path:
    """Many cases from a few phantoms, a tenth of them the test split."""
    Phantom(folder / "phantoms", different, 1.0, seed=seed).run()
    few = cohorts.read(folder / "phantoms").cases
    many = [
        replace(case, name=f"C{index:04}", subject=f"C{index:04}")
        for index, case in enumerate(islice(cycle(few), cases))
    ]
    test = {case.name: "test" for case in many[-max(cases // 10, 2) :]}
    splits = {case.name: test.get(case.name, "training") for case in many}
    cohorts.write(folder / "cohort.json", Cohort("brats2023", tuple(many), splits))
    return folder / "cohort.json"


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200, help="real and synthetic together")
    parser.add_argument("--different", type=int, default=8)
    a = parser.parse_args()
    result: dict[str, object] = {"cases": a.cases, "shape": [240, 240, 155]}
    with tempfile.TemporaryDirectory() as place:
        real, made = (
            cohort(a.cases // 2, a.different, Path(place) / name, seed)
            for seed, name in enumerate(("real", "made"))
        )
        for what, more in WHAT.items():
            command = [sys.executable, "-m", "medsynth", "evaluate", what, "--real", str(real),
                       "--synthetic", str(made), "-o", f"{place}/report", *more]  # fmt: skip
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=sys.stderr)
            seconds = time.perf_counter() - begun
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            result[what] = {
                "seconds": round(seconds),
                "seconds_per_case": round(seconds / a.cases, 2),
                "peak_mb_so_far": round(peak),
            }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
