#!/usr/bin/env python3
"""A real model answers through RTL simulation: its tokens against golden, and how long a token takes. Here
SmolLM2-135M-Instruct."""
from tools import get_smollm2
from tools.model_run import Run, main

SMOLLM2 = Run("smollm2", "SmolLM2-135M-Instruct", "latency-32x32", get_smollm2, "What is the capital of France?", True)

if __name__ == "__main__":
    main(SMOLLM2, __doc__)
