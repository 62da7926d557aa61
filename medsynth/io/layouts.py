"""Folders as people have them: BraTS of every year, Decathlon, nnU-Net, BIDS, our own, a pattern.

`find` recognises the layout and lists its cases; it reads names and small JSON files, no voxels.
Incomplete cases are listed too, so that `medsynth check` can name what they lack.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
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
    "ed": "ED",
    "edema": "ED",
    "oedema": "ED",
    "peritumoral edema": "ED",
    "peritumoral oedema": "ED",
    "snfh": "ED",
    "ncr": "NCR",
    "netc": "NCR",
    "necrosis": "NCR",
    "necrotic": "NCR",
    "necrotic core": "NCR",
    "non enhancing": "NCR",
    "non enhancing tumor": "NCR",
    "non enhancing tumour": "NCR",
    "et": "ET",
    "enhancing": "ET",
    "enhancing tumor": "ET",
    "enhancing tumour": "ET",
    "rc": "RC",
    "resection cavity": "RC",
    "whole tumor": "WT",
    "whole tumour": "WT",
    "tumor core": "TC",
    "tumour core": "TC",
}
"""Names in `dataset.json`, lower case, spaces for hyphens, to structures and regions."""

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
    places = {path.parent for path in _files(folder) if _is_nifti(path)}
    for place in sorted(places):
        images: dict[str, Path] = {}
        label = brain = None
        for path in sorted(place.iterdir()):
            if not _is_nifti(path):
                continue
            stem = NIFTI.sub("", path.name)
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
        if images or label or brain:
            sidecar = place / f"{place.name}.json"
            subject = _noted_subject(sidecar) or _subject(place.name)
            cases.append(Case(place.name, subject, _ordered(images), label, brain))
    return cases


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, through links to other folders, too; each folder once."""
    seen: set[Path] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place).resolve()
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        yield from (Path(place) / name for name in names)


def _noted_subject(sidecar: Path) -> str | None:
    """The person behind a case that medsynth made, as its sidecar says."""
    data = read_json(sidecar) if sidecar.exists() else {}
    return data.get("subject") if data.get("schema") == "medsynth-case/1" else None


def _is_nifti(path: Path) -> bool:
    """Whether it is a file with such a name; `._x.nii.gz` is a leftover of macOS."""
    return bool(NIFTI.search(path.name)) and not path.name.startswith(".") and path.is_file()


def _subject(case: str) -> str:
    """`BraTS-GLI-00042-001` and `Brats18_TCIA02_135_2` are time-points of one person each."""
    match = re.fullmatch(r"(BraTS-[A-Za-z]+-\d+)-\d+(?:-s\d+)?", case) or re.fullmatch(
        r"(Brats1[5-9]_\w+_\w+)_\d+", case, re.IGNORECASE
    )
    return match[1] if match else case


def _decathlon(folder: Path, scheme: str) -> list[Case]:
    """`dataset.json` with `training: [{image, label}]`; the scans are channels of a 4-D file."""
    listing = _listing(folder)
    if "modality" not in listing or "training" not in listing:
        return []
    path = folder / "dataset.json"
    try:
        numbered = sorted((int(k), str(v)) for k, v in listing["modality"].items())
        labels = {str(name): {int(value)} for value, name in listing.get("labels", {}).items()}
        items = [(folder / item["image"], item.get("label")) for item in listing["training"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        todo = "modality and labels map numbers to names, training lists {image, label}."
        raise DataError("a dataset.json of the Decathlon", repr(error), path, todo) from error
    of = [_modality(name, path) for _, name in numbered]
    _same_structures(labels, scheme, path)
    channel = {modality: index for index, modality in enumerate(of)}
    return [
        Case(
            name := NIFTI.sub("", image.name),
            name,
            _ordered({modality: image for modality in of}),
            None if label is None else folder / label,
            None,
            channel,
        )
        for image, label in items
    ]


def _nnunet(folder: Path, scheme: str) -> list[Case]:
    """`imagesTr/{CASE}_0000.nii.gz …`, `labelsTr/{CASE}.nii.gz`, `dataset.json`."""
    listing = _listing(folder)
    if "channel_names" not in listing:
        return []
    path = folder / "dataset.json"
    try:
        of = {int(k): _modality(str(v), path) for k, v in listing["channel_names"].items()}
        labels_of = {
            str(name): {value} if isinstance(value, int) else {int(v) for v in value}
            for name, value in listing.get("labels", {}).items()
        }
    except (TypeError, ValueError, AttributeError) as error:
        todo = "channel_names map numbers to names, labels names to numbers."
        raise DataError("a dataset.json of nnU-Net v2", repr(error), path, todo) from error
    _same_structures(labels_of, scheme, path)
    ending = str(listing.get("file_ending", ".nii.gz"))
    found: dict[str, dict[str, Path]] = {}
    for label in sorted((folder / "labelsTr").glob(f"*{ending}")):
        if _is_nifti(label):
            found[label.name.removesuffix(ending)] = {}
    for path in sorted((folder / "imagesTr").glob(f"*{ending}")):
        name, _, channel = path.name.removesuffix(ending).rpartition("_")
        if _is_nifti(path) and channel.isdigit() and int(channel) in of:
            found.setdefault(name, {})[of[int(channel)]] = path
    labels = {name: folder / "labelsTr" / f"{name}{ending}" for name in found}
    return [
        Case(
            name, _subject(name), _ordered(images), labels[name] if labels[name].exists() else None
        )
        for name, images in found.items()
    ]


def _bids(folder: Path, scheme: str) -> list[Case]:
    """`sub-X[/ses-Y]/anat/*.nii.gz`, raw or derivative.

    A `dseg` that says tumour or lesion is preferred to one that does not (tissue, mostly).
    """
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for path in sorted(_files(folder), key=_plainness):
        if not path.relative_to(folder).parts[0].startswith("sub-"):
            continue
        *parts, suffix = NIFTI.sub("", path.name).split("_")
        entities = dict(part.split("-", 1) for part in parts if "-" in part)
        if "sub" not in entities or not _is_nifti(path):
            continue
        subject = f"sub-{entities['sub']}"
        name = f"{subject}_ses-{entities['ses']}" if "ses" in entities else subject
        files = found.setdefault((name, subject), {})
        modality = SYNONYMS.get(suffix.lower())
        if modality is not None:
            enhanced = modality == "t1n" and "ce" in entities
            files.setdefault("t1c" if enhanced else modality, path)
        elif suffix == "dseg":
            tumour = re.search("tumou?r|lesion", path.name, re.IGNORECASE)
            files.setdefault("tumour" if tumour else "dseg", path)
    return [
        Case(
            name,
            subject,
            _ordered({k: v for k, v in files.items() if k not in ("tumour", "dseg")}),
            files.get("tumour", files.get("dseg")),
        )
        for (name, subject), files in sorted(found.items())
        if files
    ]


def _plainness(path: Path) -> tuple[int, str]:
    """Of two scans of one kind, the one with fewer entities (no `run-2`) comes first."""
    return path.name.count("_"), path.as_posix()


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
    known = {**SYNONYMS, "seg": "seg", "brain": "brain"}
    known |= {theirs.lower(): known.get(ours.lower(), ours) for theirs, ours in names.items()}
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(_files(folder)):
        match = re.fullmatch(expression, path.relative_to(folder).as_posix())
        if match and match["modality"].lower() in known and _is_nifti(path):
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


def _modality(name: str, path: Path) -> str:
    try:
        return SYNONYMS[name.lower().replace(" ", "").replace("_", "")]
    except KeyError:
        raise DataError(f"modalities such as {', '.join(SYNONYMS)}", repr(name), path) from None


def _same_structures(labels: Mapping[str, AbstractSet[int]], scheme: str, where: Path) -> None:
    """Refuse a scheme that contradicts what a data set says about its integers.

    Names that are not known are let pass: `medsynth check` compares the integers in the files.
    """
    of = scheme_of(scheme)
    for name, values in labels.items():
        short = STRUCTURE_NAMES.get(re.sub(r"[\s_-]+", " ", name.lower()))
        if short is None or short not in of:
            continue
        expected = {of.value(member) for member in of.members(short)}
        if expected != values:
            raise LabelError(
                f"{name} as {_listed(expected)}, as in scheme {scheme!r}",
                _listed(values),
                where,
                "Pass the scheme of this data set: decathlon and nnunet-brats21 have 1 = oedema.",
            )


def _listed(values: AbstractSet[int]) -> str:
    return ", ".join(map(str, sorted(values)))


def _ordered(images: Mapping[str, Path]) -> dict[str, Path]:
    return {
        m: images[m] for m in (*MODALITIES, *sorted(set(images) - set(MODALITIES))) if m in images
    }
