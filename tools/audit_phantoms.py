"""Does the privacy audit find what is there, and only that? Controls with a known answer.

python tools/audit_phantoms.py [--clean 200] [--copies 1 16 64] [--steps 1000]

*Clean*: phantoms that no member is related to; none may be called a copy, all planted ones must be
found. *Copies*: a generator is trained on a cohort in which one phantom stands k times; its score
in the attack on the generator should leave those of the others behind as k grows. The control
is a phantom whom nobody trained on.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medsynth import config as configs
from medsynth.commands.phantom import Phantom
from medsynth.commands.train import train
from medsynth.core.cohort import MODALITIES, Case, Cohort
from medsynth.core.random import Key
from medsynth.core.volume import Volume, bounding_box
from medsynth.evaluation import attacks, heads, privacy, traces
from medsynth.evaluation.heads import Head
from medsynth.imaging.intensity import normalise
from medsynth.imaging.synthesizer import load
from medsynth.io import cohort as cohorts
from medsynth.phantom import make
from medsynth.training.world import World

MEMBERS, OTHERS = 40, 20
TRAINED = 6
CONFIG = """
data: {{cohort: {cohort}, patch: [32, 32, 32], workers: 1}}
augment: {{rotation_deg: 0, scale: 0, gamma: 0, gain: 0}}
loss: {{adversarial: 0, texture: 0, r1: 0}}
generator: {{widths: [32, 64, 128], head: 12}}
discriminator: {{widths: [24, 48, 64], head: 8}}
train: {{steps: {steps}, batch: 2, rate_generator: 1.0e-3, rate_discriminator: 1.0e-3,
  ema_halflife_cases: 60, save_every: 100000, preview_every: 100000}}
"""


def people(count: int, what: str, spacing_mm: float = 4.0) -> Iterator[Head]:
    """Fresh phantoms."""
    for index in range(count):
        phantom = make(Key(11, (what, index)), spacing_mm=spacing_mm)
        mask = phantom.labels.data > 0
        box = bounding_box(mask, 1)
        scans = normalise(phantom.scans.data, mask)[(slice(None), *box)]
        labels = replace(phantom.labels, data=phantom.labels.data[box])
        name = f"{what}{index}"
        case = Case(name, name, {})
        yield Head(case, Volume(scans, labels.affine, MODALITIES), mask[box], labels, 0.0)


def clean(count: int) -> dict[str, object]:
    """The audit on phantoms that have nothing to do with the members."""
    members, planted = [], []
    for index, head in enumerate(people(MEMBERS, "member")):
        members.append(traces.trace(head))
        planted.append(traces.trace(traces.plant(head, index % 2 == 1, Key(index))))
    others = [traces.trace(head) for head in people(OTHERS, "other")]
    made = [traces.trace(head) for head in people(count, "made")]
    audit = privacy.audit(members, others, made, planted, Key(0), MODALITIES)
    found = {
        (r.metric, r.where["space"]): (r.value, r.n) for r in audit.records if "space" in r.where
    }
    return {
        space: {
            "planted_found": found["planted_found", space],
            "clean_called_copies": found["copies", space],
            "held_out_accused": found["held_out_accused", space],
        }
        for space in privacy.SPACES
    }


def copied(copies: Sequence[int], steps: int, place: Path) -> list[dict[str, object]]:
    """Scores of a phantom that stands k times in the training set, beside the others'."""
    Phantom(place / "cohort", TRAINED + 8, 4.0, test=8, seed=5).run()
    cohort = cohorts.read(place / "cohort")
    first, *rest = cohort.part("training").cases
    outside = cohort.part("test")
    rows = []
    for k in copies:
        many = [replace(first, name=f"{first.name}-copy{i}") for i in range(k)]
        listing = place / f"copies{k}.json"
        cohorts.write(listing, Cohort(cohort.scheme, (*many, *rest)))
        run = place / f"run{k}"
        text = CONFIG.format(cohort=listing, steps=steps)
        train(configs.parse(text, "copies"), run, World.from_environment(), resume=False)
        attack = attacks.on_generator(load(run))
        scores = {
            name: [dict(attack(head)) for head in heads.read_all(part, MODALITIES)]
            for name, part in (
                ("copied", Cohort(cohort.scheme, (first,))),
                ("once", Cohort(cohort.scheme, tuple(rest))),
                ("never", outside),
            )
        }
        for name in scores["copied"][0]:
            own = {group: np.array([s[name] for s in of]) for group, of in scores.items()}
            spread = own["never"].std(ddof=1)
            rows.append(
                {
                    "k": k,
                    "attack": name,
                    "copied_sd_above_never": float(
                        (own["copied"][0] - own["never"].mean()) / spread
                    ),
                    "once_sd_above_never": float(
                        (own["once"].mean() - own["never"].mean()) / spread
                    ),
                    "copied_above_all_never": bool(own["copied"][0] > own["never"].max()),
                }
            )
            print(rows[-1], file=sys.stderr)
    return rows


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clean", type=int, default=200)
    parser.add_argument("--copies", type=int, nargs="*", default=[1, 16, 64])
    parser.add_argument("--steps", type=int, default=1000)
    a = parser.parse_args()
    begun = time.perf_counter()
    result: dict[str, object] = {"clean": clean(a.clean)} if a.clean else {}
    if a.copies:
        with tempfile.TemporaryDirectory() as place:
            result["copies"] = copied(a.copies, a.steps, Path(place))
    print(json.dumps(result | {"seconds": round(time.perf_counter() - begun)}, indent=1))


if __name__ == "__main__":
    main()
