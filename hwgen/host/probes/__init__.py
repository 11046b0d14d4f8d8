"""Single wrong bits that may have made a residual what it is: a probe for each kind of place where a bit may be.

A new kind of engine brings its own, in a module beside these. `case.Case` is what a probe is given, `broken` what it
puts in the golden model.
"""
from .case import Case, Suspect
from .constants import probe_constants
from .embedding import probe_embedding, probe_embedding_offset
from .kv_memory import probe_kv_memory
from .matrices import probe_matrices
from .records import probe_exponents, probe_vectors
from .wires import probe_wires

__all__ = ["PROBES", "Case", "Suspect"]

#: Callables of a `Case` that yield `Suspect` s.
PROBES = (probe_constants, probe_vectors, probe_exponents, probe_embedding, probe_embedding_offset, probe_matrices,
          probe_wires, probe_kv_memory)
