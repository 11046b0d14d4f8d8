"""Wrong bits of the embedding's row of the entry's token."""
from collections.abc import Iterator

import numpy as np

from ...golden import residual
from ...golden.numbers import fp8_ints
from ...params.hardware import MAX_HEAD_ROW
from ...params.stream import EMBEDDING, HEAD
from .case import Alter, Case, Suspect, batches

__all__ = ["probe_embedding", "probe_embedding_offset"]


def probe_embedding(case: Case) -> Iterator[Suspect]:
    """Codes of the row. Only the first layer shows them: behind it, all is known to be right."""
    if case.index:
        return
    design, row = case.design, case.decoder.embedding[case.token]
    section, width = design.stream[EMBEDDING], len(case.x) * design.matmul(design.block.into_heads.name).rows
    for code in range(len(row)):
        for bit in range(8):
            wrong = row[code] ^ 1 << bit
            case.tried += len(wrong)
            for part in batches(len(wrong), width):
                i = np.arange(len(wrong))[part]
                for hit in i[case.hits(case.stages.after_x(_embedded(case, code, i, wrong[i])))]:
                    yield case.weight(section, design.stream.byte(section, case.token, hit, code), bit,
                                      _embed(case, code, hit, wrong[hit]), local=False)


def _embedded(case: Case, code: int, i: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """The entry's residuals [n, hidden_size], each with one wrong code: of element i[n], its first or second
    ``code``."""
    design, decoder, position = case.design, case.decoder, len(case.x) - 1
    codes = np.repeat(decoder.embedding[[case.token]], len(i), axis=0)
    codes[np.arange(len(i)), code, i] = wrong
    x = residual.embed(codes, decoder.embed_exponents([case.token]), design)
    if design.model.learned_positions:
        own = decoder.positions[[position]].repeat(len(i), axis=0)
        x = residual.embed(own, decoder.position_exponents([position]), design, x=x)
    return x


def _embed(case: Case, code: int, i: int, wrong: int) -> Alter:
    """Puts a wrong code of the token's embedding into a decoder."""
    def alter(decoder):
        decoder.embedding = decoder.embedding.copy()
        decoder.embedding[case.token, code, i] = wrong
        if _tied(case.design):
            row = fp8_ints(decoder.embedding[case.token], decoder.design.recipe.weight_format).sum(axis=0)
            decoder.head_weights = decoder.head_weights.copy()
            decoder.head_weights[case.token] = row
    return alter


def probe_embedding_offset(case: Case) -> Iterator[Suspect]:
    """The offset of the row."""
    if case.index or not case.design.scaled:
        return
    design = case.design
    section = design.stream[EMBEDDING]
    for bit in range(4):
        case.tried += 1
        wrong = np.array(case.decoder.embed_rows)
        wrong[case.token] ^= 1 << bit

        def alter(decoder, wrong=wrong):
            decoder.embed_rows = wrong
            if _tied(design):
                decoder.head_rows = wrong & MAX_HEAD_ROW
        x = case.altered(alter).embedded([case.token], [len(case.x) - 1])
        for _ in case.hits(case.stages.after_x(x)):
            yield case.weight(section, design.stream.row_byte(section, case.token), bit + 4 * (case.token % 2), alter,
                              local=False)


def _tied(design) -> bool:
    """Whether the LM head reads what the embedding reads."""
    return design.model.tie_word_embeddings and design.stream.has_tiles(HEAD)
