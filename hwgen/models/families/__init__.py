"""Families of models, by ``model_type`` of config.json."""
from .activations import ACTIVATIONS
from .biases import BIASES
from .family import Family, Given, fields_of
from .folded import FOLDED
from .layers import LAYERS
from .norms import NORMS
from .parallel import PARALLEL
from .positions import POSITIONS

__all__ = ["FAMILIES", "Family", "Given", "fields_of"]

FAMILIES = {family.model_type: family for family in FOLDED + BIASES + NORMS + LAYERS + ACTIVATIONS + PARALLEL
            + POSITIONS}
