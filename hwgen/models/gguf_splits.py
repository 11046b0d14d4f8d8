"""How llama.cpp splits text before byte-level merges, by the name in ``tokenizer.ggml.pre``.

The names, their expressions and their defaults are those of llama.cpp (``src/llama-vocab.cpp``, October 2026). The
expressions are applied one after the other, each to what the one before it left or matched.
"""
import dataclasses

__all__ = ["DEFAULT_SPLITS", "FIRST_NAMES", "SPLITS", "Splits"]

_CONTRACTIONS = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LINES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_JAIS2_LINES = r"\s*[\r\n]+|" + "".join(rf"\s{{{2 ** i}}}(?!\S)|" for i in range(9, 1, -1)) + r"\s{1,2}(?!\S)|\s{1}"


def _words(numbers, marks="", contractions=_CONTRACTIONS, ends=r"[\r\n]*", lines=_LINES):
    """Llama 3's expression and its relatives: words with one character before them, numbers, symbols, spaces."""
    start = f"(?:{contractions})|" if contractions else ""
    return (rf"{start}[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}{marks}]+|{numbers}| ?[^\s\p{{L}}{marks}\p{{N}}]+{ends}|{lines}")


def _cased(end, numbers, letters=r"\p{L}"):
    """GPT-4o's: a word is capitals, then small letters; to llama.cpp these are all but a to z, and all but A to Z."""
    big, small = rf"(?:(?=[{letters}])[^a-z])", rf"(?:(?=[{letters}])[^A-Z])"
    return (rf"[^\r\n\p{{L}}\p{{N}}]?{big}*{small}+{end}|[^\r\n\p{{L}}\p{{N}}]?{big}+{small}*{end}"
            rf"|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_LINES}")


_LLAMA3 = _words(r"\p{N}{1,3}")
_QWEN2 = _words(r"\p{N}")
_CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
_DEEPSEEK3 = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
              rf"""| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_LINES}""")
# llama.cpp takes spaces of any kind out of such a range before it looks
_EAST_ASIAN = r"(?:(?!\s)[一-龥ࠀ-一가-\ud7ff])+"
# every letter with a case, as the regular expression of the model's own tokenizer lists them
_DEEPSEEK_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7d"
    "ᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼ"
    "ℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃")


@dataclasses.dataclass(frozen=True)
class Splits:
    """Regular expressions, whether a piece that is a token needs no merges, and whether a text has a start token."""

    patterns: tuple
    whole_tokens: bool = False
    start: bool = False


DEFAULT_SPLITS = Splits((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"))

_KINDS = {
    "default": DEFAULT_SPLITS,
    "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano":
        Splits((_LLAMA3,), whole_tokens=True, start=True),
    "dbrx smaug-bpe glm4 chatglm-bpe": Splits((_LLAMA3,)),
    "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 megrez hunyuan solar-open grok-2": Splits((_QWEN2,)),
    "qwen35": Splits((_words(r"\p{N}", marks=r"\p{M}"),)),
    "ufakzeka": Splits((_words(r"\p{N}", contractions=""),)),
    "bailingmoe bailingmoe2 llada-moe": Splits((_words(r"\p{N}", lines=r"\s*[\r\n]|\s+(?!\S)|\s+"),)),
    "seed-coder": Splits((
        rf"(?:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_LINES}",)),
    "laguna": Splits((r"[^\n]+|[\n]+", _QWEN2)),
    "minicpm5": Splits((r"\p{N}{1,3}", _words(r"\p{N}+")), whole_tokens=True),
    "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert mpt olmo jais exaone4 "
    "trillion granite-docling": Splits((_GPT2,)),
    "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2": Splits((r"\p{N}", _GPT2)),
    "falcon": Splits((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]")),
    "deepseek-llm": Splits((
        r"[\r\n]", rf"\s?[{_DEEPSEEK_LETTERS}]+", r"\s?(?:[!-/:-~！-／：-～‘-‟]|、|。)+", r"\s+$",
        _EAST_ASIAN, r"\p{N}+")),
    "deepseek-coder": Splits((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _EAST_ASIAN, r"\p{N}")),
    "deepseek-v3 hunyuan-dense joyai-llm hy_v4": Splits((r"\p{N}{1,3}", _CJK, _DEEPSEEK3)),
    "tekken": Splits((_cased("", r"\p{N}"),), whole_tokens=True, start=True),
    "gpt-4o llama4 kanana2 talkie minimax-m2": Splits((_cased(f"(?:{_CONTRACTIONS})?", r"\p{N}{1,3}"),)),
    "jais-2": Splits((_words(r"\p{N}{1,3}", lines=_JAIS2_LINES),)),
    "exaone-moe": Splits((
        rf"(?:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",)),
    "chameleon": Splits((r"<sentinel:[0-9]+>", r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", r"\p{N}",
                         r"[\p{P}!-/:-@\[-`{-~]", _GPT2), start=True),
    "poro-chat bloom gpt3-finnish": Splits((" ?[^(\\s|.,!?…。，、।۔،)]+",)),
    "viking": Splits((" ?[^(\\s|.,!?…。，、।۔،)]+", r"\p{N}")),
}

#: Name in ``tokenizer.ggml.pre`` -> Splits
SPLITS = {name: splits for names, splits in _KINDS.items() for name in names.split()}

#: One name for each way to split.
FIRST_NAMES = tuple(names.split()[0] for names in _KINDS)
