"""NIfTI writing and reading against nibabel, in one run.

    python tools/bench_nifti.py [--file SCAN.nii.gz]

Prints JSON: milliseconds, ratios, bytes, and whether the voxels are equal byte for byte.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from medsynth.core.volume import Volume
from medsynth.io import nifti
from medsynth.training.memory import keep_freed_memory

REPEATS = 7


def best_ms(work: Callable[[], object]) -> float:
    """Shortest of several runs, milliseconds: noise only adds."""
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return 1000 * min(times)


def brain_like() -> np.ndarray:
    """240×240×155 int16: noise on smooth shapes inside an ellipsoid, zero outside."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in (240, 240, 155)], indexing="ij"))
    inside = (grid[0] / 0.6) ** 2 + (grid[1] / 0.72) ** 2 + (grid[2] / 0.9) ** 2 < 1
    smooth = 600 + 200 * np.sin(9 * grid[0]) * np.cos(7 * grid[1]) * np.sin(8 * grid[2])
    noise = np.random.default_rng(0).normal(0, 25, inside.shape)
    return ((smooth + noise) * inside).astype(np.int16)


def main() -> None:
    """Measure and print."""
    keep_freed_memory()  # as the command line does; nibabel gains by it, too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path)
    file = parser.parse_args().file
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    if file:
        image = nib.load(file)
        data, affine = np.asarray(image.dataobj).astype(np.int16), image.affine
    else:
        data = brain_like()
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Path(folder) / "nibabel.nii.gz", Path(folder) / "medsynth.nii.gz"
        image = nib.Nifti1Image(data, affine)
        save = best_ms(lambda: nib.save(image, theirs))
        volume = nifti.read_volume({"t1n": theirs})
        scan: Volume = volume
        write = best_ms(lambda: nifti.write_scan(ours, scan.data[0], scan, overwrite=True))
        equal = bool((np.asarray(nib.load(ours).dataobj) == data).all())
        load = best_ms(lambda: np.asarray(nib.load(theirs).dataobj))
        read = best_ms(lambda: nifti.read_array(theirs))
        print(
            json.dumps(
                {
                    "shape": data.shape,
                    "save_nibabel_ms": round(save, 1),
                    "save_medsynth_ms": round(write, 1),
                    "save_ratio": round(save / write, 2),
                    "load_nibabel_ms": round(load, 1),
                    "load_medsynth_ms": round(read, 1),
                    "load_ratio": round(load / read, 2),
                    "bytes_nibabel": theirs.stat().st_size,
                    "bytes_medsynth": ours.stat().st_size,
                    "equal_voxels": equal,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
