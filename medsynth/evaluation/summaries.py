"""What the figures of fidelity keep of a case, of real ones made worse, and of pairs.

A cohort is never in memory at once: one head after the other is measured and let go.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from medsynth.core.cohort import Cohort
from medsynth.core.random import Key
from medsynth.evaluation import features, heads
from medsynth.evaluation.heads import Head
from medsynth.io.sidecar import of_case

T = TypeVar("T")
Shown = Callable[[Iterable[T], int, str], Iterator[T]]
"""Passes items through and shows progress: items, how many, what."""

LITTLE_NOISE = 0.04
"""Of a second scan of the same head, as a share of the range: the best that pairs can be."""


@dataclass(frozen=True, eq=False)
class Summary:
    """What is kept of a case.

    Args:
        name: Case name.
        subject: The person.
        features: `(C, N, F)`, slices of all channels.
        style: `(2, C, S)` means and log-spreads of structures, or None without tissue labels.
        spectrum: `(C, R)` log power by radius.
        aligned: float16 `(C, 48, 56, 48)`.
    """

    name: str
    subject: str
    features: np.ndarray
    style: np.ndarray | None
    spectrum: np.ndarray
    aligned: np.ndarray


def summarise(head: Head, extract: features.Extract | None = None) -> Summary:
    """Everything that the figures need of one case."""
    tissue = head.labels is not None and heads.tissue_scheme(head.labels)
    return Summary(
        head.case.name,
        head.case.subject,
        features.of_head(head, extract),
        head.style() if tissue else None,
        np.stack([spectrum(scan) for scan in head.scans.data]),
        head.aligned.astype(np.float16),
    )


def spectrum(scan: np.ndarray, bins: int = 24) -> np.ndarray:
    """Log power of a scan by spatial frequency, 0 to half a cycle per voxel, `(bins,)`."""
    power = np.abs(np.fft.rfftn(scan)) ** 2
    axes = [np.fft.fftfreq(n) for n in scan.shape[:2]] + [np.fft.rfftfreq(scan.shape[2])]
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij", sparse=True)))
    index = np.minimum((radius * 2 * bins).astype(int), bins)
    total = np.bincount(index.reshape(-1), power.reshape(-1), bins + 1)[:bins]
    count = np.bincount(index.reshape(-1), minlength=bins + 1)[:bins]
    return np.log(total / np.maximum(count, 1) / scan.size + 1e-9)


Bad = dict[tuple[str, int], list[Summary]]


def real(
    cohort: Cohort,
    modalities: Sequence[str],
    key: Key,
    shown: Shown[Any],
    extract: features.Extract | None,
    degraded: int,
) -> tuple[list[Summary], Bad]:
    """Summaries of real cases, and of some of them made worse."""
    own: list[Summary] = []
    bad: Bad = {}
    before: list[Head] = []  # the last heads of two people
    for head in shown(heads.read_all(cohort, modalities), len(cohort), "measure real"):
        own.append(summarise(head, extract))
        if len(own) <= degraded:
            for name, level, worse in heads.series(head, key):
                bad.setdefault((name, level), []).append(summarise(worse, extract))
            other = heads.somebody_else(head, before)
            if other is not None and head.labels is not None and own[-1].style is not None:
                mixed = heads.relabelled(head, other)
                bad.setdefault(("labels", 1), []).append(replace(own[-1], style=mixed.style()))
        before = heads.remembered(before, head)
    return own, bad


def synthetic(
    cohort: Cohort,
    real: Cohort,
    modalities: Sequence[str],
    key: Key,
    shown: Shown[Any],
    extract: features.Extract | None,
) -> tuple[list[Summary], list[tuple[str, np.ndarray]]]:
    """Summaries of synthetic cases; PSNR and SSIM of those made from a real case's own labels.

    The pairs are a person and `(3, 2, C)`: synthetic, real with a little noise, real blurred;
    PSNR and SSIM.
    """
    made, paired = [], []
    first = heads.read(real.cases[0], real, modalities)
    for head in shown(heads.read_all(cohort, modalities), len(cohort), "measure synthetic"):
        heads.same_spacing(first, head)
        made.append(summarise(head, extract))
        parent = _parent(head, real)
        if parent is not None:
            twin = heads.read(parent, real, modalities)
            if twin.scans.data.shape == head.scans.data.shape:
                noisy = heads.noisy(twin, LITTLE_NOISE, key.fold(head.case.name))
                blurred = heads.blurred(twin, heads.BLUR[-1])
                sides = [similarity(x, twin) for x in (head, noisy, blurred)]
                paired.append((head.case.subject, np.stack(sides)))
    return made, paired


def _parent(head: Head, real: Cohort) -> Any:
    """The real case whose unedited label map a synthetic case was made from."""
    story = of_case(head.case)
    if not story or story.get("edits"):
        return None
    name = story.get("parent", {}).get("case")
    return next((case for case in real if case.name == name), None)


def similarity(one: Head, two: Head) -> np.ndarray:
    """PSNR in dB and SSIM of two heads on one grid, inside the brain, `(2, C)`."""
    from skimage.metrics import structural_similarity

    psnr, ssim = [], []
    for a, b in zip(one.scans.data, two.scans.data, strict=True):
        error = float(np.mean((a - b)[two.mask] ** 2))
        psnr.append(10 * np.log10(1 / max(error, 1e-12)))
        full = structural_similarity(a, b, data_range=1.0, full=True)[1]
        ssim.append(float(full[two.mask].mean()))
    return np.array([psnr, ssim])
