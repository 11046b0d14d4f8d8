"""Operations of the KV memory, and the codes of refusals: the same names in RTL, golden model and host."""
from enum import IntEnum

__all__ = ["ErrorCode", "KvOp", "MEANINGS", "OPERATIONS"]


class KvOp(IntEnum):
    """Operations of the port ``kv_command``."""
    FORK = 0
    TRUNCATE = 1
    FREE = 2


#: What they do, in words.
OPERATIONS = {
    KvOp.FORK: "the empty slot `other` becomes a copy of the first positions of `slot`",
    KvOp.TRUNCATE: "the slot keeps its first positions",
    KvOp.FREE: "the slot is empty",
}


class ErrorCode(IntEnum):
    """Field ``error`` of an outcome and of ``kv_answer``."""
    OK = 0
    EMPTY_PASS = 1
    TOO_MANY_ENTRIES = 2
    SLOT = 3
    TOKEN = 4
    CONTEXT = 5
    POSITION = 6
    NO_BLOCK = 7
    OTHER = 8
    OCCUPIED = 9
    LENGTH = 10
    OPERATION = 11
    WINDOW = 12
    MEMORY = 13
    MEMORY_FAILED = 14
    NO_WEIGHTS = 15


#: What is right, in words.
MEANINGS = {
    ErrorCode.OK: "done",
    ErrorCode.EMPTY_PASS: "a pass must have at least one entry",
    ErrorCode.TOO_MANY_ENTRIES: "a pass must have at most T entries; those beyond were left out",
    ErrorCode.SLOT: "the slot must be one of the machine's",
    ErrorCode.TOKEN: "the token must be in the vocabulary",
    ErrorCode.CONTEXT: "the position must be below the context, and the slot not full",
    ErrorCode.POSITION: "the position must be the slot's length: the next one, without a gap (to go back, truncate the slot)",
    ErrorCode.NO_BLOCK: "a block of the KV memory must be free (free or truncate a slot)",
    ErrorCode.OTHER: "a fork must go to another slot of the machine",
    ErrorCode.OCCUPIED: "a fork must go to an empty slot (free it first)",
    ErrorCode.LENGTH: "the length must be at most the slot's",
    ErrorCode.OPERATION: "the operation must be one of KvOp",
    ErrorCode.WINDOW: "the length must be 0, or one whose sliding window the slot still has (blocks behind the window are given back)",
    ErrorCode.MEMORY: "the memory of the weights must be ready: it starts up, or is loaded or checked",
    ErrorCode.MEMORY_FAILED: "the memory of the weights must work: its start-up has failed",
    ErrorCode.NO_WEIGHTS: "the memory must hold the model's weights, loaded and checked (hwgen load)",
}
