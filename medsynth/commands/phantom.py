"""`medsynth phantom`: a cohort of phantoms, or records without a patient."""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from medsynth import __version__
from medsynth.commands import console
from medsynth.errors import UsageError

CODES = 400
"""Different codes of phantom subjects."""


@dataclass(frozen=True)
class Phantom:
    """Make phantoms: four scans, two label maps and the drawn parameters a case.

    Args:
        out: Folder of the cohort.
        cases: How many, healthy ones included.
        spacing_mm: Edge of a voxel.
        healthy: How many of them have no tumour.
        test: How many of the last cases with tumour are the *test* split.
        seed: Root of all randomness.
        workers: Processes.
        json: Print the answer as JSON.
    """

    out: Path
    cases: int = 20
    spacing_mm: float = 1.0
    healthy: int = 0
    test: int = 0
    seed: int = 0
    workers: int = 1
    json: bool = False

    def run(self) -> int:
        """Make what is missing; list everything in `OUT/cohort.json`."""
        from medsynth.generation import cases

        if self.cases < 1 or not 0 <= self.healthy <= self.cases:
            raise UsageError(
                "--cases of at least 1 and --healthy of at most --cases",
                f"--cases {self.cases} --healthy {self.healthy}",
            )
        if not 0.5 <= self.spacing_mm <= 5:
            raise UsageError("--spacing-mm from 0.5 to 5", str(self.spacing_mm))
        sick = self.cases - self.healthy
        todo = [
            (self.out, index, index < sick, self.spacing_mm, self.seed)
            for index in range(self.cases)
            if not cases.is_done(self.out, case_name(index), self._made_from(index))
        ]
        for _ in console.progress(self._make(todo), len(todo), "phantoms"):
            pass
        splits = {
            case_name(index): "test" if sick - self.test <= index < sick else "training"
            for index in range(self.cases)
        }
        cohort = cases.write_listing(self.out, splits)
        console.say(f"{len(cohort)} phantoms in {self.out / 'cohort.json'}")
        if self.json:
            console.answer({"cohort": self.out / "cohort.json", "cases": len(cohort)})
        return 0

    def _made_from(self, index: int) -> dict[str, Any]:
        """What a finished case must have been made from; another version makes other phantoms."""
        from medsynth.phantom import REVISION

        return {"medsynth": __version__, "made_by": "phantom", "revision": REVISION,
                "seed": self.seed, "index": index, "spacing_mm": self.spacing_mm,
                "healthy": index >= self.cases - self.healthy}  # fmt: skip

    def _make(self, todo: list[tuple[Path, int, bool, float, int]]) -> Iterator[None]:
        if self.workers <= 1 or len(todo) <= 1:
            yield from map(_one, todo)
            return
        with ProcessPoolExecutor(self.workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(_one, todo)


@dataclass(frozen=True)
class PhantomRecords:
    """Make records without a patient: a clinical table, or codes when OUT ends in `.npz`.

    Args:
        out: `.csv`, `.parquet`; or `.npz` for codes of subjects.
        rows: How many.
        seed: Root of all randomness; another seed gives other people of the same hospital.
        json: Print the answer as JSON.
    """

    out: Path
    rows: int
    seed: int = 0
    json: bool = False

    def run(self) -> int:
        """Make and write."""
        import json

        from medsynth.commands.records import refuse_foreign, sidecar
        from medsynth.core.codes import Codes
        from medsynth.core.frames import from_frame
        from medsynth.core.paths import write_text
        from medsynth.core.random import Key
        from medsynth.io import tables
        from medsynth.phantom import records

        refuse_foreign(self.out)
        key = Key(self.seed, ("phantom records",))
        if self.out.suffix == ".npz":
            tables.write_codes(self.out, Codes(*records.codes(self.rows, CODES, key)))
        else:
            tables.write(self.out, from_frame(records.clinical(self.rows, key)))
        told = {"synthetic": True, "made_by": "phantom", "rows": self.rows, "seed": self.seed}
        write_text(sidecar(self.out), json.dumps(told, indent=2, sort_keys=True) + "\n")
        console.say(f"{self.rows:,} phantom records in {self.out}")
        if self.json:
            console.answer({"records": self.out, "rows": self.rows})
        return 0


def case_name(index: int) -> str:
    """BraTS-2023 pattern with a challenge code of our own, so that nobody takes it for a
    patient."""
    return f"BraTS-PHM-{index:05d}-000"


def _one(job: tuple[Path, int, bool, float, int]) -> None:
    from medsynth.core.random import Key
    from medsynth.generation.cases import write_case
    from medsynth.phantom import REVISION, make

    out, index, tumour, spacing_mm, seed = job
    name = case_name(index)
    phantom = make(Key(seed, ("phantom", index)), spacing_mm=spacing_mm, tumour=tumour)
    provenance: dict[str, Any] = {
        "made_by": "phantom",
        "revision": REVISION,
        "seed": seed,
        "index": index,
        "spacing_mm": spacing_mm,
        "healthy": not tumour,
        "parameters": phantom.parameters,
    }
    write_case(
        out, name, phantom.scans, phantom.labels, provenance, subject=name.rpartition("-")[0]
    )


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "phantom",
        help="a cohort of phantoms, or records; no patient in them",
        description=console.summary(Phantom),
        epilog="Examples: medsynth phantom cohort --cases 20 --spacing-mm 2;  medsynth phantom "
        "patients.csv --rows 5000",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.add_argument("out", type=Path, metavar="OUT", help="folder of the cohort")
    p.add_argument("--cases", type=int, default=20, help="how many, healthy ones included")
    p.add_argument("--spacing-mm", type=float, default=1.0, help="edge of a voxel")
    p.add_argument("--healthy", type=int, default=0, help="how many of them without tumour")
    p.add_argument("--test", type=int, default=0, help="how many form the test split")
    p.add_argument("--rows", type=int, help="records instead: how many rows (OUT is a file)")
    p.add_argument("--seed", type=int, default=0, help="root of all randomness")
    p.add_argument("--workers", type=int, default=1, help="processes")
    p.add_argument("--json", action="store_true", help="print the answer as JSON")
    p.set_defaults(make=_make)


def _make(a: Any) -> Phantom | PhantomRecords:
    if a.rows is not None:
        return PhantomRecords(a.out, a.rows, a.seed, a.json)
    return Phantom(a.out, a.cases, a.spacing_mm, a.healthy, a.test, a.seed, a.workers, a.json)
