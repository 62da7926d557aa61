"""Does a model trained on synthetic rows predict for real people?"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from medsynth.core.random import Key
from medsynth.core.table import Table
from medsynth.errors import ConfigError
from medsynth.evaluation.records import Record, refused
from medsynth.evaluation.tables.figures import GROUPS, MOST_ROWS, features
from medsynth.evaluation.tables.privacy import MIN_ROWS, NAME


def predicted(train: Sequence[Table], test: Table, target: str) -> dict[str, float]:
    """Area under the curve on a test table of models trained on others, by learner."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def split(table: Table) -> tuple[np.ndarray, np.ndarray]:
        known = table.take(np.flatnonzero(table.absent(target) == 0))
        others = tuple(c for c in known.schema.modelled if c.name != target)
        kept = type(known.schema)(others)
        rest = Table(
            kept,
            {c.name: known.values[c.name] for c in others},
            {c.name: known.missing[c.name] for c in others if c.name in known.missing},
        )
        return features(rest), known.values[target].astype(int)

    parts = [split(table) for table in train]
    x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    there, truth = split(test)
    learners: dict[str, Any] = {
        "gradient boosting": HistGradientBoostingClassifier(max_iter=80, random_state=0),
        "logistic": make_pipeline(
            SimpleImputer(keep_empty_features=True),
            StandardScaler(),
            LogisticRegression(max_iter=500),
        ),
    }
    found = {}
    for name, learner in learners.items():
        if len(np.unique(y)) < 2:
            found[name] = 0.5
            continue
        scores = learner.fit(x, y).predict_proba(there)
        areas = [
            roc_auc_score(truth == level, scores[:, list(learner.classes_).index(level)])
            if level in learner.classes_
            else 0.5
            for level in np.unique(truth)
            if 0 < (truth == level).mean() < 1
        ]
        found[name] = float(np.mean(areas)) if areas else float("nan")
    return found


def utility(
    real: Table,
    made: Table,
    independent: Table,
    copula: Table,
    held_out: Table | None,
    target: str | None,
    key: Key,
) -> Iterator[Record]:
    if target is None:
        return
    column = real.schema.column(target)
    if not column.named and len(np.unique(real.values[target])) > GROUPS:
        found = f"{column.kind} with more than {GROUPS} values"
        raise ConfigError("a target with few values", found, target)
    if held_out is None:
        yield refused(NAME, "utility_auc", f"needs {MIN_ROWS} held-out rows")
        return
    rows = min(real.rows, made.rows, MOST_ROWS)
    rng = key.fold("utility").numpy()
    some = {
        name: t.take(rng.permutation(t.rows)[:rows])
        for name, t in (
            ("real", real),
            ("synthetic", made),
            ("copula", copula),
            ("none", independent),
        )
    }
    columns = {
        "real": ("real",), "synthetic": ("synthetic",), "real+synthetic": ("real", "synthetic"),
        "copula": ("copula",), "none": ("none",),
    }  # fmt: skip
    areas = {
        name: predicted([some[p] for p in parts], held_out, target)
        for name, parts in columns.items()
    }
    for training in ("synthetic", "real+synthetic", "copula"):
        for learner, value in areas[training].items():
            yield Record(
                NAME, "utility_auc", {"training": training, "segmentor": learner}, value,
                floor=areas["none"][learner], ceiling=areas["real"][learner], n=held_out.rows,
            )  # fmt: skip
