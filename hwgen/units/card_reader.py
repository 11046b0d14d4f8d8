"""Weights from an SD card into a memory, from the reset on."""
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.crc.catalog import CRC16_XMODEM, CRC7_MMC
from amaranth.lib.wiring import In, Out

from ..params.card import ANSWER_BYTES, BLOCK_BYTES, CRC_AT, RESETS, TRIES, WAKE_BYTES, CardError, CardStep, card_blocks, head_error

__all__ = ["CardReader"]

#: {step: (command, argument)}; that of READ is the block.
_COMMANDS = {CardStep.RESET: (0, 0), CardStep.CHECK: (8, 0x1AA), CardStep.PROTECT: (59, 1), CardStep.PREFIX: (55, 0),
             CardStep.START: (41, 1 << 30), CardStep.KIND: (58, 0), CardStep.READ: (18, 0), CardStep.STOP: (12, 0)}
#: R1: ready; bits for a card that is still in its own start, and for a command that it does not know.
_READY, _IDLE, _UNKNOWN = 0, 1, 4
_TOKEN = 0xFE           # before a block


class CardReader(wiring.Component):
    """Starts a card in SPI mode, reads an image of weights from its first block on, and gives it to a `MemoryLoader`, which reads all back
    in the end. Each block's CRC-16 is checked; one that is wrong, or does not come, is read again, `TRIES` times in all.

    A byte is exchanged with the card in ``16 * half + 2`` cycles, half a period of its clock being ``slow`` cycles and then ``fast``. The
    card's bits are taken when its clock falls, a whole period after the one before: what makes them late has that time. A block's bytes
    are the loader's before its CRC is known. `hwgen.golden.card_reader` has the cycles.

    Parameters
    ----------
    head : bytes            with which the image must begin: `params.card.image_head`
    size : int              bytes of weights, 1 at least
    timing : CardTiming
    address_width : int     bits of addresses

    Members
    -------
    cs_n, sck, mosi : Out(1)    pins of the card; registers
    miso : In(1)            with a pull-up
    ready : In(1)           the memory may be written. Nothing begins before
    busy : Out(1)           from the reset on, until weights are there or an error ends it
    error : Out(4)          `CardError`
    block : Out(32)         of the card, which is read, or at which it ended
    load, check : Out(1)    of the loader, with address and length
    address, length : Out
    rx_valid, rx_data       its bytes
    loader_busy, loader_error, loader_crc : In      what it says
    loaded : Out(1)         in a cycle: the memory has the image's weights, which have this CRC:
    crc : Out(32)

    Raises
    ------
    ValueError              for sizes and times that cannot be
    """

    def __init__(self, head, size, timing, address_width):
        if len(head) != CRC_AT:
            raise ValueError(f"Head of an image must be {CRC_AT} bytes, not {len(head)}")
        if not 1 <= size < 1 << address_width:
            raise ValueError(f"Weights on a card must be 1 to {(1 << address_width) - 1} bytes, not {size}")
        if min(timing.slow, timing.fast) < 1 or timing.slow < timing.fast:
            raise ValueError("Half a period of a card's clock must be 1 cycle at least, and not shorter at first, not "
                             f"{timing.slow} and {timing.fast}")
        self._head, self._size, self._timing = head, size, timing
        super().__init__({
            "cs_n": Out(1, init=1), "sck": Out(1), "mosi": Out(1, init=1), "miso": In(1), "ready": In(1), "busy": Out(1), "error": Out(4),
            "block": Out(32), "load": Out(1), "check": Out(1), "address": Out(address_width), "length": Out(address_width),
            "rx_valid": Out(1), "rx_data": Out(8), "loader_busy": In(1), "loader_error": In(3), "loader_crc": In(32),
            "loaded": Out(1), "crc": Out(32)})

    def elaborate(self, platform):
        m = Module()
        self._quick = Signal(name="quick")                      # the card is ready
        self._go, self._out = Signal(name="go"), Signal(8, init=0xFF, name="out")
        self._free, self._done, self._came = Signal(name="free"), Signal(name="done"), Signal(8, name="came")
        self._count, self._tries = Signal(range(BLOCK_BYTES), name="count"), Signal(range(RESETS), name="tries")
        self._step, self._whole = Signal(range(len(CardStep)), name="step"), Signal(name="whole")
        self._exchange(m)
        self._late, self._progress = Signal(name="late"), Signal(name="progress")
        waited = Signal(range(self._timing.patience + 1))
        m.d.comb += self._late.eq(waited == self._timing.patience)
        m.d.sync += waited.eq(Mux(self._progress, 0, waited + ~self._late))
        m.d.comb += [self.busy.eq(1), self.rx_data.eq(self._came)]
        frame = self._frame(m)
        m.submodules.checksum = checksum = CRC16_XMODEM(data_width=8).create()
        m.d.comb += checksum.data.eq(self._came)
        self._fault = Signal(4, name="fault")       # of an answer, or the image
        # A block's address is of the weights, which begin behind the first.
        self._last = card_blocks(self._size)
        rest = self._size - (self._last - 1) * BLOCK_BYTES
        m.d.comb += [self.address.eq((self.block - 1) * BLOCK_BYTES), self.length.eq(Mux(self.block == self._last, rest, BLOCK_BYTES))]
        with m.FSM(name="state"):
            self._commands(m, *frame)
            self._blocks(m, checksum)
            self._ends(m)
        return m

    def _exchange(self, m):
        """A byte each way: from ``go`` on, until ``done`` says that ``came`` is there. ``free`` a cycle later."""
        timing = self._timing
        halves, tick, running = Signal(4), Signal(range(timing.slow)), Signal()
        shifted, before = Signal(8, init=0xFF), Signal(7, reset_less=True)
        seen, fell = Signal(init=1), Signal()
        half = Mux(self._quick, timing.fast - 1, timing.slow - 1)
        m.d.comb += [self.mosi.eq(shifted[7]), self._came.eq(Cat(seen, before)), self._done.eq(fell & ~running),
                     self._free.eq(~running & ~fell)]
        m.d.sync += [seen.eq(self.miso), fell.eq(0), tick.eq(Mux(self._go | (tick == 0), half, tick - 1))]
        with m.If(self._go):
            m.d.sync += [shifted.eq(self._out), running.eq(1)]
        with m.Elif(running & (tick == 0)):
            m.d.sync += [self.sck.eq(~self.sck), halves.eq(halves + 1), running.eq(halves != 15)]
            with m.If(self.sck):
                m.d.sync += [fell.eq(1), shifted.eq(Cat(Const(1, 1), shifted[:7]))]
        with m.If(fell):
            m.d.sync += before.eq(self._came)

    def _frame(self, m):
        """The byte of the step's command that is next, and what makes its CRC-7."""
        m.submodules.protection = crc = CRC7_MMC(data_width=8).create()
        index, argument = Signal(6), Signal(32)
        with m.Switch(self._step):
            for step, (number, value) in _COMMANDS.items():
                with m.Case(step):
                    m.d.comb += [index.eq(number), argument.eq(self.block if step == CardStep.READ else value)]
        m.d.comb += crc.data.eq(self._out)
        frame = Cat(Const(1, 1), crc.crc, argument, index, Const(0b01, 2))
        return Array(frame[8 * (5 - k):8 * (6 - k)] for k in range(6))[self._count[:3]], crc

    def _send(self, m, byte=None):
        """In a state: bytes go, one behind the other. Returns that one came."""
        m.d.comb += self._go.eq(self._free)
        if byte is not None:
            m.d.comb += self._out.eq(byte)
        return self._done

    def _commands(self, m, byte, crc):
        """From the reset on; commands and their answers."""
        count, step = self._count, self._step
        with m.State("WAIT"):
            m.d.comb += self._progress.eq(1)
            with m.If(self.ready):
                m.next = "WAKE"
        with m.State("WAKE"):           # clocks without the card's being selected
            with m.If(self._send(m)):
                m.d.sync += count.eq(count + 1)
                with m.If(count == WAKE_BYTES - 1):
                    m.d.sync += self.cs_n.eq(0)
                    m.next = "GAP"
        with m.State("GAP"):            # a byte between an answer and the next command
            m.d.comb += crc.start.eq(1)
            m.d.sync += count.eq(0)
            with m.If(self._send(m)):
                m.next = "SEND"
        with m.State("SEND"):
            m.d.comb += crc.valid.eq(self._go)
            with m.If(self._send(m, byte)):
                m.d.sync += count.eq(count + 1)
                with m.If(count == 5):
                    m.d.sync += count.eq(0)
                    m.next = "ANSWER"
        with m.State("ANSWER"):
            # the byte behind CMD12 is none of its answer
            with m.If(self._send(m)):
                m.d.sync += count.eq(count + 1)
                with m.If(~self._came[7] & ~((step == CardStep.STOP) & (count == 0))):
                    m.d.sync += count.eq(0)
                    self._answered(m)
                with m.Elif(count == ANSWER_BYTES):
                    with m.Switch(step):
                        with m.Case(CardStep.RESET, CardStep.CHECK):
                            self._reset_again(m)
                        with m.Case(CardStep.READ):
                            self._again(m, CardError.SILENT)
                        with m.Case(CardStep.STOP):
                            self._wait_for_rest(m)
                        with m.Default():
                            self._end(m, CardError.SILENT)
        with m.State("REST"):           # of an answer of four more bytes
            check = step == CardStep.CHECK
            # of CMD8: 3.3 V, and the pattern; of the OCR: powered up, and addresses of blocks
            wrong = Mux(check, ((count == 2) & (self._came[:4] != 1)) | ((count == 3) & (self._came != 0xAA)),
                        (count == 0) & ~self._came[6:].all())
            with m.If(self._send(m)):
                m.d.sync += count.eq(count + 1)
                with m.If(wrong):
                    m.d.sync += self._fault.eq(CardError.KIND)
                with m.If(count == 3):
                    self._next(m, step + 1)
                    with m.If(wrong | (self._fault != CardError.NONE)):
                        self._end(m, CardError.KIND)

    def _answered(self, m):
        """What follows an R1."""
        answer = self._came
        with m.Switch(self._step):
            with m.Case(CardStep.RESET):
                with m.If(answer == _IDLE):
                    self._next(m, CardStep.CHECK)
                with m.Else():
                    self._reset_again(m)
            with m.Case(CardStep.CHECK):
                with m.If(answer == _IDLE):
                    m.d.sync += self._tries.eq(0)
                    m.next = "REST"
                with m.Elif(answer == _UNKNOWN | _IDLE):        # a card of version 1
                    self._end(m, CardError.KIND)
                with m.Else():
                    self._reset_again(m)
            with m.Case(CardStep.START):
                with m.If(answer == _READY):
                    m.d.sync += self._quick.eq(1)
                    self._next(m, CardStep.KIND)
                with m.Elif(answer != _IDLE):
                    self._end(m, CardError.REFUSED)
                with m.Elif(self._late):
                    self._end(m, CardError.SILENT)
                with m.Else():
                    self._next(m, CardStep.PREFIX)
            with m.Case(CardStep.READ):
                with m.If(answer == _READY):
                    m.d.comb += self._progress.eq(1)
                    m.next = "TOKEN"
                with m.Else():
                    self._again(m, CardError.REFUSED)
            with m.Case(CardStep.STOP):
                self._wait_for_rest(m)
            with m.Default():
                with m.If(answer != Mux(self._step == CardStep.KIND, _READY, _IDLE)):
                    self._end(m, CardError.REFUSED)
                with m.Elif(self._step == CardStep.KIND):
                    m.next = "REST"
                with m.Else():
                    self._next(m, self._step + 1)

    def _blocks(self, m, crc):
        count, fault = self._count, self._fault
        weights = self.block != 0       # or the block that says what they are
        with m.State("TOKEN"):
            m.d.comb += crc.start.eq(1)
            m.d.sync += [count.eq(0), fault.eq(0)]
            with m.If(self._send(m)):
                with m.If(self._came == _TOKEN):
                    m.d.comb += self.load.eq(weights)
                    m.next = "BLOCK"
                with m.Elif(self._came != 0xFF):        # it says that it cannot read
                    self._again(m, CardError.REFUSED)
                with m.Elif(self._late):
                    self._again(m, CardError.SILENT)
        with m.State("BLOCK"):
            with m.If(self._send(m)):
                m.d.comb += [crc.valid.eq(1), self.rx_valid.eq(weights & (count < self.length))]
                m.d.sync += count.eq(count + 1)
                with m.If(~weights):
                    with m.If((count < CRC_AT) & (self._came != Array(self._head)[count]) & (fault == CardError.NONE)):
                        m.d.sync += fault.eq(Array(head_error(place) for place in range(CRC_AT))[count])
                    with m.If(count[2:] == CRC_AT // 4):
                        m.d.sync += self.crc.eq(Cat(self.crc, self._came)[8:])
                with m.If(count == BLOCK_BYTES - 1):
                    m.next = "CHECKSUM"
        with m.State("CHECKSUM"):
            with m.If(self._send(m)):
                m.d.comb += crc.valid.eq(1)
                m.d.sync += count.eq(count + 1)
                with m.If(count == 1):
                    m.next = "HOLD"
        with m.State("HOLD"):           # until the loader has taken it
            with m.If(~self.loader_busy):
                m.d.comb += self._progress.eq(1)
                with m.If(crc.crc != 0):
                    self._again(m, CardError.CRC)
                with m.Elif(fault != CardError.NONE):
                    m.d.sync += self.error.eq(fault)
                    self._next(m, CardStep.STOP)
                with m.Elif(weights & self.loader_error.any()):
                    self._again(m, CardError.MEMORY)
                with m.Elif(self.block == self._last):
                    m.d.sync += self._whole.eq(1)
                    self._next(m, CardStep.STOP)
                with m.Else():
                    m.d.sync += [self.block.eq(self.block + 1), self._tries.eq(0)]
                    m.next = "TOKEN"

    def _ends(self, m):
        with m.State("BUSY"):           # until the card has stopped
            with m.If(self._send(m)):
                with m.If(self._came == 0xFF):
                    with m.If(self.error != CardError.NONE):
                        self._end(m)
                    with m.Elif(self._whole):
                        m.next = "VERIFY"
                    with m.Else():
                        self._next(m, CardStep.READ)
                with m.Elif(self._late):
                    self._end(m, CardError.SILENT)
        with m.State("VERIFY"):
            m.d.comb += [self.check.eq(1), self.address.eq(0), self.length.eq(self._size)]
            m.next = "READ_BACK"
        with m.State("READ_BACK"):
            with m.If(~self.loader_busy):
                with m.If(self.loader_error.any()):
                    m.d.sync += self.error.eq(CardError.MEMORY)
                with m.Elif(self.loader_crc != self.crc):
                    m.d.sync += self.error.eq(CardError.CHECKSUM)
                with m.Else():
                    m.d.comb += self.loaded.eq(1)
                self._end(m)
        with m.State("END"):            # a byte, with which the card lets go of its pin
            with m.If(self._send(m)):
                m.next = "OVER"
        with m.State("OVER"):
            m.d.comb += self.busy.eq(0)

    # -- what states do

    def _next(self, m, step):
        """The command of a step is next."""
        m.d.sync += self._step.eq(step)
        m.next = "GAP"

    def _reset_again(self, m):
        m.d.sync += [self._step.eq(CardStep.RESET), self._tries.eq(self._tries + 1), self.cs_n.eq(1), self._count.eq(WAKE_BYTES - 1)]
        m.next = "WAKE"
        with m.If(self._tries == RESETS - 1):
            self._end(m, CardError.NO_CARD)

    def _again(self, m, why):
        """A block did not come: the card is stopped, and read from there on, or it was the last time."""
        m.d.sync += self._tries.eq(self._tries + 1)
        with m.If(self._tries == TRIES - 1):
            m.d.sync += self.error.eq(why)
        self._next(m, CardStep.STOP)

    def _wait_for_rest(self, m):
        m.d.comb += self._progress.eq(1)
        m.next = "BUSY"

    def _end(self, m, why=None):
        if why is not None:
            m.d.sync += self.error.eq(why)
        m.d.sync += self.cs_n.eq(1)
        m.next = "END"
