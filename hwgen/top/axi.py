"""The decoder on standard buses: weights from an AXI4 memory, registers on AXI4-Lite, commands and results as streams
or registers."""
from amaranth.hdl import Cat, ClockDomain, ClockSignal, Const, DomainRenamer, Module, Mux, ResetSignal, Signal
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out, connect

from ..lib.axi import lite_slave, read_master, stream_master, stream_slave, write_master
from ..lib.layouts import ERROR_BITS
from ..params.axi import AXI_EVENTS
from ..params.card import image_head
from ..params.errors import ErrorCode
from ..params.counters import EVENTS
from ..params.registers import RESULT, command_fields, design_id, register_map, word_bits
from ..units.axi_registers import AxiRegisters
from ..units.card_reader import CardReader
from ..units.counters import Counters
from ..units.memory_loader import MemoryLoader
from . import make
from .axi_adapters import AxiAdapters
from .decoder import Decoder
from .kv_port import follow_kv_bus, kv_bus_ports
from .payloads import beyond, packed, payload

__all__ = ["AxiDecoder", "card_pins"]


def card_pins():
    """Members of a machine that reads a card."""
    return {"card_cs_n": Out(1, init=1), "card_sck": Out(1), "card_mosi": Out(1, init=1), "card_miso": In(1)}


class AxiDecoder(wiring.Component):
    """A `Decoder` that drops into an SoC (docs/axi.md).

    Parameters
    ----------
    design : Design             with source "stream" there is a bus for the weights
    axi : AxiShape
    rom_file, wires             as of `Decoder`
    silence : int               cycles without a byte that end a block, for a `LoaderShape`
    card : CardTiming           how a card is read, for a `CardShape`

    Members
    -------
    aclk, aresetn               clock, and synchronous reset, active low
    m_axi_*                     AXI4 read master: the weights, from the address in WEIGHT_BASE on. Only with source
                                "stream"
    m_axi_kv_*                  AXI4 master: keys and values, from the address in KV_BASE on. Only with kv_port
    s_axi_*                     AXI4-Lite slave of 32 bits: `hwgen.params.registers.register_map`
    busy, phase                 a pass is under way, and where it is, by number: for lights and logic analyzers
    irq                         high while a cause is set that IRQ_ENABLE enables
    s_axis_command_t*           entries of passes (`registers.command_fields`); TLAST closes a pass as ``last`` does.
                                Only with host "stream"
    m_axis_result_t*            results (`registers.RESULT`), TLAST on the pass's last. Only with host "stream"
    With a `LoaderShape` m_axi_* has the write channels too, and there are:
    rx_valid, rx_data, raw      bytes of the line, and that they are weights now
    memory_ready, memory_failed the memory's start-up is over, or has failed. Before, and before it holds weights,
    passes are refused card_*                      pins of a card, for a `CardShape`

    Raises
    ------
    ValueError                  for a design that has no place on these buses
    """

    def __init__(self, design, axi, *, rom_file=None, wires=None, silence=None, card=None):
        axi.check(design)
        self._design, self._axi, self._card = design, axi, card
        self._rom_file, self._wires, self._silence = rom_file, wires, silence
        self._map = register_map(design, axi)
        weights = read_master(axi) if design.hw.source == "stream" else {}
        weights |= kv_bus_ports(design, axi) if design.hw.kv_port else {}
        members = {"aclk": In(1), "aresetn": In(1), **weights, **lite_slave(self._map.address_width), "irq": Out(1),
                   "busy": Out(1), "phase": Out(4)}
        if axi.host == "stream":
            members |= {**stream_slave(word_bits(command_fields(design)), "s_axis_command"),
                        **stream_master(word_bits(RESULT), "m_axis_result")}
        if axi.loader:
            members |= {**write_master(axi), "rx_valid": In(1), "rx_data": In(8), "raw": Out(1),
                        "memory_ready": In(1), "memory_failed": In(1)}
        if axi.card:
            members |= card_pins()
        super().__init__(members)

    @property
    def design(self):
        return self._design

    @property
    def axi(self):
        return self._axi

    @property
    def registers(self):
        """The `RegisterMap`."""
        return self._map

    def elaborate(self, platform):
        m = Module()
        design = self._design
        # The machine itself is reset by software, too: it and what belongs to its passes are in the domain "core".
        m.domains.sync = ClockDomain(local=True)
        m.domains.core = ClockDomain(local=True)
        # Registers, for they go to everything. ``closed``: as long as one of the others, nothing comes in.
        resetting, core_reset, closed = Signal(), Signal(init=1), Signal(init=1)
        kv_flushed = Signal() if design.hw.kv_port else None    # of the core's own bus: what it owes comes first
        m.d.sync += core_reset.eq(resetting & kv_flushed if design.hw.kv_port else resetting)
        m.d.comb += [ClockSignal().eq(self.aclk), ResetSignal().eq(~self.aresetn),
                     ClockSignal("core").eq(self.aclk), ResetSignal("core").eq(core_reset)]
        decoder = Decoder(design, rom_file=self._rom_file, wires=self._wires, axi=self._axi)
        m.submodules.decoder = DomainRenamer("core")(decoder)
        m.submodules.registers = regs = AxiRegisters(self._map)
        if design.hw.kv_port:
            m.d.comb += kv_flushed.eq(decoder.kv_flushed)
        self._pass_on(m, regs, lite_slave(0))
        m.d.sync += closed.eq(resetting | regs.control_reset)
        busy = Signal()
        m.d.comb += [self.busy.eq(busy), self.phase.eq(decoder.phase)]
        m.d.comb += [regs.status_resetting.eq(closed | regs.control_reset), regs.weights_id_value.eq(decoder.model_id)]
        if design.hw.source == "stream":
            bad = self._weights(m, decoder, regs, resetting, core_reset)
        else:
            bad = Const(0)
            m.d.sync += resetting.eq(regs.control_reset)
        command, outcome = self._loop(m, decoder, regs)
        self._adapters = AxiAdapters(m, design, regs, decoder.adapter) if design.hw.adapters else None
        if self._axi.loader:
            self._load(m, regs, command, busy, closed)
        taken, number = self._commands(m, command, regs, closed)
        if self._adapters:
            moves = busy | command.valid | decoder.command.valid | closed | getattr(regs, "loop_left", Const(0)).any()
            self._adapters.follow(taken, number, moves)
            if self._axi.loader:
                with m.If(regs.load_write):
                    self._adapters.forget()
        taken, last = self._results(m, outcome, regs, bad, closed)
        self._kv_operations(m, decoder, regs, closed)
        entry = decoder.command.valid & decoder.command.ready

        # -- what software sets and sees
        m.d.comb += [regs.status_phase.eq(decoder.phase), regs.status_layer.eq(decoder.layer)]
        if design.hw.sampler == "gumbel":
            m.d.comb += [decoder.inv_temperature.eq(regs.inv_temperature_value), decoder.seed.eq(regs.seed_value)]
        with m.If(entry):
            m.d.core += busy.eq(1)
        with m.Elif(taken & last):
            m.d.core += busy.eq(0)
        m.d.comb += regs.status_busy.eq(busy)
        m.d.comb += [regs.irq_status_done_set.eq(taken & last), regs.irq_status_result_set.eq(taken)]
        irqs = [field.name for field in self._map["IRQ_STATUS"].fields]
        causes = (getattr(regs, f"irq_status_{name}") & getattr(regs, f"irq_enable_{name}") for name in irqs)
        m.d.comb += self.irq.eq(Cat(causes).any())

        m.d.comb += [decoder.counter_address.eq(regs.counter_address), regs.counter_data.eq(decoder.counter_data),
                     decoder.signature_address.eq(regs.signature_address),
                     regs.signature_data.eq(decoder.signature_data)]
        if design.hw.source == "stream":
            self._count_bus(m, decoder, regs, entry & ~busy, busy)
        return m

    def _pass_on(self, m, unit, names):
        """Ports of a unit that are ports of the whole."""
        for name in names:
            outside, inside = getattr(self, name), getattr(unit, name)
            m.d.comb += inside.eq(outside) if self.signature.members[name].flow == In else outside.eq(inside)

    def _weights(self, m, decoder, regs, resetting, core_reset):
        """The reader and what software sees of it, and of the bus of keys and values. Returns: the pass has beats that
        failed."""
        m.submodules.reader = self._reader = reader = make.axi_reader(self._design, self._axi)
        if self._axi.loader:
            self._share(m, reader)
        else:
            self._pass_on(m, reader, read_master(self._axi))
        connect(m, decoder.weight_req, reader.req)
        connect(m, reader.beats, decoder.weight_beats)
        high = getattr(regs, "weight_base_hi_value", Const(0, 0))
        m.d.comb += [reader.base.eq(Cat(Const(0, 12), regs.weight_base_lo_value, high)),
                     reader.timeout.eq(regs.timeout_value), reader.flush.eq(resetting)]
        with m.If(regs.control_reset):
            m.d.sync += resetting.eq(1)
        with m.Elif(reader.flushed & core_reset if self._design.hw.kv_port else reader.flushed):
            m.d.sync += resetting.eq(0)
        error, wrong = reader.error, reader.beats.valid & reader.beats.ready & reader.beats_bad
        if self._design.hw.kv_port:
            self._pass_on(m, decoder, kv_bus_ports(self._design, self._axi))
            error, wrong = follow_kv_bus(m, decoder, regs, resetting, error), wrong | decoder.kv_bad
        self._errors(m, error, regs)
        bad = Signal()
        with m.If(wrong):
            m.d.core += bad.eq(1)
        with m.Elif(decoder.outcome.valid & decoder.outcome.ready & decoder.outcome.p.last):
            m.d.core += bad.eq(0)
        return bad

    def _share(self, m, reader):
        """Reader and loader have the bus, one at a time: a block is read back only between passes."""
        m.submodules.loader = self._loader = loader = MemoryLoader(self._axi, self._silence)
        self._pass_on(m, loader, write_master(self._axi))
        for name, member in read_master(self._axi).items():
            bus, ours, other = getattr(self, name), getattr(reader, name), getattr(loader, name)
            if member.flow == Out:
                m.d.comb += bus.eq(Mux(loader.reads, other, ours))
            elif name in ("m_axi_arready", "m_axi_rvalid"):
                m.d.comb += [ours.eq(bus & ~loader.reads), other.eq(bus & loader.reads)]
            else:
                m.d.comb += [ours.eq(bus), other.eq(bus)]

    def _load(self, m, regs, command, busy, closed):
        """The loader, what software sees of it, and whether weights are there for passes."""
        axi, loader, size = self._axi, self._loader, self._design.stream_beats * self._design.hw.beat_bytes
        m.d.comb += [loader.rx_valid.eq(self.rx_valid), loader.rx_data.eq(self.rx_data), self.raw.eq(loader.raw),
                     loader.timeout.eq(regs.timeout_value)]

        # A pass has ended for good when nothing has moved for some cycles: the loop's next one would have begun.
        still = Signal(4)
        moves = busy | command.valid | (regs.loop_left != 0) | ~self._reader.flushed | closed
        m.d.sync += still.eq(Mux(moves, 0, still + ~still.all()))
        usable = self.memory_ready & ~self.memory_failed
        length = regs.load_value                # and of CHECK, for they are the bus's
        end = regs.load_address_value + length
        wrong = moves | ~still.all() | ~usable | loader.busy | (length == 0) | (end > 1 << axi.address_width)
        m.d.comb += [regs.load_refuse.eq(wrong), regs.check_refuse.eq(wrong), loader.load.eq(regs.load_write),
                     loader.check.eq(regs.check_write),
                     loader.address.eq(regs.load_address_value), loader.length.eq(length)]
        m.d.comb += [regs.load_status_busy.eq(loader.busy), regs.load_status_ready.eq(self.memory_ready),
                     regs.load_status_failed.eq(self.memory_failed),
                     regs.load_status_error.eq(loader.error), regs.load_count_value.eq(loader.count),
                     regs.load_crc_value.eq(loader.crc)]

        # Weights are there when all of them were read back as software knows them.
        base = regs.weight_base_lo_value
        whole, loaded, place, crc = Signal(), Signal(), Signal.like(base), Signal(32, name="sealed")
        here = loaded & (place == base)
        with m.If(regs.check_write):
            m.d.sync += whole.eq((regs.load_address_value == Cat(Const(0, 12), base)) & (regs.check_value == size))
        with m.If(regs.load_write):
            m.d.sync += [whole.eq(0), loaded.eq(0)]
        m.d.comb += [regs.seal_refuse.eq(~whole | loader.busy | (loader.error != 0) | (loader.crc != regs.seal_value)),
                     regs.load_status_loaded.eq(here), regs.weights_crc_value.eq(Mux(here, crc, 0))]
        with m.If(regs.seal_write):
            m.d.sync += [loaded.eq(1), place.eq(base), crc.eq(regs.seal_value)]

        loading = loader.busy
        if axi.card:
            card = self._read_card(m, regs, usable, size)
            loading = loader.busy | card.busy
            with m.If(card.loaded):
                m.d.sync += [loaded.eq(1), place.eq(0), crc.eq(card.crc)]

        # What is found before its first entry counts for a pass.
        self._refusal = refused, why = Signal(), Signal(ERROR_BITS, name="why")
        with m.If(~busy & ~(command.valid & command.ready)):
            m.d.core += [refused.eq(~usable | loading | ~here),
                         why.eq(Mux(self.memory_failed, ErrorCode.MEMORY_FAILED, Mux(
                ~self.memory_ready | loading, ErrorCode.MEMORY, ErrorCode.NO_WEIGHTS)))]

    def _read_card(self, m, regs, usable, size):
        """The card's reader, to which the loader belongs until it has ended."""
        loader = self._loader
        head = image_head(design_id(self._design, self._axi), size)
        m.submodules.card = card = CardReader(head, size, self._card, self._axi.address_width)
        m.d.comb += [self.card_cs_n.eq(card.cs_n), self.card_sck.eq(card.sck), self.card_mosi.eq(card.mosi),
                     card.miso.eq(self.card_miso),
                     card.ready.eq(usable), card.loader_busy.eq(loader.busy), card.loader_error.eq(loader.error),
                     card.loader_crc.eq(loader.crc),
                     regs.card_busy.eq(card.busy), regs.card_error.eq(card.error), regs.card_block_value.eq(card.block)]
        with m.If(card.busy):
            m.d.comb += [loader.rx_valid.eq(card.rx_valid), loader.rx_data.eq(card.rx_data), self.raw.eq(0),
                         loader.load.eq(card.load),
                         loader.check.eq(card.check), loader.address.eq(card.address), loader.length.eq(card.length),
                         regs.load_refuse.eq(1), regs.check_refuse.eq(1), regs.seal_refuse.eq(1)]
        return card

    def _count_bus(self, m, decoder, regs, first, busy):
        """The reader's counters, behind the machine's."""
        counters = Counters(AXI_EVENTS)
        m.submodules.counters = DomainRenamer("core")(counters)
        late = Signal()
        n = len(EVENTS)
        m.d.sync += late.eq(regs.counter_address >= n)
        m.d.comb += [counters.clear.eq(first), counters.address.eq(regs.counter_address - n),
                     regs.counter_data.eq(Mux(late, counters.data, decoder.counter_data)),
                     *(counters.events[name].eq(self._reader.activity[name] & busy) for name in AXI_EVENTS)]

    def _loop(self, m, decoder, regs):
        """The streams that the host's entries go to and its results come from."""
        if self._axi.host == "stream":
            return decoder.command, decoder.outcome
        loop = make.decode_loop(self._design)
        m.submodules.loop = DomainRenamer("core")(loop)
        connect(m, loop.command, decoder.command)
        connect(m, decoder.outcome, loop.result)
        m.d.comb += [loop.load.eq(regs.loop_write), loop.count.eq(regs.loop_count), regs.loop_left.eq(loop.left),
                     loop.stop.eq(regs.stop_token), loop.stopping.eq(regs.stop_enable)]
        return loop.entry, loop.outcome

    def _commands(self, m, command, regs, resetting):
        """Entries go to the machine while it may run. Returns (one is taken from the host, its adapter)."""
        fields = command_fields(self._design)
        word, valid = Signal(word_bits(fields), name="word"), Signal(name="valid")
        offered = Signal()                      # an offer stays, whatever software says meanwhile
        go = Signal()
        open_ = (regs.control_run | offered) & ~resetting
        m.d.comb += [command.valid.eq(valid & open_), go.eq(command.valid & command.ready)]
        m.d.core += offered.eq(command.valid & ~go)
        given = {field.name: word[field.lsb:field.lsb + field.width] for field in fields}
        if self._axi.loader:
            given["none"] = self._refusal[0]
        if self._axi.host == "stream":
            m.d.comb += [valid.eq(self.s_axis_command_tvalid), self.s_axis_command_tready.eq(command.ready & open_),
                         word.eq(self.s_axis_command_tdata)]
            # An entry with a number that does not fit could not be refused by the machine, which would see another:
            # it is none.
            given["none"] = beyond(command, given)
            if self._adapters:
                given["none"] |= self._adapters.missing(given["adapter"])
            given["last"] |= self.s_axis_command_tlast
            m.d.comb += regs.irq_status_dropped_set.eq(go & given["none"])
        else:
            queue = fifo.SyncFIFO(width=len(word), depth=self._queue_depth)
            m.submodules.commands = DomainRenamer("core")(queue)
            written = {f.name: getattr(regs, f"command_{('lo', 'hi', 'key', 'adapter')[f.lsb // 32]}_{f.name}")
                       for f in fields}
            wrong = beyond(command, written)
            if self._adapters:
                wrong |= self._adapters.missing(written["adapter"])
            m.d.comb += [regs.command_hi_refuse.eq(~queue.w_rdy | resetting | wrong),
                         queue.w_en.eq(regs.command_hi_write),
                         queue.w_data.eq(packed(fields, written)),
                         regs.queue_space.eq(self._queue_depth - queue.level),
                         word.eq(queue.r_data), valid.eq(queue.r_rdy), queue.r_en.eq(go)]
        m.d.comb += command.payload.as_value().eq(payload(command, given))
        if self._axi.host == "queue":
            return regs.command_hi_write, written.get("adapter")
        return go & ~given["none"], given.get("adapter")

    def _kv_operations(self, m, decoder, regs, resetting):
        """An operation on the KV memory waits for the end of the pass; its answer stays until the next."""
        command, answer, busy = decoder.kv_command, decoder.kv_answer, regs.kv_answer_busy
        taken = {name: getattr(regs, f"kv_command_{name}") for name in ("op", "slot", "other")}
        taken["length"] = regs.kv_length_value
        held = Signal.like(command.payload.as_value(), reset_less=True)
        offered, error = Signal(name="offered"), Signal.like(answer.p.error, name="error")
        m.d.comb += [regs.kv_command_refuse.eq(busy | resetting | beyond(command, taken)),
                     command.valid.eq(offered & ~resetting),
                     command.payload.as_value().eq(held), answer.ready.eq(busy), regs.kv_answer_error.eq(error)]
        with m.If(regs.kv_command_write):
            m.d.core += [held.eq(payload(command, taken)), offered.eq(1), busy.eq(1)]
        with m.If(command.valid & command.ready):
            m.d.core += offered.eq(0)
        m.d.comb += regs.irq_status_kv_set.eq(answer.valid & busy)
        with m.If(answer.valid & busy):
            m.d.core += [busy.eq(0), error.eq(answer.p.error)]
        if self._design.hw.kv_ecc:
            m.d.comb += [regs.kv_corrected_value.eq(decoder.kv_corrected), regs.kv_failed_value.eq(decoder.kv_failed),
                         regs.kv_fault_slot.eq(decoder.kv_fault.slot),
                         regs.kv_fault_position.eq(decoder.kv_fault.position)]

    @property
    def _queue_depth(self):
        """Entries and results that wait between machine and software: a pass's, in most cases."""
        return min(128, max(self._axi.queue, self._design.hw.entries))

    def _results(self, m, outcome, regs, bad, resetting):
        """Results go to the host. Returns (one goes, it is the pass's last)."""
        given = {name: outcome.p[name] for name in outcome.p.shape().members} | {"bus_error": bad}
        if self._axi.loader:
            refused, why = self._refusal
            given["error"] = Mux(refused & (given["error"] == ErrorCode.EMPTY_PASS), why, given["error"])
        word, last = packed(RESULT, given), outcome.p.last
        if self._axi.host == "stream":
            m.d.comb += [self.m_axis_result_tvalid.eq(outcome.valid & ~resetting),
                         outcome.ready.eq(self.m_axis_result_tready & ~resetting),
                         self.m_axis_result_tdata.eq(word), self.m_axis_result_tlast.eq(last)]
        else:
            queue = fifo.SyncFIFO(width=64, depth=self._queue_depth)
            m.submodules.results = DomainRenamer("core")(queue)
            m.d.comb += [queue.w_en.eq(outcome.valid), outcome.ready.eq(queue.w_rdy & ~resetting),
                         queue.w_data.eq(word), regs.queue_results.eq(queue.level), queue.r_en.eq(regs.queue_pop)]
            for field in RESULT:
                half = "hi" if field.lsb >= 32 else "lo"
                value = queue.r_data[field.lsb:field.lsb + field.width]
                m.d.comb += getattr(regs, f"result_{half}_{field.name}").eq(value)
        return outcome.valid & outcome.ready, last

    def _errors(self, m, error, regs):
        """The first error since software cleared the cause, and how many."""
        code, address, count = Signal(3, name="code"), Signal(self._axi.address_width, name="address"), Signal(16)
        m.d.comb += regs.irq_status_error_set.eq(error.valid)
        with m.If(error.valid):
            with m.If(regs.irq_status_error):
                m.d.sync += count.eq(Mux(count.all(), count, count + 1))
            with m.Else():
                m.d.sync += [code.eq(error.code), address.eq(error.address), count.eq(1)]
        with m.If(regs.irq_status_error):
            m.d.comb += [regs.error_code.eq(code), regs.error_count.eq(count), regs.error_address_lo_value.eq(address)]
            if self._axi.address_width > 32:
                m.d.comb += regs.error_address_hi_value.eq(address[32:])
