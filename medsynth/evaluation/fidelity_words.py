"""The section on fidelity, in words; measures nothing."""

from collections.abc import Iterator, Sequence

import numpy as np

from medsynth.evaluation import features
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


def section(measured: Measured) -> Section:
    """The section of the report."""
    records = measured.records
    main = [r for r in records if "degradation" not in r.where]
    tables = [
        listing("Beside the floor (real against real) and the ceiling (made worse on purpose)",
                main, ("modality", "structure"), 3),
        _degradations(records),
    ]  # fmt: skip
    return Section(
        NAME,
        "Fidelity: do they look like real scans?",
        (
            f"{measured.cases} real cases of {measured.people} people and {measured.made} "
            f"synthetic ones; scans {', '.join(measured.modalities)}.",
            f"Features: {measured.backbone}; {features.SLICES} slices in each of three planes "
            "(2.5-D), standardised by the real cases. "
            f"Every figure is the mean over {SPLITS} random sets of real people, with the middle "
            "95 % of them in brackets; figure, floor and ceiling see sets of the same size, and no "
            "person, nor what descends from one, is on both sides. The ceiling is other real "
            "people blurred by 2 voxels; for structures, with label maps of somebody else. "
            "PSNR and SSIM compare a scan made from a real case's own labels with that case; "
            "their floor is the real scan with 4 % noise, "
            "their ceiling the real scan blurred. MS-SSIM is the mean over pairs of people: "
            "diversity, low is not better than the real pairs' figure.",
        ),
        records,
        tuple(tables),
        tuple(_verdicts(main)),
        LIMITS,
    )


def _degradations(records: Sequence[Record]) -> Table:
    rows = [r for r in records if "degradation" in r.where]
    return Table(
        "Can the Fréchet distance tell? Real scans made worse step by step",
        ("degradation", "level", "Fréchet distance", "floor"),
        tuple(
            (r.where["degradation"], r.where["level"], number(r.value, 3), number(r.floor, 3))
            for r in rows
        ),
    )


def _verdicts(records: Sequence[Record]) -> Iterator[Verdict]:
    for metric, words in (
        ("frechet", "Fréchet distance over all scans"),
        ("structure_mean", "brightness of structures"),
        ("contrast", "contrast between structures"),
        ("spectrum", "sharpness and noise (spectrum)"),
    ):
        own = [r for r in records if r.metric == metric and r.value is not None]
        if metric == "frechet":
            own = [r for r in own if r.where.get("modality") == "all"]
        ways = [_way(r) for r in own]
        known = [w for w in ways if w is not None]
        if not known:
            continue
        way = float(np.mean(known))
        grade = GOOD if way < 0.25 else (BAD if way > 0.75 else UNKNOWN)
        yield Verdict(
            grade,
            f"{words}: {way:.0%} of the way from real-against-real (0 %) to the bad example "
            "(100 %)" + (f", mean of {len(known)} figures." if len(known) > 1 else "."),
        )
    test = next((r for r in records if r.metric == "mmd_p"), None)
    if test is not None and test.value is not None:
        apart = test.value < 0.05
        yield Verdict(
            BAD if apart else UNKNOWN,
            f"A two-sample test (MMD over features) {'tells' if apart else 'does not tell'} "
            f"synthetic from real scans: p {number(test.value, 3)}, n = {test.n}."
            + ("" if apart else " With so many cases; more might."),
        )


def _way(record: Record) -> float | None:
    value, floor, ceiling = record.value, record.floor, record.ceiling
    if value is None or floor is None or ceiling is None or ceiling <= floor:
        return None
    return float(np.clip((value - floor) / (ceiling - floor), 0, 2))
