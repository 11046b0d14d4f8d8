"""A summary of a design in words, to read before it is built."""
from ..params.block import LLAMA, Norm
from ..params.design import Design
from ..params.hardware import Recipe
from ..params.stream import HEAD

__all__ = ["facts", "formats", "summary"]


def formats(recipe: Recipe) -> str:
    same = len({recipe.weight_format, recipe.activation_format, recipe.kv_format}) == 1
    text = str(recipe.weight_format) if same else (f"weights {recipe.weight_format}, activations "
                                                   f"{recipe.activation_format}, keys and values {recipe.kv_format}")
    text += ("".join(f", {override}" for override in recipe.overrides)
             + (", a scale a row" if recipe.scales == "row" else ""))
    return text + (", LM head in pairs" if recipe.head == "pair" else "")


def _count(number, noun, plural=None):
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _cut(design):
    """What of the model's context the machine leaves out."""
    longest = design.model.max_position_embeddings
    return (f" (the model's context is {longest}: context={longest} in --shape for all of it)"
            if design.hw.context < longest else "")


def summary(design: Design) -> str:
    """One line."""
    hw, model = design.hw, design.model
    return (f"{model.name}: {model.parameter_count:,} parameters, {_count(design.layers, 'layer')}; machine: "
            f"{hw.lanes} lanes x {hw.columns} columns, {_count(hw.entries, 'entry', 'entries')} a pass, "
            f"{_count(hw.slots, 'slot')} of {hw.context} "
            f"tokens{_cut(design)}, {formats(design.recipe)}")


def _block(block):
    """What a layer has that Llama's has not, in words."""
    said = ([f"biases of {', '.join(biased)}"]
            if (biased := [matrix.name for matrix in block.matrices if matrix.biased]) else [])
    if block.qk_norm:
        said.append(f"queries and keys normed by {block.qk_norm.span}" + " after RoPE" * block.qk_norm.after_rotary)
    before = [norm for norm in block.of(Norm) if norm.reads == "residual" and not norm.plain]
    said += ["norms of sums" + (", and before them" if before else " alone")] if block.post_norms else []
    said += ["attention and MLP side by side"] if len(before) == 1 and not block.post_norms else []
    return "; ".join([*said, f"{block.activation} {'of a gate' if block.gated else 'without a gate'}"])


def _logic(hw):
    return "all matrices" if hw.all_logic else f"the matrices {', '.join(hw.named_matrices)}"


def facts(design: Design, source: str) -> dict[str, str]:
    """Label -> text of everything that follows from the shapes. ``source`` is the model's file."""
    shape, hw, recipe = design.model, design.hw, design.recipe
    # an exponent stands beside each row
    position = 2 * design.layers * design.kv_heads * (design.padded_head_dim + 2)
    matrices = [section for section in design.stream if section.matmul
                and (section.layer is not None or section.name == HEAD and design.stream.has_tiles(HEAD))]
    beats = sum(sum(section.tiling.waits(0)) * section.matmul.n_tiles for section in matrices)
    return {
        "model": f"{shape.name} ({source})",
        "parameters": f"{shape.parameter_count:,}",
        "layers": f"{design.layers}, hidden {shape.hidden_size}, intermediate {shape.intermediate_size}",
        "attention": f"{_count(design.heads, 'head')} of {shape.head_dim}, {design.kv_heads} for keys and values",
        **({"block": _block(shape.block)} if shape.block != LLAMA else {}),
        "vocabulary": f"{shape.vocab_size:,}, table {'' if shape.tie_word_embeddings else 'not '}tied to the LM head"
                      + ", which has a bias" * shape.head_bias,
        "context": f"{hw.context:,} of the model's {shape.longest_context:,}",
        "formats": f"{formats(recipe)}; probabilities {recipe.p_format}; accumulators of {design.acc_bits} bits",
        "array": f"{hw.lanes} lanes x {hw.columns} columns, {_count(hw.entries, 'entry', 'entries')} a pass"
                 + (", in two half-batches" if hw.halves == 2 else ""),
        **({"logic": f"{_logic(hw)}, {hw.wire_levels} adders behind each other"} if hw.wired else {}),
        "weight stream": f"{design.stream_beats * hw.beat_bytes:,} bytes, {hw.beat_bytes} a cycle, source {hw.source}",
        "KV memory": f"{position * hw.blocks * hw.kv_block:,} bytes: {_count(hw.blocks, 'block')} of "
                     f"{_count(hw.kv_block, 'position')} of {position:,} bytes, "
                     f"for {_count(hw.slots, 'slot')}{', and check bits' if hw.kv_ecc else ''}",
        **({"adapters": f"{hw.adapters} of rank {hw.adapter_rank} or less, "
                        f"{design.adapter_map.kept_bytes:,} bytes each, loaded in "
                        f"{design.adapter_map.beats:,} cycles"} if hw.adapters else {}),
        "array cycles": f"{beats:,} for a pass of one entry, and what does not overlap with them",
    }
