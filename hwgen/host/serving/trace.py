"""Request traces: JSON lines, one request each (docs/serving.md), and a seeded generator of them."""
import json
import math
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ...models.json_file import decode_json, take
from ...models.tokenizer import Tokenizer
from ...params.checks import shown
from ...params.model import ModelShape
from ..inputs import InputError, check_no_device, write_text, writing
from .scheduler import Request

__all__ = ["Lengths", "Synthetic", "read_trace", "requests_of", "write_trace"]

_PROMPTS = ("tokens", "text", "prompt_length")
_FIELDS = {"arrival": float, "cycle": int, "tokens": list, "text": str, "prompt_length": int, "output_length": int,
           "seed": int, "stop": bool, "name": str, "adapter": int}

#: Bounds of a trace: what is beyond them would be worked on for minutes before anything else refuses it.
_MOST_REQUESTS = 100_000
_MOST_TOKENS = 2**31 - 1
_MOST_CYCLES = 2**63 - 1
_MOST_BYTES, _LONGEST_LINE = 64 << 20, 4 << 20
_LONGEST_NAME = 200
_MOST_ADAPTERS = 7      # of a machine
_LONGEST_WORD = 256     # characters of a text that are a token on average, at most
_MOST_SEED = 4_000_000  # of a synthetic trace: its requests' seeds are 1000 times it and more, below 2**32


def _number(text):
    """A number of up to ten ASCII digits. ValueError for another text, which int() may take."""
    if not re.fullmatch("[0-9]{1,10}", text):
        raise ValueError(f"Number must be of up to 10 digits, not {shown(text)}")
    return int(text)


@dataclass(frozen=True)
class Lengths:
    """A distribution of lengths: ``64`` always, ``16:64`` uniform, ``~64`` geometric with that mean (at least 1)."""
    text: str

    def __post_init__(self) -> None:
        form = re.fullmatch("(~?)([0-9]{1,10})|([0-9]{1,10}):([0-9]{1,10})", self.text)
        numbers = [int(n) for n in form.groups() if n and n != "~"] if form else [0]
        if not all(1 <= n <= _MOST_TOKENS for n in numbers) or numbers != sorted(numbers):
            raise ValueError(f"Length must be N, LOW:HIGH or ~MEAN, with numbers from 1 on, not {shown(self.text)}")

    def draw(self, rng: random.Random) -> int:
        if self.text[0] == "~":
            mean = int(self.text[1:])
            return 1 if mean == 1 else 1 + int(math.log(1 - rng.random()) / math.log(1 - 1 / mean))
        low, _, high = self.text.partition(":")
        return rng.randint(int(low), int(high or low))


@dataclass(frozen=True)
class Synthetic:
    """A trace from a seed: Poisson arrivals, lengths from distributions. The defaults have the 16 to 1 of 2048 tokens
    in and 128 out.

    requests            how many
    prompt, output      `Lengths`
    rate                requests per second; 0: all arrive at once
    longest             prompt and output together are cut to so many tokens (the prompt first); 0: they are not
    """
    requests: int = 16
    prompt: Lengths = Lengths("64")
    output: Lengths = Lengths("4")
    rate: float = 0.0
    longest: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.requests <= _MOST_REQUESTS:
            raise ValueError(f"Request count must be 1 to {_MOST_REQUESTS}, not {self.requests}")
        if not (self.rate == 0 or 1e-6 <= self.rate < math.inf):
            raise ValueError(f"Rate must be 0, or at least 1e-06 requests per second, not {self.rate:g}")
        if not 0 <= self.seed <= _MOST_SEED:
            raise ValueError(f"Seed must be 0 to {_MOST_SEED}, not {self.seed}")
        if self.longest < 0 or self.longest == 1:
            raise ValueError(f"Longest must be 0 or at least 2 tokens, not {self.longest}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``requests=16,prompt=16:64,output=~8,rate=300,longest=200,seed=1``, all of them optional. ValueError
        with one line."""
        found = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            key, equals, value = (word.strip() for word in part.partition("="))
            if not equals or key not in cls.__dataclass_fields__ or key in found:
                raise ValueError(f"Synthetic trace must be {', '.join(f'{f}=...' for f in cls.__dataclass_fields__)}, "
                                 f"each once, not {shown(part)}")
            make = {"prompt": Lengths, "output": Lengths, "rate": float}.get(key, _number)
            try:
                found[key] = make(value)
            except ValueError as error:
                raise ValueError(str(error) if make is Lengths
                                 else f"{key.capitalize()} must be a number, not {shown(value)}") from None
        return cls(**found)

    def lines(self) -> Iterator[dict[str, Any]]:
        """The requests, as dicts of a trace's fields."""
        rng, arrival = random.Random(self.seed), 0.0
        for number in range(self.requests):
            if self.rate:
                arrival += rng.expovariate(self.rate)
            prompt, output = self.prompt.draw(rng), self.output.draw(rng)
            if self.longest:
                output = min(output, self.longest - 1)
                prompt = min(prompt, self.longest - output)
            yield {"arrival": round(arrival, 9), "prompt_length": prompt, "output_length": output,
                   "seed": self.seed * 1000 + number}


def write_trace(path: str | Path, lines: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def read_trace(path: str | Path) -> list[dict[str, Any]]:
    """The requests of a trace file, as dicts that have been checked. InputError names the line."""
    check_no_device(path, "Trace")
    lines, size = [], 0
    with writing(path), open(path, "rb") as file:
        for number in range(1, _MOST_BYTES):
            row = file.readline(_LONGEST_LINE + 1)
            if not row:
                break
            size += len(row)
            if len(row) > _LONGEST_LINE or size > _MOST_BYTES or len(lines) > _MOST_REQUESTS:
                raise InputError(f"{path}:{number}: Trace must be at most {_MOST_REQUESTS} requests and "
                                 f"{_MOST_BYTES >> 20} MiB long, a line at most {_LONGEST_LINE >> 20} MiB")
            if row.strip():
                lines.append(_parsed(row, f"{path}:{number}"))
    if not lines:
        raise InputError(f"{path}: Trace must have at least one request")
    return lines


def _parsed(row, where):
    try:
        line = decode_json(row, unique=True)
    except ValueError as error:
        raise InputError(f"{where}: Line must be JSON ({error})") from None
    try:
        return _checked(line)
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: {error}") from None


def _checked(line):
    if not isinstance(line, dict):
        raise ValueError(f"Request must be an object, not {shown(line)}")
    for key in line:
        if key not in _FIELDS:
            raise ValueError(f"Field must be one of {', '.join(_FIELDS)}, not {shown(key)}")
        take(line, key, _FIELDS[key], noun="Field")
    if sum(key in line for key in _PROMPTS) != 1:
        raise ValueError(f"Request must have exactly one of {', '.join(_PROMPTS)}")
    if "arrival" in line and "cycle" in line:
        raise ValueError("Request must have arrival (seconds) or cycle, not both")
    arrival = line["arrival"] if "arrival" in line else line.get("cycle", 0)
    if not 0 <= arrival <= _MOST_CYCLES:
        raise ValueError(f"Arrival must be at least 0 and below 2**63, not {shown(arrival)}")
    for key in ("prompt_length", "output_length"):
        if not 1 <= line.get(key, 1) <= _MOST_TOKENS:
            raise ValueError(f"Lengths must be at least 1 and below 2**31, not {shown(line[key])}")
    if not all(isinstance(t, int) and not isinstance(t, bool) and 0 <= t <= _MOST_TOKENS
               for t in line.get("tokens", ())):
        raise ValueError("Tokens must be integers from 0 on, below 2**31")
    if not 0 <= line.get("seed", 0) < 2**32:
        raise ValueError(f"Seed must be 0 to 2**32 - 1, not {shown(line['seed'])}")
    if not 0 <= line.get("adapter", 0) <= _MOST_ADAPTERS:
        raise ValueError(f"Adapter must be 0 to {_MOST_ADAPTERS}, not {shown(line['adapter'])}")
    name = line.get("name", "")
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"Name must be at most {_LONGEST_NAME} characters that can be printed, not {shown(name)}")
    return line


def requests_of(lines: Iterable[dict[str, Any]], model: ModelShape, clock: float, tokenizer: Tokenizer | None = None, *,
                context: int | None = None, adapters: int = 0) -> list[Request]:
    """`Request`s of a trace's lines. ValueError with one line, before any prompt is drawn or read.

    Parameters
    ----------
    model : ModelShape      what a prompt of which only the length is given is drawn for, from the request's seed
    clock : float           MHz: arrivals in seconds become cycles
    tokenizer : Tokenizer   for prompts in text
    context : int           positions of a slot, which a prompt must be shorter than (default: the model's)
    adapters : int          how many there are: numbers up to that
    """
    context, lines = context or model.max_position_embeddings, list(lines)
    names = [line.get("name", f"request {number}") for number, line in enumerate(lines)]
    for name, line in zip(names, lines):
        if "text" in line and tokenizer is None:
            raise ValueError("Prompts in text need a model with a tokenizer")
        length = line.get("prompt_length", len(line.get("tokens", ())))
        if length >= context:
            raise ValueError(f"{name}: Prompt must be shorter than the context of {context} tokens, not {length}")
        if len(line.get("text", "")) > _LONGEST_WORD * context:
            raise ValueError(f"{name}: Prompt must be shorter than the context of {context} tokens, "
                             f"not {len(line['text'])} characters long")
        if line.get("adapter", 0) > adapters:
            raise ValueError(f"{name}: Adapter must be 0 to {adapters} (one for each --adapter), not {line['adapter']}")
        if line.get("arrival", 0) * clock * 1e6 > _MOST_CYCLES:
            raise ValueError(f"{name}: Arrival must be below 2**63 cycles at {clock:g} MHz, not {line['arrival']:g} s")
    found = []
    for number, (name, line) in enumerate(zip(names, lines)):
        seed = line.get("seed", number)
        if "text" in line:
            assert tokenizer is not None        # refused above
            prompt = tokenizer.encode(line["text"])
        elif "tokens" in line:
            prompt = line["tokens"]
        else:
            rng = random.Random(seed)
            prompt = [rng.randrange(model.vocab_size) for _ in range(line["prompt_length"])]
        arrival = line["cycle"] if "cycle" in line else round(line.get("arrival", 0) * clock * 1e6)
        found.append(Request(tuple(prompt), line.get("output_length", 16), arrival, seed,
                             model.eos_token_ids if line.get("stop")
                             else (), name,
                             line.get("adapter", 0)))
    return found
