"""`medsynth index`: what is in a folder."""

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console
from medsynth.core.words import plural
from medsynth.errors import DataError, UsageError

if TYPE_CHECKING:
    from medsynth.core.cohort import Cohort


@dataclass(frozen=True)
class Index:
    """List the cases of a data set in a cohort.json.

    Args:
        data: Folder of the data set.
        scheme: Scheme of its tumour label maps.
        out: The cohort file.
        pattern: See `io.layouts.find`.
        names: THEIRS=OURS, names of modalities in the pattern.
        split: Shares, for example `training=0.8,test=0.2`.
        seed: Which random split.
        overwrite: Replace another cohort that stands there.
        json: Print the answer as JSON.
    """

    data: Path
    scheme: str
    out: Path
    pattern: str | None = None
    names: tuple[str, ...] = ()
    split: str | None = None
    seed: int = 0
    overwrite: bool = False
    json: bool = False

    def run(self) -> int:
        """Recognise the layout and write the cohort."""
        from medsynth.core.random import Key
        from medsynth.evaluation import enough
        from medsynth.io import cohort as cohorts
        from medsynth.io.layouts import find

        names = dict(_pair(text, "--name") for text in self.names)
        layout, cohort = find(self.data, self.scheme, self.pattern, names)
        if self.split:
            shares = {
                k: _number(v) for k, v in (_pair(text, "--split") for text in self.split.split(","))
            }
            cohort = cohort.split(shares, Key(self.seed, ("split",)))
        self._keep_what_is_there(cohort)
        cohorts.write(self.out, cohort)
        splits = Counter(cohort.split_of(case) for case in cohort)
        people = len({case.subject for case in cohort})
        counts = {
            "cases": len(cohort),
            "subjects": people,
            "tumour_labels": sum(c.label is not None for c in cohort),
            "tissue_labels": sum(c.brain is not None for c in cohort),
            "splits": dict(splits),
        }
        console.say(
            f"{layout} layout: {plural(len(cohort), 'case')} of "
            f"{plural(people, 'subject')}, "
            f"modalities {', '.join(cohort.modalities) or 'none in common'}, "
            f"{counts['tumour_labels']} with tumour labels, "
            f"{counts['tissue_labels']} with tissue → {self.out}"
        )
        if self.split:
            console.say(
                ", ".join(f"{name}: {plural(count, 'case')}" for name, count in splits.items())
            )
            training, test = (
                len({case.subject for case in cohort.part(name)}) for name in ("training", "test")
            )
            missing = enough.short_of(training, test)
            if missing:
                console.say(
                    f"warning: {training} training and {test} test people are too few for "
                    f"`medsynth evaluate`: {'; '.join(missing)}"
                )
        if self.json:
            console.answer(
                {"layout": layout, "modalities": cohort.modalities, "cohort": self.out, **counts}
            )
        return 0

    def _keep_what_is_there(self, cohort: "Cohort") -> None:
        """Refuse to replace a cohort by another one: its split decides who was trained on."""
        from medsynth.io.sidecar import read_json

        if self.overwrite or not self.out.exists():
            return
        if read_json(self.out) != cohort.to_json(self.out.parent):
            raise DataError(
                "no cohort there yet, or this one", "another one", self.out,
                "Its split may be that of a model: give another -o, or --overwrite.",
            )  # fmt: skip


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{option} KEY=VALUE", repr(text))
    return key.strip(), value.strip()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError("a share between 0 and 1", repr(text), "--split") from None


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "index",
        help="list the cases of a data set (BraTS, Decathlon, nnU-Net, BIDS, …)",
        description="List the cases of a data set in a cohort.json; the layout is recognised.",
        epilog="Examples: medsynth index DATA --scheme brats2021 -o cohort.json;  medsynth index "
        "MS --scheme brats2023 --pattern '{case}/{modality}.nii.gz' --name T1POST=t1c "
        "-o ms.json",
        formatter_class=argparse.RawTextHelpFormatter,
    )
    p.add_argument("data", type=Path, metavar="DATA", help="folder of the data set")
    p.add_argument(
        "--scheme",
        required=True,
        help="scheme of the tumour labels, e.g. brats2021, "
        "brats2023, brats2024-gli, decathlon, nnunet-brats21",
    )
    p.add_argument("-o", "--out", type=Path, default=Path("cohort.json"), help="the cohort file")
    p.add_argument("--pattern", help="other layouts: path with {case} and {modality}")
    p.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="THEIRS=OURS",
        help="a modality's name in the pattern",
    )
    p.add_argument("--split", help="shares by subject, e.g. training=0.8,test=0.2")
    p.add_argument("--seed", type=int, default=0, help="which random split (default 0)")
    p.add_argument("--overwrite", action="store_true", help="replace another cohort that is there")
    p.add_argument("--json", action="store_true", help="print the answer as JSON")
    p.set_defaults(
        make=lambda a: Index(
            a.data, a.scheme, a.out, a.pattern, tuple(a.name), a.split, a.seed, a.overwrite, a.json
        )
    )
