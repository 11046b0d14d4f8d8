"""Tensors of a Hugging Face folder: safetensors, one file or shards, with the scales of weights in FP8 and MXFP4."""
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from ..params.checks import shown
from . import mxfp4
from .checkpoint import ModelError
from .json_file import read_json, take
from .options import Options
from .safetensors_file import SafetensorsFile

__all__ = ["Tensors", "ignored"]

# The quantization methods whose scales are read below.
_FP8_METHODS = ("fp8", "fbgemm_fp8", "compressed-tensors", "modelopt")
_MXFP4 = "mxfp4"
# What a weight's scale is called: both multiply, whatever the second one's name says.
_SCALES = ("_scale", "_scale_inv")
# Scales of numbers that the machine rounds in its own way. (Any other, such as pre_quant_scale, changes the model.)
_FOUND_SCALES = frozenset(("input_scale", "input_scale_ub", "activation_scale", "output_scale", "q_scale", "k_scale",
                           "v_scale", "kv_scale", "prob_scale"))


def _block_structure(options):
    """Rows and columns of a block, as compressed-tensors says them for each group of matrices: they must be the same in
    all."""
    groups = options.take("config_groups", dict, {}, of=dict)
    weights = [Options(group, f"quantization_config.config_groups.{name}.").take("weights", dict, {})
               for name, group in groups.items()]
    found = {tuple(take(w, "block_structure", list, [128, 128], of=int, low=1)) for w in weights
             if w.get("strategy") == "block"}
    if len(found) > 1:
        raise ValueError("Option quantization_config.config_groups must have the same block_structure in all groups")
    return list(*found) or [128, 128]


def _quantization(config):
    """(method or None, (rows, columns) of a block) of a quantization_config."""
    options = Options(config, "quantization_config.")
    method = options.take("quant_method", str) if config else None
    if method is not None and method not in (*_FP8_METHODS, _MXFP4):
        raise ValueError(f"Quantization method must be one of {', '.join((*_FP8_METHODS, _MXFP4))}, not "
                         f"{shown(method)}: use the unquantized model")
    if options.raw("transform_config"):
        raise ValueError("Option quantization_config.transform_config must be empty: this hardware has no transforms "
                         "of activations")
    block = options.take("weight_block_size", list, _block_structure(options), of=int, low=1)
    if len(block) != 2:
        raise ValueError(f"Option quantization_config.weight_block_size must be two numbers, not {len(block)}")
    return method, tuple(block)


class Tensors:
    """The tensors of one file or of all shards, FP8 and MXFP4 ones times their scales."""

    def __init__(self, folder: Path, quantization: dict[str, Any]) -> None:
        single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
        if not single.exists() and not index.exists():
            raise ModelError(f"{single} is missing, and so is {index.name}: "
                             "save the model with safetensors (save_pretrained of transformers does)")
        names = [single.name] if single.exists() else _shards(index)
        self._files = {}  # tensor name -> file
        for name in names:
            file = SafetensorsFile(folder / name)
            for tensor in file.shapes:
                if tensor in self._files:
                    raise ModelError(f"{file.path}: tensor {tensor} must stand in one file, and it is in "
                                     f"{self._files[tensor].path.name} too: fetch the model again")
                self._files[tensor] = file
        path = folder / "config.json"
        try:
            method, self._block = _quantization(quantization)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{path}: {error}") from None
        self._method = method
        self.shapes = {name: file.shapes[name] for name, file in self._files.items()}
        self.in_blocks = set()
        if method == _MXFP4:
            self._join_blocks()
        for name, file in self._files.items():
            for suffix in _SCALES:
                if name + suffix in self._files and not (method and file.is_fp8(name)):
                    raise ModelError(f"{file.path}: tensor {name + suffix} must scale FP8 weights of a model whose "
                                     f"config.json has a quantization_config, and {name} is none: use the unquantized "
                                     "model")

    def _join_blocks(self):
        """Codes and scales in MXFP4 become one tensor each."""
        for codes in [name for name in self._files if name.endswith(mxfp4.BLOCKS)]:
            name, file = codes.removesuffix(mxfp4.BLOCKS), self._files[codes]
            scales = name + mxfp4.SCALES
            if scales not in self._files:
                raise ModelError(f"{file.path}: tensor {scales} is missing: {name} is in MXFP4, and its scales must "
                                 "be in the file")
            shape = mxfp4.matrix_shape(self.shapes.pop(codes), self.shapes.pop(scales))
            if shape is None or name in self._files:
                raise ModelError(f"{file.path}: tensor {codes} must be [rows, inputs / 32, 16] with scales [rows, "
                                 f"inputs / 32], and there once, not {list(file.shapes[codes])} with "
                                 f"{list(self._files[scales].shapes[scales])}")
            self.shapes[name] = shape
            self.in_blocks.add(name)

    def read(self, name: str) -> np.ndarray:
        if name not in self._files:
            codes, scales = name + mxfp4.BLOCKS, name + mxfp4.SCALES
            with np.errstate(over="ignore"):        # what is infinite is refused
                return mxfp4.dequantized(self._files[codes].read_bytes(codes), self._files[scales].read_bytes(scales))
        file = self._files[name]
        values = file.read(name)
        for suffix in _SCALES:
            if name + suffix in self._files:
                return self._scaled(name, values, name + suffix)
        if self._method and file.is_fp8(name):
            raise ModelError(f"{file.path}: tensor {name}_scale is missing: "
                             f"{name} is FP8, and its scale must be in the file")
        return values

    def _scaled(self, name, values, scale_name):
        file = self._files[scale_name]
        scale = file.read(scale_name)
        if values.ndim != 2:
            raise ModelError(f"{file.path}: tensor {scale_name} must scale a matrix, not one of shape "
                             f"{list(values.shape)}")
        n, k = values.shape
        rows, columns = self._block
        if scale.size == 1:
            return values * scale.reshape(1, 1)
        if scale.size == n and scale.shape in ((n,), (n, 1)):
            return values * scale.reshape(n, 1)
        if scale.shape == (-(-n // rows), -(-k // columns)):
            return values * np.repeat(np.repeat(scale, rows, 0)[:n], columns, 1)[:, :k]
        raise ModelError(f"{file.path}: tensor {scale_name} must be one number, {n} (one per row), or one per block "
                         f"of {rows} x {columns}, not of shape {list(scale.shape)}")


def _shards(index):
    """The files that an index names, each of which must lie beside it."""
    try:
        names = sorted(set(take(read_json(index), "weight_map", dict, of=str).values()))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{index}: {error}") from None
    if not names:
        raise ModelError(f"{index}: Option weight_map must name at least one file: fetch the model again")
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: File of weights must be a .safetensors file in the same folder, not "
                             f"{shown(name)}")
    return names


def ignored(name: str, found: Container[str]) -> bool:
    """Tensors that are no weights and that some checkpoints carry: derived tables, and scales, which `Tensors` reads or
    which are those of activations and of a KV cache: the machine finds its own. ``found``: the names in the files."""
    weight = next((name.removesuffix(suffix) for suffix in _SCALES if name.endswith(suffix)), None)
    return name.endswith("rotary_emb.inv_freq") or name.rpartition(".")[2] in _FOUND_SCALES or weight in found
