"""The section on privacy, in words; measures nothing."""

from collections.abc import Iterator, Sequence

from medsynth.evaluation import heads
from medsynth.evaluation.privacy import NAME, SPACES, Audit
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
from medsynth.evaluation.statistics import Estimate

LIMITS = (
    "A distance is no proof of privacy: a scan can reveal a person without resembling any "
    "training scan, and an attack that fails here may be a weak attack.",
    "The label map is the patient's anatomy. Whoever generates from a patient's label map, edited "
    "or not, publishes that geometry; implanting tumours into phantoms does not.",
    "Nothing here is a guarantee. Differential privacy would be one, and is not used here.",
)


def section(audit: Audit) -> Section:
    """The section of the report."""
    return Section(
        NAME,
        "Privacy: what do they give away?",
        (
            f"{audit.members} training cases (members), {audit.others} of people that the "
            f"generator has not seen, {audit.made} synthetic; scans {', '.join(audit.modalities)}.",
            "Pixels: the brain's box at "
            f"{' × '.join(map(str, heads.ALIGNED))} voxels, each scan standardised; distance "
            "√(2 − 2 × correlation), the smaller of the scan and its mirror image. Features: "
            "radiomics-like, standardised, root mean square. Label maps: share of brain voxels "
            "named differently.",
            "A copy is nearer to a training case than half the smallest distance between two "
            "different real people. Planted copies are training scans of another brightness, with "
            "2 % noise, half of them mirrored. Features do not find copies that were resampled.",
        ),
        audit.records,
        _tables(audit.records),
        tuple(_verdicts(audit.records)),
        LIMITS,
    )


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
