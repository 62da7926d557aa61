"""What do synthetic scans give away about the people the generator was trained on?

Three questions, each with a control that shows whether the figure can tell at all: is a scan a copy
of a training scan (control: planted copies must be found, people who were held out must not);
are the scans nearer to training people than to others (floor: equal-sized sets); can an
attacker tell who was trained on (control: members against members must sit at chance).

Source:
    Carlini et al. (arXiv 2301.13188) for copies, (arXiv 2112.03570) for membership; Shokri et
    al. (arXiv 1610.05820).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medsynth.core.random import Key
from medsynth.errors import DataError, GeometryError
from medsynth.evaluation import heads
from medsynth.evaluation.enough import MIN_ATTACKED, MIN_FOR_TPR
from medsynth.evaluation.records import Record, counted, refused
from medsynth.evaluation.statistics import (
    attack_auc,
    by_person,
    member_control,
    over_people,
    true_positives_at,
)
from medsynth.evaluation.traces import Trace

NAME = "privacy"
DRAWS, SHUFFLES = 50, 199
SPACES = ("pixels", "features", "label maps")


@dataclass(frozen=True)
class Audit:
    """All figures of privacy, and what their words need.

    Args:
        records: The figures.
        members, others, made: Cases and people of each.
        modalities: Scans.
    """

    records: tuple[Record, ...]
    members: tuple[int, int]
    others: tuple[int, int]
    made: tuple[int, int]
    modalities: tuple[str, ...]


def audit(
    members: Sequence[Trace],
    others: Sequence[Trace],
    made: Sequence[Trace],
    planted: Sequence[Trace],
    key: Key,
    modalities: Sequence[str],
) -> Audit:
    """All figures of privacy.

    Args:
        members: Cases that the generator was trained on, with attack scores if there are any.
        others: Cases of people that it has never seen.
        made: Generated cases.
        planted: Disguised copies of members, which must be found.
        key: Random subsets, bootstrap.
        modalities: Scans, for the words.

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
        records += _nearness(near, key)
        records += _copies(near)
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
    return Audit(tuple(records), _sizes(members), _sizes(others), _sizes(made), tuple(modalities))


def _sizes(side: Sequence[Trace]) -> tuple[int, int]:
    """Cases and people."""
    return len(side), len({t.subject for t in side})


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
    """Distances of one space that several figures need, and who descends from whom."""

    def __init__(
        self, space: _Spaces, name: str, made: Sequence[Trace], planted: Sequence[Trace]
    ) -> None:
        self.name, self.space, self.planted = name, space, planted
        self.people = [t.subject for t in made]
        self.to_members = space.between(name, made, space.members)
        self.to_others = space.between(name, made, space.others)
        self.of_planted = space.between(name, planted, space.members).min(1)
        self.from_members, self.from_others = (
            np.array([[t.descends_from(real) for real in side] for t in made]).reshape(
                len(made), len(side)
            )
            for side in (space.members, space.others)
        )


def _nearness(near: _Distances, key: Key) -> Iterator[Record]:
    """Nearest member against nearest held-out person, sets of one size.

    Nobody is compared with a case whose label map he was made from: that is near by design.
    """
    where, scans = {"space": near.name}, len(near.people)
    sides = [len({t.subject for t in s}) for s in (near.space.members, near.space.others)]
    if min(sides) < MIN_ATTACKED:
        reason = f"needs {MIN_ATTACKED} training and {MIN_ATTACKED} held-out people"
        yield refused(NAME, "nearest_neighbour", reason, **where)
        return
    rng, one, two = key.fold("nearest", near.name).numpy(), [], []
    size = int(min((~near.from_members).sum(1).min(), (~near.from_others).sum(1).min()))
    for _ in range(DRAWS):
        one.append(_nearest(near.to_members, near.from_members, size, rng))
        two.append(_nearest(near.to_others, near.from_others, size, rng))
    found = over_people(np.mean(one, 0), near.people, key)
    yield Record(
        NAME, "nearest_neighbour", where, *found.figure, float(np.mean(two)),
        float(near.of_planted.mean()), scans, people=found.people,
    )  # fmt: skip
    closer = np.mean([a < b for a, b in zip(one, two, strict=True)], 0)
    value = float(by_person(closer, near.people).mean())
    yield Record(
        NAME, "nearer_to_members", where, value, None, None, 0.5, 1.0, scans, people=found.people
    )
    p = _chance(near, value, key.fold("chance", near.name))
    yield Record(NAME, "nearer_to_members_p", where, p, n=sum(sides))


def _chance(near: _Distances, value: float, key: Key) -> float:
    """How often so many scans are nearer to members when membership is drawn anew, person by
    person: all scans may share their nearest neighbours, so their number makes nothing surer."""
    rng = key.numpy()
    distances = np.concatenate([near.to_members, near.to_others], 1)
    related = np.concatenate([near.from_members, near.from_others], 1)
    whose = np.array([t.subject for t in (*near.space.members, *near.space.others)])
    everybody = np.unique(whose)
    inside, large = len({t.subject for t in near.space.members}), 0
    for _ in range(SHUFFLES):
        drawn = np.isin(whose, rng.permutation(everybody)[:inside])
        may = [(~related[:, side]).sum(1).min() for side in (drawn, ~drawn)]
        one, two = (
            _nearest(distances[:, side], related[:, side], int(min(may)), rng)
            for side in (drawn, ~drawn)
        )
        large += by_person(one < two, near.people).mean() >= value
    return (1 + large) / (1 + SHUFFLES)


def _nearest(
    distances: np.ndarray, related: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Distance to the nearest of `size` unrelated cases, drawn at random, `(N,)`."""
    order = rng.permutation(distances.shape[1])
    may = ~related[:, order]
    drawn = may & (may.cumsum(1) <= size)
    return np.where(drawn, distances[:, order], np.inf).min(1)


def _copies(near: _Distances) -> Iterator[Record]:
    """Copies among the synthetic cases, among planted copies, and among held-out people."""
    space, limit, where = near.space, near.space.threshold(near.name), {"space": near.name}
    strange = np.where(near.from_members, np.inf, near.to_members).min(1)
    every = np.ones(len(strange), bool)
    yield from _hits("copies", where, strange < limit, every, near.people)
    for title, distances, related in (
        ("training people", near.to_members, near.from_members),
        ("held-out people", near.to_others, near.from_others),
    ):
        own, told = np.where(related, distances, np.inf), where | {"made from": title}
        hit, among = np.any(own < limit, 1), np.any(related, 1)
        yield from _hits("copies_of_parent", told, hit, among, near.people)
    found, planted = int((near.of_planted < limit).sum()), len(near.planted)
    yield counted(NAME, "planted_found", where, found, planted, ceiling=planted)
    if space.others:
        wrong = space.between(near.name, space.others, space.members).min(1) < limit
        count, people = len(wrong), len({t.subject for t in space.others})
        yield counted(
            NAME, "held_out_accused", where, int(wrong.sum()), count, floor=0, people=people
        )


def _hits(
    metric: str,
    where: Mapping[str, str],
    hit: np.ndarray,
    among: np.ndarray,
    people: Sequence[str],
) -> Iterator[Record]:
    """How many scans are hit among some, and, since scans of one person are not independent, how
    many people have one that is; the exact interval is over people."""
    who = {p for p, of in zip(people, among, strict=True) if of}
    if not who:
        yield refused(NAME, metric, "no synthetic case says that it was made from them", **where)
        return
    caught = {p for p, is_hit in zip(people, hit & among, strict=True) if is_hit}
    count, scans = int((hit & among).sum()), int(among.sum())
    if len(who) == scans:
        yield counted(NAME, metric, where, count, scans, floor=0, people=scans)
        return
    yield Record(NAME, metric, where, count, floor=0, n=scans, people=len(who))
    yield counted(NAME, f"{metric}_people", where, len(caught), len(who), floor=0, people=len(who))


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
