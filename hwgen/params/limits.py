"""What a shape must be for its model beside what each of its numbers must be."""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .design import Design

__all__ = ["MOST_PADDING", "check_limits", "check_padding"]

#: Granules of padding that may leave the array behind an entry's last head. They have gone when the results of the next
#: matrix come (equal in RTL, with and without half-batches); of 127 some came too late, and were taken for these.
MOST_PADDING = 31


def check_limits(design: "Design") -> None:
    """ValueError if the shape of a `Design` does not suit its model."""
    hw, model = design.hw, design.model
    if hw.attention_rows > 1 and hw.attention_lanes != design.padded_head_dim:
        raise ValueError(f"Attention lane count must be that of a whole head, {model.head_dim} or more, where "
                         f"attention reads several rows a cycle (attention_rows), not {hw.attention_lanes}")


def check_padding(design: "Design") -> None:
    """ValueError if the padding behind an entry's last head lasts too long for the machine of a `Design`. (A plan of a
    die has designs of which no such machine is made.)"""
    hw, matmul = design.hw, design.matmul(design.block.into_heads.name)
    padding = (matmul.n_tiles * hw.columns - design.qkv_heads * design.padded_head_dim) // hw.vector_lanes
    if padding > MOST_PADDING:
        raise ValueError(f"Column count must leave at most {MOST_PADDING * hw.vector_lanes} columns without a head "
                         f"behind the {design.qkv_heads * design.padded_head_dim} outputs of {matmul.name}, not "
                         f"{hw.columns}: take fewer columns or more vector lanes")
