"""Label schemes: what the integers of a segmentation mean.

The integers of BraTS changed over the years (4 was enhancing tumour up to 2021 and is the
resection cavity in 2024), so a scheme is always declared and structures are named by their
abbreviation, never by their integer. Opens no file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from medsynth.errors import LabelError, UsageError

TUMOUR = ("NCR", "ED", "ET")
"""Structures of the whole tumour, inside to outside is NCR, ET, ED."""

TISSUE = ("CSF", "GM", "WM")
"""Healthy brain tissue in the *brain* scheme."""

FINE = ("VES", "PLX", "MEN")
"""Healthy structures beside tissue that take up contrast agent. Phantoms name them, and people may;
maps of real scans seldom do: there they count as what is around them, most of it CSF."""


@dataclass(frozen=True)
class Label:
    """One structure of a scheme.

    Args:
        value: Integer in the file, 0 to 255.
        abbreviation: Short name by which code and recipes refer to it, for example `"ET"`.
        name: Full name.
        colour: Hexadecimal sRGB, for pictures and `dseg.tsv`.
    """

    value: int
    abbreviation: str
    name: str
    colour: str


@dataclass(frozen=True)
class LabelScheme:
    """The meaning of the integers of a segmentation, background 0 included.

    Args:
        name: Name as given to `--scheme`.
        labels: All structures, background first.
        regions: Unions of structures by name, for example `WT` → `("NCR", "ED", "ET")`.
    """

    name: str
    labels: tuple[Label, ...]
    regions: Mapping[str, tuple[str, ...]]

    @property
    def values(self) -> tuple[int, ...]:
        """Integers that may occur, in the order of `labels`."""
        return tuple(label.value for label in self.labels)

    @property
    def abbreviations(self) -> tuple[str, ...]:
        """Names of the structures, in the order of `labels`."""
        return tuple(label.abbreviation for label in self.labels)

    def __contains__(self, name: object) -> bool:
        return name in self.abbreviations or name in self.regions

    def label(self, abbreviation: str) -> Label:
        """The structure of that abbreviation.

        Raises:
            LabelError: The scheme has no such structure.
        """
        for label in self.labels:
            if label.abbreviation == abbreviation:
                return label
        raise self._unknown(abbreviation)

    def value(self, abbreviation: str) -> int:
        """The integer of a structure.

        Raises:
            LabelError: The scheme has no such structure.
        """
        return self.label(abbreviation).value

    def members(self, name: str) -> tuple[str, ...]:
        """The structures of a region; a structure is a region of its own.

        Raises:
            LabelError: The scheme has neither such a region nor such a structure.
        """
        if name in self.regions:
            return self.regions[name]
        if name in self.abbreviations:
            return (name,)
        raise self._unknown(name)

    def mask(self, data: np.ndarray, name: str) -> np.ndarray:
        """Where a structure or region is.

        Args:
            data: Integers of this scheme, any shape.
            name: Abbreviation or region.

        Returns:
            Boolean array of the same shape.
        """
        table = np.zeros(256, bool)
        table[[self.value(member) for member in self.members(name)]] = True
        return table[data]

    def check(self, data: np.ndarray, where: object | None = None) -> np.ndarray:
        """Refuse what is not a segmentation in this scheme.

        Args:
            data: Array of any dtype and shape; floats are accepted when they are whole numbers.
            where: File or case, for the message.

        Returns:
            The same array as uint8.

        Raises:
            LabelError: Values that are not whole numbers, not finite, or not of this scheme.
        """
        if data.dtype.kind == "f":
            if not np.isfinite(data).all():
                count = int((~np.isfinite(data)).sum())
                raise LabelError(
                    "whole numbers",
                    f"NaN or infinity in {count:,} voxels",
                    where,
                    "A label map must hold integers: was a scan given instead?",
                )
            rounded = np.round(data)
            if (rounded != data).any():
                example = data[rounded != data].flat[0]
                raise LabelError(
                    "whole numbers",
                    f"{example:g}",
                    where,
                    "Labels were probably resampled with linear interpolation: "
                    "use nearest neighbour.",
                )
            data = rounded
        if self._fits(data):
            return data.astype(np.uint8, copy=False)
        found, counts = np.unique(data, return_counts=True)
        strange = [
            (int(v), int(n))
            for v, n in zip(found, counts, strict=True)
            if int(v) not in self.values
        ]
        if strange:
            raise self._strange(strange, where)
        return (
            np.ascontiguousarray(data, np.uint8)
            if data.flags.c_contiguous
            else data.astype(np.uint8)
        )

    def encode(self, data: np.ndarray) -> np.ndarray:
        """Integers `(I, J, K)` to one-hot channels `(L, I, J, K)`, uint8, in label order."""
        return np.stack([data == value for value in self.values]).astype(np.uint8)

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Channels `(L, I, J, K)`, one-hot or scores, to integers `(I, J, K)`, uint8."""
        return np.asarray(self.values, np.uint8)[scores.argmax(0)]

    def convert(self, data: np.ndarray, to: "LabelScheme") -> np.ndarray:
        """Rewrite integers of this scheme as integers of another, by abbreviation.

        Healthy structures (`TISSUE` and `FINE`) become background where the other scheme has none.

        Raises:
            LabelError: A tumour structure is present for which the other scheme has no integer.
        """
        table = np.zeros(256, np.uint8)
        present = set(np.unique(data).tolist())
        for label in self.labels:
            if label.abbreviation in to.abbreviations:
                table[label.value] = to.value(label.abbreviation)
            elif label.value in present and label.abbreviation not in (*TISSUE, *FINE):
                raise LabelError(
                    f"structures of scheme {to.name!r} ({', '.join(to.abbreviations)})",
                    f"{label.abbreviation} ({label.name})",
                    None,
                    "Relabel or remove that structure first.",
                )
        return table[data]

    def without_fine(self, data: np.ndarray) -> np.ndarray:
        """The same with `FINE` as CSF, which most of it is in maps that do not name it."""
        table = np.arange(256, dtype=np.uint8)
        for name in set(FINE) & set(self.abbreviations):
            table[self.value(name)] = self.value("CSF")
        return table[data]

    def _fits(self, data: np.ndarray) -> bool:
        """Whether all values are of the scheme: a tenth of the time of listing them."""
        low, high = min(self.values), max(self.values)
        between = set(range(low, high)) - set(self.values)
        return (
            data.size > 0
            and data.dtype.kind in "iuf"
            and bool(data.min() >= low and data.max() <= high)
            and not any((data == value).any() for value in between)
        )

    def _unknown(self, name: str) -> LabelError:
        known = ", ".join((*self.abbreviations, *self.regions))
        return LabelError(f"a structure or region of scheme {self.name!r} ({known})", repr(name))

    def _strange(self, strange: Iterable[tuple[int, int]], where: object | None) -> LabelError:
        strange = list(strange)
        value, _ = strange[0]
        owners = [
            f"{scheme.name!r} ({label.name})"
            for scheme in SCHEMES.values()
            for label in scheme.labels
            if label.value == value
        ]
        advice = (
            f"That value belongs to {' and '.join(owners)}: index the data "
            "again with that --scheme, or pass it."
            if owners
            else "No known scheme has that value: is this a label map?"
        )
        return LabelError(
            f"labels of scheme {self.name!r} ({', '.join(map(str, self.values))})",
            ", ".join(f"{v} ({n:,} voxels)" for v, n in strange[:5])
            + (f" and {len(strange) - 5} more values" if len(strange) > 5 else ""),
            where,
            advice,
        )


_STRUCTURES = {
    "BG": ("background", "#000000"),
    "CSF": ("cerebrospinal fluid", "#4477aa"),
    "GM": ("grey matter", "#999999"),
    "WM": ("white matter", "#eeeeee"),
    "NCR": ("necrotic and non-enhancing tumour core", "#cc3311"),
    "ED": ("peritumoral oedema", "#33aa55"),
    "ET": ("enhancing tumour", "#ddaa33"),
    "RC": ("resection cavity", "#aa66cc"),
    "VES": ("blood vessel", "#ee6677"),
    "PLX": ("choroid plexus", "#66ccee"),
    "MEN": ("meninges", "#bbcc33"),
}


def _scheme(name: str, **values: int) -> LabelScheme:
    labels = tuple(
        Label(value, short, *_STRUCTURES[short]) for short, value in {"BG": 0, **values}.items()
    )
    present = {label.abbreviation for label in labels}
    regions = {"WT": TUMOUR, "TC": ("NCR", "ET")}
    # what is edited together: tumour and the cavity that a resection left
    regions["lesion"] = (*TUMOUR, *(("RC",) if "RC" in present else ()))
    if present.issuperset(TISSUE):
        everything = tuple(label.abbreviation for label in labels[1:])
        regions |= {"tissue": TISSUE, "fine": FINE, "brain": everything}
    return LabelScheme(name, labels, MappingProxyType(regions))


BRAIN = _scheme("brain", CSF=1, GM=2, WM=3, NCR=4, ED=5, ET=6, RC=7, VES=8, PLX=9, MEN=10)
"""Tissue and tumour in one map: what people edit and what conditions the generator. `FINE`
may be missing."""

BRATS2023 = _scheme("brats2023", NCR=1, ED=2, ET=3)
BRATS2024 = _scheme("brats2024-gli", NCR=1, ED=2, ET=3, RC=4)

SCHEMES: Mapping[str, LabelScheme] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            *(_scheme(f"brats{year}", NCR=1, ED=2, ET=4) for year in (2018, 2019, 2020, 2021)),
            BRATS2023,
            BRATS2024,
            _scheme("decathlon", ED=1, NCR=2, ET=3),
            _scheme("nnunet-brats21", ED=1, NCR=2, ET=3),
            BRAIN,
        )
    }
)
"""All schemes by name. `brats2018` to `brats2021` share their integers, and so do Decathlon's
Task01 and nnU-Net's converter of BraTS 2021."""


def scheme(name: str) -> LabelScheme:
    """The scheme of that name.

    Raises:
        UsageError: No such scheme.
    """
    try:
        return SCHEMES[name]
    except KeyError:
        raise UsageError(
            f"a label scheme ({', '.join(SCHEMES)})",
            repr(name),
            None,
            "Pass one of them with --scheme.",
        ) from None
