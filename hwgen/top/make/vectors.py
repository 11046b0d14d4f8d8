"""The units that work on vectors: conversion of sums, norms, RoPE, activation, residual and sampler."""
from ...lib.vectors import Heads, Results
from ...params.block import Norm
from ...params.tables import rope_factors
from ...units.convert import Convert, Converted
from ...units.qk_norm import QkNorm
from ...units.residual import Residual, ResidualParams
from ...units.rmsnorm import RmsNorm
from ...units.rope import Rope
from ...units.sampler import Sampler
from ...units.swiglu import SwiGlu

__all__ = ["convert", "qk_norm", "residual", "rmsnorm", "rope", "sampler", "swiglu"]


def _heads(design):
    model, hw = design.model, design.hw
    return Heads(entries=hw.entries, vector_lanes=hw.vector_lanes, num_attention_heads=model.num_attention_heads,
                 num_key_value_heads=model.num_key_value_heads, head_dim=model.head_dim,
                 padded_head_dim=design.padded_head_dim)


def _results(design):
    hw = design.hw
    return Results(entries=hw.entries, columns=hw.columns, vector_lanes=hw.vector_lanes, acc_bits=design.acc_bits,
                   row_offsets=design.scaled, with_adapters=hw.adapters > 0)


def convert(design, banks=1):
    """What converts sums to bf16."""
    block = design.block

    def converted(project):
        return Converted(
            name=project.name, exponents=tuple(block.record_of(matrix)[1] for matrix in project.matrices),
            bias_parts=design.matmul(project.name).rows // design.hw.vector_lanes if block.biased(project) else 0)

    return Convert(
        results=_results(design), heads=_heads(design), padded_intermediate_size=design.padded_intermediate_size,
        record_words=block.record_words, acc_unit=design.acc_unit, into_heads=converted(block.into_heads),
        into_ff=converted(block.into_ff), banks=banks)


def qk_norm(design, banks=1):
    """The norm of keys and queries, of a block that has one."""
    return QkNorm(heads=_heads(design), span=design.block.qk_norm.span, rms_norm_eps=design.model.rms_norm_eps,
                  banks=banks)


def residual(design, sums=False):
    """The residual, or what keeps ``sums`` for a norm."""
    model, block = design.model, design.block
    params = ResidualParams(
        results=_results(design), lanes=design.hw.lanes, padded_hidden_size=design.padded_hidden_size,
        added_size=design.layer_hidden(), residual_fraction=design.hw.residual_fraction,
        weight_format=design.recipe.weight_format, embedding_codes=design.recipe.codes_per_head_weight,
        learned_positions=model.learned_positions, acc_unit=design.acc_unit, post_norms=block.post_norms,
        biased=tuple(number for number, project in enumerate(block.added) if block.biased(project)),
        second=block.from_ff.name)
    return Residual(params, sums=sums)


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


def sampler(design):
    """What chooses the next token."""
    return Sampler(results=_results(design), vocab_size=design.model.vocab_size, acc_unit=design.acc_unit,
                   sampler=design.hw.sampler, final_logit_softcapping=design.model.final_logit_softcapping)


def swiglu(design):
    """The activation of the MLP."""
    return SwiGlu(
        entries=design.hw.entries, vector_lanes=design.hw.vector_lanes,
        padded_intermediate_size=design.padded_intermediate_size, activation=design.block.activation,
        gated=design.block.gated)
