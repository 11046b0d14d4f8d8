"""A transformer layer as data: its matrices, and the steps of a pass through it. What the weight stream holds follows from it.

A family of models is a value of `Block`.
"""
from dataclasses import dataclass

__all__ = ["Attend", "Block", "LLAMA", "Matrix", "Norm", "Project", "Store"]


@dataclass(frozen=True)
class Matrix:
    """A matrix of a layer's checkpoint. ``name`` is its name in here and in a quantized layer.

    tensor      its name in a layer of Hugging Face's checkpoint
    rows        what its outputs are: "heads" or "kv_heads" of queries, keys or values, each padded as it is stored; "hidden"; "ff"
    rotary      the two elements of a rotary pair are stored side by side
    """
    name: str
    tensor: str
    rows: str
    rotary: bool = False


@dataclass(frozen=True)
class Norm:
    """An RMSNorm. Its record in the stream holds the exponents of the matrices up to the next one, then its gains.

    gain        the name of its gains in a quantized layer
    tensor      and in a layer of Hugging Face's checkpoint
    """
    name: str
    gain: str
    tensor: str


@dataclass(frozen=True)
class Project:
    """One pass of matrices through the array, as one matrix.

    matrices    their names, in the order in which their rows are stored: one after the other, or in turn if they are ``interleaved``
    inputs      what its inputs are: "hidden", "heads" (of attention, each padded) or "ff"
    """
    name: str
    matrices: tuple
    inputs: str
    interleaved: bool = False


@dataclass(frozen=True)
class Store:
    """Keys and values of all entries go into the KV memory."""
    name: str


@dataclass(frozen=True)
class Attend:
    """Attention of each entry's queries over its slot's keys and values."""
    name: str


@dataclass(frozen=True)
class Block:
    """A layer.

    matrices    of the checkpoint; a record has its exponents in this order
    steps       in the order of a pass
    """
    matrices: tuple
    steps: tuple

    def of(self, kind):
        """The steps of a kind, in order."""
        return tuple(step for step in self.steps if isinstance(step, kind))

    def exponents(self, norm):
        """Names of the matrices whose exponents the record of a norm holds, in order."""
        names = [step.name for step in self.steps]
        follow = self.steps[names.index(norm) + 1:]
        ends = [i for i, step in enumerate(follow) if isinstance(step, Norm)]
        read = {name for step in follow[:ends[0] if ends else None] if isinstance(step, Project) for name in step.matrices}
        return tuple(matrix.name for matrix in self.matrices if matrix.name in read)

    def matrix(self, name):
        """The `Matrix` of that name."""
        return next(matrix for matrix in self.matrices if matrix.name == name)


#: Llama, and whatever computes as it does.
LLAMA = Block(
    matrices=(
        Matrix("q", "self_attn.q_proj.weight", "heads", rotary=True), Matrix("k", "self_attn.k_proj.weight", "kv_heads", rotary=True),
        Matrix("v", "self_attn.v_proj.weight", "kv_heads"), Matrix("o", "self_attn.o_proj.weight", "hidden"),
        Matrix("gate", "mlp.gate_proj.weight", "ff"), Matrix("up", "mlp.up_proj.weight", "ff"),
        Matrix("down", "mlp.down_proj.weight", "hidden")),
    steps=(
        Norm("norm_1", "input_gain", "input_layernorm.weight"),
        Project("qkv", ("k", "v", "q"), "hidden"),
        Store("kv_write"),
        Attend("attention"),
        Project("o", ("o",), "heads"),
        Norm("norm_2", "post_gain", "post_attention_layernorm.weight"),
        Project("gate_up", ("gate", "up"), "hidden", interleaved=True),
        Project("down", ("down",), "ff")))
