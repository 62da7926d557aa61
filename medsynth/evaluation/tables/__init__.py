"""Are synthetic rows like real ones, useful, complete, and nobody's?

Every figure stands between a floor (independent columns, which cost nothing) and a ceiling (real
rows that the model has not seen, or a bootstrap of the real rows), beside a Gaussian copula.
"""

from medsynth.evaluation.tables.figures import coverage, detection, marginals, pairs
from medsynth.evaluation.tables.learners import predicted
from medsynth.evaluation.tables.section import measure

__all__ = ["coverage", "detection", "marginals", "measure", "pairs", "predicted"]
