"""The units that work on vectors: norms, RoPE, activation, residual and sampler."""
from ...params.block import Norm
from ...units.rmsnorm import RmsNorm

__all__ = ["rmsnorm"]


def rmsnorm(design):
    """The norm of the residual."""
    return RmsNorm(
        entries=design.hw.entries, vector_lanes=design.hw.vector_lanes, hidden_size=design.model.hidden_size,
        padded_hidden_size=design.padded_hidden_size, rms_norm_eps=design.model.rms_norm_eps,
        residual_fraction=design.hw.residual_fraction, plain=any(norm.plain for norm in design.block.of(Norm)),
        final_bias=design.block.final_bias)
