"""The section on fidelity, in words; measures nothing."""

from collections.abc import Iterator, Sequence

import numpy as np

from medsynth.core.words import plural
from medsynth.evaluation import features
from medsynth.evaluation.enough import MIN_COMPARED
from medsynth.evaluation.fidelity import NAME, SPLITS, Measured
from medsynth.evaluation.records import (
    BAD,
    GOOD,
    UNKNOWN,
    Record,
    Section,
    Table,
    Verdict,
    listing,
    number,
)

LIMITS = (
    "That features agree does not make the scans useful: see utility. "
    "Nor does it make them private: copies of the real scans would score best of all.",
    "A Fréchet distance depends on the features and on the number of cases: compare it with the "
    "floor and the ceiling beside it, never with a figure from elsewhere.",
)


METRICS = {
    "frechet": "Fréchet distance ↓",
    "mmd": "squared MMD ↓",
    "mmd_p": "p of the MMD (low: told apart)",
    "ms_ssim": "MS-SSIM between people",
    "structure_mean": "gap in brightness ↓",
    "contrast": "gap in contrast ↓",
    "spectrum": "gap in spectrum ↓",
    "psnr_db": "PSNR in dB ↑",
    "ssim": "SSIM ↑",
}
UNITS = {
    "frechet": "Fréchet distance and MMD have none",
    "structure_mean": "gap in brightness of a structure, share of the scan's range",
    "contrast": "gap in Michelson contrast of two structures, 0 to 2",
    "spectrum": "gap in natural log power, root mean square over spatial frequencies",
    "ms_ssim": "MS-SSIM 1 is all alike",
}
COMPARED = ("frechet", "structure_mean", "contrast", "spectrum")
"""Figures that are drawn many times over, with floor and ceiling."""

NEAR, FAR = 0.25, 0.75
"""Of the way from real against real to the bad example: good below, bad above."""

MOST = 2.0
"""Of the way, that a single figure counts for at most."""

TOLD_APART = 0.05
"""p of the two-sample test below which synthetic and real scans differ."""


def section(measured: Measured) -> Section:
    """The section of the report."""
    records = measured.records
    main = [r for r in records if "degradation" not in r.where]
    return Section(
        NAME,
        "Fidelity: do they look like real scans?",
        tuple(_method(measured, main)),
        records,
        (
            listing(
                "Beside the floor (real against real) and the ceiling (made worse on purpose); "
                "↓ lower is nearer to real, ↑ higher is nearer",
                main, ("modality", "structure"), 3, METRICS,
            ),
            _degradations(records),
        ),
        tuple(_verdicts(main, measured.real[1])),
        LIMITS,
    )  # fmt: skip


def _method(measured: Measured, main: Sequence[Record]) -> Iterator[str]:
    """How it was measured; nothing of what was not."""
    given = [r for r in main if r.value is not None]
    metrics = {r.metric for r in given}
    sides = [
        f"{plural(cases, kind + ' case')} of {plural(people, 'person', 'people')}"
        for kind, (cases, people) in (("real", measured.real), ("synthetic", measured.made))
    ]
    yield f"{' and '.join(sides)}; scans {', '.join(measured.modalities)}."
    yield (
        f"Features: {measured.backbone}; {features.SLICES} slices in each of three planes (2.5-D), "
        "standardised by the real cases."
    )
    if metrics & set(COMPARED):
        yield (
            f"Fréchet distance, brightness, contrast and spectrum are means over {SPLITS} random "
            "sets of real people, with the middle 95 % of them in brackets; figure and floor see "
            "sets of the same size, one scan a person, and no person, nor what descends from one, "
            "is on both sides."
        )
    units = [words for metric, words in UNITS.items() if metric in metrics]
    if units:
        yield f"Units: {'; '.join(units)}."
    if any(r.ceiling is not None for r in given if r.metric in COMPARED):
        yield (
            "The ceiling, on sets of that size, too, is other real people blurred by 2 voxels; "
            "for structures, with label maps of somebody else."
        )
    if "psnr_db" in metrics:
        yield (
            "PSNR and SSIM compare a scan made from a real case's own labels with that case; "
            "their floor is the real scan with 4 % noise, their ceiling the real scan blurred."
        )
    if "ms_ssim" in metrics:
        yield (
            "MS-SSIM is the mean over pairs of people, with the middle 95 % of pairs in brackets: "
            "diversity, low is not better than the real pairs' figure."
        )
    if metrics & {*COMPARED, "mmd_p"}:
        yield (
            f"Marks: ✓ below {100 * NEAR:.0f} % of the way from real against real to the bad "
            f"example, ✗ above {100 * FAR:.0f} %, ? between them, and always with fewer than "
            f"{MIN_COMPARED} real people. The two-sample test is ✗ at p below {TOLD_APART:g}, "
            f"else ?, never ✓. A mean over figures counts each as 0 to {100 * MOST:.0f} %."
        )


def _degradations(records: Sequence[Record]) -> Table:
    rows = [r for r in records if "degradation" in r.where and r.value is not None]
    return Table(
        "Can the Fréchet distance tell? Real scans made worse step by step",
        ("degradation", "level", "Fréchet distance", "floor"),
        tuple(
            (r.where["degradation"], r.where["level"], number(r.value, 3), number(r.floor, 3))
            for r in rows
        ),
    )


def _verdicts(records: Sequence[Record], people: int) -> Iterator[Verdict]:
    judged = people >= MIN_COMPARED
    if not judged:
        yield Verdict(
            UNKNOWN, f"Nothing is judged: needs {MIN_COMPARED} real people, and there are {people}."
        )
    for metric, words in (
        ("frechet", "Fréchet distance over all scans"),
        ("structure_mean", "brightness of structures"),
        ("contrast", "contrast between structures"),
        ("spectrum", "sharpness and noise (spectrum)"),
    ):
        own = [r for r in records if r.metric == metric]
        if metric == "frechet":
            own = [r for r in own if r.where.get("modality") == "all"]
        ways = [_way(r) for r in own if r.value is not None]
        known = [way for way in ways if way is not None]
        if not known:
            reason = next((r.where["refused"] for r in own if "refused" in r.where), None)
            if ways:
                reason = f"cannot be placed, {_without(len(ways))}"
            if reason or judged:
                yield Verdict(UNKNOWN, f"{words}: {reason or 'no case has what is compared'}.")
            continue
        way = float(np.mean(np.clip(known, 0, MOST)))
        grade = GOOD if way < NEAR else (BAD if way > FAR else UNKNOWN)
        notes = [f"mean of {plural(len(known), 'figure')}"] if len(ways) > 1 else []
        if lost := len(ways) - len(known):
            notes.append(f"left out {_without(lost)}")
        for many, side, end in (
            (sum(w < 0 for w in known), "below", 0),
            (sum(w > MOST for w in known), "above", MOST),
        ):
            if many:
                notes.append(f"{many} {side} {100 * end:.0f} % counted as that")
        told = ", ".join(["", *notes])
        yield Verdict(
            grade if judged else UNKNOWN,
            f"{words}: {100 * way:.0f} % of the way from real-against-real (0 %) to the bad "
            f"example (100 %){told}.",
        )
    test = next((r for r in records if r.metric == "mmd_p"), None)
    if test is not None and test.value is not None:
        apart = test.value < TOLD_APART
        yield Verdict(
            BAD if apart else UNKNOWN,
            f"A two-sample test (MMD over features) {'tells' if apart else 'does not tell'} "
            f"synthetic from real scans: p {number(test.value, 3)}, n = {test.n} people a side."
            + ("" if apart else " With so many people; more might."),
        )


def _way(record: Record) -> float | None:
    """How far it is from the floor (0) to the ceiling (1); None where these give no scale."""
    value, floor, ceiling = record.value, record.floor, record.ceiling
    if value is None or floor is None or ceiling is None or ceiling <= floor:
        return None
    return (value - floor) / (ceiling - floor)


def _without(figures: int) -> str:
    """Figures that `_way` cannot place, in words."""
    return f"{plural(figures, 'figure')} without a bad example that is worse than real scans"
