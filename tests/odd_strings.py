"""Strings on which tokenizers differ: what stands between words, in numbers, beside special tokens, in other
scripts."""
import random

_PIECES = [
    # words, and where they end
    "the", "The", "THE", "thE", "iPhone", "McDonald", "x", "I", "don't", "DON'T", "it's", "IT'S", "we'll", "they've",
    "I'm", "you're", "he'd", "'s", "'S", "'", "''", "'tis", "l'été", "’s", "rock'n'roll", "naïve", "straße",
    "ǅ", "ſ", "K",
    # numbers
    "0", "7", "12", "345", "6789", "1234567", "3.14", "1,000,000", "0x1F", "1e-5", "٣٤", "१२३",
    "½", "²", "Ⅷ", "１２",
    # spaces and lines
    " ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", " \n \n", "\u00a0", "\u2003",
    "\u3000", "\u2028",
    "\u200b", "\x0b", "\x0c", "\x85", "\x1c",
    # punctuation and symbols
    ".", ",", "...", "!", "?!", "(", ")", "[]", "{};", "/", "//", "\\", "=", "==", "+", "-", "--", "_", "__",
    "$", "€", "%",
    "#", "@", "&", "*", "**", "`", "```", "~", "^", "|", "<", ">", "<|", "|>", ":", "://", "“", "”", "…", "—",
    "·", "、", "。",
    ".\n", "!\r\n", "/\n", ")\n\n", "！", "．", "«", "§", "©", "°", "←", "∑", "√", "\ufffd",
    # scripts, combining marks, joined and astral characters
    "日本語", "中文字", "一", "㐀", "ひらがな", "カタカナ", "한국어", "ㄱ", "русский",
    "Ελλάδα", "עברית", "عربي", "हिन्दी", "ไทย",
    "ქართული", "Ა", "ᏣᎳᎩ", "ꭰ", "e\u0301", "\u0301", "a\u0308\u0323", "क्ष", "க்",
    "🙂", "👩\u200d👩\u200d👧", "🇩🇪",
    "✌🏽", "𝔘", "𐐀",
    "𝟘", "𠀀", "\U000e0001", "\ufe0f",
    # control characters, and what looks like a token
    "\x00", "\x01", "\x1b[0m", "\x7f", "\u00ad", "\u202e", "\ufeff", "▁", "▁▁", "Ġ", "Ċ", "<0x0A>", "<0xFF>",
    "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|user|>", "<think>", "[INST]",
    "[/INST]", "<|im_",
]


def odd_strings(count=560, seed=11):
    """``count`` different strings: first each piece on its own, then pieces put together, some of them very long."""
    rng = random.Random(seed)
    strings = dict.fromkeys(["", *_PIECES])
    while len(strings) < count:
        parts = [rng.choice(_PIECES) + (" " if rng.random() < .3 else "") for _ in range(rng.randint(2, 9))]
        text = "".join(parts)
        if rng.random() < .03:
            text = text[:3] * rng.randint(20, 40)
        strings[text] = None
    return list(strings)[:count]
