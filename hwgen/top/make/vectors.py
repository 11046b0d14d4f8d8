"""The units that work on vectors: norms, RoPE, activation, residual and sampler."""
from ...lib.vectors import Heads
from ...params.block import Norm
from ...params.tables import rope_factors
from ...units.qk_norm import QkNorm
from ...units.rmsnorm import RmsNorm
from ...units.rope import Rope
from ...units.swiglu import SwiGlu

__all__ = ["qk_norm", "rmsnorm", "rope", "swiglu"]


def _heads(design):
    model, hw = design.model, design.hw
    return Heads(entries=hw.entries, vector_lanes=hw.vector_lanes, num_attention_heads=model.num_attention_heads,
                 num_key_value_heads=model.num_key_value_heads, head_dim=model.head_dim,
                 padded_head_dim=design.padded_head_dim)


def qk_norm(design, banks=1):
    """The norm of keys and queries, of a block that has one."""
    return QkNorm(heads=_heads(design), span=design.block.qk_norm.span, rms_norm_eps=design.model.rms_norm_eps,
                  banks=banks)


def rmsnorm(design):
    """The norm of the residual."""
    return RmsNorm(
        entries=design.hw.entries, vector_lanes=design.hw.vector_lanes, hidden_size=design.model.hidden_size,
        padded_hidden_size=design.padded_hidden_size, rms_norm_eps=design.model.rms_norm_eps,
        residual_fraction=design.hw.residual_fraction, plain=any(norm.plain for norm in design.block.of(Norm)),
        final_bias=design.block.final_bias)


def rope(design):
    """The rotary position embedding."""
    model, context = design.model, design.hw.context
    return Rope(heads=_heads(design), context=context, factors=rope_factors(model, context),
                straight=None in map(model.rope_of, range(design.layers)))


def swiglu(design):
    """The activation of the MLP."""
    return SwiGlu(
        entries=design.hw.entries, vector_lanes=design.hw.vector_lanes,
        padded_intermediate_size=design.padded_intermediate_size, activation=design.block.activation,
        gated=design.block.gated)
