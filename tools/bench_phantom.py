"""Seconds per phantom at 1 and 2 mm, and the most memory that they took.

python tools/bench_phantom.py [--cases 3]
"""

import argparse
import json
import resource
import time

import torch

from medsynth.core.random import Key
from medsynth.phantom import make


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=3)
    cases = parser.parse_args().cases
    result: dict[str, object] = {"threads": torch.get_num_threads()}
    make(Key(0), spacing_mm=4.0)  # reads the atlas
    for spacing in (2.0, 1.0):
        seconds = []
        for index in range(cases):
            begun = time.perf_counter()
            make(Key(0, (index,)), spacing_mm=spacing)
            seconds.append(round(time.perf_counter() - begun, 2))
        result[f"seconds_{spacing:g}mm"] = seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result | {"peak_mb": round(peak)}, indent=1))


if __name__ == "__main__":
    main()
