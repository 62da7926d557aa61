"""What do synthetic scans give away about the people the generator was trained on?

Three questions, each with a control that shows whether the figure can tell at all: is a scan a copy
of a training scan (control: planted copies must be found, people who were held out must not);
are the scans nearer to training people than to others (floor: equal-sized sets); can an
attacker tell who was trained on (control: members against members must sit at chance).

Source:
    Carlini et al. (arXiv 2301.13188) for copies, (arXiv 2112.03570) for membership; Shokri et
    al. (arXiv 1610.05820).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from medsynth.core.cohort import Cohort
from medsynth.core.random import Key
from medsynth.errors import DataError, GeometryError
from medsynth.evaluation import features, heads
from medsynth.evaluation.fidelity import Shown
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
from medsynth.evaluation.statistics import (
    Estimate,
    attack_auc,
    mean_interval,
    member_control,
    true_positives_at,
)
from medsynth.imaging.intensity import normalise

NAME = "privacy"
MIN_ATTACKED = 8
"""Members and held-out people below which the area under an attack's curve says nothing."""

MIN_FOR_TPR = 100
"""Held-out people below which 1 % of false accusations cannot be measured."""

PLANTED = 20
DRAWS = 50
SPACES = ("pixels", "features", "label maps")

LIMITS = (
    "A distance is no proof of privacy: a scan can reveal a person without resembling any "
    "training scan, and an attack that fails here may be a weak attack.",
    "The label map is the patient's anatomy. Whoever generates from a patient's label map, edited "
    "or not, publishes that geometry; implanting tumours into phantoms does not.",
    "Nothing here is a guarantee. Differential privacy would be one, and is not used here.",
)

Attack = Callable[[Head], Mapping[str, float]]
"""Scores of one case, high for a suspected member, by name of the attack."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What is kept of a case.

    Args:
        name, subject: Who.
        relatives: Names and subjects that it was made from, as its sidecar says.
        pixels: float16 `(C, 48, 56, 48)`, see `Head.aligned`.
        features: `(F,)` mean and spread over slices.
        labels: uint8 `(48, 56, 48)`, or None.
        outside: Brightest voxel outside of the brain, as a share of the range; None if unknown.
        scheme: What the integers of `labels` mean.
        spacing_mm: Of the scans.
        scores: Attack → score.
    """

    name: str
    subject: str
    relatives: frozenset[str]
    pixels: np.ndarray
    features: np.ndarray
    labels: np.ndarray | None
    outside: float | None
    scores: Mapping[str, float]
    scheme: str = ""
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)


def trace(head: Head, attack: Attack | None = None) -> Trace:
    """Everything that the audit needs of one case."""
    story = heads.sidecar(head.case) or {}
    values = features.of_head(head)
    labels = None
    if head.labels is not None:
        factors = [b / a for a, b in zip(head.labels.shape, heads.ALIGNED, strict=True)]
        labels = ndimage.zoom(head.labels.data, factors, order=0, grid_mode=True, mode="nearest")
    return Trace(
        head.case.name,
        head.case.subject,
        frozenset({head.case.subject, story.get("parent", {}).get("case", head.case.name)}),
        head.aligned.astype(np.float16),
        np.concatenate([values.mean(1).ravel(), values.std(1).ravel()]),
        labels,
        head.outside,
        attack(head) if attack else {},
        "" if head.labels is None else head.labels.scheme.name,
        head.scans.spacing_mm,
    )


def traces(
    cohort: Cohort, modalities: Sequence[str], shown: Shown[Any], title: str,
    attack: Attack | None = None,
) -> list[Trace]:  # fmt: skip
    """Traces of a cohort, one case in memory at a time."""
    work = heads.read_all(cohort, modalities)
    return [trace(head, attack) for head in shown(work, len(cohort), title)]


def planted(cohort: Cohort, modalities: Sequence[str], shown: Shown[Any], key: Key) -> list[Trace]:
    """Copies of training cases as a generator that replays them would give them out.

    Another brightness of each scan, 2 % noise, half of them mirrored; then traced like
    everything else.
    """
    work = heads.read_all(cohort, modalities)
    copies = []
    for index, head in enumerate(shown(work, len(cohort), "trace planted copies")):
        copies.append(trace(plant(head, index % 2 == 1, key.fold(head.case.name))))
    return copies


def plant(head: Head, mirrored: bool, key: Key) -> Head:
    """A disguised copy of a head."""
    rng = key.numpy()
    gain = rng.uniform(0.8, 1.25, (len(head.scans.data), 1, 1, 1)).astype(np.float32)
    noise = 0.02 * rng.standard_normal(head.scans.data.shape, np.float32)
    data = normalise(np.clip((head.scans.data + noise) * gain, 0, None) * head.mask, head.mask)
    labels = head.labels
    if mirrored:
        data = data[:, ::-1]
        labels = None if labels is None else labels.with_data(labels.data[::-1])
    return replace(
        head,
        case=replace(head.case, name=f"planted {head.case.name}"),
        scans=replace(head.scans, data=np.ascontiguousarray(data, np.float32)),
        mask=head.mask[::-1] if mirrored else head.mask,
        labels=labels,
    )


def audit(
    members: Sequence[Trace],
    others: Sequence[Trace],
    made: Sequence[Trace],
    planted: Sequence[Trace],
    key: Key,
    modalities: Sequence[str],
) -> Section:
    """All figures of privacy.

    Args:
        members: Cases that the generator was trained on, with attack scores if there are any.
        others: Cases of people that it has never seen.
        made: Generated cases.
        planted: Disguised copies of members, which must be found.
        key: Random subsets, bootstrap.
        modalities: For the words.

    Raises:
        GeometryError: Voxels of different size.
        DataError: All members and held-out cases are of one person.
    """
    everybody = [*members, *others, *made]
    _refuse_other_voxels(everybody)
    if len({t.subject for t in (*members, *others)}) < 2:
        raise DataError("members and held-out cases of at least two people", "one person")
    space, schemes = _Spaces(members, others), {t.scheme for t in everybody}
    records: list[Record] = []
    for name in SPACES:
        if name == "label maps" and (len(schemes) > 1 or "" in schemes):
            reason = "needs label maps of one scheme in all cohorts"
            records.append(refused(NAME, "nearest_neighbour", reason, space=name))
            continue
        near = _Distances(space, name, made, planted)
        records += _nearness(near, made, key)
        records += _copies(near, made)
    real = [*members, *others]
    black_box = -space.between("pixels", real, made).min(1)
    replayed = np.maximum(black_box, -space.between("pixels", real, planted).min(1))
    title, count = "black box: distance to the nearest synthetic scan", len(members)
    attacks = {title: (black_box[:count], black_box[count:])}
    for name in members[0].scores if members else ():
        inside, outside = (np.array([t.scores[name] for t in s]) for s in (members, others))
        attacks[name] = inside, outside
    for name, (inside, outside) in attacks.items():
        records += _membership(name, inside, outside, key)
    if min(count, len(others)) >= MIN_ATTACKED:
        auc = attack_auc(replayed[:count], replayed[count:], key.fold("auc", "planted"))
        told = {"attack": title, "control": f"{len(planted)} planted copies added"}
        records.append(
            Record(NAME, "membership_auc", told, *auc, floor=0.5, ceiling=1.0, n=len(real))
        )
    beyond = [t.outside for t in made if t.outside is not None]
    if len(beyond) < len(made):
        records.append(refused(NAME, "outside_brain", "needs tissue labels of all synthetic cases"))
    else:
        records.append(Record(NAME, "outside_brain", {}, max(beyond), floor=0.0, n=len(made)))
    return Section(
        NAME,
        "Privacy: what do they give away?",
        (
            f"{len(members)} training cases (members), {len(others)} of people that the generator "
            f"has not seen, {len(made)} synthetic; scans {', '.join(modalities)}.",
            "Pixels: the brain's box at "
            f"{' × '.join(map(str, heads.ALIGNED))} voxels, each scan standardised; distance "
            "√(2 − 2 × correlation), the smaller of the scan and its mirror image. Features: "
            "radiomics-like, standardised, root mean square. Label maps: share of brain voxels "
            "named differently.",
            "A copy is nearer to a training case than half the smallest distance between two "
            "different real people. Planted copies are training scans of another brightness, with "
            "2 % noise, half of them mirrored. Features do not find copies that were resampled.",
        ),
        tuple(records),
        _tables(records),
        tuple(_verdicts(records)),
        LIMITS,
    )


def closest(
    members: Sequence[Trace], others: Sequence[Trace], made: Sequence[Trace], count: int
) -> list[tuple[str, str, str]]:
    """The synthetic cases that are nearest to a member in pixels, nearest first.

    Returns:
        Names: synthetic case, nearest member, nearest held-out case.
    """
    space = _Spaces(members, others)
    near = space.between("pixels", made, members)
    far = space.between("pixels", made, others)
    return [
        (made[i].name, members[near[i].argmin()].name, others[far[i].argmin()].name)
        for i in near.min(1).argsort()[:count]
    ]


class _Spaces:
    """Distances between traces in the three spaces."""

    def __init__(self, members: Sequence[Trace], others: Sequence[Trace]) -> None:
        self.members, self.others = list(members), list(others)
        rows = np.stack([t.features for t in (*members, *others)])
        self._mean, self._sd = rows.mean(0), np.maximum(rows.std(0), 1e-9)

    def between(self, space: str, one: Sequence[Trace], two: Sequence[Trace]) -> np.ndarray:
        """Distances `(N, M)`."""
        if space == "features":
            a, b = (
                (np.stack([t.features for t in side]) - self._mean) / self._sd
                for side in (one, two)
            )
            return np.sqrt(np.maximum(((a[:, None] - b) ** 2).mean(2), 0))
        if space == "label maps":
            return np.array([[_named_otherwise(a, b) for b in two] for a in one])
        right = np.stack([t.pixels.astype(np.float32).ravel() for t in two])
        channels = len(two[0].pixels)
        rows = []
        for t in one:
            pixels = t.pixels.astype(np.float32)
            both = np.stack([pixels.ravel(), pixels[:, ::-1].ravel()])
            rows.append((both @ right.T).max(0) / channels)
        return np.sqrt(np.maximum(2 - 2 * np.stack(rows), 0))

    def threshold(self, space: str) -> float:
        """Half the smallest distance between two different real people."""
        real = [*self.members, *self.others]
        distance = self.between(space, real, real)
        people = np.array([t.subject for t in real])
        return 0.5 * float(distance[people[:, None] != people].min())


def _named_otherwise(a: Trace, b: Trace) -> float:
    if a.labels is None or b.labels is None:
        return float("nan")
    shares = []
    for mine in (a.labels, a.labels[::-1]):
        union = (mine > 0) | (b.labels > 0)
        shares.append(float((mine != b.labels)[union].mean()) if union.any() else 0.0)
    return min(shares)


class _Distances:
    """Distances of one space that several figures need."""

    def __init__(
        self, space: _Spaces, name: str, made: Sequence[Trace], planted: Sequence[Trace]
    ) -> None:
        self.name, self.space, self.planted = name, space, planted
        self.to_members = space.between(name, made, space.members)
        self.to_others = space.between(name, made, space.others)
        self.of_planted = space.between(name, planted, space.members).min(1)


def _nearness(near: _Distances, made: Sequence[Trace], key: Key) -> Iterator[Record]:
    """Nearest member against nearest held-out person, sets of one size."""
    members, others = len(near.space.members), len(near.space.others)
    size, where = min(members, others), {"space": near.name}
    if size < 2:
        yield refused(NAME, "nearest_neighbour", "needs 2 members and 2 held-out", **where)
        return
    rng, one, two = key.fold("nearest", near.name).numpy(), [], []
    for _ in range(DRAWS):
        one.append(near.to_members[:, rng.permutation(members)[:size]].min(1))
        two.append(near.to_others[:, rng.permutation(others)[:size]].min(1))
    yield Record(
        NAME, "nearest_neighbour", where, *mean_interval(np.mean(one, 0), key),
        floor=float(np.mean(two)), ceiling=float(near.of_planted.mean()), n=len(made),
    )  # fmt: skip
    closer = np.mean([a < b for a, b in zip(one, two, strict=True)], 0)
    yield Record(
        NAME, "nearer_to_members", where, *mean_interval(closer, key),
        floor=0.5, ceiling=1.0, n=len(made),
    )  # fmt: skip


def _copies(near: _Distances, made: Sequence[Trace]) -> Iterator[Record]:
    """Copies among the synthetic cases, among planted copies, and among held-out people."""
    space, limit = near.space, near.space.threshold(near.name)
    nearest = near.to_members.argmin(1)
    flagged = near.to_members.min(1) < limit
    declared = np.array(
        [
            bool({space.members[j].name, space.members[j].subject} & t.relatives)
            for t, j in zip(made, nearest, strict=True)
        ]
    )
    found = near.of_planted < limit
    where = {"space": near.name}
    common: dict[str, Any] = {"n": len(made), "floor": 0.0}
    yield Record(NAME, "copies", where, float((flagged & ~declared).sum()), **common)
    yield Record(NAME, "copies_of_parent", where, float((flagged & declared).sum()), **common)
    yield Record(NAME, "planted_found", where, float(found.mean()), ceiling=1.0, n=len(found))
    if space.others:
        wrong = space.between(near.name, space.others, space.members).min(1) < limit
        yield Record(
            NAME, "held_out_accused", where, float(wrong.sum()), floor=0.0, n=len(space.others)
        )


def _refuse_other_voxels(everybody: Sequence[Trace]) -> None:
    for t in everybody:
        if not heads.alike(t.spacing_mm, everybody[0].spacing_mm):
            raise GeometryError(
                f"voxels of one size ({everybody[0].spacing_mm} mm in {everybody[0].name})",
                f"{t.spacing_mm} mm",
                t.name,
                "Bring all cohorts to one spacing with `medsynth resample`.",
            )


def _membership(name: str, inside: np.ndarray, outside: np.ndarray, key: Key) -> Iterator[Record]:
    where = {"attack": name}
    if min(len(inside), len(outside)) < MIN_ATTACKED:
        reason = f"needs {MIN_ATTACKED} members and {MIN_ATTACKED} held-out cases"
        yield refused(NAME, "membership_auc", reason, **where)
        return
    auc = attack_auc(inside, outside, key.fold("auc", name))
    control = member_control(inside, key.fold("control", name))
    n = len(inside) + len(outside)
    yield Record(NAME, "membership_auc", where, *auc, floor=0.5, ceiling=1.0, n=n)
    told = where | {"control": "members against members"}
    yield Record(NAME, "membership_auc", told, *control, floor=0.5, n=len(inside))
    if len(outside) < MIN_FOR_TPR:
        reason = f"needs {MIN_FOR_TPR} held-out cases"
        yield refused(NAME, "membership_tpr_at_1_fpr", reason, **where)
    else:
        value = true_positives_at(inside, outside, 0.01)
        yield Record(NAME, "membership_tpr_at_1_fpr", where, value, floor=0.01, ceiling=1.0, n=n)


def _tables(records: Sequence[Record]) -> tuple[Table, ...]:
    near = [r for r in records if "space" in r.where]
    attacks = [r for r in records if "attack" in r.where]
    return (
        listing("Distances and copies", near, ("space",), 3),
        listing("Membership inference", attacks, ("attack", "control")),
    )


def _verdicts(records: Sequence[Record]) -> Iterator[Verdict]:
    def value(metric: str, space: str) -> float | None:
        own = [r for r in records if r.metric == metric and r.where.get("space") == space]
        return own[0].value if own else None

    for space in SPACES:
        found, copies = value("planted_found", space), value("copies", space)
        if found is None or copies is None:
            continue
        accused = value("held_out_accused", space) or 0.0
        if found < 1 or accused:
            yield Verdict(
                UNKNOWN,
                f"{space}: the audit finds {found:.0%} of planted copies and accuses "
                f"{accused:.0f} held-out people: it cannot be relied on here.",
            )
        elif copies:
            yield Verdict(
                BAD,
                f"{space}: {copies:.0f} synthetic cases are copies of training cases that they do "
                "not name as their parent.",
            )
        else:
            yield Verdict(
                UNKNOWN,
                f"{space}: no undeclared copy; the audit found all planted ones and accused "
                "nobody who was held out. That is no proof of privacy.",
            )
        parents = value("copies_of_parent", space) or 0.0
        if parents:
            yield Verdict(
                BAD,
                f"{space}: {parents:.0f} synthetic cases are as near to the training case that "
                "they were made from as a copy: they carry that person's anatomy.",
            )
    yield from _attack_verdicts(records)
    face = next(r for r in records if r.metric == "outside_brain")
    if face.value is None:
        yield Verdict(UNKNOWN, f"Faces: not looked for; {face.where['refused']}.")
    elif face.value == 0:
        yield Verdict(GOOD, "No face: every voxel outside of the brain is zero.")
    else:
        text = f"Voxels outside of the brain reach {number(face.value)} of the range: a face?"
        yield Verdict(BAD, text)


def _attack_verdicts(records: Sequence[Record]) -> Iterator[Verdict]:
    own = [r for r in records if r.metric == "membership_auc"]
    for record in [r for r in own if "control" not in r.where]:
        name = record.where["attack"]
        if record.value is None:
            yield Verdict(UNKNOWN, f"membership, {name}: {record.where['refused']}.")
            continue
        control = next(
            r
            for r in own
            if r.where.get("attack") == name and r.where.get("control", "").startswith("members")
        )
        found = Estimate(record.value, record.low or 0, record.high or 1)
        text = f"membership, {name}: area {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
        if not (control.low or 0) <= 0.5 <= (control.high or 1):
            yield Verdict(UNKNOWN, f"{text}, but members against members are not at chance.")
        elif found.high < 0.5:
            yield Verdict(UNKNOWN, f"{text}: the two groups differ for another reason.")
        elif found.low > 0.5:
            yield Verdict(BAD, f"{text}: an attacker can tell who was trained on.")
        else:
            yield Verdict(UNKNOWN, f"{text}: not told apart by this attack, with this many cases.")
