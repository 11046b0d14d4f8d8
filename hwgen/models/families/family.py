"""A family of models: how a Hugging Face folder of it is read."""
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...params.block import ACTIVATIONS, Block, dense
from ...params.checks import shown
from ...params.model import LayerType, ModelShape
from ..options import About, Options
from . import tensors
from .rope import Rope, read_rope

__all__ = ["ATTENTION", "MLP", "PLAIN", "Family", "Given", "fields_of"]

#: Biases as most families have them, if an option says so.
ATTENTION, MLP = ("attention_bias", "q k v o"), ("mlp_bias", "gate up down")

#: Options that most configuration classes have, and their defaults there.
PLAIN = {"max_position_embeddings": 2048, "num_key_value_heads": None, "hidden_act": "silu", "rms_norm_eps": 1e-6,
         "head_dim": None, "rope_theta": 10000.0, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}

#: transformers' names of activations, and ours.
_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh",
                "gelu_fast": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_python_tanh": "gelu_tanh",
                "gelu_accurate": "gelu_tanh", "quick_gelu": "quick_gelu",
                "relu": "relu", "relu2": "relu2"}
assert set(_ACTIVATIONS.values()) == set(ACTIVATIONS), (
    f"_ACTIVATIONS must name transformers' words for {set(ACTIVATIONS) ^ set(_ACTIVATIONS.values())}")


@dataclass(frozen=True, kw_only=True)
class Family:
    """One value for each ``model_type`` of config.json. What it leaves out is as in Llama.

    Parameters
    ----------
    model_type, architecture : str
    other_names : tuple     other names of the architecture
    features : str          what the machine needs for it, in words, for the documentation
    defaults : dict         option -> what transformers 5.24 takes where config.json lacks it; None: as Llama derives it
    options : dict          Llama's name of an option -> this family's
    aliases : dict          another name of an option -> the one that is meant
    biases : tuple of (option or None, names of matrices)    biases that the file has if the option is true; None:
                                                             always
    block : dict or callable        what `dense` is told besides, or Given -> that; its biases are ``biases``
    fields : callable       Given -> fields of `ModelShape` besides
    layers : callable or None       (Given, ropes by layer type, window) -> (`LayerType`, `Rope`) of each layer
    epsilon : float or None         of the norms, where it is no option
    norm_biases : bool      its norms have biases: `tensors.norm_biases` makes biases of the matrices that read them;
                            the final one's stays
    head_bias : bool        its LM head has a bias
    untied : bool           a head that is the embedding table in the file is one of its own in the machine
    names : tuple of (ours, theirs)         parts of tensors' names
    prefix : str            before ``theirs``, which files of the model without its head lack
    transposed : bool       the matrices of layers are [inputs, outputs] in the file
    folds : tuple of callables      each (Plan, Given) -> words or None: see `tensors`
    neutral : dict          option -> (values at which it changes nothing, what is missing for others)
    ignored : tuple         options that change nothing in this family, besides those that never do
    leftover : tuple        ends of names of the file's tensors that change nothing
    theta_name, partial_name : str  the top level's options of RoPE
    rope_types : dict       name -> the one that is meant; "" -> those that the family takes
    rope_default : dict     ``rope_parameters`` where there are none
    rope_makers : dict      type -> how it is read, where that is not as in `rope`
    ropes : callable        (Given, head_dim, context) -> (`Rope` by layer type, elements of a head that are turned)
    """
    model_type: str
    architecture: str
    other_names: tuple = ()
    features: str = ""
    defaults: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    aliases: dict = field(default_factory=dict)
    biases: tuple = ()
    block: dict[str, Any] | Callable[["Given"], dict[str, Any]] = field(default_factory=dict)
    fields: Callable[["Given"], dict[str, Any]] = lambda given: {}
    layers: Callable[["Given", dict[str | None, Rope], int | None], list[tuple[LayerType, Rope]]] | None = None
    epsilon: float | None = None
    norm_biases: bool = False
    head_bias: bool = False
    untied: bool = False
    names: tuple = ()
    prefix: str = ""
    transposed: bool = False
    folds: tuple = ()
    neutral: dict = field(default_factory=dict)
    ignored: tuple = ()
    leftover: tuple = ()
    theta_name: str = "rope_theta"
    partial_name: str = "partial_rotary_factor"
    rope_types: dict = field(default_factory=dict)
    rope_default: dict = field(default_factory=dict)
    rope_makers: dict = field(default_factory=dict)
    ropes: Callable[["Given", int, int], tuple[dict[str | None, Rope], int]] = read_rope

    def names_in(self, config: dict[str, Any]) -> dict[str, Any]:
        """A configuration with its aliases replaced."""
        for other, name in self.aliases.items():
            if other in config and name in config and config[other] != config[name]:
                raise ValueError(f"Options {other} and {name} must be the same, not {shown(config[other])} and "
                                 f"{shown(config[name])}")
        return {self.aliases.get(name, name): value for name, value in config.items()}

    def of_file(self, names: Iterable[str]) -> "Family":
        """The family with the names of tensors as a file has them, whose ``names`` are given: with the prefix or
        without."""
        if not self.prefix or any(name.startswith(self.prefix) for name in names):
            return self
        return replace(self, names=tuple((ours, theirs.removeprefix(self.prefix)) for ours, theirs in self.names))

    def spelled(self, name: str) -> str:
        """What the file calls a tensor."""
        for ours, theirs in self.names:
            name = name.replace(ours, theirs)
        return name


class Given:
    """The options of one config.json, read as a family reads them.

    Attributes
    ----------
    family : Family
    options : Options
    about : About
    where : Path            of config.json
    layers : int            how many the model has
    shape, ropes            its ModelShape and (a `Rope` or None for each layer), once they are known
    """

    def __init__(self, family: Family, options: Options, about: About, where: Path) -> None:
        self.family, self.options, self.about, self.where = family, options, about, where
        self.layers: Any = None         # these three are known when the options have been read
        self.shape: Any = None
        self.ropes: Any = None

    def name(self, option: str) -> str:
        """The family's name of Llama's option."""
        return self.family.options.get(option, option)

    def raw(self, option: str) -> Any:
        """A value of any type, or the family's default; null stays null."""
        option = self.name(option)
        return self.options.raw(option, self.family.defaults.get(option))

    def __call__(self, option: str, kind: type = float, **limits: Any) -> Any:
        """A typed value; null and a missing one are the family's default."""
        option = self.name(option)
        default = (self.family.defaults[option],) if option in self.family.defaults else ()
        return self.options.take(option, kind, *default, **limits)

    def optional(self, option: str, kind: type = int, **limits: Any) -> Any:
        """A typed value, or None where it is null, or missing and the default None."""
        return None if self.raw(option) is None else self(option, kind, **limits)

    def said(self, option: str) -> str:
        """Who said a value."""
        return option if option in self.options else "transformers' default"

    @property
    def own_biases(self) -> set[str]:
        """Names of the matrices whose bias the file has."""
        return {name for option, names in self.family.biases if option is None or self(option, bool)
                for name in names.split()}

    def block(self) -> Block:
        """The `Block` of the layers."""
        more = self.family.block
        more = more(self) if callable(more) else more
        if "activation" not in more:
            act = self.raw("hidden_act")
            if not isinstance(act, str) or act not in _ACTIVATIONS:
                raise ValueError(f"Activation must be one of {', '.join(_ACTIVATIONS)}, not {shown(act)}")
            more = more | {"activation": _ACTIVATIONS[act]}
        biased = self.own_biases
        if self.family.norm_biases:
            biased |= {"q", "k", "v", "up", *(["gate"] if more.get("gated", True) else [])}
        return dense(biased=biased, final_bias=self.family.norm_biases, **more)

    def kinds(self, default: Callable[[int], bool]) -> list[str]:
        """The option layer_types, or ``default``: a function of a layer's index that says whether it has a window."""
        found = self.options.take("layer_types", list, None, of=str)
        return [f"{'sliding' if default(i) else 'full'}_attention"
                for i in range(self.layers)] if found is None else found

    def spread(self, kinds: Sequence[str], ropes: dict[str | None, Rope], window: int | None,
               turned: Sequence[int] | None = None) -> list[tuple[LayerType, Rope]]:
        """(`LayerType`, `Rope`) of each layer, from `kinds`. ``turned``: which layers have RoPE, or all."""
        for kind in kinds:
            if kind not in ("full_attention", "sliding_attention"):
                raise ValueError("Option layer_types must be of full_attention and sliding_attention, not "
                                 f"{shown(kind)}")
        if len(kinds) != self.layers:
            raise ValueError(f"Option layer_types must be one for each of {self.layers} layers, not {len(kinds)}")
        if "sliding_attention" in kinds and window is None:
            raise ValueError("Option sliding_window must be a number of positions where layer_types has "
                             "sliding_attention, not None")
        main = ropes.get(None) or ropes["full_attention"]
        found = []
        for i, kind in enumerate(kinds):
            rope = ropes.get(kind, main)
            same = (rope.theta, rope.scaling) == (main.theta, main.scaling)
            found.append((LayerType(
                window=window if kind == "sliding_attention" else None, rotary=turned is None or bool(turned[i]),
                rope_theta=None if same else rope.theta, rope_scaling=None if same else rope.scaling), rope))
        return found

    def plan(self, shape: ModelShape, sizes: dict[str, tuple[int, ...]], tied: bool) -> tensors.Plan:
        """The `Plan` of the tensors, with what it folds among the notes."""
        plan = tensors.Plan(shape, sizes, self.family.spelled, self.own_biases, tied, self.family.transposed)
        said = [*(fold(plan, self) for fold in self.family.folds),
                tensors.attention_factor(plan, [rope.factor if rope else 1.0 for rope in self.ropes])]
        if tied and not shape.tie_word_embeddings:
            said.append("the head is a table of its own")
        said = [words for words in said if words]
        if said:
            self.about.notes["folded"] = "; ".join(said)
        return plan


def _check_neutral(family, options):
    """ValueError for an option at a value that would need what the machine lacks."""
    for option, (neutral, missing) in family.neutral.items():
        value = options.raw(option, neutral[0])
        if not any(type(value) is type(other) and value == other for other in neutral):
            raise ValueError(f"Option {option} must be {shown(neutral[0])}, not {shown(value)}: {missing}")


def _note_layers(given, types):
    """Notes on how many layers have a window, and how many no RoPE."""
    windows = sorted({kind.window for kind in types if kind.window is not None})
    if windows:
        layers = sum(kind.window is not None for kind in types)
        given.about.notes["window"] = f"{windows[0]} positions ({given.said(given.name('sliding_window'))})" + (
            "" if layers == given.layers else f", in {layers} of {given.layers} layers")
    unturned = sum(not kind.rotary for kind in types)
    if unturned:
        given.about.notes["layers without RoPE"] = f"{unturned} of {given.layers}"


def fields_of(given: Given) -> dict[str, Any]:
    """Fields of the `ModelShape` of a configuration, but for its name and its start and end tokens; `given.ropes` is
    set."""
    family, options = given.family, given.options
    _check_neutral(family, options)
    for option in (*family.defaults, *family.ignored):      # those that only the tensors' recipes read are known too
        if option not in family.options and not (option == "rms_norm_eps" and family.epsilon):
            options.raw(option)
    heads, hidden = (given(key, int, low=1) for key in ("num_attention_heads", "hidden_size"))
    given.layers = given("num_hidden_layers", int, low=1, high=1000)
    # null is as many as heads; what it is where it is missing depends on the family, and some do not know it
    kv_heads = heads
    if "num_key_value_heads" in family.defaults:
        default = None if "num_key_value_heads" in options else family.defaults["num_key_value_heads"]
        kv_heads = options.take("num_key_value_heads", int, default or heads)
    head_dim = options.take("head_dim", int, None if "head_dim" in options else family.defaults.get("head_dim"))
    if head_dim is None:
        if hidden % heads:
            raise ValueError(f"Hidden size {hidden} must be a multiple of head count {heads}, or head_dim be given")
        head_dim = hidden // heads
    elif "head_dim" not in family.defaults and head_dim * heads != hidden:
        raise ValueError(f"Option head_dim must be {hidden} / {heads} in a {family.model_type} model, not {head_dim}")
    context = given("max_position_embeddings", int, low=1)
    ropes, turned = family.ropes(given, head_dim, context)
    if 0 < turned < head_dim:
        given.about.notes["RoPE of a part"] = f"the first {turned} of {head_dim} elements of a head"
    window = given.optional("sliding_window", low=1) if "sliding_window" in family.defaults else None
    made = dict(
        vocab_size=given.raw("vocab_size"),
        hidden_size=hidden,
        intermediate_size=given.raw("intermediate_size"),
        num_hidden_layers=given.layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        rms_norm_eps=family.epsilon or given.raw("rms_norm_eps"),
        max_position_embeddings=min(rope.context or context for rope in ropes.values()),
        rotary_dim=None if turned == head_dim else turned,
        head_bias=family.head_bias,
        block=given.block()) | family.fields(given)
    if window is not None and not family.layers and any(kind != "sliding_attention"
                                                        for kind in given.kinds(lambda i: True)):
        raise ValueError(f"Option layer_types must be sliding_attention for each layer of a {family.model_type} "
                         "model, or not be there")
    main = ropes.get(None) or ropes["full_attention"]
    pairs = family.layers(given, ropes, window) if family.layers else [(LayerType(window=window), main)] * given.layers
    given.ropes = [rope if kind.rotary else None for kind, rope in pairs]
    types = tuple(kind for kind, _ in pairs)
    alike = len(set(types)) == 1 and types[0].rotary and types[0].rope_theta is None
    _note_layers(given, types)
    return made | {"rope_theta": main.theta, "rope_scaling": main.scaling, "sliding_window": types[0].window
                   if alike else None, "layer_types": () if alike else types}
