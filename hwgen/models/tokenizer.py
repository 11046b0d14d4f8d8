"""Text to tokens and back, a token at a time, and the chat template."""
import datetime
import json
from pathlib import Path

from .checkpoint import ModelError

__all__ = ["TextStream", "Tokenizer"]


class Tokenizer:
    """A model's own tokenizer.

    Parameters
    ----------
    core : tokenizers.Tokenizer
    chat_template : str or None      Jinja, as Hugging Face renders it
    bos_token, eos_token : str       what a template may insert
    source : str                     the file, for messages
    """

    def __init__(self, core, *, chat_template=None, bos_token="", eos_token="", source="tokenizer"):
        core.no_padding()
        core.no_truncation()
        self._core = core
        self.chat_template = chat_template
        self.bos_token = bos_token
        self.eos_token = eos_token
        self.source = str(source)

    @classmethod
    def from_folder(cls, folder):
        """From ``tokenizer.json``, and ``tokenizer_config.json`` and ``chat_template.jinja`` where they exist."""
        import tokenizers
        path = Path(folder) / "tokenizer.json"
        if not path.exists():
            raise ModelError(f"{path} is missing: save the model's tokenizer there "
                             "(AutoTokenizer.from_pretrained(...).save_pretrained(...) of transformers)")
        try:
            core = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise ModelError(f"{path}: File must be a tokenizer of the tokenizers library ({error})") from None
        options, template = {}, None
        config = path.with_name("tokenizer_config.json")
        if config.exists():
            try:
                options = json.loads(config.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise ModelError(f"{config}: File must be JSON ({error})") from None
        template = options.get("chat_template")
        if isinstance(template, list):  # several named ones
            template = {t["name"]: t["template"] for t in template}.get("default")
        file = path.with_name("chat_template.jinja")
        if file.exists():
            template = file.read_text(encoding="utf-8")

        def token(name):  # a string, or an added token's dictionary, or null
            value = options.get(name)
            return (value.get("content") if isinstance(value, dict) else value) or ""

        return cls(core, chat_template=template, bos_token=token("bos_token"), eos_token=token("eos_token"),
                   source=path)

    def check_vocabulary(self, vocab_size, path):
        """ModelError if a token has no row in the model's embedding table."""
        largest = max(self._core.get_vocab(with_added_tokens=True).values(), default=0)
        if largest >= vocab_size:
            raise ModelError(f"{path}: Token ids must be below the model's vocabulary size {vocab_size}, "
                             f"not up to {largest}: tokenizer and model do not belong together")

    def encode(self, text, *, special=True):
        """Token ids of a text; ``special`` adds what the model wants around it, such as a start token."""
        return self._core.encode(text, add_special_tokens=special).ids

    def decode(self, ids, *, special=False):
        """The text of token ids; ``special`` shows special tokens too."""
        return self._core.decode(list(ids), skip_special_tokens=not special)

    def stream(self, *, special=False):
        """A :class:`TextStream` that turns tokens into text as they come."""
        return TextStream(self, special)

    def render_chat(self, messages, *, add_generation_prompt=True):
        """The text of a conversation: a list of ``{"role": ..., "content": ...}``, or one user's message."""
        if self.chat_template is None:
            raise ModelError(f"{self.source}: Model has no chat template: give the prompt as plain text")
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        import jinja2.ext       # here, because few runs need it
        import jinja2.sandbox

        def raise_exception(message):
            raise jinja2.TemplateError(message)

        # The options and names that templates rely on. A template comes out of a model file: hence the sandbox.
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
        environment.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
        environment.globals["raise_exception"] = raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        try:
            return environment.from_string(self.chat_template).render(
                messages=messages, add_generation_prompt=add_generation_prompt,
                bos_token=self.bos_token, eos_token=self.eos_token)
        except jinja2.TemplateError as error:
            raise ModelError(f"{self.source}: Chat template failed: {error}") from None

    def encode_chat(self, messages):
        """Token ids of a conversation up to where the model is to answer; see :meth:`render_chat`."""
        return self.encode(self.render_chat(messages), special=False)  # a template writes its start token itself


class TextStream:
    """Turns tokens into text as they come. A character whose bytes are not all there yet waits for the rest.

    What :meth:`push` and :meth:`end` return adds up to ``Tokenizer.decode`` of all tokens, if their bytes are UTF-8.
    (Where they are not, some decoders take back letters that were fine, and what was shown stays shown.)
    """

    def __init__(self, tokenizer, special=False):
        self._decode = lambda ids: tokenizer.decode(ids, special=special)
        self._ids = []     # since the start of the last piece of text: decoders look back by one piece, not further
        self._done = 0     # of them, how many are text already
        self._shown = ""   # the text of those

    def push(self, token):
        """The text that this token completes, maybe empty."""
        self._ids.append(token)
        text = self._decode(self._ids)
        if text.endswith("\ufffd"):  # a half character decodes as this one
            return ""
        return self._advance(text)

    def end(self):
        """What was still waiting."""
        return self._advance(self._decode(self._ids))

    def _advance(self, text):
        piece = text[len(self._shown):]
        if piece:
            self._ids = self._ids[self._done:]
            self._done = len(self._ids)
            self._shown = self._decode(self._ids)
        return piece
