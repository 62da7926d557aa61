"""What a model does not know, said in words: once for each kind, with the number of label maps.

Knows no models and no files.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from medsynth.commands import console

if TYPE_CHECKING:
    from medsynth.generation.familiar import Odd


def warn(
    found: Iterable[tuple[str, "Odd"]],
    total: int,
    texts: Mapping[str, str],
    known_mm: tuple[Sequence[float], Sequence[float]] | None,
) -> None:
    """Say what is odd.

    Args:
        found: Name of a case and what is odd about it.
        total: How many cases were looked at.
        texts: Kind of `generation.familiar.Odd` → what will go wrong; other kinds are not told.
        known_mm: Smallest and largest voxels that the model was trained on.
    """
    from medsynth.generation.familiar import HUMAN_ML

    kinds: dict[str, list[tuple[str, Odd]]] = {}
    for case, odd in found:
        kinds.setdefault(odd.kind, []).append((case, odd))
    known = " to ".join(dict.fromkeys(_words(edges) for edges in known_mm or ()))
    for kind, cases in kinds.items():
        if kind not in texts:
            continue
        text = texts[kind].format(
            n=f"{len(cases)} of {total} label maps",
            found=_words(cases[0][1].found),
            case=cases[0][0],
            known=known,
            usual="{:,} to {:,}".format(*HUMAN_ML),
            names=", ".join(sorted({str(each) for _, odd in cases for each in odd.found})),
        )
        console.say(f"warning: {text}")


def _words(found: "Sequence[float] | Sequence[str]") -> str:
    """A brain in ml, or voxels in mm."""
    if len(found) == 1:
        return f"{found[0]:.0f} ml" if isinstance(found[0], float) else str(found[0])
    return " × ".join(f"{x:.3g}" if isinstance(x, float) else x for x in found) + " mm"
