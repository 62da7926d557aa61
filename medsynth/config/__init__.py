"""The frozen tree that a YAML configuration is validated into.

Knows keys, types and ranges; no classes, no networks, no data. `medsynth.build` turns the tree
into objects. Every key has a default here except the ones without which an experiment has no
meaning, so a configuration file says what it changes and `RUN/config.yaml` says everything.
"""

from medsynth.config.image import Config, parse
from medsynth.config.tabular import Tabular, parse_tabular
from medsynth.config.tree import dump, kind_of
from medsynth.config.utility import COLUMNS, Fold, Utility, parse_utility

__all__ = [
    "COLUMNS",
    "Config",
    "Fold",
    "Tabular",
    "Utility",
    "dump",
    "kind_of",
    "parse",
    "parse_tabular",
    "parse_utility",
]
