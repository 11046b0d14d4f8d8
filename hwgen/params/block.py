"""A transformer layer as data: its matrices, and the steps of a pass through it. The content of the weight stream
follows from it.

A family of models is a value of `Block`. Numbers that differ between models of a family, or between its layers, are in
`ModelShape`.
"""
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TypeVar, cast

__all__ = ["ACTIVATIONS", "Attend", "Block", "LLAMA", "Matrix", "Norm", "Project", "QkNorm", "Step", "Store", "Vector",
           "dense"]

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2")


@dataclass(frozen=True)
class Matrix:
    """A matrix of a layer's checkpoint. ``name`` is its name in here and in a quantized layer.

    tensor      its name in a layer of Hugging Face's checkpoint
    rows        what its outputs are: "heads" or "kv_heads" of queries, keys or values, each padded as it is stored;
                "hidden"; "ff"
    rotary      the two elements of a rotary pair are stored side by side
    biased      a number of its own is added to each output
    """
    name: str
    tensor: str
    rows: str
    rotary: bool = False
    biased: bool = False

    @property
    def bias(self) -> str:
        """Name of its bias in a layer of the checkpoint."""
        return self.tensor.removesuffix("weight") + "bias"


@dataclass(frozen=True)
class Norm:
    """An RMSNorm. Its record in the stream holds the exponents of the matrices up to the next one, its gains, then
    `Block.vectors`.

    gain        the name of its gains in a quantized layer
    tensor      and in a layer of Hugging Face's checkpoint; "" with
    plain       there is no norm: rows are rounded to bf16 and nothing else; its gains are 1
    reads       "residual", or "sums": what the `Project` before it has left there
    writes      "normed", the input of the next matrix, or "residual": the result is added to it
    """
    name: str
    gain: str
    tensor: str
    plain: bool = False
    reads: str = "residual"
    writes: str = "normed"


@dataclass(frozen=True)
class Project:
    """One pass of matrices through the array, as one matrix.

    matrices    their names, in the order in which their rows are stored: one after the other, or in turn if they are
                ``interleaved``
    inputs      what its inputs are: "hidden", "heads" (of attention, each padded) or "ff"
    sink        where its sums go: "heads" (to RoPE and the KV memory), "activation", "residual", or "sums", from which
                a `Norm` takes them
    """
    name: str
    matrices: tuple[str, ...]
    inputs: str
    sink: str
    interleaved: bool = False


@dataclass(frozen=True)
class Store:
    """Keys and values of all entries go into the KV memory."""
    name: str


@dataclass(frozen=True)
class Attend:
    """Attention of each entry's queries over its slot's keys and values."""
    name: str


Step = Norm | Project | Store | Attend
S = TypeVar("S", bound=Step)


@dataclass(frozen=True)
class QkNorm:
    """RMSNorm of keys and of queries.

    span            "head": each head by itself; "projection": all heads of a kind as one vector
    after_rotary    they are turned first, and normed then
    q_tensor, k_tensor      names of the gains in a layer of Hugging Face's checkpoint: of head_dim numbers, or of the
                            projection's
    """
    span: str
    after_rotary: bool = False
    q_tensor: str = "self_attn.q_norm.weight"
    k_tensor: str = "self_attn.k_norm.weight"


@dataclass(frozen=True)
class Vector:
    """Numbers that a record holds behind its gains, as bf16.

    name        in a quantized layer: that of the matrix of queries or keys with "_gain", or a project's with "_bias";
                "final_bias" in the quantized model
    project     of a bias of a matrix, else ""
    matrix      of gains of queries or of keys, else ""
    """
    name: str
    project: str = ""
    matrix: str = ""


#: What a machine does in a layer but for norms: (kind of step, inputs, sink).
_ROLES = [(Project, "hidden", "heads"), (Store,), (Attend,), (Project, "heads", "residual"),
          (Project, "hidden", "activation"), (Project, "ff", "residual")]


@dataclass(frozen=True)
class Block:
    """A layer. Its properties from `into_heads` to `attend` are the roles by which all else finds its steps and
    matrices: their names are known here alone.

    matrices    of the checkpoint; a record has its exponents in this order
    steps       in the order of a pass: a norm that writes "normed"; `into_heads`, `store`, `attend`, `from_heads`;
                `into_ff`, `from_ff`; and other norms behind `from_heads` and `from_ff`
    activation  of the gate, or, where there is no matrix "gate", of "up": one of `ACTIVATIONS`
    qk_norm     None, or of keys and queries
    final_bias  the final norm, behind the layers, adds a vector to its result. (What a norm of a layer adds, the next
                matrix's bias can hold.)
    """
    matrices: tuple[Matrix, ...]
    steps: tuple[Step, ...]
    activation: str = "silu"
    qk_norm: QkNorm | None = None
    final_bias: bool = False

    @property
    def into_heads(self) -> Project:
        """The `Project` whose sums are keys, values and queries."""
        return self._project(sink="heads")

    @property
    def from_heads(self) -> Project:
        """The `Project` that reads the results of attention."""
        return self._project(inputs="heads")

    @property
    def into_ff(self) -> Project:
        """The `Project` whose sums go to the activation: gates and ups, or ups alone."""
        return self._project(sink="activation")

    @property
    def from_ff(self) -> Project:
        """The `Project` that reads the results of the activation."""
        return self._project(inputs="ff")

    @property
    def converted(self) -> tuple[Project, Project]:
        """The projects whose sums become bf16."""
        return self.into_heads, self.into_ff

    @property
    def added(self) -> tuple[Project, Project]:
        """The projects whose sums go to the residual, or to a norm before it."""
        return self.from_heads, self.from_ff

    @property
    def queries(self) -> Matrix:
        """The `Matrix` of queries."""
        return next(matrix for matrix in self.matrices if matrix.rows == "heads")

    @property
    def keys(self) -> Matrix:
        """The `Matrix` of keys."""
        return next(matrix for matrix in self.matrices if matrix.rows == "kv_heads" and matrix.rotary)

    @property
    def values(self) -> Matrix:
        """The `Matrix` of values."""
        return next(matrix for matrix in self.matrices if matrix.rows == "kv_heads" and not matrix.rotary)

    @property
    def store(self) -> Store:
        """The step that stores keys and values."""
        return self.of(Store)[0]

    @property
    def attend(self) -> Attend:
        """The step of attention."""
        return self.of(Attend)[0]

    def _project(self, **role: str) -> Project:
        return next(step for step in self.of(Project)
                    if all(getattr(step, field) == value for field, value in role.items()))

    def norm_before(self, project: Project) -> Norm:
        """The `Norm` whose results a `Project` of "hidden" inputs reads."""
        before = self.steps[:self.steps.index(project)]
        return [step for step in before if isinstance(step, Norm) and step.writes == "normed"][-1]

    def norm_after(self, project: Project) -> Norm | None:
        """The `Norm` that takes the sums of a `Project`, or None."""
        return cast(Norm, self.steps[self.steps.index(project) + 1]) if project.sink == "sums" else None

    @property
    def gated(self) -> bool:
        """Whether the activation of a gate is multiplied with "up"."""
        return len(self.into_ff.matrices) == 2

    @property
    def parallel(self) -> bool:
        """Whether attention and MLP read the same norm of the same residual."""
        return self.norm_before(self.into_ff) == self.norm_before(self.into_heads)

    @property
    def post_norms(self) -> bool:
        """Whether sums are normed before they are added to the residual."""
        return any(norm.reads == "sums" for norm in self.of(Norm))

    def __post_init__(self) -> None:
        roles = [(type(step), *((step.inputs, step.sink.replace("sums", "residual"))
                                if isinstance(step, Project) else ()))
                 for step in self.steps if not isinstance(step, Norm)]
        if roles != _ROLES or not isinstance(self.steps[0],
                                             Norm) or len({step.name for step in self.steps}) < len(self.steps):
            raise ValueError("Steps of a block must be a norm, a project to heads, a store, attention, a project from "
                             "heads, and an MLP's two projects, with other norms between them, all called differently")
        if self.into_heads.matrices != (self.keys.name, self.values.name, self.queries.name):
            raise ValueError("Heads must come from matrices of keys, values and queries, in this order, "
                             f"not from {', '.join(self.into_heads.matrices)}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"Activation must be one of {', '.join(ACTIVATIONS)}, not {self.activation!r}")

    @property
    def record_words(self) -> int:
        """16-bit words at the start of a record, a power of two: the exponents of the matrices that follow."""
        return max(4, 1 << (max(len(self.exponents(norm.name)) for norm in self.of(Norm)) - 1).bit_length())

    def of(self, kind: type[S]) -> tuple[S, ...]:
        """The steps of a kind, in order."""
        return tuple(step for step in self.steps if isinstance(step, kind))

    def exponents(self, norm: str) -> tuple[str, ...]:
        """Names of the matrices whose exponents the record of a norm holds, in order."""
        read = {name for project in self.projects(norm) for name in project.matrices}
        return tuple(matrix.name for matrix in self.matrices if matrix.name in read)

    def projects(self, norm: str) -> tuple[Project, ...]:
        """The projects between a norm and the next one, in order: those that its record is for."""
        names = [step.name for step in self.steps]
        follow = self.steps[names.index(norm) + 1:]
        ends = [i for i, step in enumerate(follow) if isinstance(step, Norm)]
        return tuple(step for step in follow[:ends[0] if ends else None] if isinstance(step, Project))

    def record_of(self, matrix: str) -> tuple[str, int]:
        """(norm, index) of a matrix's exponent: the norm whose record holds it, and its place there."""
        norm = next(norm.name for norm in self.of(Norm) if matrix in self.exponents(norm.name))
        return norm, self.exponents(norm).index(matrix)

    def biased(self, *projects: Project) -> bool:
        """Whether something is added to the sums of any of some `Project` s."""
        return any(self.matrix(name).biased for project in projects for name in project.matrices)

    def gain_of(self, matrix: Matrix) -> Vector:
        """The `Vector` of gains of queries or of keys."""
        return Vector(f"{matrix.name}_gain", matrix=matrix.name)

    def bias_of(self, project: Project) -> Vector:
        """The `Vector` of the biases of a `Project`."""
        return Vector(f"{project.name}_bias", project=project.name)

    def vectors(self, norm: str) -> tuple[Vector, ...]:
        """The `Vector` s of a norm's record, in order: gains of queries and of keys, then biases, one vector for each
        project."""
        projects = self.projects(norm)
        gains = [self.gain_of(self.queries),
                 self.gain_of(self.keys)] if self.qk_norm and self.into_heads in projects else []
        return (*gains, *(self.bias_of(project) for project in projects if self.biased(project)))

    @property
    def final_vectors(self) -> tuple[Vector, ...]:
        """The `Vector` s of the final norm's record."""
        return (Vector("final_bias"),) if self.final_bias else ()

    def matrix(self, name: str) -> Matrix:
        """The `Matrix` of that name."""
        return next(matrix for matrix in self.matrices if matrix.name == name)


def dense(*, biased: Collection[str] = (), qk_norm: QkNorm | None = None, norms: str = "pre", parallel: bool = False,
          activation: str = "silu", gated: bool = True, final_bias: bool = False) -> Block:
    """The `Block` of a dense decoder.

    biased      names of the matrices that have a bias
    norms       "pre": of the residual, before attention and before the MLP; "post": of what each of them adds to it;
                "sandwich": both
    parallel    attention and MLP read the same residual, and the same norm of it ("pre")
    gated       the MLP multiplies a gate with "up"
    final_bias  the final norm has a bias
    """
    if norms not in ("pre", "post", "sandwich"):
        raise ValueError(f"Norms must be pre, post or sandwich, not {norms!r}")
    if parallel and norms != "pre":
        raise ValueError(f"Norms of a parallel block must be pre, not {norms!r}")
    mlp = (Matrix("gate", "mlp.gate_proj.weight", "ff"), Matrix("up", "mlp.up_proj.weight", "ff"))[0 if gated else 1:]
    matrices = (
        Matrix("q", "self_attn.q_proj.weight", "heads", rotary=True),
        Matrix("k", "self_attn.k_proj.weight", "kv_heads", rotary=True),
        Matrix("v", "self_attn.v_proj.weight", "kv_heads"), Matrix("o", "self_attn.o_proj.weight", "hidden"),
        *mlp, Matrix("down", "mlp.down_proj.weight", "hidden"))
    unknown = set(biased) - {matrix.name for matrix in matrices}
    if unknown:
        raise ValueError(f"Matrices with a bias must be of {', '.join(matrix.name for matrix in matrices)}, not "
                         f"{', '.join(sorted(unknown))}")
    pre, post = norms != "post", norms != "pre"
    sink = "sums" if post else "residual"

    def before(name: str, gain: str, tensor: str) -> Norm:
        return Norm(name, gain, tensor) if pre else Norm(name, gain, "", plain=True)

    def after(name: str, gain: str, tensor: str) -> tuple[Norm, ...]:
        return (Norm(name, gain, tensor, reads="sums", writes="residual"),) if post else ()

    return Block(
        matrices=tuple(replace(matrix, biased=matrix.name in biased) for matrix in matrices), activation=activation,
        qk_norm=qk_norm, final_bias=final_bias,
        steps=(
            before("norm_1", "input_gain", "input_layernorm.weight"),
            Project("qkv", ("k", "v", "q"), "hidden", "heads"),
            Store("kv_write"),
            Attend("attention"),
            Project("o", ("o",), "heads", sink),
            *after("post_1", "attention_gain", "post_self_attn_layernorm.weight"),
            *(() if parallel else (before("norm_2", "post_gain", "post_attention_layernorm.weight"),)),
            Project("gate_up", tuple(matrix.name for matrix in mlp), "hidden", "activation", interleaved=gated),
            Project("down", ("down",), "ff", sink),
            *after("post_2", "mlp_gain", "post_mlp_layernorm.weight")))


#: Llama, and whatever computes as it does.
LLAMA = dense()
