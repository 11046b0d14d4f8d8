"""hwgen load: weights into the memory of a board, or into an image for its SD card."""
import zlib
from pathlib import Path

from ..fpga.boards import BOARDS
from ..host.inputs import checked_input, try_to_write, writing
from ..models.pack import model_id, pack
from ..plan.loading import card_seconds, check_seconds, load_seconds
from ..plan.summary import summary
from .common import add_command, add_machine, loaded, quantized_of
from .links import LINKS, add_board, board_link, check_link, check_source, chosen_board, is_board_link

__all__ = ["add_load"]


def add_load(commands):
    sub = add_command(commands, "load", run_load, "Write a model's weights into the memory of a board, once, over its "
                      "line. What is there already stays: an interrupted load goes on where it was. Or write the image "
                      "of an SD card, for a board that reads one.",
                      "hwgen load models/smollm2-135m-instruct.gguf --board B --link serial:/dev/ttyUSB0")
    add_machine(sub)
    where = sub.add_mutually_exclusive_group(required=True)
    where.add_argument("--link", metavar="L",
                       help=f"{LINKS}; a simulated memory is a file in the cache, and keeps what was loaded")
    where.add_argument("--card", metavar="FILE",
                       help="a file for the image of an SD card, which goes onto the card with dd")
    add_board(sub)


def run_load(options, screen):
    from ..host.links.loader import load_weights
    from ..host.links.verilated import cache_folder
    with checked_input():
        if options.card is not None:
            _check_card(options)
            options.link = "sim-uart"       # for a design of the board's machine; nothing is linked
        elif not is_board_link(options.link):
            raise ValueError(f"Link must be sim-uart or serial:DEVICE, not {options.link!r}: other machines are given "
                             "their weights "
                             "as a file")
        chosen = chosen_board(options)
        if not chosen.memory:
            there = ", ".join(board.name for board in BOARDS.values() if board.memory) or "none yet"
            raise ValueError(f"Board must be one with a memory for weights ({there}), not {chosen.name}: its "
                             "bitstream has them")
    checkpoint, design = loaded(options, screen)
    with checked_input():
        check_source(chosen, design.hw)
    if options.card is None:
        check_link(options)
    screen.say(summary(design))
    design, quantized = quantized_of(options, screen, checkpoint, design)
    data = pack(quantized, design).reshape(-1)
    if options.card is not None:
        _write_card(options, screen, chosen, design, quantized, data)
        return
    sends, reads = load_seconds(len(data), chosen.baud), check_seconds(len(data), chosen.clock, chosen.memory.axi())
    screen.say(f"{len(data):,} bytes: about {_time(sends)} at {chosen.baud:,} baud if none are there, and "
               f"{_time(reads)} to read them back")
    file = cache_folder() / f"memory-{chosen.name}.bin"
    if options.link == "sim-uart":
        with writing(file):
            cache_folder().mkdir(parents=True, exist_ok=True)
            file.touch()
    with board_link(screen, options, design, quantized, empty=file) as link:
        if (card := link.card()) is not None:
            screen.say(f"card: {card}")
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
    print(f"loaded: {design.model.name}, weights {model_id(quantized):#010x}, {len(data):,} bytes with CRC-32 "
          f"{wanted:#010x}; {outcome.sent:,} of {outcome.blocks:,} blocks sent, all read back, {outcome.seconds:.1f} s")


def _check_card(options):
    """ValueError unless the board reads cards, and the file is none that it would be a pity about."""
    chosen, file = chosen_board(options), Path(options.card)
    if not chosen.card:
        there = ", ".join(board.name for board in BOARDS.values() if board.card)
        raise ValueError(f"Board must be one that reads an SD card ({there}), not {chosen.name}")
    if file.exists() and not file.is_file():
        raise ValueError(f"Image of a card must be a file, not {file}: dd copies it onto the card")
    with writing(file):
        try_to_write(file)


def _write_card(options, screen, chosen, design, quantized, data):
    from ..host.links.board import buses
    from ..host.links.card import card_image
    image, file = card_image(design, buses(chosen), data), Path(options.card)
    seconds = card_seconds(len(data), chosen.clock, chosen.memory.axi())
    screen.say(f"the board takes about {_time(seconds)} to read it, once it is switched on with the card in it")
    with writing(file):
        file.write_bytes(image)
    print(f"{file}: card of {design.model.name}, weights {model_id(quantized):#010x}, {len(data):,} bytes with CRC-32 "
          f"{zlib.crc32(data):#010x}; dd if={file} of=DEVICE bs=1M conv=fsync writes it onto the card DEVICE, over "
          f"all that is there")


def _time(seconds):
    """In words."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes"
