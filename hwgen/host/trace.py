"""Request traces: JSON lines, one request each (docs/serving.md), and a seeded generator of them."""
import dataclasses
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

from .inputs import InputError, writing
from .scheduler import Request

__all__ = ["Lengths", "Synthetic", "read_trace", "requests_of", "write_trace"]

_PROMPTS = ("tokens", "text", "prompt_length")
_FIELDS = {"arrival": (int, float), "cycle": int, "tokens": list, "text": str, "prompt_length": int, "output_length": int, "seed": int,
           "stop": bool, "name": str}


@dataclass(frozen=True)
class Lengths:
    """A distribution of lengths: ``64`` always, ``16:64`` uniform, ``~64`` geometric with that mean (at least 1)."""
    text: str

    def __post_init__(self):
        low, colon, high = self.text.removeprefix("~").partition(":")
        numbers = [low, high] if colon else [low]
        if not all(n.isdecimal() and int(n) >= 1 for n in numbers) or (colon and (self.text[0] == "~" or int(low) > int(high))):
            raise ValueError(f"Length must be N, LOW:HIGH or ~MEAN, with numbers from 1 on, not {self.text!r}")

    def draw(self, rng):
        if self.text[0] == "~":
            mean = int(self.text[1:])
            return 1 if mean == 1 else 1 + int(math.log(1 - rng.random()) / math.log(1 - 1 / mean))
        low, _, high = self.text.partition(":")
        return rng.randint(int(low), int(high or low))


@dataclass(frozen=True)
class Synthetic:
    """A trace from a seed: Poisson arrivals, lengths from distributions. The defaults have the 16 to 1 of 2048 tokens in and 128 out.

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

    def __post_init__(self):
        if self.requests < 1:
            raise ValueError(f"Request count must be at least 1, not {self.requests}")
        if not (0 <= self.rate < math.inf):
            raise ValueError(f"Rate must be at least 0 requests per second, not {self.rate:g}")
        if self.longest < 0 or self.longest == 1:
            raise ValueError(f"Longest must be 0 or at least 2 tokens, not {self.longest}")

    @classmethod
    def parse(cls, text):
        """From ``requests=16,prompt=16:64,output=~8,rate=300,longest=200,seed=1``, all of them optional. ValueError with one line."""
        found = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            key, equals, value = (word.strip() for word in part.partition("="))
            if not equals or key not in cls.__dataclass_fields__ or key in found:
                raise ValueError(f"Synthetic trace must be {', '.join(f'{f}=...' for f in cls.__dataclass_fields__)}, each once, not {part!r}")
            make = {"prompt": Lengths, "output": Lengths, "rate": float}.get(key, int)
            try:
                found[key] = make(value)
            except ValueError as error:
                raise ValueError(str(error) if make is Lengths else f"{key.capitalize()} must be a number, not {value!r}") from None
        return cls(**found)

    def lines(self):
        """The requests, as dicts of a trace's fields."""
        rng, arrival = random.Random(self.seed), 0.0
        for number in range(self.requests):
            if self.rate:
                arrival += rng.expovariate(self.rate)
            prompt, output = self.prompt.draw(rng), self.output.draw(rng)
            if self.longest:
                output = min(output, self.longest - 1)
                prompt = min(prompt, self.longest - output)
            yield {"arrival": round(arrival, 9), "prompt_length": prompt, "output_length": output, "seed": self.seed * 1000 + number}


def write_trace(path, lines):
    with writing(path):
        Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_trace(path):
    """The requests of a trace file, as dicts that have been checked. InputError names the line."""
    with writing(path):
        try:
            text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{path}: Trace must be UTF-8") from None
    lines = []
    for number, row in enumerate(text.splitlines(), 1):
        if row.strip():
            try:
                lines.append(_checked(json.loads(row)))
            except ValueError as error:
                raise InputError(f"{path}:{number}: {'Line must be JSON' if isinstance(error, json.JSONDecodeError) else error}") from None
    if not lines:
        raise InputError(f"{path}: Trace must have at least one request")
    return lines


def _checked(line):
    if not isinstance(line, dict):
        raise ValueError(f"Request must be an object, not {line!r}")
    for key, value in line.items():
        if key not in _FIELDS:
            raise ValueError(f"Field must be one of {', '.join(_FIELDS)}, not {key!r}")
        if not isinstance(value, _FIELDS[key]) or (isinstance(value, bool) and key != "stop"):
            raise ValueError(f"Field {key} must not be {value!r}")
    if sum(key in line for key in _PROMPTS) != 1:
        raise ValueError(f"Request must have exactly one of {', '.join(_PROMPTS)}")
    if "arrival" in line and "cycle" in line:
        raise ValueError("Request must have arrival (seconds) or cycle, not both")
    if not 0 <= line.get("arrival", line.get("cycle", 0)) < math.inf:
        raise ValueError("Arrival must be at least 0")
    if line.get("prompt_length", 1) < 1 or line.get("output_length", 1) < 1:
        raise ValueError("Lengths must be at least 1")
    if not all(isinstance(t, int) and not isinstance(t, bool) for t in line.get("tokens", ())):
        raise ValueError("Tokens must be integers")
    if not 0 <= line.get("seed", 0) < 2**32:
        raise ValueError("Seed must be 0 to 2**32 - 1")
    return line


def requests_of(lines, model, clock, tokenizer=None):
    """`Request`s of a trace's lines.

    Parameters
    ----------
    model : ModelShape      what a prompt of which only the length is given is drawn for, from the request's seed
    clock : float           MHz: arrivals in seconds become cycles
    tokenizer : Tokenizer   for prompts in text
    """
    found = []
    for number, line in enumerate(lines):
        seed = line.get("seed", number)
        if "text" in line:
            if tokenizer is None:
                raise ValueError("Prompts in text need a model with a tokenizer")
            prompt = tokenizer.encode(line["text"])
        elif "tokens" in line:
            prompt = line["tokens"]
        else:
            rng = random.Random(seed)
            prompt = [rng.randrange(model.vocab_size) for _ in range(line["prompt_length"])]
        arrival = line["cycle"] if "cycle" in line else round(line.get("arrival", 0) * clock * 1e6)
        found.append(Request(tuple(prompt), line.get("output_length", 16), arrival, seed, model.eos_token_ids if line.get("stop") else (),
                             line.get("name", f"request {number}")))
    return found
