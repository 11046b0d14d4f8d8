"""Families of models, by ``model_type`` of config.json."""
from .family import Family, Given, fields_of
from .folded import FOLDED

__all__ = ["FAMILIES", "Family", "Given", "fields_of"]

FAMILIES = {family.model_type: family for family in FOLDED}
