"""What the golden model reads of quantized weights (`hwgen.models`, which it does not import), as types."""
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ..params.formats import Fp8

__all__ = ["QuantizedAdapter", "QuantizedMatrix", "QuantizedModel", "QuantizedPart"]


class QuantizedMatrix(Protocol):
    """`hwgen.models.quantize.Matrix`."""
    @property
    def codes(self) -> np.ndarray: ...
    @property
    def exponent(self) -> int: ...
    @property
    def fmt(self) -> Fp8: ...
    @property
    def lo(self) -> np.ndarray | None: ...
    @property
    def rows(self) -> np.ndarray | None: ...
    @property
    def blocks(self) -> np.ndarray | None: ...


class QuantizedModel(Protocol):
    """`hwgen.models.quantize.QuantizedModel`. A layer has its matrices and vectors as attributes."""
    @property
    def layers(self) -> Sequence[object]: ...
    @property
    def final_gain(self) -> np.ndarray: ...
    @property
    def final_bias(self) -> np.ndarray | None: ...
    @property
    def head(self) -> QuantizedMatrix: ...
    @property
    def embedding(self) -> QuantizedMatrix: ...
    @property
    def positions(self) -> QuantizedMatrix | None: ...


class QuantizedPart(Protocol):
    """`hwgen.models.adapter_codes.QuantizedPart`."""
    @property
    def a(self) -> Mapping[str, np.ndarray]: ...
    @property
    def b(self) -> Mapping[str, np.ndarray]: ...
    @property
    def exponent(self) -> int: ...


class QuantizedAdapter(Protocol):
    """`hwgen.models.adapter_codes.QuantizedAdapter`."""
    @property
    def parts(self) -> Mapping[tuple[str, int], QuantizedPart]: ...
