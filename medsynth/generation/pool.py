"""Generate while writing: the next case is computed while threads compress the last ones.

Knows jobs and a synthesizer. The bytes do not depend on the number of writers or shards.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from medsynth import __version__
from medsynth.core.labels import BRAIN
from medsynth.errors import DataError
from medsynth.generation import cases, failures
from medsynth.generation.plan import Job
from medsynth.imaging.synthesizer import Synthesizer
from medsynth.io.nifti import read_labels
from medsynth.io.sidecar import digest


def generate(
    synthesizer: Synthesizer,
    jobs: Sequence[Job],
    folder: Path,
    *,
    writers: int = 2,
    style: np.ndarray | None = None,
) -> Iterator[tuple[Job, Exception | None]]:
    """Do the jobs that are not done yet.

    Args:
        synthesizer: Makes the scans.
        jobs: What to make.
        folder: `OUT`.
        writers: Threads that compress and write.
        style: One style for all scans, `(2, T, S)`; None draws one per scan.

    Raises:
        DataError: A case stands there that another model, seed or label map made.

    Yields:
        Each job when its case is complete, or has failed, with the reason.
    """
    waiting: deque[tuple[Job, Future[None]]] = deque()
    with ThreadPoolExecutor(writers) as pool:
        for job in jobs:
            try:
                provenance = _provenance(synthesizer, job)
            except DataError as error:
                failures.note(folder, job.name, error)
                yield job, error
                continue
            made_from = {"style": None, **provenance, "medsynth": __version__}
            if cases.is_done(folder, job.name, made_from):
                yield job, None
                continue
            try:
                labels = read_labels(_needed(job), BRAIN)
                scans = synthesizer.generate(labels, job.key, style)
            except DataError as error:
                failures.note(folder, job.name, error)
                yield job, error
                continue
            waiting.append(
                (
                    job,
                    pool.submit(
                        cases.write_case,
                        folder,
                        job.name,
                        scans,
                        labels,
                        provenance,
                        subject=job.subject,
                    ),
                )
            )
            while len(waiting) > writers:
                yield _finish(*waiting.popleft(), folder)
        while waiting:
            yield _finish(*waiting.popleft(), folder)


def _finish(job: Job, writing: Future[None], folder: Path) -> tuple[Job, Exception | None]:
    try:
        writing.result()
    except DataError as error:
        failures.note(folder, job.name, error)
        return job, error
    failures.forget(folder, job.name)
    return job, None


def _needed(job: Job) -> Path:
    if job.labels is None:
        raise DataError(
            "a label map with tissue and tumour (<case>-brain.nii.gz)",
            "none",
            job.parent,
            "Make it with `medsynth tissue cohort.json -o OUT` and give OUT/cohort.json.",
        )
    return job.labels


def _provenance(synthesizer: Synthesizer, job: Job) -> dict[str, Any]:
    """Where a generated case comes from."""
    labels = _needed(job)
    before = cases.sidecar_of(labels)
    guessed = job.guessed or "subject_from" in before
    return {
        **(cases.GUESSED if guessed else {}),
        "made_by": "generate",
        "model": synthesizer.fingerprint,
        "seed": job.key.seed,
        "scan": job.key.path[-1],
        **({"style": "shared"} if job.same_style else {}),
        "parent": {"case": job.parent, "label": labels.name, "sha256": digest(labels)},
        "ancestors": cases.lineage(labels),
        "onto": before.get("onto"),
        "edits": before.get("edits", []),
        **cases.by_hand(labels),
    }
