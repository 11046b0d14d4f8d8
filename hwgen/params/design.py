"""Model + hardware shape + recipe, and every number that follows from them. No other module computes these."""
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Protocol

from .adapters import SUM_BITS, AdapterMap
from .axi import PAGE
from .block import Block, Matrix, Norm, Project, Vector
from .formats import E2M1, Fp8
from .hardware import HwShape, Recipe
from .kv_port import KvPlaces, kv_axi
from .limits import check_limits
from .model import ModelShape
from .stream import BLOCK, EMBEDDING, FINAL_NORM, HEAD, Stream, Tiling

__all__ = ["Design", "Matmul", "up_to"]


def up_to(value: int, multiple: int) -> int:
    """``value`` rounded up to a multiple."""
    return -(-value // multiple) * multiple


class Stored(Protocol):
    """A matrix of codes, times 2**exponent."""
    @property
    def exponent(self) -> int: ...

    @property
    def fmt(self) -> Fp8: ...


@dataclass(frozen=True, kw_only=True)
class Matmul:
    """One pass of a weight matrix through the array: ``n_tiles * k_tiles * codes`` tiles.

    ``rows`` outputs and ``cols`` inputs are padded; ``codes`` is 2 where each k-tile comes as a hi and a lo tile.
    """
    name: str
    rows: int
    cols: int
    n_tiles: int
    k_tiles: int
    codes: int = 1

    @property
    def tiles(self) -> int:
        return self.n_tiles * self.k_tiles * self.codes


@dataclass(frozen=True, kw_only=True)
class Design:
    """The whole machine's derived shape (widths are in bits, lengths in elements, all padded)."""
    model: ModelShape
    hw: HwShape
    recipe: Recipe
    # the model's: what a layer is made of. Of each design, but no field, which a manifest would list
    block: ClassVar[Block]

    def __post_init__(self) -> None:
        object.__setattr__(self, "block", self.model.block)
        self._check_formats()
        self._check_biases()
        self._check_adapters()
        check_limits(self)
        if self.hw.slots == 1 and self.hw.blocks < (most := self.most_blocks(self.hw.context)):
            raise ValueError(f"KV block count of a single slot must be at least what it has at once, {most}, not "
                             f"{self.hw.blocks}")
        if self.hw.context > self.model.max_position_embeddings:
            raise ValueError(f"Context {self.hw.context} must be at most the model's max_position_embeddings "
                             f"{self.model.max_position_embeddings}")

    def _check_formats(self):
        recipe, hw = self.recipe, self.hw
        recipe.check(self.model)
        hw.check(self.block)
        stored, own = self.padded_head_dim, self.model.head_dim
        padded = stored != own and (stored % BLOCK or own % BLOCK)
        if self.largest_block and padded and any(
                recipe.format_of(self.block.from_heads.name, layer) == E2M1 for layer in range(self.layers)):
            raise ValueError(f"Head dimension {own} must be a multiple of {hw.attention_lanes} attention lanes, or of "
                             f"{BLOCK} as they are, where {self.block.from_heads.name} is in e2m1 with offsets of "
                             "blocks (add block_range=0 to --formats, or attention_lanes=N to --shape)")
        if (self.scaled or self.narrow) and hw.tile_beats > min(64, 2 * hw.lanes):
            raise ValueError(f"Beats per tile {hw.tile_beats} must be at most {min(64, 2 * hw.lanes)} with offsets of "
                             "rows or blocks (64, and twice the lane count)")

    def _check_biases(self):
        """In a block with one norm the next layer's biases come while the last sums are still taken: the biases of
        these must come last."""
        block, hw = self.block, self.hw
        vectors, last = block.vectors(block.of(Norm)[0].name), block.bias_of(block.from_ff)
        if last not in vectors:
            return
        before = self.record_granules + sum(self.vector_granules(vector) for vector in vectors if vector != last)
        before += (self.layer_hidden() - hw.columns) // hw.vector_lanes     # the last tile's are the last ones
        # 16: more than the array's stages and the residual's
        room = (before - 16) // (1 + hw.columns // hw.vector_lanes)
        if room < 1:
            raise ValueError("Column count must be smaller, or the hidden size larger, where a parallel block's down "
                             f"projection has a bias, not {hw.columns} with a hidden size of {self.model.hidden_size}")
        if hw.entries // hw.halves > room:
            raise ValueError(f"Entry count must be at most {room * hw.halves} where a parallel block's down "
                             f"projection has a bias (hidden size {self.model.hidden_size}, {hw.columns} columns), not "
                             f"{hw.entries}")

    def _check_adapters(self):
        if not self.hw.adapters:
            return
        if least := [m.name for m in self.layer_matmuls if m.k_tiles < 2 and not self.hw.is_logic(m.name)]:
            raise ValueError(f"Lane count must be less than the inputs of {least[0]} with adapters, not "
                             f"{self.hw.lanes}")

    def half_batch(self) -> "Design":
        """The design of the engines that see one half-batch at a time: as this, with the entries of a half."""
        return replace(self, hw=replace(self.hw, entries=self.hw.entries // self.hw.halves, halves=1))

    # -- padded lengths
    @property
    def padded_hidden_size(self) -> int:
        return up_to(self.model.head_inputs, max(self.hw.lanes, self.hw.columns))

    def layer_hidden(self) -> int:
        """Elements of the residual that the layers' matrices read and write: all, but for those that only the LM head's
        bias needs. (A norm of sums adds whole rows.)"""
        return (self.padded_hidden_size if self.block.post_norms
                else up_to(self.model.hidden_size, max(self.hw.lanes, self.hw.columns)))

    @property
    def padded_head_dim(self) -> int:
        """Elements of one attention head as stored."""
        return up_to(self.model.head_dim, self.hw.attention_lanes)

    @property
    def kv_places(self) -> KvPlaces:
        """Where keys and values are, of a machine whose memory of them is outside."""
        axi = kv_axi(self.hw)
        return KvPlaces(beat_bytes=self.hw.attention_lanes, words=self.padded_head_dim // self.hw.attention_lanes,
                        kv_block=self.hw.kv_block, blocks=self.hw.blocks, lines=self.layers * self.kv_heads,
                        alignment=axi.burst_words * axi.word_bytes)

    @property
    def memory_bytes(self) -> int:
        """Of a memory that has the weights at its beginning, and behind them keys and values if they are outside."""
        return self.kv_base + self.kv_places.size if self.hw.kv_port else self.stream_beats * self.hw.beat_bytes

    @property
    def kv_base(self) -> int:
        """Where these are in a memory that has the weights at its beginning: the next multiple of 4 KiB."""
        return up_to(self.stream_beats * self.hw.beat_bytes, PAGE)

    @property
    def padded_intermediate_size(self) -> int:
        # n-tiles of gates and ups, or of ups alone, have no padding
        return up_to(self.model.intermediate_size, max(self.hw.lanes, self.hw.columns // (1 + self.block.gated)))

    @property
    def padded_attention_size(self) -> int:
        """Input length of o_proj: all heads, padded to whole lane slices."""
        return up_to(self.model.num_attention_heads * self.padded_head_dim, self.hw.lanes)

    @property
    def heads(self) -> int:
        return self.model.num_attention_heads

    @property
    def kv_heads(self) -> int:
        return self.model.num_key_value_heads

    @property
    def group(self) -> int:
        """Query heads that share one K/V head."""
        return self.heads // self.kv_heads

    @property
    def qkv_heads(self) -> int:
        """Head vectors that one entry makes in a layer: all K heads, then all V heads, then all Q heads."""
        return self.heads + 2 * self.kv_heads

    def heads_of(self, matrix: Matrix) -> slice:
        """Which of those a matrix of keys, values or queries makes: a slice."""
        starts = {self.block.keys: 0, self.block.values: self.kv_heads, self.block.queries: 2 * self.kv_heads}
        return slice(starts[matrix], starts[matrix] + (self.heads if matrix == self.block.queries else self.kv_heads))

    @property
    def layers(self) -> int:
        return self.model.num_hidden_layers

    def window(self, layer: int) -> int | None:
        """Positions that a token sees in a layer, itself included, or None where it sees all that the machine has."""
        window = self.model.layer_type(layer).window
        return None if window is None or window >= self.hw.context else window

    def rows_seen(self) -> int:
        """The most K/V rows that attention of an entry goes over, in any layer."""
        return max(self.window(layer) or self.hw.context for layer in range(self.layers))

    # -- blocks of the KV memory
    @cached_property
    def positions_kept(self) -> int | None:
        """How many of its newest positions a slot keeps, where all layers have a window and it gives back blocks behind
        it; None: all.

        The T newest, of which a pass may be made, and what the oldest of them sees: so its entries find what they see,
        and a slot may go back by all of them.
        """
        kept = self.rows_seen() + self.hw.entries - 1
        return kept if self.hw.paged and kept + self.hw.kv_block <= self.hw.context else None

    def given_back(self, length: int) -> int:
        """Blocks at a slot's beginning that it has given back when its newest position makes it so long."""
        return 0 if self.positions_kept is None else max(0, length - self.positions_kept) // self.hw.kv_block

    def most_blocks(self, length: int) -> int:
        """The most blocks that a slot owns at once until it is so long."""
        if self.positions_kept is not None:
            length = min(length, self.positions_kept + self.hw.kv_block - 1)
        return -(-length // self.hw.kv_block)

    def room(self, texts: int) -> int:
        """Positions that each of that many texts at once has."""
        each = self.hw.blocks // texts
        return self.hw.context if each >= self.most_blocks(self.hw.context) else each * self.hw.kv_block

    # -- matrices, in stream order
    def _matmul(self, name: str, rows: int, cols: int, codes: int = 1) -> Matmul:
        lanes, columns = self.hw.lanes, self.hw.columns
        rows, cols = up_to(rows, columns), up_to(cols, lanes)
        return Matmul(name=name, rows=rows, cols=cols, n_tiles=rows // columns, k_tiles=cols // lanes, codes=codes)

    def matmul(self, name: str) -> Matmul:
        """The `Matmul` of a step `Project` of a layer."""
        step = next(step for step in self.block.of(Project) if step.name == name)
        widths = {"hidden": self.layer_hidden(), "ff": self.padded_intermediate_size,
                  "heads": self.heads * self.padded_head_dim,
                  "kv_heads": self.kv_heads * self.padded_head_dim}
        rows = sum(widths[self.block.matrix(matrix).rows] for matrix in step.matrices)
        return self._matmul(name, rows, widths[step.inputs])

    @property
    def head_matmul(self) -> Matmul:
        return self._matmul("head", self.model.vocab_size, self.padded_hidden_size, self.recipe.codes_per_head_weight)

    @property
    def layer_matmuls(self) -> tuple[Matmul, ...]:
        """The `Matmul` s of a layer, in the order of a pass."""
        return tuple(self.matmul(step.name) for step in self.block.of(Project))

    # -- adapters
    def adapter_matmuls(self, project: Project) -> tuple[Matmul, Matmul]:
        """The `Matmul` s of A and of B of a step `Project`: of all its matrices' adapters, each of the largest rank."""
        matmul, ranks = self.matmul(project.name), self.hw.adapter_rank * len(project.matrices)
        return self._matmul(f"{project.name}_a", ranks,
                            matmul.cols), self._matmul(f"{project.name}_b", matmul.rows, ranks)

    @cached_property
    def adapter_map(self) -> AdapterMap:
        """The addresses of an adapter's numbers: `hwgen.params.adapters.AdapterMap`."""
        return AdapterMap(self)

    def position_matmul(self) -> Matmul:
        """The table of learned positions, laid out as the embedding table is."""
        return self._matmul("positions", self.hw.context, self.padded_hidden_size, self.recipe.codes_per_head_weight)

    def embedding_rows(self) -> int:
        """Rows of tables that an entry reads: of the embedding, and of the positions where they are learned."""
        return 1 + self.model.learned_positions

    @property
    def head_delay(self) -> int:
        """Cycles that the LM head's activations are held back: with few k-tiles its first sums would wait for the
        sampler's noise."""
        return (16 if self.hw.sampler == "gumbel" and self.head_matmul.k_tiles * self.recipe.codes_per_head_weight < 16
                else 0)

    # -- formats
    @cached_property
    def scaled(self) -> bool:
        """Each output of a matrix has an offset of its own to the matrix's exponent."""
        return self.recipe.scales == "row"

    @cached_property
    def narrow(self) -> bool:
        """Some matrices are in E2M1."""
        return E2M1 in self.recipe.formats(self.model)

    @cached_property
    def array_format(self) -> Fp8:
        """The format of the array's weights."""
        return self.recipe.array_format(self.model)

    @cached_property
    def largest_block(self) -> int:
        """The largest offset of a block of E2M1 weights; 0: blocks have none."""
        return self.recipe.largest_block(self.model)

    @cached_property
    def mixed_layers(self) -> bool:
        """Layers have different formats."""
        return any(self.recipe.format_of(project.name, layer) != self.recipe.format_of(project.name, 0)
                   for project in self.block.of(Project) for layer in range(self.layers))

    def stored_exponent(self, matrix: Stored) -> int:
        """A matrix's exponent (of one with ``exponent`` and ``fmt``) as its record holds it: in units of the array's
        format."""
        return matrix.exponent + matrix.fmt.unit_exp - self.array_format.unit_exp

    def tiling(self, matmul: Matmul, fmt: Fp8 | None = None) -> Tiling:
        """The `Tiling` of a matrix, in E2M1 or by default in 8 bits."""
        hw, narrow = self.hw, fmt == E2M1
        return Tiling(matmul, hw.tile_beats, narrow, min(8, 2 * hw.lanes // hw.tile_beats) if self.scaled else 0,
                      64 // hw.tile_beats if narrow and self.largest_block else 0)

    # -- widths
    @property
    def acc_bits(self) -> int:
        """Signed width of the array's accumulators: whole sums, never rounded."""
        w, a = self.array_format, self.recipe.activation_format
        return max(w.accumulator_bits(a, m.cols * m.codes)
                   for m in (*self.layer_matmuls, self.head_matmul)) + (SUM_BITS if self.hw.adapters else 0)

    @property
    def acc_unit(self) -> int:
        """Exponent of the accumulator's unit before the scales: 2**acc_unit."""
        return self.array_format.unit_exp + self.recipe.activation_format.unit_exp

    # -- weight stream, in beats of hw.beat_bytes
    @property
    def granules_per_beat(self) -> int:
        """16-bit words of a record are taken from a beat ``vector_lanes`` at a time: one granule."""
        return self.hw.beat_bytes // (2 * self.hw.vector_lanes)

    @property
    def record_header_granules(self) -> int:
        return -(-self.block.record_words // self.hw.vector_lanes)

    @property
    def record_granules(self) -> int:
        return self.record_header_granules + self.padded_hidden_size // self.hw.vector_lanes

    @property
    def record_beats(self) -> int:
        """A record without vectors: ``block.record_words`` words (padded to whole granules), then ``hidden`` norm gains
        as bf16."""
        return -(-self.record_granules // self.granules_per_beat)

    def vector_granules(self, vector: Vector) -> int:
        """Granules of a `Vector` of a record: a bias has a number for each row of its matrix, that of the final norm as
        its gains; a gain of queries or keys has one for each element of a stored head."""
        if vector.project:
            length = self.matmul(vector.project).rows
        elif vector.matrix:
            assert self.block.qk_norm is not None
            heads = self.heads_of(self.block.matrix(vector.matrix))
            length = self.padded_head_dim * (heads.stop - heads.start if self.block.qk_norm.span == "projection" else 1)
        else:
            length = self.padded_hidden_size
        return length // self.hw.vector_lanes

    @property
    def header_beats(self) -> int:
        """The stream's header: ``block.record_words`` words, padded to whole granules."""
        return -(-self.record_header_granules // self.granules_per_beat)

    @cached_property
    def stream(self) -> Stream:
        """The sections of the weight stream, with their addresses."""
        return Stream(self)

    @property
    def stream_beats(self) -> int:
        """Beats of the whole stream."""
        return self.stream.beats

    @property
    def layer_beats(self) -> int:
        return self.stream.layer_beats

    @property
    def body_address(self) -> int:
        """First beat of layer 0."""
        return self.stream.body

    @property
    def final_address(self) -> int:
        """First beat of the final norm's record; the LM head follows it."""
        return self.stream[FINAL_NORM].address

    @property
    def head_address(self) -> int | None:
        """First beat of the LM head; None where it is logic, and no table."""
        return self.stream[HEAD].address if HEAD in self.stream else None

    @property
    def embed_address(self) -> int:
        """First beat of the embedding table: the LM head itself when tied."""
        return self.stream[EMBEDDING].address
