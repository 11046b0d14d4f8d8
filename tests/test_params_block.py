"""The description of a layer: what it refuses, what follows from it, and that nothing else names a step or a matrix."""
import ast
from dataclasses import replace
from pathlib import Path

import pytest

from hwgen.params.block import LLAMA, Norm, Project, QkNorm, dense
from hwgen.params.phases import phases, turn
from sim.designs import small_design

ROOT = Path(__file__).resolve().parent.parent

#: Whatever a block may have.
FULL = dense(biased=[matrix.name for matrix in LLAMA.matrices], qk_norm=QkNorm("head"), norms="sandwich")

#: What may name steps and matrices: the description, its sections, and the tables of names that checkpoints have.
DESCRIPTION = ("hwgen/params/block.py", "hwgen/params/stream.py", "hwgen/models/families/",
               "hwgen/models/gguf_architectures.py")

#: {(file, name)} of what is called like one and is none of them.
OTHERS = {
    # the vector buffer of heads, a unit as "xa" is
    ("hwgen/top/engines.py", "qkv"), ("hwgen/top/paths.py", "qkv"), ("hwgen/top/sequencer.py", "qkv"),
    ("hwgen/plan/costs.py", "qkv"), ("hwgen/plan/memory.py", "qkv"),
    ("hwgen/lib/arith.py", "up"),               # a number was rounded up
    # a stream that can be stopped; the number below
    ("hwgen/units/convert.py", "gate"), ("hwgen/units/swiglu.py", "down"),
}
#: Where "o", "q", "k" and "v" are ports and signals: these are looked for as enumerations' members only.
PORTS = ("hwgen/lib/", "hwgen/units/", "hwgen/fpga/")


def vocabulary():
    """Names of steps and matrices, of their tensors, of what a quantized layer has of them, and of what `Design` once
    had."""
    projects, norms = FULL.of(Project), FULL.of(Norm)
    names = {part.name for part in (*projects, *norms, *FULL.matrices)}
    names |= {vector.name for norm in norms for vector in FULL.vectors(norm.name)}
    names |= {part.tensor for part in (*norms, *FULL.matrices)} | {norm.gain for norm in norms}
    return names | {f"{matrix.name}_bias" for matrix in FULL.matrices} | {f"{project.name}_matmul"
                                                                          for project in projects}


def named(source, ports=False):
    """Names of steps and matrices that a module writes: strings, attributes, keywords, and names of tensors in longer
    strings."""
    words, tree = vocabulary(), ast.parse(source)
    tensors = {word for word in words if "." in word}
    members = {name.upper() for name in words} | {step.name.upper() for step in FULL.steps}
    attributes = {word for word in words if len(word) > 1}
    strings = attributes if ports else words
    # and other strings that nobody reads
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield from {node.value} & (strings | {word for word in members if len(word) > 2})
            yield from (word for word in tensors if word in node.value)
        elif isinstance(node, ast.Attribute):
            yield from {node.attr} & (attributes | members)
        elif isinstance(node, ast.keyword):
            yield from {node.arg} & attributes


def names_in(root):
    """[(file, name)] of modules under ``root/hwgen`` that are not the description."""
    found = set()
    for path in sorted((root / "hwgen").rglob("*.py")):
        file = path.relative_to(root).as_posix()
        if not file.startswith(DESCRIPTION):
            found |= {(file, name) for name in named(path.read_text(), file.startswith(PORTS))}
    return found


def test_nothing_else_names_a_step_or_a_matrix():
    assert names_in(ROOT) == OTHERS


@pytest.mark.parametrize("source, name", [
    ('a = layer["gate_up"]', "gate_up"), ("a = Kind.QKV", "QKV"), ("def f(): return layer.down", "down"),
    ("f(gate_up=1)", "gate_up"),
    ('a = {"o": 1}', "o"), ("a = Phase.O", "O"), ('a = f"{x}.self_attn.q_proj.weight"', "self_attn.q_proj.weight"),
    ('a = Kind["NORM_1"]', "NORM_1"), ("design.gate_up_matmul", "gate_up_matmul"), ('vectors["q_gain"]', "q_gain"),
    ("layer.mlp_gain", "mlp_gain")])
def test_a_planted_name_is_found(tmp_path, source, name):
    planted = tmp_path / "hwgen" / "golden" / "a.py"
    planted.parent.mkdir(parents=True)
    planted.write_text(source)
    assert names_in(tmp_path) == {("hwgen/golden/a.py", name)}


def test_phases_follow_the_steps():
    assert list(phases(LLAMA).__members__) == ["IDLE", "EMBED", "NORM_1", "QKV", "KV_WRITE", "ATTENTION", "O", "NORM_2",
                                               "GATE_UP", "DOWN",
                                               "NORM_F", "HEAD", "FINISH"]
    assert phases(FULL)(12).name == "FINISH" and list(phases(FULL).__members__)[13:] == ["POST_1", "POST_2"]
    assert "NORM_2" not in phases(dense(parallel=True)).__members__


@pytest.mark.parametrize("hidden, entries, words", [
    (2, 1, "Column count must be smaller, or the hidden size larger, .* not 8 with a hidden size of 2"),
    (90, 40, r"Entry count must be at most \d+ where a parallel block's down projection has a bias")])
def test_biases_of_a_parallel_block_that_would_come_too_early(hidden, entries, words):
    with pytest.raises(ValueError, match=words):
        small_design(hidden_size=hidden, entries=entries, block=dict(parallel=True, biased=["down"]))


@pytest.mark.parametrize("norms, parallel, order", [
    ("pre", False, "qkv | gate_up down | norm_1 | o norm_2"), ("pre", True, "qkv | gate_up down | norm_1 | o"),
    ("sandwich", False, "qkv | gate_up down post_2 | norm_1 | o post_1 norm_2")])
def test_a_turn_of_two_half_batches(norms, parallel, order):
    found = turn(dense(norms=norms, parallel=parallel))._replace(opening=[LLAMA.steps[0]])
    assert " | ".join(" ".join(step.name for step in steps) for steps in found) == order


def _moved(block, a, b):
    steps = list(block.steps)
    steps.insert(b, steps.pop(a))
    return steps


@pytest.mark.parametrize("changes, message", [
    (dict(steps=LLAMA.steps[1:]), "^Steps of a block must be"),
    (dict(steps=_moved(LLAMA, 2, 4)), "^Steps of a block must be"),
    (dict(steps=(*LLAMA.steps, replace(LLAMA.steps[0], reads="sums"))), "called differently$"),
    (dict(steps=(LLAMA.steps[0], replace(LLAMA.into_heads, matrices=("q", "k", "v")), *LLAMA.steps[2:])),
     "^Heads must come from .* not from q, k, v$")])
def test_what_no_machine_can_do_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(LLAMA, **changes)
