"""Traces, reports and timelines."""
import json
import math
import random
import re
import xml.etree.ElementTree as ElementTree

import pytest

from hwgen.cli import main
from hwgen.host.serving import trace
from hwgen.host.inputs import InputError
from hwgen.host.serving.picture import timeline_svg
from hwgen.host.serving.policies import Policy
from hwgen.host.serving.scheduler import Request, Scheduler
from hwgen.host.serving.report import Report, percentile, play
from hwgen.host.links.timing_link import TimingLink
from hwgen.host.serving.trace import Lengths, Synthetic, read_trace, requests_of, write_trace
from sim.designs import small_design

DESIGN = small_design(entries=4, slots=3, context=32, kv_block=4)


def test_lengths():
    rng = random.Random(1)
    assert {Lengths("7").draw(rng)
            for _ in range(9)} == {7} == {Lengths("7:7").draw(rng)} and {Lengths("~1").draw(rng)} == {1}
    uniform = [Lengths("3:6").draw(rng) for _ in range(999)]
    assert set(uniform) == {3, 4, 5, 6} and abs(sum(uniform) / 999 - 4.5) < 0.15
    geometric = [Lengths("~20").draw(rng) for _ in range(20_000)]
    assert min(geometric) == 1 and abs(sum(geometric) / 20_000 - 20) < 4 * 20 / math.sqrt(20_000)


@pytest.mark.parametrize("text", ["", "0", "~", "5:3", "7:11:", "~3:5", "x", "1:2:3", "-4", "0:3"])
def test_lengths_that_are_none(text):
    with pytest.raises(ValueError, match="^Length must be"):
        Lengths(text)


def test_arrivals_are_poisson():
    """Gaps between arrivals are exponential: their mean, and the share that is longer than it."""
    times = [line["arrival"] for line in Synthetic(requests=20_000, rate=50).lines()]
    gaps = [b - a for a, b in zip([0.0, *times], times)]
    assert abs(sum(gaps) / len(gaps) * 50 - 1) < 4 / math.sqrt(20_000)
    assert abs(sum(gap > 1 / 50 for gap in gaps) / len(gaps) - math.exp(-1)) < 0.014
    assert {line["arrival"] for line in Synthetic(requests=9).lines()} == {0}


def test_synthetic():
    made = Synthetic.parse("requests=50,prompt=1:40,output=~9,longest=32,seed=5")
    lines = list(made.lines())
    other = Synthetic.parse("requests=50,prompt=1:40,output=~9,longest=32,seed=6")
    assert lines == list(made.lines()) != list(other.lines())
    assert max(line["prompt_length"] + line["output_length"] for line in lines) == 32
    assert min(min(line["prompt_length"], line["output_length"]) for line in lines) == 1


def test_a_written_trace_is_read_again(tmp_path):
    lines = list(Synthetic(requests=5, rate=100).lines())
    write_trace(tmp_path / "trace.jsonl", lines)
    assert read_trace(tmp_path / "trace.jsonl") == lines
    requests = requests_of(lines, DESIGN.model, 10, context=100)
    assert [r.arrival for r in requests] == [round(line["arrival"] * 10e6) for line in lines]
    assert [len(r.prompt) for r in requests] == [64] * 5 and len({r.prompt for r in requests}) == 5


def test_requests():
    class Tokenizer:
        encode = staticmethod(lambda text: [ord(c) % 37 for c in text])
    lines = [{"text": "abc"}, {"tokens": [1, 2], "cycle": 7, "stop": True, "name": "x"}]
    a, b = requests_of(lines, DESIGN.model, 100, Tokenizer)
    assert a == Request((23, 24, 25), 16, 0, 0, (),
                        "request 0") and b == Request((1, 2), 16, 7, 1, DESIGN.model.eos_token_ids, "x")
    with pytest.raises(ValueError, match="need a model with a tokenizer"):
        requests_of(lines, DESIGN.model, 100)


@pytest.mark.parametrize("line, complaint", [
    ("{", "Line must be JSON"), ("[]", "Request must be an object"),
    ('{"prompt_length": 3, "size": 1}', "Field must be one of .* not 'size'"),
    ("{}", "exactly one of tokens, text"), ('{"tokens": [1], "text": "x"}', "exactly one of"),
    ('{"prompt_length": "3"}', "Field prompt_length"),
    ('{"prompt_length": true}', "Field prompt_length"), ('{"prompt_length": 0}', "Lengths must be"),
    ('{"tokens": ["x"]}', "Tokens must be"),
    ('{"prompt_length": 3, "arrival": -1}', "Arrival must be"),
    ('{"prompt_length": 3, "arrival": Infinity}', "Line must be JSON .Infinity"),
    ('{"prompt_length": 3, "arrival": 1, "cycle": 1}', "not both"),
    ('{"prompt_length": 3, "seed": -1}', "Seed must be"),
    ('{"prompt_length": 2147483648}', "Lengths must be"), ('{"tokens": [1], "output_length": 1' + "0" * 90 + "}",
                                                           "Lengths must be"),
    ('{"prompt_length": 3, "cycle": 1' + "0" * 99 + "}", "Arrival must be"),
    ('{"prompt_length": 3, "arrival": 1e300}', "Arrival must be"),
    ('{"prompt_length": 3, "cycle": ' + "9" * 5000 + "}", "Line must be JSON .an integer of 5000 digits"),
    ('{"tokens": ' + "[" * 100_000, "Line must be JSON .it is nested too deeply"),
    ('{"tokens": [-1]}', "Tokens must be"),
    ('{"prompt_length": 3, "arrival": NaN}', "Line must be JSON .NaN"),
    ('{"prompt_length": 3, "prompt_length": 3}', "stands twice"),
    ('{"prompt_length": 3, "stop": 1}', "Field stop must be true or false, not 1"),
    ('{"text": null}', "Field text must be a string, not None"),
    ('{"text": "\\ud800"}', "Line must be JSON .half"), ('{"prompt_length": 3, "name": "a\\nb"}', "Name must be"),
    (" " * (5 << 20), "Trace must be at most")])
def test_traces_that_are_none(tmp_path, line, complaint):
    path = tmp_path / "trace.jsonl"
    path.write_text('{"prompt_length": 3}\n\n' + line)
    with pytest.raises(InputError, match=f"trace.jsonl:3: .*{complaint}"):
        read_trace(path)


@pytest.mark.parametrize("line, complaint", [
    ({"prompt_length": 2**31 - 1}, "request 1: Prompt must be shorter than the context of 64 tokens, not 2147483647"),
    ({"tokens": [1] * 64, "name": "x"}, "x: Prompt must be shorter than the context of 64 tokens, not 64"),
    ({"text": "a" * 20_000},
     "request 1: Prompt must be shorter than the context of 64 tokens, not 20000 characters long"),
    ({"prompt_length": 3, "arrival": 1e18}, "request 1: Arrival must be below 2..63 cycles at 100 MHz"),
])
def test_requests_that_no_machine_takes_are_refused_before_prompts_are_drawn(line, complaint):
    with pytest.raises(ValueError, match=f"^{complaint}"):
        requests_of([{"prompt_length": 3}, line], DESIGN.model, 100, tokenizer=object())


def test_a_line_ends_at_a_line_feed_only(tmp_path):
    (tmp_path / "trace").write_text('{"text": "a\u2028b\u0085c"}\r\n{"prompt_length": 3}', encoding="utf-8", newline="")
    assert read_trace(tmp_path / "trace") == [{"text": "a\u2028b\u0085c"}, {"prompt_length": 3}]


def test_a_trace_without_end_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="^/dev/zero: Trace must be a file, not a device$"):
        read_trace("/dev/zero")
    (tmp_path / "trace").write_text('{"prompt_length": 3}\n' * 3)
    monkeypatch.setattr(trace, "_MOST_BYTES", 50)
    with pytest.raises(InputError, match="/trace:3: Trace must be at most"):
        read_trace(tmp_path / "trace")


@pytest.mark.parametrize("text, complaint", [
    ("requests=100001", "Request count must be 1 to 100000"),
    ("requests=" + "9" * 5000, "Requests must be a number, not '9"),
    ("requests=\uff11\uff12", "Requests must be a number"), ("requests=1_0", "Requests must be a number"),
    ("rate=nan", "Rate must be"),
    ("rate=1e-300", "Rate must be"), ("seed=4000001", "Seed must be 0 to 4000000"),
    ("prompt=2147483648", "Length must be"),
    ("prompt=\u0663", "Length must be"), ("output=1:" + "9" * 5000, "Length must be"),
    ("longest=" + "9" * 11, "Longest must be a number")])
def test_synthetic_traces_that_are_none(text, complaint):
    with pytest.raises(ValueError, match=f"^{complaint}") as caught:
        Synthetic.parse(text)
    assert len(str(caught.value)) < 200


def test_empty_trace(tmp_path):
    (tmp_path / "trace").write_text("\n")
    with pytest.raises(InputError, match="at least one request"):
        read_trace(tmp_path / "trace")


def test_percentile():
    values = [*range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1, 0)] == [50, 99, 100, 1] and percentile([7], 0.99) == 7


def report(turnaround=100, policy=Policy()):
    scheduler = Scheduler(TimingLink(DESIGN), policy, turnaround=turnaround)
    requests = [Request((1,) * 6, 3), Request((2,) * 4, 1, arrival=500), Request((3,) * 2, 2, arrival=10**6),
                Request((3,), 3),
                Request((3,), 4)]
    return Report(scheduler, play(scheduler, requests), 50.0)


def test_report():
    """Every number again, from the passes and the requests."""
    r = report()
    facts, passes = r.facts(), r.scheduler.passes
    a, b, c, d, e = r.sequences
    total = passes[-1].start + passes[-1].cycles
    second = 1 / 50e6
    assert facts["cycles"] == total == r.cycles and facts["seconds"] == pytest.approx(total * second)
    assert (facts["prompt_tokens"], facts["output_tokens"]) == (14, 13)
    assert facts["tokens_per_second"] == pytest.approx(27 / (total * second))
    assert facts["output_tokens_per_second"] == pytest.approx(13 / (total * second))
    first = sorted([a.times[0], b.times[0] - 500, c.times[0] - 10**6, d.times[0], e.times[0]])
    assert facts["time_to_first_token"] == pytest.approx({"mean": sum(first) / 5 * second, "p50": first[2] * second,
                                                          "p99": first[4] * second})
    gaps = sorted(y - x for s in r.sequences for x, y in zip(s.times, s.times[1:]))
    assert len(gaps) == 8 and facts["time_per_output_token"]["p99"] == pytest.approx(gaps[-1] * second)
    assert facts["utilization"]["MAC array"] == pytest.approx(sum(p.counters["mac_busy"] for p in passes) / total)
    assert facts["utilization"]["no pass under way"] == pytest.approx(1 - sum(p.cycles for p in passes) / total)
    assert facts["queue"]["largest"] == 1           # four requests before the million, three slots
    assert facts["kv_positions"]["of"] == 3 * 32 and 9 <= facts["kv_positions"]["largest"] <= 16
    assert facts["entries_per_pass"] == pytest.approx((14 + 2 + 0 + 1 + 2 + 3) / len(passes))
    assert json.loads(json.dumps(r.json()))["each_request"][1]["arrival"] == 500


def test_timeline():
    """Well-formed, a row for each slot and engine, and what it shows of a slot is what ran there."""
    r = report(policy=Policy("fair", budget=2))
    root = ElementTree.fromstring(timeline_svg(r))
    texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert all(label in texts for label in ("slot 0", "slot 2", "MAC array", "attention", "KV memory", "queue",
                                            "prompt of a request"))
    colours = re.findall(r"(?:fill|stroke|background): ([^;]+);", timeline_svg(r))
    # others are not all viewers'
    assert [colour for colour in colours if not re.fullmatch("#[0-9a-f]{6}", colour)] == []
    assert "answer with drafts" not in texts                                                     # there are none
    titles = [t.text for t in root.iter("{http://www.w3.org/2000/svg}title")]
    for sequence in r.sequences:
        first = next(p for p in r.scheduler.passes if any(part[1] == sequence.number for part in p.parts))
        assert sum(t.startswith(f": prompt, cycles {first.start:,} to ") for t in titles) >= 1


def hwgen(capsys, *words):
    assert main(list(words)) == 0
    return capsys.readouterr()


def test_trace_run(capsys, tmp_path):
    """The program: a trace from a file gives what the same one made in place gives, and writes report and picture."""
    spec, path = "requests=5,prompt=2:9,output=3,rate=20000", str(tmp_path / "trace.jsonl")
    shape = ("--shape", "demo,entries=4,slots=2", "--link", "golden")
    out = hwgen(capsys, "trace", "make", spec, "-o", path).out
    assert out.startswith(f"{path}: 5 requests, ")
    files = [tmp_path / "report.json", tmp_path / "timeline.svg"]
    a = hwgen(capsys, "trace", "run", path, *shape, "--json", str(files[0]), "--picture", str(files[1]))
    b = hwgen(capsys, "trace", "run", "--synthetic", spec, *shape)
    assert a.out == b.out and "throughput" in a.out
    report = json.loads(files[0].read_text())
    assert report["requests"] == 5 and all(len(r["output"]) == 3 for r in report["each_request"])
    assert ElementTree.parse(files[1]).getroot().tag.endswith("svg")
    # the cycle model alone: the same passes in the same cycles, as no request ends early
    timing = hwgen(capsys, "trace", "run", path, *shape[:3], "timing")
    assert timing.out == a.out


def test_trace_of_texts(capsys, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "She was", "output_length": 4}\n{"text": "Mr. Darcy", "output_length": 5}\n')
    found = hwgen(capsys, "trace", "run", str(path), "--shape", "demo,entries=4,slots=2", "--link", "golden", "--json",
                  str(tmp_path / "r"))
    assert "2: " in found.out
    alone = hwgen(capsys, "run", "demo", "--link", "golden", "--prompt", "She was", "--max-tokens", "4").out
    from hwgen.models import load
    stream = load("demo").tokenizer.stream()
    tokens = json.loads((tmp_path / "r").read_text())["each_request"][0]["output"]
    assert "".join(map(stream.push, tokens)) + stream.end() + "\n" == alone


@pytest.mark.parametrize("more", [[], ["--draft", "e4m3"], ["--temperature", "0.7"]])
def test_speculate(capsys, more):
    words = ["run", "demo", "--link", "golden", "--prompt", "She was", "--max-tokens", "24", "--shape",
             "demo,entries=4"]
    temperature = more if "--temperature" in more else []
    plain, drafted = hwgen(capsys, *words, *temperature), hwgen(capsys, *words, *more, "--speculate", "3")
    assert plain.out == drafted.out

    def passes(err):
        return int(next(line for line in err.splitlines() if " passes in " in line).split()[0])
    assert "accepted" in drafted.err and passes(drafted.err) <= passes(plain.err)
