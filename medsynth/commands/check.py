"""`medsynth check`: geometry, labels, dtypes of every case."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medsynth.commands import console
from medsynth.core.words import plural


@dataclass(frozen=True)
class Check:
    """Read every file of a cohort and print what is wrong.

    Args:
        cohort: A cohort.json or its folder.
        json: Print the answer as JSON.
    """

    cohort: Path
    json: bool = False

    def run(self) -> int:
        """0 when all is well, else 1."""
        from medsynth.io import cohort as cohorts
        from medsynth.io.check import check

        cohort = cohorts.read(self.cohort)
        faults = [
            fault
            for _, found in console.progress(check(cohort), len(cohort), "check")
            for fault in found
        ]
        if self.json:
            console.answer({"cases": len(cohort), "faults": [asdict(f) for f in faults]})
        elif faults:
            print(console.table(("case", "fault"), [(f.case, f.message) for f in faults]))
        bad = len({fault.case for fault in faults})
        console.say(
            f"{len(cohort) - bad} of {plural(len(cohort), 'case')} fine"
            + (f", {bad} not" if bad else "")
        )
        return 1 if faults else 0


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "check",
        help="find faults in a cohort: geometry, labels, dtypes",
        description="Read every file of a cohort and print a table of faults.",
        epilog="Example: medsynth check cohort.json",
    )
    p.add_argument("cohort", type=Path, metavar="COHORT", help="a cohort.json or its folder")
    p.add_argument("--json", action="store_true", help="print the answer as JSON")
    p.set_defaults(make=lambda a: Check(a.cohort, a.json))
