"""Chat templates: Jinja as transformers renders it, and bounded, since a template comes out of a model file."""
import contextlib
import datetime
import json
import sys
import time
from typing import Any

from .checkpoint import ModelError

__all__ = ["render"]

#: What a template may take. The longest that are published need some milliseconds.
_SECONDS, _BYTES, _CHARACTERS, _POWER = 0.5, 256 << 20, 1_000_000, 64


class _TooLong(Exception):
    """The template is over its bounds."""


@contextlib.contextmanager
def _bounded_time():
    """_TooLong as soon as Python code below has run for _SECONDS."""
    end, before = time.thread_time() + _SECONDS, sys.gettrace()

    def trace(frame, event, argument):
        if time.thread_time() > end:
            raise _TooLong(f"it runs for more than {_SECONDS:g} s")
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def _bounded_memory():
    """MemoryError once _BYTES more are taken, where the system can say so."""
    try:
        import resource
        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
        if before[0] == resource.RLIM_INFINITY or now + _BYTES < before[0]:
            resource.setrlimit(resource.RLIMIT_AS, (now + _BYTES, before[1]))
    except (ImportError, OSError, ValueError):  # no Linux
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _environment():
    import jinja2.ext       # here, because few runs need it
    import jinja2.nodes
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """``{% generation %}``, which marks the assistant's words for training: what is inside is rendered."""

        tags = {"generation"}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(["name:endgeneration"], drop_needle=True)

    class Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["**"])

        def call_binop(self, context, operator, left, right):
            if abs(right) > _POWER:
                raise _TooLong(f"it takes the power {right}")
            return left ** right

    def raise_exception(message):
        raise jinja2.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    # The options and names that templates rely on: utils/chat_template_utils.py of transformers 5.24.
    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment


def render(template: str, source: str, messages: list[dict[str, Any]], *, add_generation_prompt: bool = True,
           **tokens: str) -> str:
    """The text of a conversation.

    Parameters
    ----------
    template : str
    source : str           the template's file, for messages
    messages : list of dict
    tokens : str           the special tokens that it may name, such as ``bos_token``

    Raises
    ------
    ModelError : whatever goes wrong in the template, or takes too long
    """
    messages = [{key: value for key, value in message.items() if value is not None} for message in messages]
    try:
        environment = _environment()
        with _bounded_memory(), _bounded_time():
            pieces, length = [], 0
            values = {"messages": messages, "tools": None, "documents": None,
                      "add_generation_prompt": add_generation_prompt, **tokens}
            for piece in environment.from_string(template).generate(values):
                pieces.append(piece)
                length += len(piece)
                if length > _CHARACTERS:
                    raise _TooLong(f"it writes more than {_CHARACTERS} characters")
        text = "".join(pieces)
        text.encode()  # lone surrogates are no text
        return text
    except Exception as error:  # a template can raise anything
        words = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{source}: Chat template failed: {words[:200]}") from None
