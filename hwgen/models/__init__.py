"""Checkpoints in: files, tokenizers, quantization, and the float32 reference."""
from .checkpoint import Checkpoint, ModelError, random_checkpoint

__all__ = ["Checkpoint", "ModelError", "random_checkpoint"]
