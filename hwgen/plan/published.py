"""Published numbers of chips like the planned ones, and of the arithmetic for them, with their sources."""
import math
from dataclasses import dataclass

from .assumed import given

__all__ = ["ARITHMETIC", "HC1", "Arithmetic", "Published", "chips_for", "matrix_units"]

_NEXT = ("https://www.nextplatform.com/compute/2026/02/19/"
         "taalas-etches-ai-models-onto-transistors-to-rocket-boost-inference/4092140")
_BESTHUB = ("https://www.besthub.dev/articles/"
            "how-taalas-hc1-embeds-llama-3-1-8b-in-silicon-to-achieve-17k-tokens-s-20ca7864b11a")
_QUOTED = "https://news.wingman.actor/item/47102601"
_3_6 = "https://news.lavx.hu/article/how-taalas-prints-llm-models-onto-silicon-chips"
_H100 = ("https://techpowerup.com/293177/"
         "nvidia-h100-is-a-compute-monster-with-80-billion-transistors-new-compute-units-and-hbm3-memory")
_USED = ("https://www.techradar.com/pro/transformers-would-take-over-the-world-little-known-ai-startup-bet-on-asics-"
         "and-claims-it-can-trounce-nvidias-flagship-gpu-the-b200-by-almost-10-times")
_SOHU = "https://etched.com/blog-posts/etched-is-making-the-biggest-bet-in-ai"
_ETCHED = f"{_SOHU}, quoted at https://web-tau-bice-50.vercel.app/item/40790842"
_TOKENS = "https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them"


@dataclass(frozen=True, kw_only=True)
class Published:
    """The published facts of a chip that holds its model, with their source."""
    name: str = "Taalas HC1"
    model: str = "llama-3.1-8b"
    tokens: float = given(17_000.0, "tokens/s", f"of one user, 1,024 tokens in and as many out: {_BESTHUB}")
    transistors: float = given(53e9, "", f"{_NEXT} and {_BESTHUB}")
    mm2: float = given(815.0, "mm2", f"TSMC N6: {_BESTHUB}")
    watts: float = given(200.0, "W a card", f"{_NEXT}, quoted at https://remix-hn-clone.vercel.app/item/47084843")
    low_bits: float = given(3.0, "bits", f"of some weights: {_3_6}")
    high_bits: float = given(6.0, "bits", f"of the others; how many is not published: {_3_6}")
    bits_per_transistor: float = given(4.0, "bits", "its maker says that a ROM transistor stores four bits and "
                                                    f"multiplies: {_QUOTED}")


HC1 = Published()


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """The other numbers that speak for such chips, each with its source."""
    macs_transistors: float = given(10_000.0, "transistors a multiply-add", f"FP16/BF16/FP8: {_ETCHED}")
    tensor_cores: int = given(528, "tensor cores", f"H100 SXM: {_ETCHED}")
    core_macs: int = given(4 * 8 * 16, "multiply-adds a core", f"4 x 8 x 16: {_ETCHED}")
    gpu_transistors: float = given(80e9, "transistors", f"H100: {_ETCHED}; {_H100}")
    gpu_flops: float = given(989e12, "operations a second", f"FP16 without sparsity: {_ETCHED}")
    gpu_used: float = given(0.3, "of them", _USED)
    sohu_tokens: float = given(500_000.0, "tokens/s", f"of Llama 70B by a server: {_SOHU}")
    sohu_chips: int = given(8, "chips a server", "https://aibase.com/news/9791")
    people: float = given(1e7, "users", "asked")
    words: float = given(600.0, "words a minute", "asked")
    tokens_a_word: float = given(round(4 / 3, 3), "tokens a word", f"100 tokens are about 75 words: {_TOKENS}")


ARITHMETIC = Arithmetic()


def matrix_units(of: Arithmetic = ARITHMETIC) -> tuple[float, float]:
    """(transistors in matrix units, their share) of a GPU."""
    units = of.tensor_cores * of.core_macs * of.macs_transistors
    return units, units / of.gpu_transistors


def chips_for(operations: float, a_second: float, of: Arithmetic = ARITHMETIC) -> int:
    """Chips of so many operations a second for all users, at so many operations a token."""
    return math.ceil(of.people * of.words / 60 * of.tokens_a_word * operations / a_second)
