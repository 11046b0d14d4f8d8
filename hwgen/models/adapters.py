"""LoRA adapters as PEFT publishes them: a folder with adapter_config.json and adapter_model.safetensors.

What an option means is what PEFT 0.21 makes of it (https://github.com/huggingface/peft, tuners/lora/config.py and
tuners_utils.py). An option that changes what the model computes is honoured or refused by its name.
"""
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..params.checks import shown
from .checkpoint import Checkpoint, ModelError, finite
from .json_file import read_json
from .options import Options
from .reference import Reference
from .safetensors_file import SafetensorsFile

__all__ = ["DEVIL", "Adapted", "Adapter", "LowRank", "read_adapter"]

#: Of the demo model, shipped.
DEVIL = Path(__file__).parent / "devil"

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_PREFIX = "base_model.model."       # before a module's name in the file
_A, _B = ".lora_A.weight", ".lora_B.weight"

#: Options with which an adapter is more than two matrices beside a fixed one: the values that are right, and why others
#: are not.
_NEUTRAL: dict[str, tuple[Any, str]] = {
    "bias": (("none",), "the base keeps its biases (train with bias=\"none\")"),
    "use_dora": ((False, None), "this hardware has no norm of weights (merge the adapter, or train without DoRA)"),
    "lora_bias": ((False, None), "this hardware adds no bias behind an adapter"),
    "modules_to_save": ((None, []), "the base is fixed, so no module of it can be replaced"),
    "trainable_token_indices": ((None, [], {}), "the embedding table is fixed"),
    "layer_replication": ((None, []), "the base has its layers once"),
    "target_parameters": ((None, []), "only modules can have an adapter"),
    "alora_invocation_tokens": ((None, []), "an adapter is on for a whole text"),
    "use_qalora": ((False, None), "inputs are not pooled"),
    "kasa_config": ((None,), "the base would be another one"),
    "velora_config": ((None,), "it is not known here"),
    "monteclora_config": ((None,), "nothing is sampled here"),
    "use_bdlora": ((None, False), "adapters with blocks are not known here"),
    "arrow_config": ((None,), "nothing routes between adapters"),
    "megatron_config": ((None,), "parallel layers of Megatron are not known here"),
    "auto_mapping": (..., ""), "base_model_name_or_path": (..., ""), "inference_mode": (..., ""), "revision": (..., ""),
    "peft_version": (..., ""),
    # of training alone; fan_in_fan_out is of how the base is stored, and A and B are stored alike whatever it says
    "lora_dropout": (..., ""), "fan_in_fan_out": (..., ""), "megatron_core": (..., ""), "loftq_config": (..., ""),
    "eva_config": (..., ""), "corda_config": (..., ""), "lora_ga_config": (..., ""), "qalora_group_size": (..., ""),
    "ensure_weight_tying": (..., ""),
    "task_type": (("CAUSAL_LM", None), "this hardware writes text"),
}

#: Beginnings of A and B that leave the base as it is. Others (pissa, olora, corda, loftq, lora_ga) take something away
#: from it.
_STARTS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")

#: Of a regular expression, for those of a file may be made to take for ever: Python's backtrack. (unsloth writes one of
#: 5.)
_MOST_REPEATS, _LONGEST = 5, 2000


@dataclass(frozen=True, eq=False)
class LowRank:
    """What is added to one matrix of a layer: ``scale * b @ a``.

    a : float32 [rank, inputs]
    b : float32 [outputs, rank]
    scale : float
    """
    a: np.ndarray
    b: np.ndarray
    scale: float

    @property
    def rank(self) -> int:
        return len(self.a)


@dataclass(frozen=True, eq=False)
class Adapter:
    """What :func:`read_adapter` returns: ``parts`` is tensor name of the base (as `tensor_shapes` has it) -> `LowRank`;
    ``source`` is for messages."""
    source: str
    parts: dict

    @property
    def rank(self) -> int:
        """The largest."""
        return max(part.rank for part in self.parts.values())


class Adapted(Reference):
    """The float32 reference of a Checkpoint with an adapter."""

    def __init__(self, checkpoint: Checkpoint, adapter: Adapter) -> None:
        super().__init__(checkpoint.shape, checkpoint.tensor)
        self._adapter = adapter

    def times(self, x: np.ndarray, name: str) -> np.ndarray:
        sums, part = super().times(x, name), self._adapter.parts.get(name)
        return sums if part is None else sums + np.float32(part.scale) * (x @ part.a.T @ part.b.T)


def read_adapter(folder: str | Path, checkpoint: Checkpoint) -> Adapter:
    """The `Adapter` of a PEFT folder ("devil" is shipped here) for a `Checkpoint`. ModelError, in one line, for what is
    none, is of another base, or cannot be honoured."""
    folder = {"devil": DEVIL}.get(str(folder), Path(folder))
    where = folder / CONFIG
    if checkpoint.modules is None:
        raise ModelError(f"{checkpoint.source}: Base of an adapter must be a folder in Hugging Face's layout, with "
                         "plain weights")
    if not where.exists():
        raise ModelError(f"{where} is missing: an adapter's folder has {CONFIG} and {WEIGHTS} "
                         "(save_pretrained of peft)")
    try:
        config = _Config(read_json(where), checkpoint.modules)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{where}: {error}") from None
    path = folder / WEIGHTS
    if not path.exists():
        raise ModelError(f"{path} is missing: save the adapter with safetensors (save_pretrained of peft does)")
    file = SafetensorsFile(path)
    shapes, parts = checkpoint.shape.layer_tensors(), {}
    wanted = {_PREFIX + module + end for module in config.targets for end in (_A, _B)}
    for name in file.shapes:
        if name not in wanted:
            raise ModelError(f"{path}: tensor {name} must be A or B of a module that {CONFIG} targets in "
                             f"{checkpoint.source}: is this the adapter's base?")
    for module, (rank, scale) in config.targets.items():
        tensor = checkpoint.modules[module]
        assert tensor is not None       # `_Config` has checked it
        outputs, inputs = shapes[tensor.split(".", 3)[3]]
        a, b = (_read(file, path, _PREFIX + module + end, size)
                for end, size in ((_A, (rank, inputs)), (_B, (outputs, rank))))
        parts[tensor] = LowRank(a, b, scale)
    return Adapter(str(folder), parts)


def _read(file, path, name, size):
    if name not in file.shapes:
        raise ModelError(f"{path}: tensor {name} is missing: {CONFIG} targets its module")
    if tuple(file.shapes[name]) != size:
        raise ModelError(f"{path}: tensor {name} must be {list(size)} by the base and {CONFIG}, not "
                         f"{list(file.shapes[name])}")
    return finite(file.read(name), f"{path}: tensor {name}")


class _Config:
    """An adapter_config.json. ``targets``: module -> (rank, scale). TypeError or ValueError for what is not
    honoured."""

    def __init__(self, values, modules):
        self._options = options = Options(values)
        kind = options.take("peft_type", str)
        if kind != "LORA":
            raise ValueError(f"Option peft_type must be LORA, not {shown(kind)}: this hardware has no other adapters")
        for name, (right, why) in _NEUTRAL.items():
            value = options.raw(name, None if right is ... else right[0])
            if right is not ... and not any(type(value) is type(other) and value == other for other in right):
                raise ValueError(f"Option {name} must be {shown(right[0])}, not {shown(value)}: {why}")
        start = options.raw("init_lora_weights", True)
        if not any(type(start) is type(other) and start == other for other in _STARTS):
            raise ValueError("Option init_lora_weights must be one that leaves the base as it is, not "
                             f"{shown(start)}: save the adapter as a plain one "
                             "(path_initial_model_for_weight_conversion of peft's save_pretrained)")
        self._rank, self._alpha = options.take("r", int, 8, low=1), options.take("lora_alpha", float, 8)
        self._rslora = options.take("use_rslora", bool, False)
        self._ranks = options.take("rank_pattern", dict, {}, of=int, low=1)
        self._alphas = options.take("alpha_pattern", dict, {}, of=float)
        self._targeted, self._excluded = self._targeting(), self._names("exclude_modules", None)
        self._layers = self._of_layers()
        unknown = options.left({})
        set_ = [name for name in unknown if values[name] not in (None, False, [], {})]
        if set_:
            raise ValueError(f"Option {set_[0]} must be missing, not {shown(values[set_[0]])}: it is not known here")
        found = [module for module in modules if self._is_target(module)]
        for module in found:
            if modules[module] is None:
                raise ValueError("Target modules must be matrices of layers that the machine has as the file has "
                                 f"them, not {module}")
        if not found:
            raise ValueError("Option target_modules must name modules of the base, not "
                             f"{shown(options.raw('target_modules'))}: is this the adapter's base?")
        self.targets = {module: self._scaled(module) for module in found}

    def _scaled(self, module):
        """(rank, scale) of a module: the first pattern that ends its name counts."""
        rank, alpha = ((next((value for key, value in patterns.items()
                              if _matches(name, key, module, within=r"(.*\.)?({})$")), default))
                       for name, patterns, default in (("rank_pattern", self._ranks, self._rank),
                                                       ("alpha_pattern", self._alphas, self._alpha)))
        return rank, alpha / (math.sqrt(rank) if self._rslora else rank)

    def _names(self, option, *default):
        """A pattern (str), a list of names, or None."""
        if isinstance(self._options.raw(option), str):
            return self._options.take(option, str)
        return self._options.take(option, list, *default, of=str)

    def _targeting(self):
        targeted = self._names("target_modules")
        return "all-linear" if isinstance(targeted, str) and targeted.lower() == "all-linear" else targeted

    def _of_layers(self):
        """(layers, patterns of what stands before their number) to which a list of names is confined, or None."""
        layers = self._options.raw("layers_to_transform")
        patterns = self._names("layers_pattern", None) or []
        if layers is None or layers == []:
            if patterns:
                raise ValueError("Option layers_pattern must be missing where layers_to_transform is")
            return None
        layers = [self._options.take("layers_to_transform",
                                     int)] if not isinstance(layers, list) else self._options.take(
            "layers_to_transform", list, of=int)
        if isinstance(self._targeted, str):
            raise ValueError("Option layers_to_transform must be missing where target_modules is no list")
        return layers, [patterns] if isinstance(patterns, str) else patterns

    def _is_target(self, module):
        """`check_target_module_exists` of PEFT's tuners_utils.py."""
        if self._excluded and _is_named("exclude_modules", self._excluded, module):
            return False
        if self._targeted == "all-linear":
            return module.rpartition(".")[2] not in _NO_LINEAR
        if not _is_named("target_modules", self._targeted, module):
            return False
        # a name that is there in full is not confined to layers
        if isinstance(self._targeted, str) or module in self._targeted:
            return True
        return self._layers is None or self._layer_of(module) in self._layers[0]

    def _layer_of(self, module):
        _, patterns = self._layers
        if patterns:
            found = [_matches("layers_pattern", pattern, module, within=r"(?:^|.*?\.){}\.(?P<idx>\d+)\.")
                     for pattern in patterns]
        else:
            found = [re.match(r".*?\.[^.]*\.(?P<idx>\d+)\.", module)]
        return next((int(match["idx"]) for match in found if match), None)


#: Last parts of names of modules that "all-linear" leaves out.
_NO_LINEAR = ("lm_head", "embed_tokens", "wte", "wpe", "embed_in", "embed_out", "embed_positions", "word_embeddings",
              "output_layer")


def _is_named(option, names, module):
    """By a pattern of the whole name, or a list of names or their ends."""
    if isinstance(names, str):
        return _matches(option, names, module, re.fullmatch) is not None
    return module in names or any(module.endswith(f".{name}") for name in names)


def _matches(option, pattern, module, match=re.match, within="{}"):
    """The match of a pattern of the file's, in one of ours, with a name. ValueError for a pattern that might take for
    ever."""
    repeats, in_class, i = 0, False, 0
    while i < len(pattern):
        c = pattern[i]
        if c == "\\":
            i += 1
        elif in_class:
            in_class = c != "]"
        elif c == "[":
            in_class = True
            i += pattern[i + 1:i + 2] == "^"
            i += pattern[i + 1:i + 2] == "]"        # which is one of the class where it comes first
        elif c in "*+{":
            repeats += 1
            if pattern[i - 1:i] == ")":
                raise ValueError(f"Option {option} must not repeat a group, as {shown(pattern)} does")
        i += 1
    if repeats > _MOST_REPEATS or len(pattern) > _LONGEST:
        raise ValueError(f"Option {option} must be of at most {_LONGEST} letters and {_MOST_REPEATS} repetitions, not "
                         f"{shown(pattern)}")
    try:
        return match(within.format(pattern), module)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"Option {option} must be a regular expression ({error}), not {shown(pattern)}") from None
