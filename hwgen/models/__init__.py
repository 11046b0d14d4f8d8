"""Checkpoints in: files, tokenizers, quantization, and the float32 reference."""
from pathlib import Path

from .checkpoint import Checkpoint, ModelError, random_checkpoint
from .quantize import QuantizedModel, quantize

__all__ = ["DEMO", "MINI", "WIRE", "Checkpoint", "ModelError", "QuantizedModel", "load", "quantize",
           "random_checkpoint"]

DEMO, MINI, WIRE = (Path(__file__).parent / name for name in ("demo", "mini", "wire"))


def load(path: str | Path, *, need_tokenizer: bool = True) -> Checkpoint:
    """The model at ``path``: a Hugging Face folder, a .gguf file, or a folder of ``hwgen quantize``; "demo", "mini" and
    "wire" are shipped here.

    Raises :class:`ModelError`, with one line that says what is wrong, before any weight is read.
    """
    path = {"demo": DEMO, "mini": MINI, "wire": WIRE}.get(str(path), Path(path))
    if path.is_dir():
        from .kept import is_kept, load_kept
        if is_kept(path):
            return load_kept(path, need_tokenizer=need_tokenizer)
        from .hf import load_folder
        return load_folder(path, need_tokenizer=need_tokenizer)
    if path.is_file():
        from .gguf_file import load_gguf
        return load_gguf(path, need_tokenizer=need_tokenizer)
    raise ModelError(f"{path}: Model must be a folder in Hugging Face's layout or a .gguf file, not missing")
