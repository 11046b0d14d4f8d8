"""Adapters for the tests of their reader, and for `tools.record_adapters`, which asks PEFT about them."""
import json
import zlib

import numpy as np
import safetensors.numpy

TOKENS = (5, 17, 200, 33, 90, 4, 250, 131)
SHOWN = slice(0, None, 11)      # of the logits' columns

#: Name -> what PEFT's LoraConfig is told.
CASES = {
    "queries and values": {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]},
    "all, rank-stabilized": {"r": 8, "lora_alpha": 12, "target_modules": "all-linear", "use_rslora": True,
                             "lora_dropout": 0.1},
    "a pattern": {"r": 3, "lora_alpha": 9, "target_modules": r".*layers\.1\..*(q|down)_proj"},
    "patterns of ranks": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj", "o_proj"],
                          "rank_pattern": {"layers.0.self_attn.q_proj": 2, r"^model\.layers\.1\.mlp.*": 6, "o_proj": 5},
                          "alpha_pattern": {"o_proj": 20, r".*\.1\.self_attn.q_proj": 3}},
    "patterns of ranks, rank-stabilized": {"r": 4, "lora_alpha": 8, "target_modules": ["gate_proj", "k_proj"],
                                           "use_rslora": True,
                                           "rank_pattern": {"k_proj": 9}, "alpha_pattern": {"gate_proj": 5}},
    "some layers": {"r": 4, "lora_alpha": 16, "target_modules": ["k_proj", "down_proj"], "layers_to_transform": [1],
                    "exclude_modules": ["self_attn.k_proj"]},
    "a layer by its list's name": {"r": 2, "lora_alpha": 6,
                                   "target_modules": ["gate_proj", "model.layers.1.mlp.up_proj"],
                                   "layers_to_transform": 0,
                                   "layers_pattern": "layers"},
    "unsloth's pattern": {"r": 4, "lora_alpha": 4, "target_modules": (
        r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:k_proj|v_proj|o_proj).*?)|"
        r"(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\.(?:(?:k_proj|v_proj|o_proj)))")},
}


def matrices(shapes, seed=0, size=0.3):
    """Random tensors of an adapter's file, which name alone decides: name -> float32."""
    return {name: (size * np.random.default_rng([seed,
                                                 zlib.crc32(name.encode())]).standard_normal(shape)).astype(np.float32)
            for name, shape in shapes.items()}


def write_adapter(folder, config, tensors):
    """An adapter's folder."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
    return folder
