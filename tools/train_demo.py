#!/usr/bin/env python3
"""Train the demo model that ships in hwgen/models/demo, a Llama of 257 thousand parameters, or a smaller one
(hwgen/models/mini, hwgen/models/wire).

It is small enough to simulate gate by gate, and it writes English.  The result is an ordinary Hugging Face
folder, so that every importer, test and demo meets the demo model exactly as it meets a real one.

What happens:
  1. text       Jane Austen's six novels out of the Debian package r-cran-janeaustenr (or --text FILES), cleaned so
                that a line is a paragraph; about 6 KB from the middle of each novel are held out as valid.txt
  2. tokenizer  a byte-level BPE of 640 tokens; <|endoftext|> (id 0) begins every prompt and ends every chapter
  3. training   Muon on the matrices, AdamW on the rest, learning rate falling linearly to zero at the end of
                --minutes (wall clock), or of --steps for a run that another machine can repeat
  4. export     config.json, model.safetensors (bf16), tokenizer.json, generation_config.json, valid.txt, README.md
  5. check      transformers loads the folder and must find the same validation loss

Needs: pip install torch transformers tokenizers safetensors   (CPU torch is enough; apt-get and dpkg for step 1)

examples:
  python tools/train_demo.py                         an hour on two cores
  python tools/train_demo.py --minutes 3 --out x     a quick one, to see that everything works
  python tools/train_demo.py --model \\
      hidden_size=48,intermediate_size=64,num_hidden_layers=3,num_attention_heads=2,vocab_size=384 \\
      --out hwgen/models/mini --steps 8000 --workers 1           the small boards' model
  python tools/train_demo.py --out hwgen/models/wire --e2m1 --eager --steps 8000 --workers 1 \\
      --model \\
      hidden_size=32,intermediate_size=80,num_hidden_layers=1,num_attention_heads=2,vocab_size=320,tie_word_embeddings=0
                                                     the one that is logic
  python tools/train_demo.py --text a.txt b.txt      other text (UTF-8, blank lines between paragraphs)
  python tools/train_demo.py --check --out x         only measure and sample a folder that exists
"""
import argparse
import copy
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

REPO = pathlib.Path(__file__).resolve().parent.parent
EOT = "<|endoftext|>"
# Every dimension is a multiple of 16, hidden and intermediate sizes of 32, so small arrays tile it without padding; for
# a 16 x 16 array it is 1,012 beats of weights, and FPGAs have block RAMs of 1,024 words.
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 5,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 640,
    "max_position_embeddings": 256, "rope_theta": 10000.0, "rope_scaling": None, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
    "attention_dropout": 0.0, "initializer_range": 0.02, "pretraining_tp": 1, "use_cache": True,
    "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "bfloat16",
}
LR, LR_EMBED, WEIGHT_DECAY = 0.02, 0.005, 0.05
PROMPTS = ["The next morning,", "\"My dear", "She was", "Mr. Darcy", "It is a truth"]


# ---- text ----------------------------------------------------------------------------------------------------------

def r_strings(blob):
    """The character vector in one object of an R lazy-load database (R's XDR serialization, format 3)."""
    encoding_len = struct.unpack(">i", blob[14:18])[0]
    kind, count = struct.unpack(">ii", blob[18 + encoding_len:26 + encoding_len])
    assert blob[:2] == b"X\n" and kind & 255 == 16, "not a serialized character vector"
    at, out = 26 + encoding_len, []
    for _ in range(count):
        flags, size = struct.unpack(">ii", blob[at:at + 8])
        raw = blob[at + 8:at + 8 + size]
        out.append(raw.decode("latin-1" if flags >> 12 & 4 else "utf-8"))
        at += 8 + size
    return out


def austen(work):
    """The six novels as six texts, from the Debian package (downloaded and unpacked, not installed)."""
    if not (work / "austen.rdb").exists():
        with tempfile.TemporaryDirectory() as tmp:
            subprocess.run(["apt-get", "download", "r-cran-janeaustenr"], cwd=tmp, check=True,
                           stdout=subprocess.DEVNULL)
            deb = next(pathlib.Path(tmp).glob("*.deb"))
            subprocess.run(["dpkg", "-x", deb, tmp], check=True)
            shutil.copy(next(pathlib.Path(tmp).rglob("data/Rdata.rdb")), work / "austen.rdb")
    data, at, novels = (work / "austen.rdb").read_bytes(), 0, []
    while at < len(data):                       # each object: four bytes of length, then a zlib stream
        stream = zlib.decompressobj()
        novels.append("\n".join(r_strings(stream.decompress(data[at + 4:]))))
        at = len(data) - len(stream.unused_data)
    return novels


HEADING = re.compile(r"(CHAPTER|VOLUME)\b.{0,12}|(THE END|FINIS|Finis)\.?", re.IGNORECASE)


def chapters(novel):
    """Chapters of one novel; in each, a paragraph is a line.  Typewriter conventions become plain text."""
    out = [[]]
    for par in re.split(r"\n\s*\n", novel):
        par = " ".join(par.split()).replace("_", "")
        par = par.translate(str.maketrans("“”‘’", "\"\"''")).replace("—", "--")
        if HEADING.fullmatch(par):
            out.append([])
        elif par and not par.isupper() and re.search(r"[a-z]{2}", par) and not re.search(r"\[.*\]|\bISBN\b", par):
            out[-1].append(par)
    return ["\n".join(c) for c in out if sum(map(len, c)) > 500]    # shorter: title page and the like


def split_valid(novel, size=6000):
    """(chapters to train on, held-out text): the held-out text starts in the middle of the novel."""
    pars = novel[len(novel) // 2].split("\n")
    held, rest = [], []
    for p in pars:
        (held if sum(map(len, held)) < size else rest).append(p)
    left = ["\n".join(rest)] if rest else []
    return novel[:len(novel) // 2] + left + novel[len(novel) // 2 + 1:], "\n".join(held) + "\n"


def quarter(novel, size=8000):
    """Paragraphs from a quarter into a novel: of the text that is calibrated with."""
    found = []
    for p in novel[len(novel) // 4].split("\n"):
        if sum(map(len, found)) < size:
            found.append(p)
    return "\n".join(found) + "\n"


# ---- tokenizer -----------------------------------------------------------------------------------------------------

def train_tokenizer(texts):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"], special_tokens=[EOT], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))       # all 256 bytes: any text survives the round trip
    tok.post_processor = processors.TemplateProcessing(
        single=f"{EOT} $A", pair=f"{EOT} $A {EOT} $B", special_tokens=[(EOT, 0)])
    assert tok.get_vocab_size() == CONFIG["vocab_size"] and tok.token_to_id(EOT) == 0
    return tok


def windows(tok, novels, size):
    """Training windows: one per sentence, EOT and then the size tokens that follow, chapters joined by EOT.

    So the model always sees what it will see in use: EOT at position 0, then the start of a sentence."""
    rows = []
    for novel in novels:
        text = EOT.join(novel) + EOT
        starts = [0] + [m.end() for m in re.finditer(r"[.!?][\"')]*\s+|\n|" + re.escape(EOT), text)]
        pieces = [text[s:s + 6 * size] for s in starts]
        rows += [[0] + e.ids[:size] for e in tok.encode_batch(pieces, add_special_tokens=False) if len(e.ids) >= size]
    return torch.tensor(rows, dtype=torch.int32)


def valid_windows(tok, text, size):
    """The held-out text cut into consecutive pieces of size tokens, EOT before each; -100 pads the last target."""
    ids = tok.encode(text, add_special_tokens=False).ids
    rows = [[0] + ids[i:i + size] for i in range(0, len(ids), size)]
    x = torch.zeros(len(rows), size + 1, dtype=torch.long)
    y = torch.full((len(rows), size + 1), -100)
    for i, row in enumerate(rows):
        x[i, :len(row)] = y[i, :len(row)] = torch.tensor(row)
    return x[:, :-1], y[:, 1:]


# ---- model ---------------------------------------------------------------------------------------------------------

class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, CONFIG["rms_norm_eps"])


class Matrix(nn.Linear):
    """Weights that are rounded to E2M1 where --e2m1 says so, 32 inputs of an output with one power of two:
    as hwgen stores them, times ``factor``.

    Training sees the rounded ones; gradients go to the others, as if there were no rounding (Bengio et al. 2013,
    straight-through)."""
    narrow = False

    def __init__(self, inputs, outputs, factor=1.0):
        super().__init__(inputs, outputs, bias=False)
        self.factor = factor

    def rounded(self):
        w = self.weight.detach() * self.factor
        blocks = F.pad(w, (0, -w.shape[1] % 32)).unflatten(1, (-1, 32))
        scale = torch.exp2(torch.ceil(torch.log2(blocks.abs().amax(-1, keepdim=True).clamp(min=1e-20) / 6)))
        x = blocks.abs() / scale
        step = torch.where(x < 2, 0.5, torch.where(x < 4, 1.0, 2.0))        # of 0, 0.5, 1, 1.5, 2, 3, 4, 6
        x = torch.round(x / step) * step * scale * blocks.sign()
        return x.flatten(1)[:, :w.shape[1]] / self.factor

    def forward(self, x):
        return F.linear(x, self.weight + (self.rounded() - self.weight.detach()) if Matrix.narrow else self.weight)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, d = c["hidden_size"], c["head_dim"]
        # the machine's scores are in log2 units
        self.q_proj = Matrix(h, c["num_attention_heads"] * d, math.log2(math.e) / d ** 0.5)
        self.k_proj = Matrix(h, c["num_key_value_heads"] * d)
        self.v_proj = Matrix(h, c["num_key_value_heads"] * d)
        self.o_proj = Matrix(c["num_attention_heads"] * d, h)
        self.head_dim = d

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        q, k, v = (p(x).view(b, t, -1, self.head_dim).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rope(q, cos, sin), rope(k, cos, sin)
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


def rope(x, cos, sin):
    a, b = x.chunk(2, -1)                       # element i turns with element i + head_dim/2
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = Matrix(c["hidden_size"], c["intermediate_size"])
        self.up_proj = Matrix(c["hidden_size"], c["intermediate_size"])
        self.down_proj = Matrix(c["intermediate_size"], c["hidden_size"])

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm, self.self_attn = Norm(c["hidden_size"]), Attention(c)
        self.post_attention_layernorm, self.mlp = Norm(c["hidden_size"]), Mlp(c)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Attributes carry Hugging Face's names, so state_dict() plus the prefix "model." is the checkpoint."""

    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = Norm(c["hidden_size"])
        d = c["head_dim"]
        angle = torch.arange(c["max_position_embeddings"])[:, None] / c["rope_theta"] ** (torch.arange(0, d, 2) / d)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        nn.init.normal_(self.embed_tokens.weight, std=0.05)
        if not c["tie_word_embeddings"]:
            self.lm_head = Matrix(c["hidden_size"], c["vocab_size"])
            nn.init.normal_(self.lm_head.weight, std=0.05)
        for name, p in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(p)               # every layer starts as the identity
            elif "_proj" in name:
                nn.init.normal_(p, std=p.shape[1] ** -0.5)

    def forward(self, ids, targets):
        t = ids.shape[1]
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, self.cos[:t], self.sin[:t])
        x = self.norm(x)
        logits = F.linear(x, self.embed_tokens.weight) if CONFIG["tie_word_embeddings"] else self.lm_head(x)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100)


# ---- training ------------------------------------------------------------------------------------------------------

class Muon:
    """Momentum whose step is made orthogonal (Jordan et al. 2024); matrices of one shape go through together."""

    def __init__(self, params, lr, weight_decay, momentum=0.95):
        self.lr, self.weight_decay, self.momentum = lr, weight_decay, momentum
        groups = {}
        for p in params:
            groups.setdefault(tuple(p.shape), []).append(p)
        self.groups = [(ps, torch.zeros(len(ps), *shape, device=ps[0].device)) for shape, ps in groups.items()]

    @torch.no_grad()
    def step(self, scale):
        for ps, m in self.groups:
            g = torch.stack([p.grad for p in ps])
            m.lerp_(g, 1 - self.momentum)
            x = torch.lerp(g, m, self.momentum)                 # Nesterov
            tall = x.shape[1] > x.shape[2]
            x = x.mT if tall else x
            x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
            for _ in range(5):                                  # Newton-Schulz towards U V^T
                s = x @ x.mT
                x = 3.4445 * x + (-4.7750 * s + 2.0315 * s @ s) @ x
            x = x.mT if tall else x
            lr = self.lr * scale
            torch._foreach_mul_(ps, 1 - lr * self.weight_decay)
            torch._foreach_add_(ps, list(x.unbind()), alpha=-lr * max(1, x.shape[1] / x.shape[2]) ** 0.5)


@torch.no_grad()
def evaluate(model, valid):
    """Mean loss per token, in nats, over the held-out text."""
    x, y = valid
    n = [int((b != -100).sum()) for b in y.split(16)]
    return sum(float(model(a, b)) * k for a, b, k in zip(x.split(16), y.split(16), n)) / sum(n)


def train(rank, args, data, valid):
    """One worker: its share of every batch on one thread, gradients averaged over the workers at each step.

    Threads inside the operators would be a little faster on an idle machine and far slower on a busy one, because
    they wait for each other hundreds of times a step; workers do once."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    Matrix.narrow = args.e2m1
    CONFIG.update(args.model)                   # a worker is a process of its own, with a CONFIG of its own
    dist.init_process_group("gloo", init_method=f"file://{args.work.resolve()}/rendezvous", rank=rank,
                            world_size=args.workers)
    torch.manual_seed(args.seed)                # all workers start alike and draw the same order
    if args.device != "cpu":
        torch.set_float32_matmul_precision("high")      # TF32
    model, valid = Llama(CONFIG).to(args.device), [part.to(args.device) for part in valid]
    params = dict(model.named_parameters())
    muon = Muon([p for n, p in params.items() if "_proj" in n], args.lr, args.weight_decay)
    adam = torch.optim.AdamW([p for n, p in params.items() if "_proj" not in n], lr=args.lr_embed, betas=(0.9, 0.98),
                             weight_decay=0.0, fused=True)
    fast = model if args.eager else torch.compile(model, dynamic=False)
    share = args.batch // args.workers
    for _ in range(2):                          # compiling is outside the clock
        rows = data[:share].to(args.device).long()
        fast(rows[:, :-1], rows[:, 1:]).backward()
    model.zero_grad()
    dist.barrier()

    start, step, best, order, running, next_eval, done = time.time(), 0, math.inf, [], None, 0.0, 0.0
    while True:
        minutes = (time.time() - start) / 60
        if rank == 0 and (done >= next_eval or done >= 1):
            loss = evaluate(model, valid)
            print(f"{done:6.1%}  step {step:6d}  {step * args.batch * (data.shape[1] - 1) / 1e6:6.2f} Mtokens"
                  f"  {60 * minutes:5.0f} s  train {running or 0:.4f}  valid {loss:.4f}", flush=True)
            if loss < best:
                best = loss
                export(args.work / "best", model)
            next_eval = done + max(0.02, 0.2 / args.minutes)
        if done >= 1:
            (args.work / "run.json").write_text(json.dumps([step, minutes]))
            dist.barrier()
            return
        if len(order) < args.batch:
            order = torch.randperm(len(data))
        pick, order = order[:args.batch], order[args.batch:]
        rows = data[pick[rank::args.workers]].to(args.device).long()
        loss = fast(rows[:, :-1], rows[:, 1:])
        loss.backward()
        # One message carries the gradients, the loss and the progress, so that all workers agree on all three.
        done = (step + 1) / args.steps if args.steps else minutes / args.minutes
        message = torch.cat([p.grad.flatten() for p in params.values()]
                            + [torch.tensor([loss.item(), done], device=args.device)])
        if args.workers > 1:
            dist.all_reduce(message)
            message /= args.workers
        for p, g in zip(params.values(), message.split([p.numel() for p in params.values()] + [2])):
            p.grad.copy_(g.view_as(p))
        loss, done = message[-2:].tolist()
        # Warm up over the first hundredth, then fall linearly to zero.
        scale = min(1.0, done / 0.01 + 0.01) * max(0.0, 1 - done)
        muon.step(scale)
        for g in adam.param_groups:
            g["lr"] = args.lr_embed * scale
        adam.step()
        model.zero_grad()
        running = loss if running is None else 0.99 * running + 0.01 * loss
        step += 1


# ---- export and check ----------------------------------------------------------------------------------------------

def export(folder, model):
    """Write what belongs to the weights; tokenizer.json and valid.txt are there already."""
    from safetensors.torch import save_file
    if Matrix.narrow:
        model = copy.deepcopy(model)
        for module in model.modules():
            if isinstance(module, Matrix):
                module.weight.data = module.rounded()
    tensors = {"model." * (not name.startswith("lm_head")) + name: p.detach().to("cpu", torch.bfloat16)
               for name, p in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    for name, content in {
        "config.json": CONFIG,
        "generation_config.json": {"bos_token_id": 0, "eos_token_id": 0, "do_sample": True, "temperature": 0.7,
                                   "max_length": CONFIG["max_position_embeddings"]},
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": EOT, "eos_token": EOT,
                                  "model_max_length": CONFIG["max_position_embeddings"],
                                  "clean_up_tokenization_spaces": False},
    }.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


@torch.no_grad()
def check(folder):
    """What transformers makes of the folder: (loss in nats per token, bits per byte, texts it writes)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    tok = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text = (folder / "valid.txt").read_text()
    ids = tok(text, verbose=False)["input_ids"]
    assert ids[0] == 0 and tok.decode(ids[1:]) == text, "the tokenizer must give the text back"
    x, y = valid_windows(tok.backend_tokenizer, text, CONFIG["max_position_embeddings"])
    nats = sum(float(F.cross_entropy(model(a[None]).logits[0], b, ignore_index=-100, reduction="sum"))
               for a, b in zip(x, y))
    count = int((y != -100).sum())
    samples = []
    for prompt in PROMPTS:
        start = tok(prompt, return_tensors="pt")
        for temperature in (0, 0.7):
            torch.manual_seed(1)
            how = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
            out = model.generate(**start, max_length=192, pad_token_id=0, **how)[0]
            samples.append((temperature, prompt, tok.decode(out, skip_special_tokens=True)))
    return nats / count, nats / math.log(2) / len(text.encode()), samples


def model_fields(text):
    """``hidden_size=48,num_hidden_layers=3`` -> {"hidden_size": 48, "num_hidden_layers": 3}: integers of CONFIG."""
    fields = {}
    for pair in text.split(","):
        name, _, value = pair.partition("=")
        if not (isinstance(CONFIG.get(name), int) and value.isdecimal()):
            raise argparse.ArgumentTypeError(f"must be FIELD=N,... with fields of config.json, not {pair!r}")
        fields[name] = type(CONFIG[name])(int(value))
    return fields


def card(args, steps, minutes, train_bytes, nats, bits, samples):
    c, size = CONFIG, sum((args.out / f).stat().st_size for f in ("model.safetensors", "tokenizer.json", "valid.txt"))
    params = sum(p.numel() for p in Llama(CONFIG).parameters())
    sha = hashlib.sha256((args.out / "model.safetensors").read_bytes()).hexdigest()
    options = [f"{o} {v}" for o, v, default in (
        ("--model", ",".join(f"{k}={int(v)}" for k, v in args.model.items()), ""), ("--minutes", args.minutes, 60),
        ("--steps", args.steps, None), ("--workers", args.workers, 2), ("--seed", args.seed, 1),
        ("--batch", args.batch, 8), ("--lr", args.lr, LR), ("--lr-embed", args.lr_embed, LR_EMBED),
        ("--weight-decay", args.weight_decay, WEIGHT_DECAY), ("--device", args.device, "cpu")) if v != default]
    options += ["--e2m1"] * args.e2m1 + ["--eager"] * args.eager
    if args.text:
        text, licence = ", ".join(f.name for f in args.text), "The text decides; nothing is known about it here."
        middle = "document, in the order given"
    else:
        text, licence = "Jane Austen's six novels", (
            "The novels are in the public domain (Project Gutenberg's texts, as carried by the Debian package\n"
            "`r-cran-janeaustenr`). The weights are under this project's licence.")
        middle = ("novel, in the order Emma, Mansfield Park,\n"
                  "Northanger Abbey, Persuasion, Pride and Prejudice, Sense and Sensibility")
    trained_on = f"{args.workers} CPU core{'s' * (args.workers > 1)}" if args.device == "cpu" else "a GPU"
    tokens = steps * args.batch * c["max_position_embeddings"]
    quoted = lambda s: "\n".join("> " + line if line else ">" for line in s.split("\n"))
    greedy = next(s for t, p, s in samples if t == 0)
    sampled = [s for t, p, s in samples if t][:2]
    about = ("Its matrices are in\nE2M1 as it was trained, so that a machine of logic has just these numbers: it is "
             "what a board of medium "
             "size holds without an array, by the\nsame script as the demo model" if args.e2m1 else
             "It is what the\nsmall boards hold: less than a quarter of the demo model, by the same script"
             if args.model else
             "It is what hwgen's tests, demos and\nexamples run: small enough to simulate gate by gate, and its "
             "output is English, so a "
             "wrong bit is easy to see")
    head = "tied embeddings" if c["tie_word_embeddings"] else "an LM head of its own"
    return f"""# The {args.out.name} model

A Llama of {params:,} parameters that has read nothing but {text}. {about}. The
folder is an ordinary Hugging Face checkpoint and needs no special case anywhere.

| | |
|---|---|
| shape | hidden {c["hidden_size"]}, {c["num_hidden_layers"]} layers, {c["num_attention_heads"]} heads of {c["head_dim"]}, {c["num_key_value_heads"]} KV heads, intermediate {c["intermediate_size"]}, vocabulary {c["vocab_size"]}, {head}, context {c["max_position_embeddings"]} |
| weights | {params:,} parameters, bf16{", matrices of values that E2M1 has" * args.e2m1}; {size / 1000:.0f} kB with tokenizer and held-out text |
| validation loss | **{nats:.4f} nats per token, {bits:.4f} bits per byte** on `valid.txt` |
| training | {minutes:.0f} minutes, {trained_on}, {steps:,} steps, {tokens / 1e6:.0f} million tokens out of {train_bytes / 1e6:.2f} MB of text |
| sha256 of `model.safetensors` | `{sha}` |

**Prompts** begin with `<|endoftext|>` (id 0; the tokenizer adds it), which also ends a chapter, so a generated one stops
the text. A line is a paragraph. There are 256 positions; generation ends there.

**`valid.txt`** was never trained on: about 6 KB from the middle of each {middle}. Its loss: encode the whole file, cut it into
consecutive pieces of {c["max_position_embeddings"]} tokens, put `<|endoftext|>` before each, and average over all tokens of the file, with
the bf16 weights computed in float32. transformers found the number above; `tests/test_demo_model.py` finds it again.
The file also decided which checkpoint to keep, but its loss falls to the very end of training, so that hardly
flatters it.

**Text and licence.** {licence}

**Made by** `python tools/train_demo.py{"".join(" " + o for o in options)}`, torch {torch.__version__}. The schedule follows the clock, so a busy
machine takes fewer steps; `--steps {steps}` takes as many anywhere. The exact bits depend on the machine, its load and
the torch version, which is why the file's sha256 is above.

**A sample**, greedy:

{quoted(greedy)}

and at temperature 0.7:

{(chr(10) + chr(10)).join(quoted(s) for s in sampled)}
"""  # noqa: E501


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=pathlib.Path, default=REPO / "hwgen/models/demo",
                    help="folder to write (hwgen/models/demo)")
    ap.add_argument("--model", type=model_fields, default={}, metavar="FIELD=N,...",
                    help="another shape than the demo model's, in config.json's names")
    ap.add_argument("--e2m1", action="store_true",
                    help="round the matrices to E2M1 while training, and in what is written (not tables of embeddings)")
    ap.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "train_demo",
                    help="downloads, and the best checkpoint so far, which is a Hugging Face folder as well")
    ap.add_argument("--text", type=pathlib.Path, nargs="+", help="train on these files, one document each")
    ap.add_argument("--minutes", type=float, default=60, help="wall clock for training, after compiling (60)")
    ap.add_argument("--steps", type=int, help="train this many steps instead")
    ap.add_argument("--workers", type=int, default=2, help="processes, each with one CPU thread (2)")
    ap.add_argument("--batch", type=int, default=8, help="windows of 256 tokens per step (8)")
    ap.add_argument("--lr", type=float, default=LR, help=f"peak learning rate of the matrices ({LR})")
    ap.add_argument("--lr-embed", type=float, default=LR_EMBED, help=f"of embeddings and norms ({LR_EMBED})")
    ap.add_argument("--weight-decay", type=float, default=WEIGHT_DECAY, help=f"on the matrices ({WEIGHT_DECAY})")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--device", default="cpu", help="cpu, or cuda with one worker, for millions of parameters")
    ap.add_argument("--eager", action="store_true", help="no torch.compile (it needs g++; a fifth slower without)")
    ap.add_argument("--calibration", type=pathlib.Path, metavar="FILE",
                    help="do not train: write the text that `hwgen quantize` takes by default")
    ap.add_argument("--check", action="store_true", help="do not train: measure --out with transformers, print samples")
    args = ap.parse_args()
    CONFIG.update(args.model)
    if args.device != "cpu" and args.workers != 1:
        ap.error(f"Worker count must be 1 with --device {args.device}, not {args.workers}")

    if args.calibration:
        args.work.mkdir(parents=True, exist_ok=True)
        args.calibration.write_text("".join(quarter(chapters(n)) for n in austen(args.work)))
        return
    if not args.check:
        best = args.work / "best"
        best.mkdir(parents=True, exist_ok=True)
        novels = [chapters(n) for n in ([p.read_text() for p in args.text] if args.text else austen(args.work))]
        novels, held = zip(*(split_valid(n) for n in novels))
        (best / "valid.txt").write_text("".join(held))
        tok = train_tokenizer([c for n in novels for c in n])
        tok.save(str(best / "tokenizer.json"))
        size = CONFIG["max_position_embeddings"]
        data, valid = windows(tok, novels, size), valid_windows(tok, "".join(held), size)
        train_bytes = sum(len(c.encode()) for n in novels for c in n)
        print(f"{train_bytes:,} bytes to train on, {len(data):,} windows; "
              f"{int((valid[1] != -100).sum()):,} tokens held out", flush=True)
        (args.work / "rendezvous").unlink(missing_ok=True)
        torch.multiprocessing.spawn(train, (args, data, valid), nprocs=args.workers)
        steps, minutes = json.loads((args.work / "run.json").read_text())
        args.out.mkdir(parents=True, exist_ok=True)
        for f in best.iterdir():
            shutil.copy(f, args.out / f.name)

    nats, bits, samples = check(args.out)
    for temperature, _, text in samples:
        print(f"\n--- temperature {temperature}\n{text}")
    print(f"\n{args.out}: {nats:.4f} nats per token, {bits:.4f} bits per byte, measured by transformers")
    if not args.check:
        (args.out / "README.md").write_text(card(args, steps, minutes, train_bytes, nats, bits, samples))


if __name__ == "__main__":
    sys.exit(main())
