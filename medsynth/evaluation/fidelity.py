"""Do synthetic scans look like real ones, in figures that say what they can tell?

Every figure compares two sets of cases. It is computed many times over: some real people, drawn at
random, against as many synthetic cases (the figure), against other real people (the floor), and
against other real people made worse on purpose (the ceiling). All three see sets of the same size,
because these figures depend on it, and none shares a person: synthetic cases that descend from
somebody are not compared with that somebody.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from medsynth.core.cohort import Cohort
from medsynth.core.random import Key
from medsynth.evaluation import features, heads
from medsynth.evaluation.distances import MIN_CASES, frechet, mmd
from medsynth.evaluation.heads import Head
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
    refused,
)

T = TypeVar("T")
Shown = Callable[[Iterable[T], int, str], Iterator[T]]
"""Passes items through and shows progress: items, how many, what."""

NAME = "fidelity"
SPLITS = 60
MIN_PEOPLE = 4
LARGEST = 20
"""People a side at most; more splits, not larger ones, use the rest of a large cohort."""

PAIRS = 30
MOST_TESTED = 50
"""Cases a side of the two-sample test; its kernel is a matrix over all slices."""

LITTLE_NOISE = 0.04
"""Of a second scan of the same head, as a share of the range: the best that pairs can be."""

CONTRASTS = (("t1n", "WM", "GM"), ("t1c", "ET", "WM"), ("t2w", "CSF", "WM"), ("t2f", "ED", "WM"))
"""Pairs of structures whose contrast a radiologist knows by heart."""

LIMITS = (
    "That features agree does not make the scans useful: see utility. "
    "Nor does it make them private: copies of the real scans would score best of all.",
    "A Fréchet distance depends on the features and on the number of cases: compare it with the "
    "floor and the ceiling beside it, never with a figure from elsewhere.",
)


@dataclass(frozen=True, eq=False)
class Summary:
    """What is kept of a case.

    Args:
        name: Case name.
        subject: The person.
        features: `(C, N, F)`, slices of all channels.
        style: `(2, C, S)` means and log-spreads of structures, or None without tissue labels.
        spectrum: `(C, R)` log power by radius.
        aligned: float16 `(C, 48, 56, 48)`.
    """

    name: str
    subject: str
    features: np.ndarray
    style: np.ndarray | None
    spectrum: np.ndarray
    aligned: np.ndarray


def summarise(head: Head, extract: features.Extract | None = None) -> Summary:
    """Everything that the figures need of one case."""
    tissue = head.labels is not None and heads.tissue_scheme(head.labels)
    return Summary(
        head.case.name,
        head.case.subject,
        features.of_head(head, extract),
        head.style() if tissue else None,
        np.stack([spectrum(scan) for scan in head.scans.data]),
        head.aligned.astype(np.float16),
    )


def spectrum(scan: np.ndarray, bins: int = 24) -> np.ndarray:
    """Log power of a scan by spatial frequency, 0 to half a cycle per voxel, `(bins,)`."""
    power = np.abs(np.fft.rfftn(scan)) ** 2
    axes = [np.fft.fftfreq(n) for n in scan.shape[:2]] + [np.fft.rfftfreq(scan.shape[2])]
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij", sparse=True)))
    index = np.minimum((radius * 2 * bins).astype(int), bins)
    total = np.bincount(index.reshape(-1), power.reshape(-1), bins + 1)[:bins]
    count = np.bincount(index.reshape(-1), minlength=bins + 1)[:bins]
    return np.log(total / np.maximum(count, 1) / scan.size + 1e-9)


def measure(
    real: Cohort,
    synthetic: Cohort,
    key: Key,
    shown: Shown[Any],
    *,
    extract: features.Extract | None = None,
    backbone: str = "radiomics-like, 15 a slice",
    degraded: int = 2 * LARGEST,
) -> Section:
    """All figures of fidelity.

    Args:
        real: Real cases, whichever the generator saw.
        synthetic: Generated cases.
        key: Splits, noise and pairs.
        shown: Shows progress.
        extract: Features of slices; None for the radiomics-like default.
        backbone: How to call them.
        degraded: Real cases that are made worse on purpose, for the ceilings.

    Raises:
        DataError: No common scans, or a case is broken.
        GeometryError: Voxels of different size.
    """
    modalities = heads.common_modalities(real, synthetic)
    own, bad = _real(real, modalities, key, shown, extract, degraded)
    made, paired = _synthetic(synthetic, real, modalities, key, shown, extract)
    own, made, *worse = _standardised(own, [made, *bad.values()])
    bad = dict(zip(bad, worse, strict=True))
    records = [
        *_frechet(own, made, bad, modalities, key),
        *_mmd(own, made, key),
        *_diversity(own, made, key),
        *_structures(own, made, bad, modalities, key),
        *_spectra(own, made, bad, modalities, key),
        *_paired(paired, modalities),
    ]
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
            f"{len(own)} real cases of {len({s.subject for s in own})} people and {len(made)} "
            f"synthetic ones; scans {', '.join(modalities)}.",
            f"Features: {backbone}; {features.SLICES} slices in each of three planes (2.5-D), "
            "standardised by the real cases. "
            f"Every figure is the mean over {SPLITS} random sets of real people, with the middle "
            "95 % of them in brackets; figure, floor and ceiling see sets of the same size, and no "
            "person, nor what descends from one, is on both sides. The ceiling is other real "
            "people blurred by 2 voxels; for structures, with label maps of somebody else. "
            "PSNR and SSIM compare a scan made from a real case's own labels with that case; "
            "their floor is the real scan with 4 % noise, "
            "their ceiling the real scan blurred. MS-SSIM is the mean over pairs of people: "
            "diversity, low is not better than the real pairs' figure.",
        ),
        tuple(records),
        tuple(tables),
        tuple(_verdicts(main)),
        LIMITS,
    )


Bad = dict[tuple[str, int], list[Summary]]


def _real(
    cohort: Cohort,
    modalities: Sequence[str],
    key: Key,
    shown: Shown[Any],
    extract: features.Extract | None,
    degraded: int,
) -> tuple[list[Summary], Bad]:
    """Summaries of real cases, and of some of them made worse."""
    own: list[Summary] = []
    bad: Bad = {}
    before: list[Head] = []  # the last heads of two people
    for head in shown(heads.read_all(cohort, modalities), len(cohort), "measure real"):
        own.append(summarise(head, extract))
        if len(own) <= degraded:
            for name, level, worse in heads.series(head, key):
                bad.setdefault((name, level), []).append(summarise(worse, extract))
            other = heads.somebody_else(head, before)
            if other is not None and head.labels is not None and own[-1].style is not None:
                mixed = heads.relabelled(head, other)
                bad.setdefault(("labels", 1), []).append(replace(own[-1], style=mixed.style()))
        before = heads.remembered(before, head)
    return own, bad


def _synthetic(
    cohort: Cohort,
    real: Cohort,
    modalities: Sequence[str],
    key: Key,
    shown: Shown[Any],
    extract: features.Extract | None,
) -> tuple[list[Summary], list[np.ndarray]]:
    """Summaries of synthetic cases; PSNR and SSIM of those made from a real case's own labels.

    The pairs are `(3, 2, C)`: synthetic, real with a little noise, real blurred; PSNR and SSIM.
    """
    made, paired = [], []
    first = heads.read(real.cases[0], real, modalities)
    for head in shown(heads.read_all(cohort, modalities), len(cohort), "measure synthetic"):
        heads.same_spacing(first, head)
        made.append(summarise(head, extract))
        parent = _parent(head, real)
        if parent is not None:
            twin = heads.read(parent, real, modalities)
            if twin.scans.data.shape == head.scans.data.shape:
                noisy = heads.noisy(twin, LITTLE_NOISE, key.fold(head.case.name))
                blurred = heads.blurred(twin, heads.BLUR[-1])
                paired.append(np.stack([similarity(x, twin) for x in (head, noisy, blurred)]))
    return made, paired


def _parent(head: Head, real: Cohort) -> Any:
    """The real case whose unedited label map a synthetic case was made from."""
    story = heads.sidecar(head.case)
    if not story or story.get("edits"):
        return None
    name = story.get("parent", {}).get("case")
    return next((case for case in real if case.name == name), None)


def similarity(one: Head, two: Head) -> np.ndarray:
    """PSNR in dB and SSIM of two heads on one grid, inside the brain, `(2, C)`."""
    from skimage.metrics import structural_similarity

    psnr, ssim = [], []
    for a, b in zip(one.scans.data, two.scans.data, strict=True):
        error = float(np.mean((a - b)[two.mask] ** 2))
        psnr.append(10 * np.log10(1 / max(error, 1e-12)))
        full = structural_similarity(a, b, data_range=1.0, full=True)[1]
        ssim.append(float(full[two.mask].mean()))
    return np.array([psnr, ssim])


def compare(
    metric: str,
    where: dict[str, str],
    sets: tuple[Sequence[Summary], Sequence[Summary], Sequence[Summary]],
    distance: Callable[[Sequence[Summary], Sequence[Summary]], float],
    key: Key,
) -> Record:
    """One figure with floor and ceiling from random halves of the real people.

    Args:
        metric: Name of the figure.
        where: What it is about.
        sets: Real, synthetic, and real made worse (may be empty).
        distance: The figure for two sets of cases.
        key: Which halves; use the same for all figures.
    """
    real, made, bad = sets
    people = sorted({s.subject for s in real})
    if len(people) < MIN_PEOPLE or len(made) < 2:
        return refused(
            NAME, metric, f"needs {MIN_PEOPLE} real people and 2 synthetic cases", **where
        )
    size = min(len(people) // 2, len(made), LARGEST)
    if bad:  # enough of the other half must have been made worse
        size = min(size, max(len(bad) // 2, 2))
    rng, values, floors, ceilings = key.numpy(), [], [], []
    for _ in range(SPLITS):
        order = rng.permutation(len(people))
        half = [_one_of(real, people[i], rng) for i in order[:size]]
        other = [_one_of(real, people[i], rng) for i in order[size : 2 * size]]
        synthetic, worse = (_strangers(half, side, rng, size) for side in (made, bad))
        if len(synthetic) < 2:
            continue
        half, other = half[: len(synthetic)], other[: len(synthetic)]
        values.append(distance(half, synthetic))
        floors.append(distance(half, other))
        if len(worse) >= len(half):
            ceilings.append(distance(half, worse[: len(half)]))
    if np.isfinite(values).sum() < SPLITS / 2:
        reason = "needs 2 synthetic cases of other people that have what is measured"
        return refused(NAME, metric, reason, **where)
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Record(
        NAME,
        metric,
        where,
        float(np.nanmean(values)),
        float(low),
        float(high),
        _mean(floors),
        _mean(ceilings),
        len(made),
    )


def _mean(values: Sequence[float]) -> float | None:
    """Mean of what is known."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None


def _strangers(
    half: Sequence[Summary], cases: Sequence[Summary], rng: np.random.Generator, size: int
) -> list[Summary]:
    """Some cases of people that are not among these."""
    people = {s.subject for s in half}
    others = [s for s in cases if s.subject not in people]
    return [others[i] for i in rng.permutation(len(others))[:size]]


def _one_of(cases: Sequence[Summary], subject: str, rng: np.random.Generator) -> Summary:
    own = [case for case in cases if case.subject == subject]
    return own[int(rng.integers(len(own)))]


def _standardised(
    real: Sequence[Summary], others: Sequence[Sequence[Summary]]
) -> list[list[Summary]]:
    """Features of all sets divided by the spread of the real ones: the real set, then others."""
    rows = np.concatenate([s.features for s in real], 1)
    mean, sd = rows.mean(1, keepdims=True), np.maximum(rows.std(1, keepdims=True), 1e-9)
    return [[replace(s, features=(s.features - mean) / sd) for s in x] for x in (real, *others)]


def _rows(summary: Summary) -> np.ndarray:
    """Features of all channels side by side, a row a slice."""
    return summary.features.transpose(1, 0, 2).reshape(summary.features.shape[1], -1)


def _frechet(
    real: Sequence[Summary],
    made: Sequence[Summary],
    bad: Bad,
    modalities: Sequence[str],
    key: Key,
) -> Iterator[Record]:
    def between(channels: Sequence[int]) -> Callable[[Sequence[Summary], Sequence[Summary]], float]:
        def distance(one: Sequence[Summary], two: Sequence[Summary]) -> float:
            sides = [np.concatenate([s.features for s in side], 1) for side in (one, two)]
            return float(np.mean([frechet(sides[0][c], sides[1][c]) for c in channels]))

        return distance

    every = range(len(modalities))
    worst = bad.get(("blur", len(heads.BLUR)), [])
    for index, name in enumerate(modalities):
        where = {"modality": name}
        yield compare("frechet", where, (real, made, worst), between([index]), key)
    yield compare("frechet", {"modality": "all"}, (real, made, worst), between(every), key)
    for (name, level), worse in bad.items():
        if name != "labels":
            where = {"modality": "all", "degradation": name, "level": str(level)}
            yield compare("frechet", where, (real, worse, worst), between(every), key)


def _mmd(real: Sequence[Summary], made: Sequence[Summary], key: Key) -> Iterator[Record]:
    rng = key.fold("mmd").numpy()
    people = rng.permutation(sorted({s.subject for s in real})).tolist()
    some, rest = people[: len(people) // 2], people[len(people) // 2 :]
    behind = rng.permutation(sorted({s.subject for s in made} - set(some))).tolist()
    size = min(len(some), len(behind), MOST_TESTED)
    if size < MIN_CASES:
        reason = f"needs {2 * MIN_CASES} real people and synthetic cases of {MIN_CASES} others"
        yield refused(NAME, "mmd_p", reason)
        return
    one, two, three = (
        [_rows(_one_of(side, person, rng)) for person in who[:size]]
        for side, who in ((real, some), (made, behind), (real, rest))
    )
    value, p = mmd(one, two, key.fold("mmd", "permute"))
    floor, same = mmd(one, three, key.fold("mmd", "floor"))
    yield Record(NAME, "mmd", {}, value, None, None, floor, None, size)
    yield Record(NAME, "mmd_p", {}, p, None, None, same, None, size)


def _diversity(real: Sequence[Summary], made: Sequence[Summary], key: Key) -> Iterator[Record]:
    """Mean MS-SSIM between pairs; real pairs are the floor, copies would be 1."""
    if min(len({s.subject for s in real}), len(made)) < 3:
        yield refused(NAME, "ms_ssim", "needs 3 real people and 3 synthetic cases")
        return
    own, there = (_ms_ssim(side, key.fold("ms_ssim", len(side))) for side in (real, made))
    low, high = np.percentile(there, (2.5, 97.5))
    yield Record(
        NAME, "ms_ssim", {"modality": "all"}, float(there.mean()), float(low), float(high),
        float(own.mean()), 1.0, len(made),
    )  # fmt: skip


def _ms_ssim(cases: Sequence[Summary], key: Key) -> np.ndarray:
    from monai.metrics import MultiScaleSSIMMetric

    metric = MultiScaleSSIMMetric(3, kernel_size=7, weights=(0.2, 0.4, 0.4))
    pairs = [
        (a, b)
        for a in range(len(cases))
        for b in range(a)
        if cases[a].subject != cases[b].subject or len({c.subject for c in cases}) < 3
    ] or [(1, 0)]
    chosen = key.numpy().permutation(len(pairs))[:PAIRS]
    values = []
    for a, b in (pairs[i] for i in chosen):
        one, two = (torch.from_numpy(_unit(cases[i].aligned))[None] for i in (a, b))
        values.append(float(metric(one, two).mean()))
    return np.array(values)


def _unit(aligned: np.ndarray) -> np.ndarray:
    data = aligned.astype(np.float32)
    low = data.min((1, 2, 3), keepdims=True)
    top = np.quantile(data.reshape(len(data), -1), 0.995, 1)[:, None, None, None]
    return np.clip((data - low) / np.maximum(top - low, 1e-9), 0, 1)


def _structures(
    real: Sequence[Summary],
    made: Sequence[Summary],
    bad: Bad,
    modalities: Sequence[str],
    key: Key,
) -> Iterator[Record]:
    """Brightness of structures and contrasts between them."""
    from medsynth.core.labels import BRAIN

    if any(s.style is None for s in (*real, *made)):
        yield refused(
            NAME, "structure_mean", "needs tissue labels on both sides (`medsynth tissue`)"
        )
        return
    worst = bad.get(("labels", 1), [])

    def mean_of(pick: Callable[[np.ndarray], float]) -> Callable[..., float]:
        def distance(one: Sequence[Summary], two: Sequence[Summary]) -> float:
            sides = [[pick(s.style[0]) for s in side if s.style is not None] for side in (one, two)]
            known = [[v for v in side if np.isfinite(v)] for side in sides]
            return float(abs(np.mean(known[0]) - np.mean(known[1]))) if all(known) else np.nan

        return distance

    def some(pick: Callable[[np.ndarray], float]) -> bool:
        return all(
            sum(np.isfinite(pick(s.style[0])) for s in side if s.style is not None) >= 3
            for side in (real, made)
        )

    for channel, name in enumerate(modalities):
        for index, label in enumerate(BRAIN.labels[1:], 1):

            def brightness(means: np.ndarray, c: int = channel, i: int = index) -> float:
                return float(means[c, i])

            if some(brightness):
                where = {"modality": name, "structure": label.abbreviation}
                yield compare(
                    "structure_mean", where, (real, made, worst), mean_of(brightness), key
                )
    for name, first, second in CONTRASTS:
        if name not in modalities:
            continue
        at = modalities.index(name)
        a, b = BRAIN.abbreviations.index(first), BRAIN.abbreviations.index(second)

        def contrast(means: np.ndarray, c: int = at, a: int = a, b: int = b) -> float:
            return float((means[c, a] - means[c, b]) / max(means[c, a] + means[c, b], 1e-6))

        if some(contrast):
            where = {"modality": name, "structure": f"{first} to {second}"}
            yield compare("contrast", where, (real, made, worst), mean_of(contrast), key)


def _spectra(
    real: Sequence[Summary],
    made: Sequence[Summary],
    bad: Bad,
    modalities: Sequence[str],
    key: Key,
) -> Iterator[Record]:
    """Distance of mean log spectra, root mean square over frequencies."""

    def between(channel: int) -> Callable[[Sequence[Summary], Sequence[Summary]], float]:
        def distance(one: Sequence[Summary], two: Sequence[Summary]) -> float:
            a, b = (np.mean([s.spectrum[channel] for s in side], 0) for side in (one, two))
            return float(np.sqrt(np.mean((a - b) ** 2)))

        return distance

    worst = bad.get(("blur", len(heads.BLUR)), [])
    for index, name in enumerate(modalities):
        yield compare("spectrum", {"modality": name}, (real, made, worst), between(index), key)


def _paired(pairs: Sequence[np.ndarray], modalities: Sequence[str]) -> Iterator[Record]:
    if not pairs:
        return
    made, noisy, blurred = np.stack(pairs, 1)
    for index, name in enumerate(modalities):
        for at, metric in enumerate(("psnr_db", "ssim")):
            values = made[:, at, index]
            low, high = np.percentile(values, (2.5, 97.5))
            yield Record(
                NAME, metric, {"modality": name}, float(values.mean()), float(low), float(high),
                float(noisy[:, at, index].mean()), float(blurred[:, at, index].mean()), len(values),
            )  # fmt: skip


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
