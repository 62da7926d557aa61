"""Records without a patient: a clinical table, and a matrix of diagnosis codes.

They are to a model of records what phantoms are to a GAN: their truth is known, nobody is in them.
Relations bend, switch and depend on a third column, so that a Gaussian copula cannot hold them.
Knows arrays and rules; no networks, no files.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse, special

from medsynth.core.random import Key
from medsynth.core.table import Rule
from medsynth.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

UNTESTED = "?"
"""The mark of a test that was not made."""

RULES = (
    *(Rule(("sex", "F"), ("site", site)) for site in ("prostate", "testis")),
    *(Rule(("sex", "M"), ("site", site)) for site in ("ovary", "cervix")),
    Rule(("sex", "F"), ("N40", "1")),
    Rule(("sex", "M"), ("N83", "1")),
)
"""What no row of `clinical` breaks."""

CODES = ("G40", "G91", "I26", "J90", "K56", "N40", "N83", "R18")
"""ICD-10 of `clinical`: epilepsy, hydrocephalus, pulmonary embolism, pleural effusion, ileus,
prostatic hyperplasia, ovarian cyst, ascites."""


@dataclass(frozen=True)
class _Site:
    """How often a tumour site is seen, and how it behaves.

    Args:
        women, men: Weight among the sites of that sex.
        age, spread: Of the patients, years.
        grades: Weights of grades 1 to 4.
        core_ml: Median volume at grade 3.
    """

    women: float
    men: float
    age: float
    spread: float
    grades: tuple[float, float, float, float]
    core_ml: float


SITES = {
    "bladder": _Site(2, 5, 71, 10, (1, 3, 4, 0.5), 14),
    "brainstem": _Site(1.5, 1.5, 36, 13, (1, 4, 3, 2), 5),
    "breast": _Site(17, 0.2, 60, 13, (2, 5, 4, 0), 9),
    "cerebellum": _Site(2, 2, 42, 15, (4, 2, 1, 1.5), 12),
    "cervix": _Site(4, 0, 48, 12, (1, 4, 4, 0), 18),
    "colon": _Site(6, 7, 69, 11, (1, 6, 3, 0), 25),
    "frontal lobe": _Site(9, 11, 54, 16, (0.6, 3, 2.5, 6), 28),
    "kidney": _Site(3, 5, 63, 11, (2, 5, 3, 1.5), 45),
    "liver": _Site(2, 5, 66, 10, (1, 4, 4, 1), 60),
    "lung": _Site(8, 11, 68, 9, (0.5, 3, 6, 1), 32),
    "ovary": _Site(6, 0, 61, 13, (1.5, 2, 6, 0), 75),
    "pancreas": _Site(4, 4, 69, 10, (0.6, 4, 5, 0), 16),
    "parietal lobe": _Site(6, 6, 57, 15, (0.5, 2.5, 2.5, 6), 24),
    "prostate": _Site(0, 13, 69, 8, (1, 6, 3, 1), 6),
    "rectum": _Site(4, 6, 66, 11, (1, 6, 3, 0), 19),
    "skin": _Site(4, 4, 62, 17, (4, 3, 2, 0.5), 2),
    "stomach": _Site(2, 4, 68, 12, (0.7, 3, 6, 0), 22),
    "temporal lobe": _Site(9, 10, 56, 15, (0.5, 2, 2.5, 7), 26),
    "testis": _Site(0, 3, 33, 9, (1, 3, 3, 0), 13),
    "thyroid": _Site(6, 2, 47, 15, (6, 3, 1, 0.5), 5),
}

BRAIN = ("brainstem", "cerebellum", "frontal lobe", "parietal lobe", "temporal lobe")
ABDOMEN = ("colon", "kidney", "liver", "ovary", "pancreas", "rectum", "stomach")


@dataclass(frozen=True)
class _Draws:
    """A stream for each column: the first rows are the same however many follow."""

    rows: int
    key: Key

    def uniform(self, name: str) -> np.ndarray:
        return self.key.fold(name).numpy().random(self.rows)

    def normal(self, name: str) -> np.ndarray:
        return special.ndtri(np.clip(self.uniform(name), 1e-12, 1 - 1e-12))

    def happens(self, name: str, logit: np.ndarray) -> np.ndarray:
        return self.uniform(name) < special.expit(logit)

    def choice(self, name: str, weights: np.ndarray) -> np.ndarray:
        """A column number for each row of weights `(N, K)`."""
        steps = np.cumsum(weights, 1)
        return (self.uniform(name)[:, None] * steps[:, -1:] >= steps).sum(1)


def clinical(rows: int, key: Key) -> "pd.DataFrame":
    """Patients of an oncology department that does not exist; a pure function of its arguments.

    Args:
        rows: How many; more rows have the same ones first.
        key: Which ones.

    Returns:
        21 columns: `age sex site grade idh mgmt whole_ml core_ml enhancing_ml extent kps drain_ml`,
        the eight `CODES` (0 or 1, 0.5 to 5 % of the rows), and `died` (within a year, "yes" or
        "no", about a fifth). Volumes obey enhancing ≤ core < whole; KPS is a multiple of 10.
        About 4 % of `enhancing_ml` and 3 % of `kps` are NaN, about 8 % of `idh` and `mgmt` in
        brain tumours are `UNTESTED`.

    Raises:
        ConfigError: Less than one row.
    """
    import pandas as pd

    if rows < 1:
        raise ConfigError("at least 1 row", str(rows), "rows")
    draws = _Draws(rows, key.fold("clinical"))
    woman = draws.uniform("sex") < 0.49
    of = tuple(SITES.values())
    weights = np.where(woman[:, None], [s.women for s in of], [s.men for s in of])
    number = draws.choice("site", weights)
    site = np.array(tuple(SITES))[number]
    means, spreads = (np.array([getattr(s, name) for s in of]) for name in ("age", "spread"))
    age = np.rint(means[number] + spreads[number] * draws.normal("age")).clip(18, 95)
    brain, abdomen = np.isin(site, BRAIN), np.isin(site, ABDOMEN)
    older = (age - means[number]) / spreads[number]
    odds = np.array([s.grades for s in of])[number] * np.exp(
        0.7 * older[:, None] * (np.arange(4) - 1.5)
    )
    grade = 1 + draws.choice("grade", odds)
    mutant, methylated = _markers(draws, age, grade, brain)
    core, whole, enhancing = _volumes_ml(draws, number, grade, mutant, brain)
    unfit = (
        0.6 * draws.normal("frailty")
        + 0.055 * np.maximum(age - 62, 0)
        + brain * 0.5 * np.log1p(whole / 40)
        + (site == "brainstem") * (0.4 + 0.12 * core)
        + (site == "pancreas") * 0.7
        + 0.35 * (grade == 4)
    )
    kps = (10 * np.rint(9.3 - 1.8 * unfit)).clip(10, 100)
    extent = _extent(draws, site, age, kps, whole)
    drain = _drain_ml(draws, extent, abdomen, site, core)
    codes = _codes(draws, site, woman, age, kps, extent, mutant, core, drain)
    risk = (
        -2.9
        + 0.03 * (age - 60)
        + np.array([-1.2, -0.5, 0.5, 1.6])[grade - 1]
        + brain * np.where(mutant, -1.6, 0.5)
        - 1.5 * (brain & methylated & ~mutant & (extent != "none"))
        + 1.5 * (kps < 60) * (1 + (age > 70))
        - 1.1 * ((extent == "total") & (core < 40))
        + 0.35 * np.log1p(core)
        + 1.6 * np.isin(site, ("pancreas", "lung", "liver"))
        - 1.4 * np.isin(site, ("testis", "thyroid", "skin", "prostate", "breast"))
        + 1.3 * codes["I26"]
        + 1.2 * (codes["R18"] | codes["J90"])
        + 0.8 * codes["G91"]
    )
    died = draws.happens("died", 1.35 * risk)
    untested = [draws.uniform(f"{name} missing") < 0.08 for name in ("idh", "mgmt")]
    frame = {
        "age": age.astype(np.int64),
        "sex": np.where(woman, "F", "M"),
        "site": site,
        "grade": grade,
        "idh": _marker(brain, untested[0], mutant, ("mutant", "wildtype")),
        "mgmt": _marker(brain, untested[1], methylated, ("methylated", "unmethylated")),
        "whole_ml": whole,
        "core_ml": core,
        "enhancing_ml": np.where(draws.uniform("no contrast") < 0.04, np.nan, enhancing),
        "extent": extent,
        "kps": np.where(draws.uniform("kps missing") < 0.03, np.nan, kps),
        "drain_ml": drain,
        **{name: codes[name].astype(np.int64) for name in CODES},
        "died": np.where(died, "yes", "no"),
    }
    return pd.DataFrame(frame)


def _marker(
    brain: np.ndarray, untested: np.ndarray, positive: np.ndarray, names: tuple[str, str]
) -> np.ndarray:
    tested = np.where(untested, UNTESTED, np.where(positive, *names))
    return np.where(brain, tested, "not indicated").astype(object)


def _markers(
    draws: _Draws, age: np.ndarray, grade: np.ndarray, brain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """IDH mutation, of the young and of low grades; MGMT methylation, which goes with it."""
    logit = np.array([-3.0, 2.4, 1.0, -2.0])[grade - 1] - 0.09 * (age - 48)
    mutant = draws.happens("idh", logit) & brain
    return mutant, draws.happens("mgmt", np.where(mutant, 2.0, -0.3)) & brain


def _volumes_ml(
    draws: _Draws, number: np.ndarray, grade: np.ndarray, mutant: np.ndarray, brain: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Core, whole (with oedema), enhancing; log-normal, a digit after the point."""
    median = np.array([s.core_ml for s in SITES.values()])[number]
    growth = np.array([-0.8, -0.3, 0.0, 0.35])[grade - 1] + 0.5 * mutant
    core = np.round(np.exp(np.log(median) + growth + 0.65 * draws.normal("core")), 1).clip(0.2, 400)
    spread = np.where(brain & (grade == 4), 0.7, np.where(brain & mutant, -1.6, -1.0))
    oedema = core**0.8 * np.exp(spread + 0.5 * draws.normal("oedema"))
    whole = np.round(core + oedema.clip(0.1), 1)
    dark = draws.happens("dark", np.where(brain & (grade <= 2), 1.5, np.where(mutant, 0.0, -4.0)))
    share = special.expit(np.where(grade == 4, -0.6, 0.4) + 0.9 * draws.normal("enhancing"))
    enhancing = np.where(dark, 0.0, np.minimum(np.round(core * share, 1), core))
    return core, np.maximum(whole, np.round(core + 0.1, 1)), enhancing


def _extent(
    draws: _Draws, site: np.ndarray, age: np.ndarray, kps: np.ndarray, whole: np.ndarray
) -> np.ndarray:
    """How much was resected; not of a brainstem, and not of the frail."""
    deep = np.isin(site, ("brainstem", "pancreas", "liver", "lung"))
    fit = (kps - 70) / 12 - np.maximum(age - 72, 0) / 8
    logits = np.stack(
        [
            0.3 - 0.9 * fit + 0.8 * deep,  # biopsy
            -0.8 - 0.8 * fit,  # none
            0.4 + 0.02 * (whole - 40).clip(-40, 80) - 0.4 * deep,  # partial
            0.9 + 0.5 * fit - 0.03 * (whole - 40).clip(-40, 80) - 2.5 * deep,  # total
        ],
        1,
    )
    names = np.array(["biopsy", "none", "partial", "total"])
    return names[draws.choice("extent", special.softmax(logits, 1))]


def _drain_ml(
    draws: _Draws, extent: np.ndarray, abdomen: np.ndarray, site: np.ndarray, core: np.ndarray
) -> np.ndarray:
    """Zero without an operation, and without a drain; else log-normal."""
    operated = np.isin(extent, ("partial", "total"))
    chance = np.where(abdomen, 1.6, np.where(np.isin(site, ("breast", "lung")), 0.7, -2.5))
    drained = draws.happens("drained", chance) & operated
    size = 3.6 + 0.9 * abdomen + 0.3 * np.log1p(core) + 0.5 * draws.normal("drain")
    return np.where(drained, np.rint(np.exp(size)).clip(5, 3000), 0).astype(np.int64)


def _codes(
    draws: _Draws,
    site: np.ndarray,
    woman: np.ndarray,
    age: np.ndarray,
    kps: np.ndarray,
    extent: np.ndarray,
    mutant: np.ndarray,
    core: np.ndarray,
    drain: np.ndarray,
) -> dict[str, np.ndarray]:
    """Rare diagnoses, tied to site, sex, age and to each other."""
    cortex = np.isin(site, ("frontal lobe", "parietal lobe", "temporal lobe"))
    posterior = np.isin(site, ("brainstem", "cerebellum"))
    bowel = np.isin(site, ("colon", "rectum", "ovary"))
    epilepsy = draws.happens("G40", np.where(cortex, -2.6 + 1.5 * mutant, -6.5))
    water = draws.happens("G91", np.where(posterior, -2.2 + 0.1 * core, -7.0))
    ascites = draws.happens(
        "R18", np.where(np.isin(site, ("ovary", "liver")), -3.6 + 0.015 * core, -6.0)
    )
    effusion = draws.happens("J90", np.where(site == "lung", -2.2, -5.0) + 2.5 * ascites)
    clot = draws.happens("I26", -4.9 + 1.6 * (site == "pancreas") + 0.9 * cortex + 1.4 * (kps < 60))
    ileus = draws.happens("K56", np.where(bowel & (drain > 0), -2.4, -6.0))
    prostate = draws.happens("N40", -2.7 + 0.08 * (age - 65)) & ~woman & (site != "prostate")
    cyst = draws.happens("N83", np.where(age < 52, -2.2, -6.0)) & woman & (site != "ovary")
    found = (epilepsy, water, clot, effusion, ileus, prostate, cyst, ascites)
    return dict(zip(CODES, found, strict=True))


TOPICS = 24
PAIRS = 4
SEXED = 2
"""Of the pairs, those of which one code is of men and one of women."""


def codes(
    subjects: int, count: int, key: Key, per_subject: float = 11.0
) -> tuple[sparse.csr_matrix, tuple[str, ...]]:
    """How often each subject got each diagnosis; a pure function of its arguments.

    Subjects have one or two diseases (topics), of which each has codes of its own; some codes
    are common, most are rare (Zipf). Which codes belong to which topic depends on `count` alone,
    so that two keys give different subjects of the same hospital.

    Args:
        subjects: Rows.
        count: Codes, columns.
        key: Which subjects.
        per_subject: Different codes of a subject, on average; at least 1 each.

    Returns:
        CSR matrix `(subjects, count)` of int32 counts, and the codes' names. The pairs of
        `exclusive` never occur in one subject.

    Raises:
        ConfigError: No subjects, less than 40 codes, or `per_subject` not from 1 to a quarter of
            them.

    Example:
        >>> matrix, names = codes(1000, 200, Key(0))
        >>> matrix.shape, len(names), 10 < matrix.nnz / 1000 < 12
        ((1000, 200), 200, True)
    """
    if subjects < 1 or count < 40:
        raise ConfigError("at least 1 subject and 40 codes", f"{subjects} and {count}")
    if not 1 <= per_subject <= count / 4:
        raise ConfigError(f"from 1 to {count / 4:g} codes", str(per_subject), "per_subject")
    root = key.fold("codes")
    rng = root.fold("subjects").numpy()
    primary = rng.choice(TOPICS, subjects, p=_zipf(TOPICS, 0.7))
    second = np.where(rng.random(subjects) < 0.6, (primary * 7 + 3) % TOPICS, primary)
    wanted = 1 + rng.poisson((per_subject - 1) * rng.gamma(2.0, 0.5, subjects))
    wanted = np.minimum(wanted, count // 2)
    bits = rng.random((subjects, PAIRS)) < 0.5
    bits[:, :SEXED] = bits[:, :1]
    tokens = 4 * wanted + 16
    row = np.repeat(np.arange(subjects), tokens)
    u = root.fold("topics").numpy().random(len(row))
    topic = np.where(u < 0.2, TOPICS, np.where(u < 0.75, primary[row], second[row]))
    steps = np.cumsum(_topics(count), 1)
    steps = (steps / steps[:, -1:] + np.arange(TOPICS + 1)[:, None]).ravel()
    drawn = np.searchsorted(steps, topic + root.fold("codes").numpy().random(len(row)), "right")
    code = np.minimum(drawn, len(steps) - 1) % count
    pair, side = np.full(count, -1), np.zeros(count, bool)
    for index, (one, two) in enumerate(exclusive(count)):
        pair[[one, two]] = index
        side[two] = True
    kept = (pair[code] < 0) | (bits[row, pair[code]] == side[code])
    return _counted(row[kept], code[kept], wanted, (subjects, count)), _names(count)


def exclusive(count: int) -> tuple[tuple[int, int], ...]:
    """Pairs of columns of `codes` that nobody has both of; the first `SEXED` tell the sex."""
    common = np.argsort(-_popularity(count), kind="stable")[5 : 5 + 2 * PAIRS]
    return tuple((int(a), int(b)) for a, b in common.reshape(PAIRS, 2))


def _counted(
    row: np.ndarray, code: np.ndarray, wanted: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_matrix:
    """Tokens in order, up to the number of different codes that a subject is to have."""
    cell = row * shape[1] + code
    cells, first, inverse = np.unique(cell, return_index=True, return_inverse=True)
    new = np.zeros(len(cell), np.int64)
    new[first] = 1
    seen = np.cumsum(new)
    starts = np.searchsorted(row, np.arange(shape[0]))
    before = np.concatenate([[0], seen])[starts]
    kept = seen - before[row] <= wanted[row]
    counts = np.bincount(inverse[kept], minlength=len(cells))
    here = counts > 0
    counts = np.where(counts > 1, 1 + (counts - 1) // 3, counts).astype(np.int32)
    at = np.divmod(cells[here], shape[1])
    return sparse.csr_matrix((counts[here], at), shape, np.int32)


def _zipf(count: int, power: float) -> np.ndarray:
    weights = (np.arange(count) + 3.0) ** -power
    return weights / weights.sum()


def _popularity(count: int) -> np.ndarray:
    return Key(0, ("hospital", count)).numpy().permutation(_zipf(count, 1.05))


def _topics(count: int) -> np.ndarray:
    """How often each topic has each code, `(TOPICS + 1, count)`; the last is what all have."""
    rng = Key(0, ("hospital", count, "topics")).numpy()
    chapter = np.arange(count) * TOPICS // count
    own = chapter == np.arange(TOPICS)[:, None]
    own |= rng.random((TOPICS, count)) < 0.03
    boost = np.where(own, 25 * rng.lognormal(0, 1, (TOPICS, count)), 0.3)
    return _popularity(count) * np.concatenate([boost, np.ones((1, count))])


def _names(count: int) -> tuple[str, ...]:
    """Letter and number, in order, as ICD-10 has them."""
    letter = np.arange(count) * 26 // count
    within = np.arange(count) - np.searchsorted(letter, letter)
    width = max(2, len(str(within.max())))
    return tuple(f"{chr(65 + a)}{b:0{width}}" for a, b in zip(letter, within, strict=True))
