"""The section on privacy, in words; measures nothing."""

from collections.abc import Iterator, Mapping, Sequence

from medsynth.core.words import plural
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
    share,
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
            f"Members: {_of(audit.members)} that the generator was trained on. Held out: "
            f"{_of(audit.others)} that it has not seen. Synthetic: {_of(audit.made)}. Scans "
            f"{', '.join(audit.modalities)}.",
            "Pixels: the brain's box at "
            f"{' × '.join(map(str, heads.ALIGNED))} voxels, each scan standardised; distance "
            "√(2 − 2 × correlation), the smaller of the scan and its mirror image. Features: "
            "radiomics-like, standardised, root mean square. Label maps: share of brain voxels "
            "named differently.",
            "A copy is nearer to a training case than half the smallest distance between two "
            "different real people. Planted copies are training scans of another brightness, with "
            "2 % noise, half of them mirrored. No synthetic case is compared with the person whose "
            "label map it was made from, but under *copies of parent*, which looks at nothing "
            "else, for held-out people, too.",
            "In brackets: 95 % intervals; of counts exact (Clopper–Pearson), of means a bootstrap. "
            "Scans of one person are not independent: both are over people. The share nearer to "
            "a member has a p instead: how often it is as large when who was trained on is drawn "
            "anew among the real people. Below one half it does not mean that members are safe, "
            "but that the held-out people happen to lie nearer.",
        ),
        audit.records,
        _tables(audit.records),
        tuple(_verdicts(audit.records)),
        LIMITS,
    )


def _of(side: tuple[int, int]) -> str:
    cases, people = side
    return f"{plural(cases, 'case')} of {plural(people, 'person', 'people')}"


METRICS = {
    "nearest_neighbour": "distance to the nearest member",
    "nearer_to_members": "share nearer to a member than to a held-out case",
    "nearer_to_members_p": "… p that chance makes it as large",
    "copies": "copies of a member that is not the parent",
    "copies_people": "… people with such a copy",
    "copies_of_parent": "as near to the parent as a copy",
    "copies_of_parent_people": "… people with such a scan",
    "planted_found": "planted copies found",
    "held_out_accused": "held-out cases called copies",
    "membership_auc": "area under the attack's curve (0.5 is chance)",
    "membership_tpr_at_1_fpr": "members found at 1 % false accusations",
}


def _tables(records: Sequence[Record]) -> tuple[Table, ...]:
    near = [r for r in records if "space" in r.where]
    attacks = [r for r in records if "attack" in r.where]
    return (
        listing("Distances and copies", near, ("space", "made from"), 3, METRICS),
        listing("Membership inference", attacks, ("attack", "control"), 2, METRICS),
    )


def _verdicts(records: Sequence[Record]) -> Iterator[Verdict]:
    for space in SPACES:
        own = [r for r in records if r.where.get("space") == space]
        by = {(r.metric, r.where.get("made from", "")): r for r in own if r.value is not None}
        if ("planted_found", "") not in by or ("copies", "") not in by:
            reason = next((r.where["refused"] for r in own if "refused" in r.where), "no figures")
            yield Verdict(UNKNOWN, f"{space}: nothing can be said; {reason}.")
            continue
        yield _copy_verdict(space, by)
        for whom in ("training people", "held-out people"):
            found = by.get(("copies_of_parent", whom))
            if found is not None and found.value:
                one = found.value == 1
                yield Verdict(
                    BAD,
                    f"{space}: {_scans(found, by.get(('copies_of_parent_people', whom)))} made "
                    f"from {whom} {'is' if one else 'are'} as near to the parent as a copy: "
                    f"{'it carries' if one else 'they carry'} that person's anatomy"
                    + (", and publish it though no generator saw it." if "held" in whom else "."),
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


def _copy_verdict(space: str, by: Mapping[tuple[str, str], Record]) -> Verdict:
    copies, planted = by["copies", ""], by["planted_found", ""]
    accused = by.get(("held_out_accused", ""))
    controls = share(planted, "planted copies") + (
        f" and accuses {share(accused, 'held-out cases')}" if accused else ""
    )
    if (planted.value or 0) < (planted.n or 0) or (accused is not None and accused.value):
        return Verdict(
            UNKNOWN,
            f"{space}: the audit finds {controls}: it cannot be relied on here. Planted copies "
            "differ in brightness and noise from the scan that they copy, and half are mirrored.",
        )
    scans = _scans(copies, by.get(("copies_people", "")))
    if copies.value:
        one = copies.value == 1
        return Verdict(
            BAD,
            f"{space}: {scans} {'is a copy' if one else 'are copies'} of training cases that "
            f"{'it does' if one else 'they do'} not name as a parent. The audit finds {controls}.",
        )
    return Verdict(
        UNKNOWN,
        f"{space}: no undeclared copy, {scans}. The audit finds {controls}. That is no proof of "
        "privacy.",
    )


def _scans(record: Record, people: Record | None) -> str:
    """`11 of 16 synthetic cases (4 of 4 people [40 %, 100 %])`."""
    if people is None:
        return share(record, "synthetic cases")
    return f"{record.value} of {record.n} synthetic cases ({share(people, 'people')})"


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
