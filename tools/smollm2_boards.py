"""SmolLM2-135M's machines on boards that hold it in their DDR3: the shapes of their pages."""
from hwgen.models import quantize, random_checkpoint
from hwgen.params.design import Design
from hwgen.params.model import SMOLLM2_135M
from hwgen.params.presets import hw_shape, recipe

__all__ = ["SHAPES", "design_of", "quantized_of"]

_COMMON = "entries=8,slots=8,context=2048,kv_block=128,kv_port=128,attention_hold=0,sampler=greedy,source=stream"
#: Board -> its shape there (fpga/BOARD/README.md).
SHAPES = {"ecpix-5-85f": f"lanes=8,columns=8,vector_lanes=2,attention_lanes=8,tile_beats=4,dsp_columns=8,{_COMMON}",
          "arty-a7-100": "lanes=8,columns=16,vector_lanes=4,attention_lanes=8,tile_beats=8,dsp_columns=16,"
                         f"kv_blocks=80,{_COMMON}"}


def design_of(name, formats=None):
    """The `Design` on a board of that name."""
    return Design(model=SMOLLM2_135M, hw=hw_shape(SHAPES[name], SMOLLM2_135M), recipe=recipe(formats))


def quantized_of(design):
    """Random weights: the Verilog is the same with any."""
    return quantize(random_checkpoint(design.model), design.recipe)
