"""The tokenizer of a Hugging Face folder, out of all the files that say something about it.

What is followed is ``AutoTokenizer.from_pretrained(folder)`` of transformers 5.24 (``tokenization_utils_base.py``,
``tokenization_utils_tokenizers.py``, ``models/auto/tokenization_auto.py``): which files win, and which tokenizer
classes make the tokenizer anew from the vocabulary instead of taking ``tokenizer.json`` as it is.
"""
from pathlib import Path
from typing import Any

from .checkpoint import ModelError
from .files import open_file
from .json_file import LONGEST, read_json
from .tokenizer import Tokenizer, library_errors
from .tokenizer_classes import differ, made_anew, warn_of_class

__all__ = ["load_tokenizer", "read_object"]

#: Bytes of tokenizer.json; a vocabulary of 256,000 has 35 million.
_LONGEST_TOKENIZER = 128 << 20
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

#: Options of tokenizer_config.json that change no token and no text here: sizes, padding, training, other programs.
_HARMLESS = {
    "model_max_length", "max_len", "max_length", "model_input_names", "padding_side", "truncation_side", "stride",
    "truncation_strategy", "pad_to_multiple_of", "pad_token_type_id", "tokenizer_class", "processor_class",
    "name_or_path", "special_tokens_map_file", "tokenizer_file", "vocab_file", "merges_file",
    "use_default_system_prompt", "spaces_between_special_tokens", "sp_model_kwargs", "clean_up_tokenization_spaces",
    "trust_remote_code", "use_fast", "errors", "backend", "is_local", "local_files_only", "device_map", "verbose",
    "response_schema", "response_template", "chat_control_tokens", "files_loaded", "init_inputs", "from_slow",
    "revision", "subfolder", "language", "_commit_hash", "add_prefix_space", "legacy", "init_kwargs",
    "transformers_version", "auto_map", "vocab_size", "suffix_first"}
#: Options that are followed.
_HONOURED = {*_NAMED, "chat_template", "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens",
             "split_special_tokens", "model_specific_special_tokens"}

#: Tokenizer classes of transformers that stand for tokenizer.json as it is.
_AS_IT_IS = {"PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", "Bloom", "BloomTokenizer", ""}
#: Classes of transformers that make the tokenizer anew, in ways that are not followed here.
_OTHERS = {f"{name}Tokenizer" for name in (
    "Albert Barthez Bartpho BertGeneration BertJapanese Bert BigBird BioGpt BlenderbotSmall Blenderbot ByT5 CLIP CTRL "
    "Camembert  Canine CodeGen Cohere Cpm CpmAnt Deberta DebertaV2 DistilBert Esm FNet Flaubert Funnel "
    "GPTNeoXJapanese GPTNeoX  GPTSw3 Gemma Herbert LayoutLMv2 LayoutLMv3 Luke M2M100 MBart50 MBart MPNet Marian Nllb "
    "Nougat OpenAIGPT PLBart Parakeet  Pegasus Perceiver Phobert Pop2Piano ProphetNet Qwen3_5 Reformer RemBert "
    "RoCBert RoFormer Roberta SeamlessM4T Siglip2 Siglip  Speech2Text SpeechT5 Splinter T5 Tapas Udop Vits Whisper "
    "XGLM XLMRoberta XLM XLNet"
).split()}
_LLAMA_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
#: Special tokens that a class has unless the files name others.
_CLASS_TOKENS = {
    "LlamaTokenizer": _LLAMA_TOKENS,
    "CodeLlamaTokenizer": _LLAMA_TOKENS | {
        "prefix_token": "▁<PRE>", "middle_token": "▁<MID>", "suffix_token": "▁<SUF>", "eot_token": "▁<EOT>",
        "fill_token": "<FILL_ME>"},
    "GPT2Tokenizer": dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>"),
    "Qwen2Tokenizer": dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>")}


def read_object(path: Path, longest: int = LONGEST) -> dict[str, Any]:
    """The JSON object in a file, {} where there is no file; ModelError if it holds something else: see `read_json`."""
    return read_json(path, default={}, longest=longest)


def _kind(value):
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number",
             float: "a number", type(None): "null"}
    return names[type(value)]


def _text_file(path, longest=LONGEST):
    try:
        with open_file(path) as file:
            data = file.read(longest + 1)
        if len(data) > longest:
            raise ModelError(f"{path}: File must be at most {longest} bytes long: it is no such file of a model")
        return data.decode("utf-8")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: File must be UTF-8 text ({error})") from None


def _token(value, path, name):
    """An AddedToken of a string or of an object with its fields; None of null."""
    import tokenizers
    if value is None:
        return None
    if isinstance(value, str):
        value = {"content": value}
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        raise ModelError(f"{path}: Token {name} must be a string or an object with its content, not {_kind(value)}"
                         + (" without it" if isinstance(value, dict) else ""))
    fields = {key: value[key] for key in ("lstrip", "rstrip", "single_word", "normalized", "special") if key in value}
    for key, flag in fields.items():
        if not isinstance(flag, bool):
            raise ModelError(f"{path}: Token {name} must have true or false as {key}, not {_kind(flag)}")
    return tokenizers.AddedToken(value["content"], **{"special": True} | fields)


def _number(key, path):
    """A token's number out of a JSON key or value."""
    try:
        number = int(key) if isinstance(key, str) else key
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 31:
        raise ModelError(f"{path}: Token ids must be whole numbers from 0 to 2147483647, not {str(key)[:40]}")
    return number


class _Files:
    """What the files beside tokenizer.json say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "tokenizer_config.json"
        self.options = read_object(self.path)
        self.warnings = []
        config = read_object(folder / "config.json")
        self.model_type = config.get("model_type")
        name = self.options.get("tokenizer_class") or config.get("tokenizer_class") or ""
        if not isinstance(name, str):
            raise ModelError(f"{self.path}: Option tokenizer_class must be a string, not {_kind(name)}")
        self.class_name = name.removesuffix("Fast")
        unknown = sorted(key for key in self.options if key not in _HARMLESS | _HONOURED and not key.endswith("_token"))
        if unknown:
            self.warnings.append(f"{self.path}: unknown here, and not followed: {', '.join(unknown)[:200]}")

    def tokenizer_class(self, layout: dict[str, Any]) -> str:
        """The class that makes the tokenizer, or "" where tokenizer.json is taken as it is."""
        name = self.class_name
        known = name in _CLASS_TOKENS or name in _AS_IT_IS or name in _OTHERS
        if "auto_map" in self.options and not known and self.model_type not in ("mistral", "ministral"):
            raise ModelError(f"{self.path}: Option auto_map must be absent: the tokenizer is a program of its own; "
                             "save it as a tokenizer.json alone")
        # transformers knows better than the file for Mistral's, and for byte-level ones that call themselves Llama's
        if self.model_type in ("mistral", "ministral") or name == "LlamaTokenizer" and _has_byte_level(layout):
            return ""
        if name in _OTHERS:
            raise ModelError(f"{self.path}: Tokenizer class must be LlamaTokenizer, GPT2Tokenizer, CodeLlamaTokenizer, "
                             "Qwen2Tokenizer or PreTrainedTokenizerFast (which takes tokenizer.json as it is), "
                             f"not {name}")
        return name if name in _CLASS_TOKENS else ""

    def flag(self, name: str, default: bool) -> bool:
        value = self.options.get(name)
        if value is not None and not isinstance(value, bool):
            raise ModelError(f"{self.path}: Option {name} must be true or false, not {_kind(value)}")
        return default if value is None else value

    def added(self, layout: dict[str, Any], defaults: dict[str, str]) -> tuple[dict, dict[str, Any], dict[str, Any]]:
        """(id -> AddedToken, options, own): the tokens that are added to the core, the options after the merge, and
        name -> token of what the class's ``defaults`` have beside the usual names."""
        options = dict(self.options)
        if not options.get("extra_special_tokens") and "additional_special_tokens" in options:
            options["extra_special_tokens"] = options.pop("additional_special_tokens")
        tokens = {}
        if "added_tokens_decoder" in options:
            # the two older files, and the list in tokenizer.json, are not read then
            for key, value in _mapping(options["added_tokens_decoder"], self.path, "added_tokens_decoder").items():
                if not isinstance(value, dict):
                    raise ModelError(f"{self.path}: Token {key} of added_tokens_decoder must be an object, "
                                     f"not {_kind(value)}")
                tokens[_number(key, self.path)] = _token({"special": False} | value, self.path, key)
        else:
            # a token that is written as an object in tokenizer_config.json does not count as a special one here
            special = {name: options.get(name) for name in _NAMED}
            more = _sequence(options.get("extra_special_tokens"))
            path = self.folder / "special_tokens_map.json"
            for key, value in read_object(path).items():
                if key == "extra_special_tokens" and isinstance(value, list):
                    before = _sequence(options.get(key))
                    value = before + [token for token in value if token not in before]
                    more = more + [_content(token) for token in value]
                elif key in _NAMED:
                    special[key] = _content(value)
                    value = value | {"special": True} if isinstance(value, dict) else value
                options[key] = value
            path = self.folder / "added_tokens.json"
            for content, number in read_object(path).items():
                known = content in [*special.values(), *more]
                tokens[_number(number, path)] = _token(
                    {"content": content, "normalized": not known, "special": known}, path, content)
            path = self.folder / "tokenizer.json"
            for token in _sequence(layout.get("added_tokens")):
                if isinstance(token, dict) and "id" in token:
                    tokens[_number(token["id"], path)] = _token({"special": False} | token, path, token["id"])
        if isinstance(options.get("extra_special_tokens"), dict):
            options["model_specific_special_tokens"] = _mapping(
                options.get("model_specific_special_tokens") or {}, self.path, "model_specific_special_tokens"
            ) | options.pop("extra_special_tokens")
        # a string in tokenizer_config.json names one more token there, beside the default; null takes it away
        own = {key: default if isinstance(self.options.get(key), str) else options.get(key, default)
               for key, default in defaults.items() if key not in _NAMED}
        if "extra_special_tokens" not in options:
            more = options.get("additional_special_tokens") or []
            options["extra_special_tokens"] = [*more, *own.values()] if isinstance(more, list) else more
        return tokens, options, own

    def template(self) -> tuple[str | None, str]:
        """(chat template or None, where it stands)."""
        templates: Any = {}
        file = self.folder / "chat_template.jinja"
        if file.exists():
            templates["default"] = _text_file(file)
        more = self.folder / "additional_chat_templates"
        for path in sorted(more.glob("*.jinja")) if more.is_dir() else ():
            templates[path.name.removesuffix(".jinja")] = _text_file(path)
        if not templates:
            file, templates = self.path, self.options.get("chat_template")
            if isinstance(templates, list):  # several named ones
                if not all(isinstance(t, dict) and {"name", "template"} <= set(t) and isinstance(t["name"], str)
                           for t in templates):
                    raise ModelError(f"{file}: Option chat_template must be a string, or a list of objects with name "
                                     "and template")
                templates = {t["name"]: t["template"] for t in templates}
            elif not isinstance(templates, dict):
                templates = {"default": templates}
        text = templates.get("default")
        if text is not None and not isinstance(text, str):
            raise ModelError(f"{file}: Chat template must be a string, not {_kind(text)}")
        others = sorted(set(templates) - {"default"})
        if text is None and others:
            self.warnings.append(f"{file}: no chat template is named default, so there is none: "
                                 f"{', '.join(others)[:200]}")
        if (self.folder / "chat_template.json").exists() and text is None:
            self.warnings.append(f"{self.folder / 'chat_template.json'}: not read, as in transformers: "
                                 "it belongs to a processor; a tokenizer's is chat_template.jinja")
        where = file.name + (f", default of {len(templates)}" if others else "")
        return text, where if text is not None else "none"


def _content(value):
    return value.get("content") if isinstance(value, dict) else value


def _mapping(value, path, name):
    if not isinstance(value, dict):
        raise ModelError(f"{path}: Option {name} must be an object, not {_kind(value)}")
    return value


def _sequence(value):
    return value if isinstance(value, list) else []


def _has_byte_level(layout):
    """Whether tokenizer.json's pre-tokenizer or decoder is, or has, a ByteLevel."""
    def search(part):
        if isinstance(part, dict):
            return part.get("type") == "ByteLevel" or any(
                search(p) for key in ("pretokenizers", "decoders") for p in _sequence(part.get(key)))
        return False
    return search(layout.get("pre_tokenizer")) or search(layout.get("decoder"))


def _add_tokens(core, tokens, named, extra):
    """Add what core lacks, in transformers' order."""
    known = {repr(token) for token in core.get_added_tokens_decoder().values()}
    contents = {token.content for token in core.get_added_tokens_decoder().values()}
    adding = [token for _, token in sorted(tokens.items()) if repr(token) not in known]
    contents |= {token.content for token in adding}
    seen = set()
    for token in [*named.values(), *extra]:
        # once as a string, which has no options, and once as an object: the later one's options count
        kind = token.content, repr(token) == repr(_token(token.content, "", ""))
        if token.content not in contents and kind not in seen:
            adding.append(token)
            seen.add(kind)
    names = {token.content for token in named.values()}
    for token in adding:
        token.special = token.special or token.content in names
    core.add_tokens(adding)


def _named_tokens(options, defaults, padding, tokens, path):
    """Name -> AddedToken of the special tokens that have a name, in transformers' order."""
    merged = dict(defaults)
    if padding:
        merged["pad_token"] = padding["pad_token"]
    merged |= {name: options[name] for name in _NAMED if name in options}
    own = {key: value for key, value in (defaults | options).items()
           if key.endswith("_token") and key not in _NAMED and isinstance(value, (str, dict))}
    own |= _mapping(options.get("model_specific_special_tokens") or {}, path, "model_specific_special_tokens")
    by_content = {token.content: token for token in tokens.values()}
    named = {}
    for name, value in ({name: merged.get(name) for name in _NAMED} | own).items():
        token = _token(value, path, name)
        if token is not None:
            named[name] = by_content.get(token.content, token)
    return named


def _core(path):
    """(Tokenizer of the tokenizers library, its padding, the file's object) of a tokenizer.json."""
    import tokenizers
    with library_errors(f"{path}: File must be a tokenizer of the tokenizers library", quiet=True):
        core = tokenizers.Tokenizer.from_str(_text_file(path, _LONGEST_TOKENIZER))
        padding = core.padding
        core.no_padding()
        core.no_truncation()
        core.encode("a")  # some mistakes show only then
    layout = read_object(path, _LONGEST_TOKENIZER)
    model = _mapping(layout.get("model"), path, "model")
    if model.get("dropout"):
        raise ModelError(f"{path}: Option dropout must be null, not {model['dropout']}: "
                         "a text would have other tokens each time")
    return core, padding, layout


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The Tokenizer of a folder: ``tokenizer.json`` with what the files beside it add to it or change in it.

    Raises ModelError, with one line, for what is no tokenizer, or one that is not followed here.
    """
    import tokenizers
    folder = Path(folder)
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ModelError(f"{path} is missing: save the model's tokenizer there "
                         "(AutoTokenizer.from_pretrained(...).save_pretrained(...) of transformers)")
    files = _Files(folder)
    core, padding, layout = _core(path)
    _refuse_options(files, core)
    name = files.tokenizer_class(layout)
    defaults = _CLASS_TOKENS.get(name, {})
    tokens, options, own = files.added(layout, defaults)
    named = _named_tokens(options, defaults, padding, tokens, files.path)
    extra = [_token(token, files.path, "in extra_special_tokens")
             for token in _sequence(options.get("extra_special_tokens")) if token is not None]
    if not isinstance(options.get("extra_special_tokens") or [], list):
        raise ModelError(f"{files.path}: Option extra_special_tokens must be a list or an object, "
                         f"not {_kind(options['extra_special_tokens'])}")
    plain = len(core.get_added_tokens_decoder())
    with library_errors(f"{path}: Tokens of the folder's files must fit together", quiet=True):
        as_it_is, core = core, made_anew(name, core, layout, files, named) if name else core
        _add_tokens(core, tokens, named, extra)
        if name == "Qwen2Tokenizer":  # which adds them once more, without their options
            core.add_tokens([tokenizers.AddedToken(token.content, special=True) for token in [*named.values(), *extra]])
        if name == "CodeLlamaTokenizer":  # which puts a start token, whatever tokenizer.json has around a text
            start = [named["bos_token"].content] if "bos_token" in named else []
            core.post_processor = tokenizers.processors.TemplateProcessing(
                single=[*start, "$A"], special_tokens=[(token, core.token_to_id(token)) for token in start])
        core.encode_special_tokens = files.flag("split_special_tokens", False)
        moved = [(token.content, i, core.token_to_id(token.content)) for i, token in tokens.items()
                 if core.token_to_id(token.content) != i]
        if name:
            warn_of_class(name, as_it_is, core, files)
    behind = named["eos_token"].content + "Hello" if name and "eos_token" in named else ""
    if moved:
        content, asked, given = moved[0]
        files.warnings.append(f"{files.path}: token {content!r} has id {given}, as in transformers, not {asked} as it "
                              "says" + (f" (and {len(moved) - 1} more)" if len(moved) > 1 else ""))
    template, where = files.template()
    texts = {label: token.content for label, token in named.items()}
    fill = _token(own.get("fill_token"), files.path, "fill_token")
    if fill is not None:
        texts["fill_token"] = fill.content
    _warn_of_ends(name, files, core, texts)
    added = core.get_added_tokens_decoder()
    new = len(added) - (plain if not name else 0)
    notes = {"tokenizer": f"tokenizer.json{f', made anew as {name}' if name else ''}"
                          + (", which splits otherwise behind a special token" if behind
                             and differ(as_it_is, core, behind) else ""),
             "special tokens": f"{sum(token.special for token in added.values())} of {len(added)} added ones"
                               + (f", {new} not of tokenizer.json alone" if new and not name else ""),
             "start token's text": texts.get("bos_token", "none"), "end token's text": texts.get("eos_token", "none"),
             "chat template": where}
    return Tokenizer(core, chat_template=template, tokens=texts, source=path, warnings=files.warnings, notes=notes,
                     refused=fill.content if fill is not None else None)


def _refuse_options(files, core):
    """ModelError for options that change tokens or text, and are not followed."""
    if files.flag("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False) or (
            files.flag("clean_up_tokenization_spaces", False) and type(core.model).__name__ != "BPE"):
        raise ModelError(f"{files.path}: Option clean_up_tokenization_spaces must be false: "
                         "it takes spaces out of the text that the model wrote")
    if files.flag("fix_mistral_regex", False) and core.get_vocab_size() > 100_000:
        raise ModelError(f"{files.path}: Option fix_mistral_regex must be false: "
                         "save the tokenizer again with the right expression")
    versions = files.options.get("fast_tokenizer_files") or []
    if versions not in ([], ["tokenizer.json"]):
        raise ModelError(f"{files.path}: Option fast_tokenizer_files must name tokenizer.json alone: "
                         "leave the file that is meant, under that name")


def _warn_of_ends(name, files, core, texts):
    """A warning if an option asks for a start or end token that is not put, or the other way."""
    around = [core.id_to_token(i) for i in core.encode("").ids]
    for option, token, found in (("add_bos_token", texts.get("bos_token"), around[:1]),
                                 ("add_eos_token", texts.get("eos_token"), around[-1:])):
        asked = files.options.get(option)
        if isinstance(asked, bool) and token and asked != (found == [token]):
            decides = ("the class puts a start token alone" if name == "CodeLlamaTokenizer"
                       else "the post-processor of tokenizer.json decides")
            files.warnings.append(f"{files.path}: option {option} is {str(asked).lower()}, and not followed, as in "
                                  f"transformers 5: {decides}")
    followed = ("Llama", "CodeLlama", "GPT2", "Qwen2")
    if files.options.get("add_prefix_space") and not files.class_name.startswith(followed):
        files.warnings.append(f"{files.path}: option add_prefix_space is true, and not followed, as in transformers 5: "
                              "tokenizer.json decides")
