"""A quantized model in a folder, which stands for a model wherever one is named.

``quantized.json`` has shape, recipe, exponents, digest and what the numbers were made from, ``codes.safetensors`` codes
and offsets as the machine has them, gains and biases as bf16 bits, and ``tokenizer.json`` is the model's own. A digest
covers all numbers, another one the tokenizer: a folder that was damaged is refused.
"""
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..params import block as blocks
from ..params import model as shapes
from ..params.checks import shown
from ..params.formats import WEIGHTS, Fp8, fp8
from ..params.hardware import Override, Recipe
from .checkpoint import Checkpoint, ModelError
from .json_file import read_json, take
from .options import About
from .quantize import Layer, Matrix, QuantizedModel, bf16_values, score_factor
from .safetensors_file import SafetensorsFile, write_safetensors
from .tokenizer import Tokenizer, library_errors

__all__ = ["MANIFEST", "check_folder", "is_kept", "keep", "load_kept", "made_from"]

MANIFEST, CODES, TOKENIZER = "quantized.json", "codes.safetensors", "tokenizer.json"
VERSION = 1
_PARTS = ("codes", "lo", "rows", "blocks")
_CLASSES = {cls.__name__: cls for cls in (
    shapes.ModelShape, shapes.LayerType, shapes.LinearRopeScaling, shapes.Llama3RopeScaling, shapes.DivisorRopeScaling,
    Recipe, Override, blocks.Block, blocks.Matrix, blocks.Norm, blocks.Project, blocks.Store,
    blocks.Attend, blocks.QkNorm)}


def is_kept(path: str | Path) -> bool:
    """Whether there is such a folder."""
    return (Path(path) / MANIFEST).is_file()


def check_folder(folder: str | Path) -> None:
    """Refuse a folder in whose place none can be written: ValueError or OSError."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Output must be a folder, and {folder} is a file")
    if folder.exists() and os.path.ismount(folder):
        raise ValueError(f"Output must be a folder that can be replaced, and {folder} is a mount: name a folder in it")
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if there and not is_kept(folder):
        raise ValueError(f"Output folder must be new, empty or an earlier output (with {MANIFEST}), and {folder} is "
                         "none of these")
    if others := sorted(there - {MANIFEST, CODES, TOKENIZER}):
        raise ValueError(f"Output folder must be an earlier output alone, for it is replaced, and {folder} has "
                         f"{shown(others[0])} too")
    parent = folder.resolve().parent
    while not os.path.lexists(parent):
        parent = parent.parent
    if not os.access(parent, os.W_OK | os.X_OK) or not parent.is_dir():
        raise PermissionError(13, "Permission denied", str(folder))


def made_from(folder: str | Path) -> str | None:
    """What `keep` was told that the folder was made from, a text, or None if there is no such folder."""
    try:
        return take(read_json(Path(folder) / MANIFEST), "made from", str, "") if is_kept(folder) else None
    except (ModelError, TypeError):
        return None


@contextlib.contextmanager
def _alone(partial):
    """An empty folder of that name, which another process that wants it waits for."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    while True:
        partial.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with contextlib.suppress(OSError):      # of file systems without locks
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(lock), os.stat(partial)):      # else it was another's, and has moved
                    for path in partial.iterdir():      # of a process that was killed
                        path.unlink()
                    yield
                    return
            finally:
                os.close(lock)


def keep(quantized: QuantizedModel, checkpoint: Checkpoint, folder: str | Path, *, largest: float, source: str) -> None:
    """Write a quantized model and its checkpoint's tokenizer: whole, or not at all.

    largest     magnitude of the residual on the calibration text
    source      a text that tells what it was made from
    """
    folder = Path(folder).resolve()         # a link stays one
    partial, before = (folder.with_name(f".{folder.name}.{what}") for what in ("partial", "before"))
    with _alone(partial):
        try:
            _write(partial, quantized, checkpoint, largest, source)
            if folder.exists():
                shutil.rmtree(before, ignore_errors=True)
                folder.rename(before)
            partial.rename(folder)
        except BaseException:
            if before.exists() and not folder.exists():
                before.rename(folder)
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(before, ignore_errors=True)


def _write(folder, quantized, checkpoint, largest, source):
    write_safetensors(folder / CODES, dict(_arrays(quantized)))
    exponents = {name: matrix.exponent for name, matrix in _matrices(quantized)}
    formats = {name: matrix.fmt.name for name, matrix in _matrices(quantized)}
    about = {"version": VERSION, "shape": _plain(quantized.shape), "recipe": _plain(quantized.recipe),
             "exponents": exponents, "formats": formats,
             "digest": quantized.digest, "largest residual": largest, "made from": source}
    if tokenizer := checkpoint.tokenizer:
        (folder / TOKENIZER).write_text(tokenizer.stored(), encoding="utf-8")
        about["tokenizer"] = tokenizer.options()
        about["tokenizer digest"] = _tokenizer_digest(folder, about["tokenizer"])
    (folder / MANIFEST).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def load_kept(folder: str | Path, *, need_tokenizer: bool = True) -> Checkpoint:
    """The Checkpoint of a folder that `keep` wrote: its tensors are what the codes stand for, its ``kept`` the
    quantized model."""
    folder = Path(folder)
    where = folder / MANIFEST
    try:
        about = read_json(where)
        if take(about, "version", int) != VERSION:
            raise ValueError(f"Version must be {VERSION}, not {about['version']}")
        shape, recipe = _read(take(about, "shape", dict)), _read(take(about, "recipe", dict))
        largest, source = take(about, "largest residual", float), take(about, "made from", str)
        quantized = _model(shape, recipe, SafetensorsFile(folder / CODES), take(about, "exponents", dict, of=int),
                           take(about, "formats", dict, of=str))
        if quantized.digest != (digest := take(about, "digest", str)):
            raise ValueError(f"Codes must be those that were written, of digest {digest[:16]}, not "
                             f"{quantized.digest[:16]}")
        tokenizer = None
        if (folder / TOKENIZER).is_file() or need_tokenizer:
            options = take(about, "tokenizer", dict)
            written = take(about, "tokenizer digest", str, "")      # folders of before have none
            tokenizer = _tokenizer(folder, options)
            if written and written != _tokenizer_digest(folder, options):
                raise ValueError(f"Tokenizer must be the one that was written, of digest {written[:16]}")
    except (ModelError, ValueError, TypeError, KeyError, AttributeError, IndexError, OSError) as error:
        said = str(error) if isinstance(error, ModelError) else f"{where}: {error}"
        raise ModelError(f"{said}: the folder is damaged or of another version, run hwgen quantize again") from None
    found = About()
    found.notes |= {"quantized": f"from {source}", "digest": quantized.digest[:16]}
    checkpoint = Checkpoint(shape, str(folder), lambda name: _values(quantized, name), tokenizer, found)
    checkpoint.kept, checkpoint.largest_residual = quantized, largest
    return checkpoint


def _tokenizer_digest(folder, options):
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode() + (folder / TOKENIZER).read_bytes()).hexdigest()


def _tokenizer(folder, options):
    import tokenizers
    path = folder / TOKENIZER
    with library_errors(f"{path}: File must be a tokenizer's"):
        core = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    return Tokenizer(core, source=path, **options)


def _matrices(quantized: QuantizedModel) -> Iterator[tuple[str, Matrix]]:
    """(name, Matrix) of all, a tied table once."""
    for i, layer in enumerate(quantized.layers):
        yield from ((f"layers.{i}.{name}", matrix) for name, matrix in layer.matrices().items())
    yield "head", quantized.head
    if quantized.embedding is not quantized.head:
        yield "embedding", quantized.embedding
    if quantized.positions is not None:
        yield "positions", quantized.positions


def _arrays(quantized: QuantizedModel) -> Iterator[tuple[str, np.ndarray]]:
    for name, matrix in _matrices(quantized):
        yield from ((f"{name}.{part}", values) for part in _PARTS if (values := getattr(matrix, part)) is not None)
    for i, layer in enumerate(quantized.layers):
        yield from ((f"layers.{i}.{name}", values) for name, values in layer.vectors().items())
    yield "final_gain", quantized.final_gain
    if quantized.final_bias is not None:
        yield "final_bias", quantized.final_bias


def _model(shape, recipe, file, exponents, formats):
    if not isinstance(shape, shapes.ModelShape) or not isinstance(recipe, Recipe):
        raise ValueError("Shape and recipe must be a model's")
    arrays = {name: file.stored(name) for name in file.shapes}

    def matrix(name):
        parts: dict[str, Any] = {part: arrays.get(f"{name}.{part}") for part in _PARTS}
        return Matrix(parts["codes"], exponents[name], fp8(formats[name], WEIGHTS), parts["lo"], parts["rows"],
                      parts["blocks"])

    def layer(i):
        prefix = f"layers.{i}."
        own = [name.removeprefix(prefix) for name in arrays if name.startswith(prefix)]
        return Layer(**{m.name: matrix(prefix + m.name) for m in shape.block.matrices},
                     **{name: arrays[prefix + name] for name in own if "." not in name})

    head = matrix("head")
    return QuantizedModel(
        shape=shape, recipe=recipe, layers=tuple(map(layer, range(shape.num_hidden_layers))),
        final_gain=arrays["final_gain"], head=head,
        embedding=head if recipe.ties(shape) else matrix("embedding"), final_bias=arrays.get("final_bias"),
        positions=matrix("positions") if shape.learned_positions else None)


def _values(quantized, name):
    """A tensor of a checkpoint that would be quantized to this."""
    shape, block = quantized.shape, quantized.shape.block
    if name == "model.norm.weight":
        return bf16_values(quantized.final_gain[:shape.hidden_size])
    if name == "model.norm.bias":
        return bf16_values(quantized.final_bias[:shape.hidden_size])
    tables = {"model.embed_tokens.weight": quantized.embedding, "model.embed_positions.weight": quantized.positions,
              "lm_head.weight": quantized.head}
    if name in tables:
        return tables[name].values()[:, :shape.hidden_size]
    if name == "lm_head.bias":
        behind = bf16_values(quantized.final_bias[shape.hidden_size:])
        return quantized.head.values()[:, shape.hidden_size:] @ behind
    _, _, number, tensor = name.split(".", 3)
    layer, factor = quantized.layers[int(number)], np.float32(score_factor(shape))
    for matrix in block.matrices:
        scores = matrix == block.queries and not block.qk_norm
        if tensor == matrix.tensor:
            return getattr(layer, matrix.name).values() / (factor if scores else 1)
        if tensor == matrix.bias:
            return bf16_values(getattr(layer, f"{matrix.name}_bias")) / (factor if scores else np.float32(1))
    if block.qk_norm and tensor in (block.qk_norm.q_tensor, block.qk_norm.k_tensor):
        queries = tensor == block.qk_norm.q_tensor
        return bf16_values(getattr(layer, block.gain_of(block.queries if queries
                                                        else block.keys).name)) / (factor if queries else np.float32(1))
    gain = next(norm.gain for norm in block.of(blocks.Norm) if norm.tensor == tensor)
    return bf16_values(getattr(layer, gain))


# -- shapes and recipes as JSON

def _plain(value):
    if isinstance(value, Fp8):
        return {"format": value.name}
    if dataclasses.is_dataclass(value):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)
                  if f.default is dataclasses.MISSING or getattr(value, f.name) != f.default}
        return {"is": type(value).__name__, **fields}
    return [_plain(each) for each in value] if isinstance(value, (tuple, list)) else value


def _read(value):
    if isinstance(value, list):
        return tuple(map(_read, value))
    if not isinstance(value, dict):
        return value
    if "format" in value and len(value) == 1:
        return fp8(value["format"], WEIGHTS)
    kind = value.get("is")
    if kind not in _CLASSES:
        raise ValueError(f"Part of a shape must be one of {', '.join(_CLASSES)}, not {str(kind)[:40]!r}")
    return _CLASSES[kind](**{name: _read(each) for name, each in value.items() if name != "is"})
