"""Ask transformers and llama.cpp what the logits of the differential test's models are.

    python -m tools.record_oracle                          # writes tests/differential_oracle.json
    python -m tools.record_oracle --seed 7 --cases 200     # tries fresh mixtures live, and writes nothing

Needs the extras `test` and `reference`. Folders are loaded by transformers, as a user does it; GGUF files by llama.cpp,
each in a process of its own, since some files make it abort. Of quantized GGUF files llama.cpp gets the dequantized
twin: its own kernels quantize the activations too, and are off by some percent.
"""
import argparse
import collections
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import differential_cases as differential  # noqa: E402


class Failed(Exception):
    """The oracle itself refuses the file, or makes weights up for it."""


def _one_line(error):
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:160]


def transformers_logits(folder, tokens):
    """Logits float32 [tokens, vocabulary] of a folder."""
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True)
        made_up = sorted({str(name) for kind in ("missing_keys", "mismatched_keys") for name in loading[kind]})
        if made_up:
            raise Failed(f"random weights in place of {made_up[0]}")
        with torch.no_grad():
            return model.eval()(torch.tensor([tokens])).logits[0].float().numpy()
    except Failed:
        raise
    except Exception as error:  # whatever a library raises for a bad folder is its answer
        raise Failed(_one_line(error)) from None


def llama_cpp_logits(path, tokens):
    """Logits float32 [tokens, vocabulary] of a GGUF file."""
    done = subprocess.run([sys.executable, __file__, "--gguf", str(path), *map(str, tokens)],
                          capture_output=True, check=False)
    if done.returncode or not done.stdout:
        text = done.stderr.decode(errors="replace").replace(str(path.parent), "")
        lines = [line for line in text.splitlines() if "rror" in line or "ASSERT" in line]
        raise Failed((lines or [f"exit {done.returncode}"])[0][:160])
    return np.frombuffer(done.stdout, np.float32).reshape(len(tokens), -1)


def _run_llama_cpp(path, *tokens):
    from cyllama.llama import llama_cpp as llama
    llama.llama_backend_init()
    params = llama.LlamaModelParams()
    params.n_gpu_layers, params.use_extra_bufts = 0, False

    class Model(llama.LlamaModel):  # get_logits_ith asks the model for a number that only its vocabulary has
        n_vocab = property(lambda self: self.get_vocab().n_vocab)

    model = Model(path, params=params, verbose=False)
    params = llama.LlamaContextParams()
    params.n_ctx = params.n_batch = params.n_ubatch = differential.CONTEXT
    params.type_k = params.type_v = params.flash_attn_type = 0  # float32, and attention as in the paper
    params.n_threads = params.n_threads_batch = 1
    context = llama.LlamaContext(model, params, verbose=False)
    batch = llama.LlamaBatch(n_tokens=len(tokens), embd=0, n_seq_max=1)
    for i, token in enumerate(tokens):
        batch.add(int(token), i, [0], True)
    context.decode(batch)
    sys.stdout.buffer.write(np.array([context.get_logits_ith(i) for i in range(len(tokens))], np.float32).tobytes())


def record(case, folder):
    """The record of one case: its digest, and logits or the oracle's error."""
    draft = case.draft()
    path = draft.write_for_oracle(folder / "oracle")
    try:
        logits = (llama_cpp_logits if case.kind == "gguf" else transformers_logits)(path, draft.tokens)
        if not np.isfinite(logits).all():
            raise Failed("logits that are not finite")
        return {"digest": draft.digest(), "logits": logits[list(differential.POSITIONS)]}
    except Failed as error:
        return {"digest": draft.digest(), "failed": str(error)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="try fresh mixtures of this seed, and write nothing")
    parser.add_argument("--cases", type=int, default=100, metavar="N", help="so many of them (default: 100)")
    options = parser.parse_args()
    fresh = options.seed is not None
    cases = differential.fresh_cases(options.seed, options.cases) if fresh else differential.recorded_cases()
    records, counts = {}, collections.Counter()
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            found = record(case, Path(folder))
            outcome, detail = differential.compare(case, found, Path(folder) / "model")
        records[case.name] = found
        counts[outcome] += 1
        asked = f" (oracle: {found['failed']})" if "failed" in found else ""
        print(f"{outcome:8} {case.name}: {detail}{asked}", flush=True)
    print(", ".join(f"{counts[outcome]} {outcome}" for outcome in ("agreed", "refused", "differed")))
    if fresh:
        return min(counts["differed"], 1)
    differential.write_oracle(records)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--gguf"]:
        _run_llama_cpp(*sys.argv[2:])
    else:
        sys.exit(main())
