"""Text to tokens and back, a token at a time, and the chat template."""
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import ModelError

if TYPE_CHECKING:
    import tokenizers

__all__ = ["TextStream", "Tokenizer", "library_errors"]


@contextlib.contextmanager
def library_errors(sentence: str, quiet: bool = False) -> Iterator[None]:
    """ModelError for whatever the tokenizers library raises inside: ``sentence``, and the library's words in brackets.

    It raises plain Exception, and where its Rust code panics, a BaseException after some lines to the terminal:
    ``quiet`` keeps those back.
    """
    try:
        with _silent() if quiet else contextlib.nullcontext():
            yield
    except ModelError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        words = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{sentence} ({words[:200]})") from None


@contextlib.contextmanager
def _silent():
    """Nothing that is written to the process's stderr inside is seen."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class Tokenizer:
    """A model's own tokenizer.

    Parameters
    ----------
    core : tokenizers.Tokenizer
    chat_template : str or None        Jinja, as Hugging Face renders it
    bos_token, eos_token : str         what a template may insert
    tokens : dict                      instead of these two: all special tokens by their names in a template
    source : str                       the file, for messages
    start_around_chat : bool           a chat is encoded with what the model wants around a text, as llama.cpp does;
                                       else, as in transformers, a template writes its start token itself
    warnings : list of str             a line each: what was found and is not followed, or may not be meant
    notes : dict                       label -> text: what was taken from where
    refused : str or None              a text with it is refused: at it the model's own tokenizer makes two texts of one
    """

    def __init__(self, core: "tokenizers.Tokenizer", *, chat_template: str | None = None, bos_token: str = "",
                 eos_token: str = "", tokens: Mapping[str, str] | None = None, source: str | Path = "tokenizer",
                 start_around_chat: bool = False, warnings: Iterable[str] = (), notes: Mapping[str, str] | None = None,
                 refused: str | None = None) -> None:
        core.no_padding()
        core.no_truncation()
        self._core = core
        self._limit: int | None = None
        self._start_around_chat = start_around_chat
        self.chat_template = chat_template
        self.tokens = {"bos_token": bos_token, "eos_token": eos_token} if tokens is None else dict(tokens)
        self.source = str(source)
        self.warnings = list(warnings)
        self.notes = dict(notes or {})
        self._refused = refused

    @property
    def bos_token(self) -> str:
        """The text of the start token, "" if there is none."""
        return self.tokens.get("bos_token", "")

    @property
    def eos_token(self) -> str:
        """The text of the end token, "" if there is none."""
        return self.tokens.get("eos_token", "")

    def stored(self) -> str:
        """The text of a ``tokenizer.json``, which with `options` makes this tokenizer again."""
        return self._core.to_str()

    def options(self) -> dict[str, Any]:
        """What the constructor was given beside the core, as JSON takes it."""
        return {"chat_template": self.chat_template, "tokens": self.tokens,
                "start_around_chat": self._start_around_chat, "warnings": self.warnings,
                "notes": self.notes, "refused": self._refused}

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Tokenizer":
        """From ``tokenizer.json`` and the files beside it; see :mod:`hwgen.models.tokenizer_folder`."""
        from .tokenizer_folder import load_tokenizer
        return load_tokenizer(folder)

    def check_vocabulary(self, vocab_size: int, path: str | Path) -> None:
        """ModelError if a token of the vocabulary has no row in the model's embedding table.

        A token that was added later, such as one for padding, may have none: :meth:`encode` refuses a text with it.
        """
        largest = max(self._core.get_vocab(with_added_tokens=False).values(), default=0)
        if largest >= vocab_size:
            raise ModelError(f"{path}: Token ids must be below the model's vocabulary size {vocab_size}, "
                             f"not up to {largest}: tokenizer and model do not belong together")
        tokens = self._core.get_vocab(with_added_tokens=True)
        above = sorted((i, token) for token, i in tokens.items() if i >= vocab_size)
        if above:
            self.warnings.append(f"{path}: {len(above)} added tokens, {above[0][1]!r} the first, have no row in the "
                                 f"model's embedding table of {vocab_size}: a text with one is refused")
        self._limit = vocab_size

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a text; ``special`` adds what the model wants around it, such as a start token."""
        if self._refused is not None and self._refused in text:
            raise ModelError(f"{self.source}: Text must be without {self._refused!r}, which stands for infilling: "
                             "write the model's tokens for it instead")
        with library_errors(f"{self.source}: Text must be one that the tokenizer can take apart", quiet=True):
            ids = self._core.encode(text, add_special_tokens=special).ids
        if self._limit is not None and ids and max(ids) >= self._limit:
            raise ModelError(f"{self.source}: Token ids must be below the model's vocabulary size {self._limit}, "
                             f"not {max(ids)} ({self._core.id_to_token(max(ids))!r}): the model has no such token")
        return ids

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of token ids; ``special`` shows special tokens too."""
        with library_errors(f"{self.source}: Tokens must be ones that the tokenizer can put together"):
            return self._core.decode(list(ids), skip_special_tokens=not special)

    def stream(self, *, special: bool = False, after: Sequence[int] = ()) -> "TextStream":
        """A :class:`TextStream` that turns tokens into text as they come; ``after`` are the tokens before them."""
        return TextStream(self, special, after)

    def render_chat(self, messages: list[dict[str, Any]] | str, *, add_generation_prompt: bool = True) -> str:
        """The text of a conversation: a list of ``{"role": ..., "content": ...}``, or one user's message."""
        if self.chat_template is None:
            raise ModelError(f"{self.source}: Model has no chat template: give the prompt as plain text")
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        from .chat_template import render
        return render(self.chat_template, self.source, messages, add_generation_prompt=add_generation_prompt,
                      **self.tokens)

    def encode_chat(self, messages: list[dict[str, Any]] | str) -> list[int]:
        """Token ids of a conversation up to where the model is to answer; see :meth:`render_chat`."""
        text = self.render_chat(messages)
        if not self._start_around_chat:
            return self.encode(text, special=False)
        # llama.cpp, common/chat.cpp: what is put around the text anyway is taken off, so that it is there once
        first, last = ("" if i is None else self._core.id_to_token(i) or "" for i in self._around())
        return self.encode(text.removeprefix(first).removesuffix(last))

    def _around(self):
        """The token that :meth:`encode` puts before a text, and the one after it; None where there is none."""
        ids = self.encode("")
        start, end = self.bos_token, self.eos_token
        names = [self._core.id_to_token(i) for i in ids]
        return (ids[0] if names and names[0] == start else None,
                ids[-1] if len(names) > (names[:1] == [start]) and names[-1] == end else None)


class TextStream:
    """Turns tokens into text as they come. A character whose bytes are not all there yet waits for the rest.

    What :meth:`push` and :meth:`end` return adds up to ``Tokenizer.decode`` of all tokens, less that of the tokens
    ``after`` which they come, if their bytes are UTF-8: a word keeps the space before it. (Where they are not, some
    decoders take back letters that were fine, and what was shown stays shown.)
    """

    def __init__(self, tokenizer: Tokenizer, special: bool = False, after: Sequence[int] = ()) -> None:
        self._decode = lambda ids: tokenizer.decode(ids, special=special)
        self._ids = list(after)        # later since the start of the last piece: decoders look back by one, not further
        self._done = len(self._ids)    # of them, how many are text already
        self._shown = self._decode(self._ids) if after else ""   # the text of those

    def push(self, token: int) -> str:
        """The text that this token completes, maybe empty."""
        self._ids.append(token)
        text = self._decode(self._ids)
        if text.endswith("\ufffd"):  # a half character decodes as this one
            return ""
        return self._advance(text)

    def end(self) -> str:
        """What was still waiting."""
        return self._advance(self._decode(self._ids))

    def _advance(self, text):
        # half a character at the end of what stands before becomes a whole one
        shown = self._shown if text.startswith(self._shown) else self._shown.rstrip("\ufffd")
        piece = text[len(shown):]
        if piece:
            last = self._ids[self._done:]
            alone = self._decode(last)
            if alone and piece.endswith(alone):  # all but maybe its space: it needs nothing that stands before
                self._ids, text = last, alone
            self._done, self._shown = len(self._ids), text
        return piece
