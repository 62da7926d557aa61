"""How bright what is in a cohort's scans, to compare phantoms with real people; prints JSON.

    python tools/tissue_statistics.py real/cohort.json phantoms/cohort.json

Needs label maps with tissue and tumour. Healthy tissue counts from 8 mm beyond the tumour on,
counted along the axes.
Figures are over cases: mean, standard deviation, smallest and largest.
"""

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import ndimage

from medsynth.core.cohort import MODALITIES
from medsynth.core.labels import BRAIN
from medsynth.io import cohort as cohorts
from medsynth.io.nifti import read_labels, read_volume

FAR_MM = 8.0
FEWEST = 100
"""Voxels of a structure below which a case says nothing about it."""

RATIOS = (("GM", "WM", "t1n"), ("GM", "WM", "t2w"), ("GM", "WM", "t2f"), ("ED", "WM", "t1n"),
          ("ED", "WM", "t2f"), ("ET", "WM", "t1c"))  # fmt: skip


def scores(scans: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Standard deviations from the mean of the brain, `(4, I, J, K)`; the brightest thousandth
    does not count towards them."""
    clipped = [np.clip(s, *np.percentile(s[brain], (1, 99.9))) for s in scans.astype(np.float64)]
    return np.stack([(s - s[brain].mean()) / s[brain].std() for s in clipped])


def lit(scans: np.ndarray, brain: np.ndarray, healthy: np.ndarray) -> dict[str, float]:
    """Shares of voxels, in the outer two voxels of the brain and from the fourth one on, that are
    brighter with contrast agent than without, by 1.5 and by 2.5 standard deviations; and of the
    rim that is dark on T2 (dura, bone, what flows)."""
    score = scores(scans, brain)
    rim = healthy & ~ndimage.binary_erosion(brain, iterations=2)
    inside = healthy & ndimage.binary_erosion(brain, iterations=3)
    more = score[1] - score[0]
    return {
        "rim, by 1.5": float((more[rim] > 1.5).mean()),
        "rim, by 2.5": float((more[rim] > 2.5).mean()),
        "inside, by 1.5": float((more[inside] > 1.5).mean()),
        "inside, by 2.5": float((more[inside] > 2.5).mean()),
        "dark rim on T2": float((score[2][rim] < -1.5).mean()),
    }


def figures(scans: np.ndarray, labels: np.ndarray, spacing_mm: float) -> dict[str, float]:
    """All of one case.

    Correlations are of logarithms within a structure: do two scans vary together in it?

    Args:
        scans: T1, T1c, T2, FLAIR, `(4, I, J, K)`.
        labels: *Brain* scheme.
        spacing_mm: Edge of a voxel.
    """
    labels = BRAIN.without_fine(labels)
    brain, tumour = labels > 0, BRAIN.mask(labels, "lesion")
    healthy = brain & ~ndimage.binary_dilation(tumour, iterations=round(FAR_MM / spacing_mm))
    score, found = scores(scans, brain), {}
    where = {}
    for name in ("CSF", "GM", "WM", "NCR", "ED", "ET"):
        here = labels == BRAIN.value(name)
        here = here & healthy if name in ("CSF", "GM", "WM") else here
        if here.sum() < FEWEST:
            continue
        where[name] = here
        for modality, s in zip(MODALITIES, score, strict=True):
            found[f"{name} {modality}, sd from the brain's mean"] = float(s[here].mean())
        logs = np.log(np.maximum(scans[:, here], 1e-3 * scans.max((1, 2, 3))[:, None]))
        for (i, one), (j, other) in combinations(enumerate(MODALITIES), 2):
            found[f"{name} {one} and {other}, correlation"] = float(np.corrcoef(logs[[i, j]])[0, 1])
    for one, other, modality in RATIOS:
        if one in where and other in where:
            s = scans[MODALITIES.index(modality)]
            ratio = float(s[where[one]].mean() / s[where[other]].mean())
            found[f"{one}/{other} {modality}"] = ratio
            found[f"{one} brighter than {other} on {modality}, share of cases"] = float(ratio > 1)
    return found | lit(scans, brain, healthy)


def main() -> None:
    """Print JSON, a cohort a key."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cohorts", type=Path, nargs="+", metavar="COHORT")
    told = {}
    for path in parser.parse_args().cohorts:
        every: dict[str, list[float]] = {}
        for case in cohorts.read(path):
            if case.brain is None:
                continue
            scans = read_volume({m: case.images[m] for m in MODALITIES}, case.channel)
            labels = read_labels(case.brain, BRAIN)
            spacing = float(np.mean(labels.spacing_mm))
            for name, value in figures(scans.data, labels.data, spacing).items():
                every.setdefault(name, []).append(value)
        told[str(path)] = {
            name: {"cases": len(v)}
            | {f: round(float(getattr(np, f)(v)), 3) for f in ("mean", "std", "min", "max")}
            for name, v in every.items()
        }  # fmt: skip
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
