#!/usr/bin/env python3
"""Which matrices of a model in E2M1 are worth 8 bits: what is lost with the codes of one part of one layer, by the bits
that 8 a weight would take.

For each part of each layer ("down" of layer 3) the model is float32, but for that part, which has the codes that it has
in a folder of `hwgen quantize`; the KL divergence of the next token, on the start of the calibration text, is what
these cost alone. (What the folder's model gains where one part is exact again is smaller
than how it changes by chance: tried.) Parts are printed by KL for each Mbit, and those with the largest sum of KL that
fit in what is left below --bits.
"""
import argparse
import itertools

import numpy as np

from hwgen.models import load
from hwgen.params.block import Project
from hwgen.params.formats import E2M1
from hwgen.plan.compensate import Texts, calibration_texts
from tools.bench_accuracy import bits

MOST = 4        # parts that are chosen, of the best 24


class OnePart(Texts):
    """Float32, with the tensors of one part in codes."""

    def __init__(self, checkpoint, kept, texts):
        self._exact, self._kept, self.coded = {}, kept, set()
        self._read = checkpoint.tensor
        super().__init__(checkpoint.shape, self.tensor, texts)
        self.before = [self.start()]
        for i in range(self.shape.num_hidden_layers):
            self.before.append(self.layer(i, self.before[-1]))

    def tensor(self, name):
        if name not in self._exact:
            self._exact[name] = self._read(name)
        return self._balanced_back(name) if name in self.coded else self._exact[name]

    def _rows(self, layer, name):
        """Powers of two that the folder's rows of values, or of "up", are larger by."""
        norm = self.shape.block.norm_before(next(p for p in self.shape.block.of(Project) if name in p.matrices))
        tensor = layer + self.shape.block.matrix(name).tensor
        sizes = [np.linalg.norm(of, axis=1) for of in (np.ldexp(self._kept(tensor), -self._columns(layer, norm)),
                                                       self._exact[tensor])]
        return _power(*sizes)

    def _columns(self, layer, norm):
        return -_power(*(np.abs(read(layer + norm.tensor)) for read in (self._kept, self._read)))

    def _balanced_back(self, name):
        """The folder's matrix without the powers of two that its channels were balanced by."""
        block, layer = self.shape.block, name[:name.index(".", len("model.layers.")) + 1]
        matrix = next(matrix for matrix in block.matrices if layer + matrix.tensor == name)
        project = next(project for project in block.of(Project) if matrix.name in project.matrices)
        if project.inputs == "hidden":
            columns = self._columns(layer, block.norm_before(project))
        else:
            columns = -self._rows(layer, block.values.name if project.inputs == "heads" else block.into_ff.matrices[-1])
            if project.inputs == "heads":
                columns = columns.reshape(-1, 1, self.shape.head_dim).repeat(self.shape.group_size, axis=1).reshape(-1)
        found = np.ldexp(self._kept(name), -columns)
        balanced = matrix.name == block.values.name or block.gated and matrix.name == block.into_ff.matrices[-1]
        return np.ldexp(found, -self._rows(layer, matrix.name)[:, None]) if balanced else found

    def of_part(self, i, project):
        """(log probabilities of the next tokens with the part in codes, weights in it); without a part, of float32."""
        names = [f"model.layers.{i}.{self.shape.block.matrix(name).tensor}"
                 for name in project.matrices] if project else []
        self.coded = set(names)
        x = self.before[i]
        for layer in range(i, self.shape.num_hidden_layers):
            x = self.layer(layer, x)
        self.coded = set()
        logits = self.head(self.normed(x)).astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True)), sum(self._exact[name].size for name in names)


def _power(one, other):
    """The power of two nearest to a quotient: int [n]; 0 where there is none."""
    real = (one > 0) & (other > 0)
    return np.where(real, np.rint(np.log2(np.where(real, one, 1) / np.where(real, other, 1))), 0).astype(int)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Llama's block")
    parser.add_argument("quantized", help="a folder of hwgen quantize MODEL, with layers in e2m1")
    parser.add_argument("--tokens", type=int, default=128, help="of the calibration text (default: 128)")
    parser.add_argument("--bits", type=float, default=5.0, help="a weight, all counted (default: 5)")
    options = parser.parse_args()
    checkpoint, kept = load(options.model), load(options.quantized, need_tokenizer=False)
    recipe, total = kept.kept.recipe, sum(layer.codes.size for part in kept.kept.layers
                                          for layer in part.matrices().values()) + kept.kept.head.codes.size
    left = (options.bits - bits(kept.kept)) * total
    model = OnePart(checkpoint, kept.tensor, calibration_texts(checkpoint, None, options.tokens))
    exact, _ = model.of_part(checkpoint.shape.num_hidden_layers, None)
    found = []
    for i, project in itertools.product(range(checkpoint.shape.num_hidden_layers), checkpoint.shape.block.of(Project)):
        if recipe.format_of(project.name, i) == E2M1:
            coded, weights = model.of_part(i, project)
            cost = (8 - E2M1.bits - 4 / 32) * weights
            found.append(((np.exp(exact) * (exact - coded)).sum(-1).mean(), cost, f"layers.{i}.{project.name}"))
            print(f"\r{found[-1][2]:20} KL {found[-1][0]:.5f}, {found[-1][0] / cost * 1e6:.5f} a Mbit",
                  end="", flush=True)
    print()
    found.sort(key=lambda part: -part[0] / part[1])
    for kl, cost, name in found[:24]:
        print(f"{name:20} KL {kl:.5f}  {kl / cost * 1e6:.5f} a Mbit of {cost / 1e6:.2f}")
    sets = (some for n in range(1, MOST + 1) for some in itertools.combinations(found[:24], n)
            if sum(cost for _, cost, _ in some) <= left)
    best = max(sets, key=lambda some: sum(kl for kl, *_ in some), default=())
    print(f"{bits(kept.kept):.3f} bits a weight; {left / 1e6:.2f} Mbit are left below {options.bits:g}: "
          f"{', '.join(name for *_, name in best)} in 8 bits")


if __name__ == "__main__":
    main()
