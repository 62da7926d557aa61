"""Folders as people have them: BraTS of every year, Decathlon, nnU-Net, BIDS, our own, a pattern.

`find` recognises the layout and lists its cases; it reads names and small JSON files, no voxels.
Incomplete cases are listed too, so that `medsynth check` can name what they lack.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medsynth.core.cohort import MODALITIES, Case, Cohort
from medsynth.core.labels import scheme as scheme_of
from medsynth.errors import ConfigError, DataError, LabelError
from medsynth.io.sidecar import read_json

SYNONYMS: Mapping[str, str] = {
    "t1": "t1n",
    "t1n": "t1n",
    "t1w": "t1n",
    "t1ce": "t1c",
    "t1c": "t1c",
    "t1gd": "t1c",
    "t1post": "t1c",
    "t1ce1": "t1c",
    "t1wce": "t1c",
    "t2": "t2w",
    "t2w": "t2w",
    "flair": "t2f",
    "t2f": "t2f",
    "t2flair": "t2f",
    "t2-flair": "t2f",
}
"""What people call the four scans, lower case, to the canonical names."""

STRUCTURE_NAMES: Mapping[str, str] = {
    "edema": "ED",
    "oedema": "ED",
    "peritumoral edema": "ED",
    "snfh": "ED",
    "whole tumor": "WT",
    "whole_tumor": "WT",
    "necrosis": "NCR",
    "ncr": "NCR",
    "netc": "NCR",
    "non-enhancing tumor": "NCR",
    "non-enhancing_tumor": "NCR",
    "necrotic": "NCR",
    "non enhancing": "NCR",
    "enhancing tumor": "ET",
    "enhancing tumour": "ET",
    "et": "ET",
    "enhancing": "ET",
    "enhancing_tumor": "ET",
    "ed": "ED",
    "rc": "RC",
    "resection cavity": "RC",
}
"""Names of structures in `dataset.json`, lower case, to abbreviations."""

NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


def find(
    folder: Path, scheme: str, pattern: str | None = None, names: Mapping[str, str] | None = None
) -> tuple[str, Cohort]:
    """List the cases of a folder.

    Args:
        folder: A data set, however laid out.
        scheme: Scheme of its tumour label maps.
        pattern: For other folders: a path below `folder` with `{case}` and `{modality}`, for
            example `{case}/{modality}.nii.gz`.
        names: What modalities (or `seg`, `brain`) are called in the pattern, for example
            `{"T1POST": "t1c"}`; the usual names are known.

    Returns:
        The name of the layout and the cohort.

    Raises:
        DataError: No known layout was found.
        LabelError: A `dataset.json` names structures otherwise than the scheme.
    """
    scheme_of(scheme)
    if not folder.is_dir():
        raise DataError("a folder with scans", "none", folder)
    if pattern is not None:
        return "pattern", _patterned(folder, scheme, pattern, names or {})
    readers: list[tuple[str, Callable[[Path, str], list[Case]]]] = [
        ("Decathlon", _decathlon),
        ("nnU-Net", _nnunet),
        ("BIDS", _bids),
        ("BraTS", _brats),
    ]
    for name, reader in readers:
        cases = reader(folder, scheme)
        if cases:
            return name, Cohort(scheme, tuple(cases))
    raise DataError(
        "a BraTS, Decathlon, nnU-Net or BIDS folder, or one that medsynth wrote",
        "none of them",
        folder,
        "For another layout pass --pattern, for example '{case}/{modality}.nii.gz'.",
    )


def _brats(folder: Path, scheme: str) -> list[Case]:
    """`<case>/<case>[_-]<suffix>.nii[.gz]`, at any depth (HGG/, LGG/, our own outputs)."""
    cases = []
    places = {path.parent for path in folder.rglob("*.nii*") if NIFTI.search(path.name)}
    for place in sorted(places):
        if place.name.startswith("."):
            continue
        images: dict[str, Path] = {}
        label = brain = None
        for path in sorted(place.iterdir()):
            stem = NIFTI.sub("", path.name)
            if stem == path.name or path.name.startswith("."):
                continue
            suffix = (
                stem[len(place.name) :].lstrip("_-.").lower()
                if stem.startswith(place.name)
                else None
            )
            if suffix == "seg" or stem.endswith("Segm"):  # W39_1998.09.19_Segm.nii, BraTS 2020
                label = label or path
            elif suffix == "brain":
                brain = path
            elif suffix is not None and suffix in SYNONYMS:
                images.setdefault(SYNONYMS[suffix], path)
        if images or brain:
            cases.append(Case(place.name, _subject(place.name), _ordered(images), label, brain))
    return cases


def _subject(case: str) -> str:
    """`BraTS-GLI-00042-001` is the second time-point of `BraTS-GLI-00042`."""
    match = re.fullmatch(r"(BraTS-[A-Za-z]+-\d+)-\d+(-s\d+)?", case)
    return match[1] if match else case


def _decathlon(folder: Path, scheme: str) -> list[Case]:
    """`dataset.json` with `training: [{image, label}]`; the scans are channels of a 4-D file."""
    listing = _listing(folder)
    if "modality" not in listing or "training" not in listing:
        return []
    of = [
        _modality(str(name), folder)
        for _, name in sorted(listing["modality"].items(), key=lambda kv: int(kv[0]))
    ]
    _same_structures(
        {str(v): int(k) for k, v in listing.get("labels", {}).items()},
        scheme,
        folder / "dataset.json",
    )
    cases = []
    for item in listing["training"]:
        image = folder / item["image"]
        name = NIFTI.sub("", image.name)
        images = {m: image for m in of}
        cases.append(
            Case(
                name,
                name,
                images,
                folder / item["label"],
                None,
                {m: index for index, m in enumerate(of)},
            )
        )
    return cases


def _nnunet(folder: Path, scheme: str) -> list[Case]:
    """`imagesTr/{CASE}_0000.nii.gz …`, `labelsTr/{CASE}.nii.gz`, `dataset.json`."""
    listing = _listing(folder)
    if "channel_names" not in listing:
        return []
    of = {int(k): _modality(str(v), folder) for k, v in listing["channel_names"].items()}
    plain = {str(k): v for k, v in listing.get("labels", {}).items() if isinstance(v, int)}
    _same_structures(plain, scheme, folder / "dataset.json")
    ending = listing.get("file_ending", ".nii.gz")
    found: dict[str, dict[str, Path]] = {}
    for path in sorted((folder / "imagesTr").glob(f"*{ending}")):
        name, _, channel = path.name.removesuffix(ending).rpartition("_")
        if channel.isdigit() and int(channel) in of:
            found.setdefault(name, {})[of[int(channel)]] = path
    labels = {name: folder / "labelsTr" / f"{name}{ending}" for name in found}
    return [
        Case(
            name, _subject(name), _ordered(images), labels[name] if labels[name].exists() else None
        )
        for name, images in found.items()
    ]


def _bids(folder: Path, scheme: str) -> list[Case]:
    """`sub-X[/ses-Y]/anat/*.nii.gz`, raw or derivative."""
    cases: dict[str, tuple[str, dict[str, Path], list[Path]]] = {}
    for path in sorted(folder.glob("sub-*/**/*.nii*")):
        stem = NIFTI.sub("", path.name)
        entities = dict(part.split("-", 1) for part in stem.split("_") if "-" in part)
        suffix = stem.rsplit("_", 1)[-1]
        if "sub" not in entities:
            continue
        name = f"sub-{entities['sub']}" + (f"_ses-{entities['ses']}" if "ses" in entities else "")
        _, images, masks = cases.setdefault(name, (f"sub-{entities['sub']}", {}, []))
        if suffix in ("dseg", "mask"):
            if suffix == "dseg":
                masks.append(path)
        elif suffix.lower() in SYNONYMS:
            modality = SYNONYMS[suffix.lower()]
            images["t1c" if modality == "t1n" and "ce" in entities else modality] = path
    return [
        Case(name, subject, _ordered(images), masks[0] if masks else None)
        for name, (subject, images, masks) in cases.items()
        if images
    ]


def _patterned(folder: Path, scheme: str, pattern: str, names: Mapping[str, str]) -> Cohort:
    if "{case}" not in pattern or "{modality}" not in pattern:
        raise ConfigError(
            "a pattern with {case} and {modality}",
            repr(pattern),
            "--pattern",
            "For example '{case}/{modality}.nii.gz'.",
        )
    expression = re.escape(pattern)
    for field in ("case", "modality"):
        escaped = re.escape("{" + field + "}")
        expression = expression.replace(escaped, f"(?P<{field}>[^/]+?)", 1)
        expression = expression.replace(escaped, f"(?P={field})")
    known = {k.lower(): v for k, v in {**SYNONYMS, "seg": "seg", "brain": "brain", **names}.items()}
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*")):
        match = re.fullmatch(expression, path.relative_to(folder).as_posix())
        if match and match["modality"].lower() in known:
            found.setdefault(match["case"], {})[known[match["modality"].lower()]] = path
    if not found:
        raise DataError(
            f"files that fit {pattern!r} with modalities {', '.join(sorted(known))}",
            "none",
            folder,
            "Name others with --name THEIRS=OURS, for example --name T1POST=t1c.",
        )
    return Cohort(
        scheme,
        tuple(
            Case(
                name,
                _subject(name),
                _ordered({k: v for k, v in files.items() if k not in ("seg", "brain")}),
                files.get("seg"),
                files.get("brain"),
            )
            for name, files in found.items()
        ),
    )


def _listing(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    return read_json(path) if path.exists() else {}


def _modality(name: str, folder: Path) -> str:
    try:
        return SYNONYMS[name.lower().replace(" ", "").replace("_", "")]
    except KeyError:
        raise DataError(
            f"modalities such as {', '.join(SYNONYMS)}", repr(name), folder / "dataset.json"
        ) from None


def _same_structures(labels: Mapping[str, int], scheme: str, where: Path) -> None:
    """Refuse a scheme that contradicts what a data set says about its integers."""
    of = scheme_of(scheme)
    for name, value in labels.items():
        short = STRUCTURE_NAMES.get(name.lower())
        if short in of.abbreviations and of.value(str(short)) != value:
            raise LabelError(
                f"{name} as {of.value(str(short))}, as in scheme {scheme!r}",
                str(value),
                where,
                "Pass the scheme of this data set: decathlon and nnunet-brats21 have 1 = oedema.",
            )


def _ordered(images: Mapping[str, Path]) -> dict[str, Path]:
    return {
        m: images[m] for m in (*MODALITIES, *sorted(set(images) - set(MODALITIES))) if m in images
    }
