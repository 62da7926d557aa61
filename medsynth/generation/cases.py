"""Generated and phantom cases on disk: BraTS-2023 names, two label maps, a sidecar.

The sidecar `<case>.json` is written last: a case with a sidecar is complete, as long as nobody
takes a file away.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsynth import __version__
from medsynth.core.cohort import Case, Cohort
from medsynth.core.labels import BRAIN, BRATS2023, BRATS2024
from medsynth.core.volume import LabelMap, Volume
from medsynth.errors import DataError
from medsynth.io import cohort as cohorts
from medsynth.io.nifti import read_labels, write_labels, write_scan
from medsynth.io.sidecar import digest, of_case, read_json, write_json


def is_complete(folder: Path, name: str) -> bool:
    """Whether a case stands there with all files that its sidecar speaks of, whatever it was made
    from."""
    sidecar = folder / name / f"{name}.json"
    return sidecar.exists() and _is_whole(sidecar, read_json(sidecar))


def _is_whole(sidecar: Path, told: Mapping[str, Any]) -> bool:
    """Whether all files that a sidecar speaks of stand beside it."""
    kinds = [*told.get("channels", ()), *(["seg"] if "seg_scheme" in told else [])]
    names = [f"{sidecar.stem}-{kind}.nii.gz" for kind in kinds]
    names += [told["written"]["label"]] if "written" in told else []
    return all((sidecar.parent / name).exists() for name in names)


def is_done(folder: Path, name: str, made_from: Mapping[str, Any]) -> bool:
    """Whether a complete case stands there.

    Args:
        folder: `OUT`.
        name: Case name.
        made_from: What its sidecar must say, for example model and seed.

    Raises:
        DataError: A case of that name stands there, whole or not, that was made from something
            else.
    """
    path = folder / name / f"{name}.json"
    if not path.exists():
        return False
    there = read_json(path)
    other = [key for key, value in made_from.items() if there.get(key) != value]
    if other:
        raise DataError(
            f"a case made with the same {', '.join(other)}, or none",
            "one made with another",
            path,
            "Choose another output folder, or remove this case.",
        )
    return _is_whole(path, there)


def write_case(
    folder: Path,
    name: str,
    scans: Volume,
    labels: LabelMap,
    provenance: Mapping[str, Any],
    *,
    subject: str,
) -> None:
    """Write four scans, two label maps and the sidecar.

    Args:
        folder: `OUT`.
        name: Case name; the files are `OUT/<case>/<case>-t1n.nii.gz` and so on.
        scans: What to write, one file a channel.
        labels: *Brain* scheme, same grid; `-seg` holds its tumour in BraTS-2023 integers (2024
            integers when there is a resection cavity).
        provenance: Goes into the sidecar, beside what every synthetic case says.
        subject: The person behind the label map, for splits.
    """
    place = folder / name
    for channel in scans.channels:
        write_scan(
            place / f"{name}-{channel}.nii.gz", scans.channel(channel), scans, overwrite=True
        )
    tumour = labels.to_scheme(BRATS2024 if labels.has("RC") else BRATS2023)
    write_labels(place / f"{name}-seg.nii.gz", tumour, overwrite=True)
    write_labels(place / f"{name}-brain.nii.gz", labels, overwrite=True)
    write_json(
        place / f"{name}.json",
        {
            "schema": "medsynth-case/1",
            "synthetic": True,
            "medsynth": __version__,
            "case": name,
            "subject": subject,
            "channels": list(scans.channels),
            "seg_scheme": tumour.scheme.name,
            "written": written(place / f"{name}-brain.nii.gz", labels),
            **provenance,
        },
    )


GUESSED = {"subject_from": "file name"}
"""Stands in the sidecar of what was made from a label map that nobody says the person of."""


def guess(sidecar: Mapping[str, Any]) -> dict[str, str]:
    """`GUESSED` when the person of a sidecar was guessed, or when there is no sidecar."""
    known = "subject" in sidecar and "subject_from" not in sidecar
    return {} if known else dict(GUESSED)


def written(path: Path, labels: LabelMap) -> dict[str, str]:
    """Which label map a sidecar speaks of; by its voxels, as other programs compress otherwise."""
    return {"label": path.name, "voxels_sha256": hashlib.sha256(labels.data.tobytes()).hexdigest()}


def by_hand(*labels: Path) -> dict[str, bool]:
    """`{"changed_by_hand": True}` when a label map, or one that it was made from, has other voxels
    than when its sidecar was written: then the edits that the sidecar names do not give this map.

    Args:
        labels: Maps in the *brain* scheme; those that no sidecar names count as unchanged.
    """
    for path in labels:
        before = sidecar_of(path)
        told = before.get("written", {})
        if before.get("changed_by_hand") or (
            told.get("label") == path.name and told != written(path, read_labels(path, BRAIN))
        ):
            return {"changed_by_hand": True}
    return {}


def person(case: Case, labels: Sequence[Path]) -> dict[str, Any]:
    """Whose brain another form of a case is, as its sidecar says.

    Args:
        case: As it is.
        labels: The label maps that the other form is made from.

    Returns:
        `case`, `subject`, `ancestors`, and `subject_from` where the person was guessed.
    """
    before = of_case(case) or {}
    known = {sha for path in labels for sha in lineage(path)}
    return {
        "case": case.name,
        "subject": case.subject,
        "ancestors": sorted(known.union(before.get("ancestors", []))),
        **{key: before[key] for key in GUESSED if key in before},
    }


def list_cases(folder: Path) -> Cohort:
    """All complete cases below a folder, by name."""
    cases = []
    for sidecar in sorted(folder.glob("*/*.json")):
        name = sidecar.parent.name
        if sidecar.stem != name:
            continue
        data = read_json(sidecar)
        if "channels" not in data:  # no scans: an edited map, or one of `medsynth tissue`
            continue
        if not _is_whole(sidecar, data):
            continue
        place = sidecar.parent
        cases.append(
            Case(
                name,
                data["subject"],
                {m: place / f"{name}-{m}.nii.gz" for m in data["channels"]},
                place / f"{name}-seg.nii.gz",
                place / f"{name}-brain.nii.gz",
            )
        )
    schemes = (
        {read_json(c.images["t1n"].parent / f"{c.name}.json")["seg_scheme"] for c in cases}
        if cases
        else set()
    )
    return Cohort(BRATS2024.name if BRATS2024.name in schemes else BRATS2023.name, tuple(cases))


def write_listing(folder: Path, splits: Mapping[str, str] | None = None) -> Cohort:
    """Write `OUT/cohort.json` for all complete cases below `OUT`, if there are any; any shard may
    do it last."""
    cohort = list_cases(folder)
    if splits:
        cohort = Cohort(cohort.scheme, cohort.cases, splits)
    cohorts.write_found(folder, cohort)
    return cohort


def stem(path: Path) -> str:
    """The case name in a label map's file name: without endings, `-brain` and `-seg`."""
    return re.sub(r"([_-](brain|seg))?\.nii(\.gz)?$", "", path.name)


def write_edited(
    path: Path,
    labels: LabelMap,
    record: Sequence[Mapping[str, Any]],
    origins: Sequence[Path],
    *,
    subject: str | None = None,
    asked: Mapping[str, Any] | None = None,
    overwrite: bool,
) -> dict[str, Any]:
    """Write an edited label map and its sidecar `<case>.json`.

    Args:
        path: Where the label map goes.
        labels: The edited map.
        record: Steps as drawn; `edit.recipe.Recipe.from_record` replays them.
        origins: File of the map that was edited, then the brain that it was put on, if any.
        subject: The person; None takes what the sidecar of the edited map says, or its name.
        asked: What was asked for, by which a second run knows the map again.
        overwrite: Replace what is there.

    Returns:
        The sidecar.
    """
    parent, before = origins[0], sidecar_of(origins[0])
    data = {
        "schema": "medsynth-edit/1",
        "synthetic": True,
        "medsynth": __version__,
        "case": stem(path),
        "subject": subject or before.get("subject", stem(parent)),
        "parent": _named(parent),
        "onto": _named(origins[1]) if len(origins) > 1 else before.get("onto"),
        "ancestors": sorted({sha for origin in origins for sha in lineage(origin)}),
        "edits": [*before.get("edits", []), *record],
        "asked": dict(asked or {}),
        "written": written(path, labels),
        **({} if subject and not before else guess(before)),
        **by_hand(*origins),
    }
    write_labels(path, labels, overwrite=overwrite)
    write_json(path.with_name(f"{stem(path)}.json"), data)
    return data


def _named(path: Path) -> dict[str, str]:
    return {"label": path.name, "sha256": digest(path)}


def is_edited(path: Path, asked: Mapping[str, Any]) -> bool:
    """Whether an edited label map stands there.

    Raises:
        DataError: One stands there that was made from something else.
    """
    if not path.exists():
        return False
    there = sidecar_of(path).get("asked", {})
    other = [key for key, value in asked.items() if there.get(key) != value]
    if other:
        raise DataError(
            f"a label map edited with the same {', '.join(other)}, or none",
            "one edited otherwise",
            path,
            "Choose another output folder, or pass --overwrite.",
        )
    return True


def lineage(labels: Path) -> list[str]:
    """SHA-256 of a label map and of all label maps that it was made from.

    Whoever holds out a person compares these with the files of that person.
    """
    return sorted({digest(labels), *sidecar_of(labels).get("ancestors", [])})


def sidecar_of(labels: Path) -> dict[str, Any]:
    """The sidecar beside a label map, or nothing."""
    path = labels.with_name(f"{stem(labels)}.json")
    return read_json(path) if path.exists() else {}
