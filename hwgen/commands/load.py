"""hwgen load: weights into the memory of a board."""
import zlib

from ..fpga.boards import BOARDS
from ..host.inputs import checked_input, writing
from ..models.pack import model_id, pack
from ..plan.loading import check_seconds, load_seconds
from ..plan.summary import summary
from .common import add_command, add_machine, loaded, quantized_of
from .links import LINKS, add_board, board_link, check_link, check_source, chosen_board, is_board_link

__all__ = ["add_load"]


def add_load(commands):
    sub = add_command(commands, "load", run_load, "Write a model's weights into the memory of a board, once, over its line. What is there "
                      "already stays: an interrupted load goes on where it was.",
                      "hwgen load models/smollm2-135m-instruct.gguf --board B --link serial:/dev/ttyUSB0")
    add_machine(sub)
    sub.add_argument("--link", required=True, metavar="L",
                     help=f"{LINKS}; a simulated memory is a file in the cache, and keeps what was loaded")
    add_board(sub)


def run_load(options, screen):
    from ..host.links.loader import load_weights
    from ..host.links.verilated import cache_folder
    with checked_input():
        if not is_board_link(options.link):
            raise ValueError(f"Link must be sim-uart or serial:DEVICE, not {options.link!r}: other machines are given their weights "
                             "as a file")
        chosen = chosen_board(options)
        if not chosen.memory:
            there = ", ".join(board.name for board in BOARDS.values() if board.memory) or "none yet"
            raise ValueError(f"Board must be one with a memory for weights ({there}), not {chosen.name}: its bitstream has them")
    checkpoint, design = loaded(options, screen)
    with checked_input():
        check_source(chosen, design.hw)
    check_link(options)
    screen.say(summary(design))
    design, quantized = quantized_of(options, screen, checkpoint, design)
    data = pack(quantized, design).reshape(-1)
    sends, reads = load_seconds(len(data), chosen.baud), check_seconds(len(data), chosen.clock, chosen.memory.axi())
    screen.say(f"{len(data):,} bytes: about {_time(sends)} at {chosen.baud:,} baud if none are there, and {_time(reads)} to read them back")
    file = cache_folder() / f"memory-{chosen.name}.bin"
    if options.link == "sim-uart":
        with writing(file):
            cache_folder().mkdir(parents=True, exist_ok=True)
            file.touch()
    with board_link(screen, options, design, quantized, empty=file) as link:
        state = link.memory()
        wanted = zlib.crc32(data)
        if state.loaded and state.weights != wanted:
            screen.say(f"there are other weights, with CRC-32 {state.weights:#010x}: they are written over")

        def found(wrong, blocks):
            there = "all" if not wrong else f"{blocks - wrong:,}"
            screen.say(f"{there} of {blocks:,} blocks are there already")
        with screen.transfer("loading") as progress:
            outcome = load_weights(link, data, progress=progress, found=found)
        if outcome.failed:
            screen.warn(f"{outcome.failed} of {outcome.sent} blocks did not arrive whole, and were sent again")
        link.check_weights()
    print(f"loaded: {design.model.name}, weights {model_id(quantized):#010x}, {len(data):,} bytes with CRC-32 {wanted:#010x}; "
          f"{outcome.sent:,} of {outcome.blocks:,} blocks sent, all read back, {outcome.seconds:.1f} s")


def _time(seconds):
    """In words."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes"
