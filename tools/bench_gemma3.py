#!/usr/bin/env python3
"""Gemma 3 270M goes on with a sentence through RTL simulation: its tokens against golden, and how long a token takes.

Its residual reaches 41,000, so the shape has 12 fraction bits of it. The file is some 250 MB (`tools.get_gemma3`); some
minutes.
"""
from tools import get_gemma3
from tools.model_run import Run, main

GEMMA3 = Run("gemma3", "Gemma 3 270M", "latency-32x32,residual_fraction=12", get_gemma3,
             "The capital of France is", False)

if __name__ == "__main__":
    main(GEMMA3, __doc__)
