"""Make the models in the box: phantoms, training, and export into `medsynth/box`, in one command.

    python tools/make_box.py WORK [--only phantom] [--set train.steps=1000]
    python tools/make_box.py WORK --restyle

Goes on where it was stopped. With the configurations of configs/box and the default numbers it is
the recipe of the weights that come with the package, on the phantoms of the commit that
medsynth/box/CARD.md names; present ones make other weights. On one CPU core: an hour.

With --restyle the generator in the box keeps its weights, and draws the styles of present phantoms:
the recipe of the styles that come with the package. On one CPU core: a quarter of an hour.
"""

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import monai
import torch

import medsynth
from medsynth import box
from medsynth import config as configs
from medsynth.build.image import ImageRun, export
from medsynth.commands.phantom import Phantom
from medsynth.commands.train import Train
from medsynth.core.cohort import Case, Cohort
from medsynth.io import cohort as cohorts
from medsynth.phantom import REVISION
from medsynth.training.weights import load_model
from medsynth.training.world import World

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
    Train(
        CONFIGS / RECIPES[name], None if begun else run, told, resume=run if begun else None
    ).run()


def restyle(work: Path, name: str, settings: list[str]) -> None:
    """A run without a step: the weights in the box, and the styles of the phantoms in WORK."""
    file = CONFIGS / RECIPES[name]
    told = (f"data.cohort={work / 'cohort.json'}", f"train.init={box.path(name)}", *settings)
    config = configs.parse(file.read_text(), str(file), told)
    world = World.from_environment()
    ImageRun.prepare(
        config, work / name, world, resume=False, examples=lambda work, *_: work
    ).save()


def main() -> None:
    """Make what is asked for."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("work", type=Path, metavar="WORK", help="phantoms and runs go here")
    p.add_argument("--only", choices=tuple(RECIPES), help="one of the networks")
    p.add_argument("--restyle", action="store_true", help="renew the styles, keep the weights")
    p.add_argument("--sizes-mm", type=float, nargs="+", default=[2.0, 1.0], help="voxel edges")
    p.add_argument("--cases", type=int, nargs="+", default=[75, 30], help="phantoms of each size")
    p.add_argument("--seed", type=int, default=SEED, help="of the first size; the next one + 1")
    p.add_argument("--workers", type=int, default=1, help="processes that make phantoms")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in train")
    p.add_argument("--out", type=Path, default=box.FOLDER, help="where the models go")
    a = p.parse_args()
    phantoms(a.work, a.sizes_mm, a.cases, a.seed, a.workers)
    for name in ("phantom",) if a.restyle else (a.only,) if a.only else RECIPES:
        (restyle if a.restyle else train)(a.work, name, a.set)
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
        if a.restyle:
            before = json.loads(load_model(box.path(name))[1]["recipe"])
            recipe["weights"] = before.get("weights", before)
        a.out.mkdir(parents=True, exist_ok=True)
        target = a.out / f"{name}.safetensors"
        export(a.work / name, target, recipe=json.dumps(recipe, sort_keys=True))
        print(json.dumps({"model": str(target), "mb": round(target.stat().st_size / 1e6, 2)}))


if __name__ == "__main__":
    main()
