"""Make the models in the box: phantoms, training, and export into `medsynth/box`, in one command.

    python tools/make_box.py WORK [--only phantom] [--set train.steps=1000]

Goes on where it was stopped. With the configurations of configs/box and the default numbers it is
the recipe of the weights that come with the package; each file of them tells from which revision of
phantoms. With AVX-512 training takes 22 and 8 minutes on a CPU core each, without it a few times as
long.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import monai
import torch

import medsynth
from medsynth import box
from medsynth import config as configs
from medsynth.build.image import export
from medsynth.commands.phantom import Phantom
from medsynth.commands.train import Train
from medsynth.core.cohort import Case, Cohort
from medsynth.errors import ModelError
from medsynth.io import cohort as cohorts
from medsynth.phantom import REVISION

CONFIGS = Path(__file__).parents[1] / "configs" / "box"
RECIPES = {"phantom": "generator.yaml", "tissue": "tissue.yaml"}
SEED = 101


def joined(parts: dict[str, Cohort]) -> Cohort:
    """One cohort of several, whose people are told apart by the name of their part."""
    cases: list[Case] = []
    for name, part in parts.items():
        for case in part:
            cases.append(
                replace(case, name=f"{case.name}-{name}", subject=f"{case.subject}-{name}")
            )
    return Cohort(next(iter(parts.values())).scheme, tuple(cases))


def phantoms(work: Path, sizes_mm: list[float], cases: list[int], seed: int, workers: int) -> None:
    """Phantoms of every voxel size, a sixth of them healthy, listed in `WORK/cohort.json`."""
    parts = {}
    for index, (size, count) in enumerate(zip(sizes_mm, cases, strict=True)):
        folder = work / f"{size:g}mm"
        Phantom(folder, count, size, round(0.16 * count), 0, seed + index, workers).run()
        parts[folder.name] = cohorts.read(folder)
    cohorts.write(work / "cohort.json", joined(parts))


def train(work: Path, name: str, settings: list[str]) -> None:
    """Train one network, or go on with it."""
    run, told = work / name, (f"data.cohort={work / 'cohort.json'}", *settings)
    begun = (run / "last.pt").exists()
    if begun:
        require_recipe((run / "config.yaml").read_text(encoding="utf-8"), name, settings)
    Train(
        CONFIGS / RECIPES[name], None if begun else run, told, resume=run if begun else None
    ).run()


def require_recipe(told: str, name: str, settings: Sequence[str] = ()) -> None:
    """Refuse a model, or a run, of another configuration than that of the box.

    Args:
        told: The configuration that it tells, YAML.
        name: Of the model in the box.
        settings: Overrides that the recipe has.

    Raises:
        ModelError: They differ by more than where the cohort stands.
    """
    text = (CONFIGS / RECIPES[name]).read_text(encoding="utf-8")
    wanted = configs.parse(text, RECIPES[name], settings)
    found = configs.parse(told, name)
    if replace(found, data=replace(found.data, cohort=wanted.data.cohort)) != wanted:
        lines = [line.strip() for line in told.splitlines() if line not in configs.dump(wanted)]
        todo = "Train it anew, in another WORK."
        raise ModelError(f"a model by {RECIPES[name]}", "; ".join(lines), name, todo)


def main() -> None:
    """Make what is asked for."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("work", type=Path, metavar="WORK", help="phantoms and runs go here")
    p.add_argument("--only", choices=tuple(RECIPES), help="one of the networks")
    p.add_argument("--sizes-mm", type=float, nargs="+", default=[2.0, 1.0], help="voxel edges")
    p.add_argument("--cases", type=int, nargs="+", default=[75, 30], help="phantoms of each size")
    p.add_argument("--seed", type=int, default=SEED, help="of the first size; the next one + 1")
    p.add_argument("--workers", type=int, default=1, help="processes that make phantoms")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in train")
    p.add_argument("--out", type=Path, default=box.FOLDER, help="where the models go")
    a = p.parse_args()
    phantoms(a.work, a.sizes_mm, a.cases, a.seed, a.workers)
    for name in (a.only,) if a.only else RECIPES:
        train(a.work, name, a.set)
        recipe = {
            "phantoms": dict(zip(map(str, a.sizes_mm), a.cases, strict=True)),
            "phantom_seed": a.seed,
            "phantom_revision": REVISION,
            "configuration": hashlib.sha256((CONFIGS / RECIPES[name]).read_bytes()).hexdigest(),
            "settings": a.set,
            "medsynth": medsynth.__version__,
            "torch": torch.__version__,
            "monai": monai.__version__,
        }
        a.out.mkdir(parents=True, exist_ok=True)
        target = a.out / f"{name}.safetensors"
        export(a.work / name, target, recipe=json.dumps(recipe, sort_keys=True))
        print(json.dumps({"model": str(target), "mb": round(target.stat().st_size / 1e6, 2)}))


if __name__ == "__main__":
    main()
