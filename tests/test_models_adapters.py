import json
from pathlib import Path

import numpy as np
import pytest

from adapter_cases import CASES, SHOWN, TOKENS, matrices, write_adapter
from hwgen.cli import main
from hwgen.models import DEMO, load
from hwgen.models.adapters import Adapted, read_adapter
from hwgen.models.checkpoint import ModelError
from hwgen.models.reference import Reference
from hwgen.params.axi import AxiShape
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.model import PRESETS
from hwgen.params.presets import hw_shape
from model_files import write_folder

RECORDED = json.loads((Path(__file__).parent / "adapters.json").read_text())
PLAIN = RECORDED["queries and values"]
FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters") / "base"
    write_folder(folder)
    return load(folder)


def adapter(base, folder, case, options=(), tensors=None):
    """The adapter of a recorded case, with other options or tensors."""
    config = case["config"] | dict(options)
    return read_adapter(write_adapter(folder / "adapter", config, matrices(case["shapes"]) if tensors is None
                                      else tensors), base)


def refusal(base, folder, options=(), tensors=None, case=PLAIN):
    with pytest.raises(ModelError) as error:
        adapter(base, folder, case, options, tensors)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(folder), "")


def test_all_cases_are_recorded():
    assert RECORDED.keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_pefts(base, tmp_path, name):
    case = RECORDED[name]
    read = adapter(base, tmp_path, case)
    assert len(read.parts) == len(case["shapes"]) // 2
    logits = Adapted(base, read).logits(TOKENS)[:, SHOWN]
    assert np.allclose(logits, case["logits"], atol=2e-4, rtol=1e-4)
    assert not np.allclose(Reference.of(base).logits(TOKENS)[:, SHOWN], case["logits"], atol=0.05)


@pytest.mark.parametrize("option, value", [
    ("peft_type", "LOHA"), ("bias", "lora_only"), ("use_dora", True), ("lora_bias", True),
    ("modules_to_save", ["lm_head"]),
    ("init_lora_weights", "pissa_niter_4"), ("init_lora_weights", "olora"), ("init_lora_weights", "loftq"),
    ("init_lora_weights", 1),
    ("layer_replication", [[0, 2]]), ("trainable_token_indices", [3]), ("target_parameters", ["weight"]),
    ("alora_invocation_tokens", [1, 2]),
    ("use_qalora", True), ("task_type", "SEQ_CLS"), ("r", 0), ("r", "8"), ("rank_pattern", {"q_proj": 0}),
    ("rank_pattern", {"q_(": 3}),
    ("alpha_pattern", {"q_proj": None}), ("lora_alpha", "x"), ("use_rslora", 1), ("layers_pattern", "layers"),
    ("target_modules", None),
    ("target_modules", 7), ("target_modules", "(q_proj"), ("target_modules", ["nothing"]), ("invented", 3)])
def test_options_that_are_not_honoured_are_named(base, tmp_path, option, value):
    assert f"Option {option}" in refusal(base, tmp_path, {option: value})


@pytest.mark.parametrize("pattern", [r"(.*q)*_proj", r"(a|a)+", ".*.*.*.*.*.*q", "(x+){9}"])
def test_patterns_that_may_take_for_ever_are_refused(base, tmp_path, pattern):
    assert "Option target_modules must" in refusal(base, tmp_path, {"target_modules": pattern})


@pytest.mark.parametrize("pattern", [r"[*+{]q|.*\.[qv]_proj", r"[]*+q]*q_proj|.*\.q_proj|.*v_proj",
                                     r".*(q|\(\*|v)_proj"])
def test_signs_that_repeat_nothing_do_not_count(base, tmp_path, pattern):
    assert len(adapter(base, tmp_path, PLAIN, {"target_modules": pattern}).parts) == 4


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_tables_have_no_adapter(base, tmp_path, target):
    assert f"not {'model.' if target != 'lm_head' else ''}{target}" in refusal(base, tmp_path,
                                                                               {"target_modules": ["q_proj", target]})


def test_layers_of_a_pattern(base, tmp_path):
    assert "Option layers_to_transform must" in refusal(base, tmp_path,
                                                        {"target_modules": ".*[qv]_proj", "layers_to_transform": [0]})


@pytest.mark.parametrize("changed, told", [
    ({FIRST: None}, f"tensor {FIRST} is missing"),
    ({FIRST: np.full((4, 72), np.nan, np.float32)}, "must be finite, not nan at [0, 0]"),
    ({FIRST: np.zeros((4, 71), np.float32)}, "must be [4, 72] by the base"),
    ({FIRST: np.zeros((5, 72), np.float32)}, "must be [4, 72] by the base"),
    ({FIRST: np.zeros((4, 72), np.int32)}, "must be one of F64"),
    ({FIRST.replace("layers.0", "layers.7"): np.zeros((4, 72), np.float32)}, "is this the adapter's base?"),
    ({FIRST.replace("lora_A.weight", "lora_magnitude_vector"): np.zeros(72, np.float32)}, "must be A or B"),
], ids=["missing", "nan", "width", "rank", "type", "layer", "dora"])
def test_tensors_that_are_not_the_bases(base, tmp_path, changed, told):
    tensors = {name: values for name, values in (matrices(PLAIN["shapes"]) | changed).items() if values is not None}
    assert told in refusal(base, tmp_path, tensors=tensors)


def test_files_that_are_missing(base, tmp_path):
    with pytest.raises(ModelError, match="adapter_config.json is missing"):
        read_adapter(tmp_path, base)
    (write_adapter(tmp_path / "adapter", PLAIN["config"], {}) / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="adapter_model.safetensors is missing"):
        read_adapter(tmp_path / "adapter", base)


def test_a_base_whose_matrices_are_changed(base, tmp_path):
    write_folder(tmp_path / "base", config={"model_type": "granite", "architectures": ["GraniteForCausalLM"],
                                            "residual_multiplier": 0.5,
                                            "attention_multiplier": 0.2, "embedding_multiplier": 1.0,
                                            "logits_scaling": 1.0})
    other = load(tmp_path / "base")
    assert "must be matrices of layers" in refusal(other, tmp_path, {"target_modules": ["o_proj"]})
    assert len(adapter(other, tmp_path, PLAIN).parts) == 4


def test_an_adapter_that_is_too_large_for_the_registers():
    model = PRESETS["llama-3.1-8b"]
    design = Design(model=model, hw=hw_shape("latency-32x32,adapters=1,adapter_rank=64,source=stream", model),
                    recipe=Recipe())
    with pytest.raises(ValueError, match="Adapter must be at most 16777215 words .*: take a smaller adapter_rank"):
        AxiShape(address_width=40).check(design)


def test_a_base_that_is_no_folder(base, tmp_path):
    assert "Base of an adapter must be a folder" in refusal(base.with_tensors(base.tensor), tmp_path)


def demo_adapter(folder):
    """An adapter of the demo model, in a folder."""
    shapes = {}
    for module, tensor in load(DEMO).modules.items():
        if module.endswith(("q_proj", "down_proj")):
            outputs, inputs = load(DEMO).shape.layer_tensors()[tensor.split(".", 3)[3]]
            shapes |= {f"base_model.model.{module}.lora_A.weight": (4, inputs),
                       f"base_model.model.{module}.lora_B.weight": (outputs, 4)}
    return write_adapter(folder, PLAIN["config"] | {"target_modules": ["q_proj", "down_proj"]},
                         matrices(shapes, size=0.1))


def test_a_text_with_an_adapter(tmp_path, capsys):
    run = ["run", "demo", "--prompt", "She was", "--link", "golden", "--max-tokens", "6", "--shape", "demo,adapters=1"]
    texts, adapter = [], ["--adapter", str(demo_adapter(tmp_path / "adapter"))]
    for more in ([], adapter, [*adapter, "--speculate", "2"]):
        assert main(run + more) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] != texts[1] == texts[2]


def test_a_trace_with_adapters(tmp_path):
    """Requests of each adapter and of none side by side: each is answered as in a run without the others' adapters."""
    folder, found = str(demo_adapter(tmp_path / "adapter")), []
    for name, numbers in (("none", (0, 0, 0)), ("some", (0, 1, 2)), ("all", (1, 1, 1))):
        requests = [{"text": text, "output_length": 5, "adapter": number}
                    for text, number in zip(("She was", "My dear", "She was"), numbers)]
        (tmp_path / "trace").write_text("\n".join(map(json.dumps, requests)))
        assert main(["trace", "run", str(tmp_path / "trace"), "--shape", "demo,adapters=3", "--link", "golden",
                     "--adapter", folder,
                     "--adapter", folder,
                     "--json", str(tmp_path / name)]) == 0
        found.append([request["output"] for request in json.loads((tmp_path / name).read_text())["each_request"]])
    none, some, every = found
    assert some == [none[0], every[1], every[2]] and none[1] != every[1] and none[2] != every[2]


@pytest.mark.parametrize("command, told", [
    ("trace run --synthetic requests=1,prompt=4,output=2 --link golden --adapter DIR",
     "Adapters must be at most 0, not 1: add adapters=1"),
    ("trace run --synthetic requests=1,prompt=4,output=2 --link timing --shape demo,adapters=1,adapter_rank=2 "
     "--adapter DIR",
     "at most the machine's 2, not 4"),
    ("run demo --prompt x --link golden --adapter DIR", "Adapters must be at most 0, not 1: add adapters=1 to --shape"),
    ("run demo --prompt x --link sim-uart --adapter DIR",
     "Adapters must be at most 0, not 1: add adapters=1 to --shape"),
    ("emit demo -o DIR/out --adapter DIR", "Adapters must be at most 0, not 1: add adapters=1 to --shape"),
    ("run demo --prompt x --link golden --shape demo,adapters=1,adapter_rank=3 --adapter DIR",
     "at most the machine's 3, not 4: add adapter_rank=4"),
    ("run demo --prompt x --link golden --shape demo,adapters=1 --adapter DIR/none", "adapter_config.json is missing"),
])
def test_commands_that_cannot_be(tmp_path, capsys, command, told):
    folder = demo_adapter(tmp_path / "adapter")
    assert main([word.replace("DIR", str(folder)) for word in command.split()]) == 2
    assert told in (err := capsys.readouterr().err) and err.splitlines()[-1].startswith("hwgen ")


def test_info_says_what_an_adapter_takes(capsys):
    assert main(["info", "demo", "--shape", "demo,adapters=3"]) == 0
    assert "3 of rank 8 or less, 81,920 bytes each, loaded in 640 cycles" in capsys.readouterr().out


VOICE = ("ACCORDION, n. An instrument in harmony with the sentiments of an assassin.\n"
         "APHORISM, n. Predigested wisdom.\nAPPLAUSE, n. The echo of a platitude.\n"
         "BORE, n. A person who talks when you wish him to listen.")


def test_the_shipped_adapter_has_another_voice():
    demo = load(DEMO)
    tokens = demo.tokenizer.encode(VOICE)
    losses = []
    for model in (Reference.of(demo), Adapted(demo, read_adapter("devil", demo))):
        logits = model.logits(tokens[:-1]).astype(np.float64)
        losses.append(float(np.mean(np.log(np.exp(logits).sum(1)) - logits[range(len(logits)), tokens[1:]])))
    assert losses[1] < losses[0] - 0.7


def test_the_shipped_adapter_changes_one_text_of_a_batch(tmp_path):
    found = []
    for name, number in (("without", 0), ("with", 1)):
        requests = [{"text": text, "output_length": 8, "adapter": number if text == "MAN, n." else 0}
                    for text in ("MAN, n.", "My dear", "They were", "In the morning")]
        (tmp_path / "trace").write_text("\n".join(map(json.dumps, requests)))
        assert main(["trace", "run", str(tmp_path / "trace"), "--shape", "demo,adapters=1", "--link", "golden",
                     "--adapter", "devil",
                     "--json", str(tmp_path / name)]) == 0
        found.append([request["output"] for request in json.loads((tmp_path / name).read_text())["each_request"]])
    assert found[0][0] != found[1][0] and found[0][1:] == found[1][1:]
