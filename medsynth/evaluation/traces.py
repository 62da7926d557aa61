"""What the audit of privacy keeps of a case, and copies that it must find."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from medsynth.core.cohort import Cohort
from medsynth.core.random import Key
from medsynth.evaluation import features, heads, origin
from medsynth.evaluation.heads import Head
from medsynth.evaluation.summaries import Shown
from medsynth.imaging.intensity import normalise
from medsynth.io.sidecar import of_case

PLANTED = 20

Attack = Callable[[Head], Mapping[str, float]]
"""Scores of one case, high for a suspected member, by name of the attack."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What is kept of a case.

    Args:
        name, subject: Who.
        relatives: Names and subjects that it was made from, as its sidecar says.
        pixels: float16 `(C, 48, 56, 48)`, see `Head.aligned`.
        features: `(F,)` mean and spread over slices.
        labels: uint8 `(48, 56, 48)`, or None.
        outside: Brightest voxel outside of the brain, as a share of the range; None if unknown.
        scheme: What the integers of `labels` mean.
        spacing_mm: Of the scans.
        scores: Attack → score.
        files: SHA-256 of the case's own label maps and of those that they were made from.
    """

    name: str
    subject: str
    relatives: frozenset[str]
    pixels: np.ndarray
    features: np.ndarray
    labels: np.ndarray | None
    outside: float | None
    scores: Mapping[str, float]
    scheme: str = ""
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    files: frozenset[str] = frozenset()

    def descends_from(self, real: "Trace") -> bool:
        """Whether this case was made from that one's label map, as names or digests say."""
        named = {real.name, real.subject} & self.relatives
        return bool(named) or bool(self.files & real.files)


def trace(head: Head, attack: Attack | None = None) -> Trace:
    """Everything that the audit needs of one case."""
    story = of_case(head.case) or {}
    values = features.of_head(head)
    labels = None
    if head.labels is not None:
        factors = [b / a for a, b in zip(head.labels.shape, heads.ALIGNED, strict=True)]
        named = head.labels.without_fine().data
        labels = ndimage.zoom(named, factors, order=0, grid_mode=True, mode="nearest")
    return Trace(
        head.case.name,
        head.case.subject,
        frozenset({head.case.subject, story.get("parent", {}).get("case", head.case.name)}),
        head.aligned.astype(np.float16),
        np.concatenate([values.mean(1).ravel(), values.std(1).ravel()]),
        labels,
        head.outside,
        attack(head) if attack else {},
        "" if head.labels is None else head.labels.scheme.name,
        head.scans.spacing_mm,
        frozenset(origin.files(head.case)),
    )


def traces(
    cohort: Cohort, modalities: Sequence[str], shown: Shown[Any], title: str,
    attack: Attack | None = None,
) -> list[Trace]:  # fmt: skip
    """Traces of a cohort, one case in memory at a time."""
    work = heads.read_all(cohort, modalities)
    return [trace(head, attack) for head in shown(work, len(cohort), title)]


def planted(cohort: Cohort, modalities: Sequence[str], shown: Shown[Any], key: Key) -> list[Trace]:
    """Copies of training cases as a generator that replays them would give them out.

    Another brightness of each scan, 2 % noise, half of them mirrored; then traced like
    everything else.
    """
    work = heads.read_all(cohort, modalities)
    copies = []
    for index, head in enumerate(shown(work, len(cohort), "trace planted copies")):
        copies.append(trace(plant(head, index % 2 == 1, key.fold(head.case.name))))
    return copies


def plant(head: Head, mirrored: bool, key: Key) -> Head:
    """A disguised copy of a head."""
    rng = key.numpy()
    gain = rng.uniform(0.8, 1.25, (len(head.scans.data), 1, 1, 1)).astype(np.float32)
    noise = 0.02 * rng.standard_normal(head.scans.data.shape, np.float32)
    data = normalise(np.clip((head.scans.data + noise) * gain, 0, None) * head.mask, head.mask)
    labels = head.labels
    if mirrored:
        data = data[:, ::-1]
        labels = None if labels is None else labels.with_data(labels.data[::-1])
    return replace(
        head,
        case=replace(head.case, name=f"planted {head.case.name}"),
        scans=replace(head.scans, data=np.ascontiguousarray(data, np.float32)),
        mask=head.mask[::-1] if mirrored else head.mask,
        labels=labels,
    )
