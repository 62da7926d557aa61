"""Are synthetic subjects with codes like real ones, useful, complete, and nobody's?

Every figure stands between a floor (independent codes at the real rates, which cost nothing) and a
ceiling (real subjects that the model has not seen, or a bootstrap of the real ones). Matrices stay
sparse: what is made dense is a few hundred rows, or a hundred columns, at a time.
"""

from medsynth.evaluation.codes.section import aligned, measure

__all__ = ["aligned", "measure"]
