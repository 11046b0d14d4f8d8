"""From a design and its weights to a folder of Verilog, images and descriptions."""
from .project import EmitError, check_output, emit, existing_parent

__all__ = ["EmitError", "check_output", "emit", "existing_parent"]
