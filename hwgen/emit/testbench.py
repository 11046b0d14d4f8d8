"""A testbench in plain Verilog that needs only the emitted folder: two passes, compared with the golden model."""
from collections.abc import Sequence

from ..golden.decoder import GoldenDecoder
from ..lib.layouts import command_layout, outcome_layout
from ..lib.verilog import Port
from ..models.adapter_codes import QuantizedAdapter
from ..models.pack import model_id
from ..models.quantize import QuantizedModel
from ..params.axi import PAGE, AxiShape
from ..params.design import Design
from ..params.registers import RESULT, command_fields, register_map
from ..top import make
from ..units.weights import request_layout
from .images import adapter_name, image_name
from .testbench_kv import kv_memory

__all__ = ["has_testbench", "testbench"]

PASSES = 2
#: Bytes of weights up to which there is one: a simulator of Verilog does some hundred to thousand cycles a second, and
#: each pass reads all of them.
MOST = 4_000_000

_BENCH = """\
// Two passes of NAME, compared with what hwgen's golden model says: tokens, a signature for each layer, and which
// weights were read. Plain Verilog, for any simulator. Ends with "PASS", or with $fatal and the first difference.
// Made by hwgen; make it again rather than change it.
/* verilator lint_off WIDTH */
module NAME_tb;
  parameter FILE_PARAMETER = "IMAGE";
  localparam PASSES = @passes;
  localparam LAYERS = @layers;
  localparam LIMIT = @limit;

@functions
@declarations
  integer number, row, cycles;

  initial CLOCK = 0;
  always #5 CLOCK = ~CLOCK;

  initial cycles = 0;
  always @(posedge CLOCK) begin
    cycles = cycles + 1;
    if (cycles == LIMIT) begin
      $display("FAIL: NAME: pass %0d does not end", number);
      $fatal;
    end
  end

  task check(input [63:0] got, input [63:0] want, input [8*12-1:0] what);
    if (got !== want) begin
      $display("FAIL: NAME: pass %0d: %0s must be %h, not %h", number, what, want, got);
      $fatal;
    end
  endtask
@body
  NAME @parameters dut (
      @connections
  );
endmodule
"""

_FILE = """
  // The weights, as the file has them.
  reg [7:0] bytes [0:@last];
  integer file, count;
  initial begin
    file = $fopen(WEIGHTS, "rb");
    if (file == 0) begin
      $display("FAIL: NAME: %0s must be there", WEIGHTS);
      $fatal;
    end
    count = $fread(bytes, file);
    $fclose(file);
  end
"""

_ADAPTER = """
  // Adapter 1, as its file has it: for the last pass.
  parameter ADAPTER = "@image";
  reg [7:0] adapter_bytes [0:@last];
  integer adapter_file, adapter_count, beat;
  initial begin
    adapter_file = $fopen(ADAPTER, "rb");
    if (adapter_file == 0) begin
      $display("FAIL: NAME: %0s must be there", ADAPTER);
      $fatal;
    end
    adapter_count = $fread(adapter_bytes, adapter_file);
    $fclose(adapter_file);
  end
"""

_LOAD_ON_STREAMS = """\
    for (beat = 0; beat < @beats; beat = beat + 1) begin
      @(negedge clk);
      adapter__valid = 1;
      adapter__payload = {@word, beat == 0@number};
      #1;
      while (!adapter__ready) begin @(negedge clk); #1; end
    end
    @(negedge clk);
    adapter__valid = 0;
"""

_LOAD_ON_BUSES = """\
    write(@first, 1);
    for (beat = 0; beat < @last; beat = beat + 4)
      write(@data, @word);
"""

_SERVE = """
  // Requests are answered beat after beat.
  reg serving, stride;
  integer at, left;
  assign weight_req__ready = !serving;
  assign weight_beats__valid = serving;
  assign weight_beats__payload = @beat;
  initial serving = 0;
  always @(posedge clk)
    if (weight_req__valid && weight_req__ready) begin
      serving <= !rst;
      at <= weight_req__payload[@address];
      left <= weight_req__payload[@count];
      stride <= weight_req__payload[@stride];
    end else if (serving && weight_beats__ready) begin
      at <= at + (stride ? @tile_beats : 1);
      left <= left - 1;
      serving <= left != 1;
    end
"""

_ON_STREAMS = """
  initial begin
    number = 0;
    @idle
    rst = 1;
    repeat (4) @(negedge clk);
    rst = 0;
@load    for (number = 0; number < PASSES; number = number + 1) begin
      @(negedge clk);
      command__valid = 1;
      command__payload = command(number);
      #1;
      while (!command__ready) begin @(negedge clk); #1; end
      @(negedge clk);
      command__valid = 0;
      #1;
      while (!outcome__valid) begin @(negedge clk); #1; end
      check(outcome__payload, outcome(number), "result");
      check(model_id, @model_id, "model_id");
      for (row = 0; row < LAYERS; row = row + 1) begin
        @sign_at
        repeat (2) @(negedge clk);
        check(signature_data, signature(number * LAYERS + row), "signature");
      end
    end
    $display("PASS: NAME: %0d passes, %0d cycles", PASSES, cycles);
    $finish;
  end
"""

_MEMORY = """
  // A memory on the bus, with the weights from 4096 on.
  reg [@high:0] addresses [0:255];
  reg [7:0] lengths [0:255];
  integer asked, given, index;
  wire [31:0] at = addresses[given[7:0]] - 4096 + index * @word_bytes;
  assign m_axi_arready = asked - given < 200;
  assign m_axi_rvalid = asked != given;
  assign m_axi_rlast = index == lengths[given[7:0]];
  assign m_axi_rdata = @word;
  assign m_axi_rid = 0;
  assign m_axi_rresp = 0;
  initial begin asked = 0; given = 0; index = 0; end
  always @(posedge aclk) begin
    if (m_axi_arvalid && m_axi_arready) begin
      addresses[asked[7:0]] <= m_axi_araddr;
      lengths[asked[7:0]] <= m_axi_arlen;
      asked <= asked + 1;
    end
    if (m_axi_rvalid && m_axi_rready) begin
      index <= m_axi_rlast ? 0 : index + 1;
      if (m_axi_rlast) given <= given + 1;
    end
  end
"""

_ON_BUSES = """
  task write(input [31:0] address, input [31:0] value);
    begin
      @(negedge aclk);
      s_axi_awaddr = address;
      s_axi_wdata = value;
      s_axi_awvalid = 1;
      s_axi_wvalid = 1;
      #1;
      while (!(s_axi_awready && s_axi_wready)) begin @(negedge aclk); #1; end
      @(negedge aclk);
      s_axi_awvalid = 0;
      s_axi_wvalid = 0;
      #1;
      while (!s_axi_bvalid) begin @(negedge aclk); #1; end
      check(s_axi_bresp, 0, "BRESP");
    end
  endtask

  task read(input [31:0] address, input [31:0] want, input [8*12-1:0] what);
    begin
      @(negedge aclk);
      s_axi_araddr = address;
      s_axi_arvalid = 1;
      #1;
      while (!s_axi_arready) begin @(negedge aclk); #1; end
      @(negedge aclk);
      s_axi_arvalid = 0;
      #1;
      while (!s_axi_rvalid) begin @(negedge aclk); #1; end
      check(s_axi_rresp, 0, "RRESP");
      check(s_axi_rdata, want, what);
    end
  endtask

  initial begin
    number = 0;
    @idle
    s_axi_wstrb = 15;
    repeat (4) @(negedge aclk);
    aresetn = 1;
    @start
@load    for (number = 0; number < PASSES; number = number + 1) begin
      @pass
      while (!irq) @(negedge aclk);
      write(@irq_status, 1);
      read(@weights_id, @model_id, "WEIGHTS_ID");
      for (row = 0; row < LAYERS; row = row + 1)
        read(@signatures + @row_bytes * row, signature(number * LAYERS + row), "SIGNATURE");
    end
    $display("PASS: NAME: %0d passes, %0d cycles", PASSES, cycles);
    $finish;
  end
"""


def has_testbench(design: Design) -> bool:
    """Whether a design's passes are short enough for a simulator of Verilog, and its memories small enough."""
    return max(design.stream_beats * design.hw.beat_bytes, design.kv_places.size if design.hw.kv_port else 0) <= MOST


def testbench(design: Design, quantized: QuantizedModel, name: str, ports: Sequence[Port], axi: AxiShape | None = None,
              adapters: Sequence[QuantizedAdapter] = ()) -> str:
    """Verilog of the module ``NAME_tb``, around a machine with these ports (`hwgen.lib.verilog.Port`).

    The last pass has the first of ``adapters``, if there are some.
    """
    hw, expected, stream = design.hw, _expected(design, quantized, adapters), design.hw.source == "stream"
    inputs = [port for port in ports if port.direction == "input"]
    driven = ("weight_", "m_axi_") if stream else ()        # by assignments
    parameter = "WEIGHTS" if stream else "ROM_FILE"
    functions = {"signature": (32, [word for _, _, words in expected for word in words])}
    words = {"model_id": f"32'h{model_id(quantized):08x}",
             "idle": "\n    ".join(f"{p.name} = {PAGE * (p.name == 'kv_base') or int(p.name.endswith('ready'))};"
                                   for p in inputs if not p.name.startswith(("clk", "aclk", *driven)))}
    body, more = (_on_buses(design, axi, expected, words, bool(adapters)) if axi else
                  _on_streams(design, ports, expected, words, bool(adapters)))
    limit = 20 * (design.stream_beats * max(1, 8 * hw.beat_bytes // axi.data_width if axi else 1)
                  + design.layers * design.kv_heads * (4 * hw.context + 200) * design.padded_head_dim
                  + (design.adapter_map.beats * hw.beat_bytes if adapters else 0)) + 100_000
    declarations = [f"  {'wire' if port.direction == 'output' or port.name.startswith(driven) else 'reg'} "
                    f"[{port.width - 1}:0] {port.name};" for port in ports]
    return _filled(_BENCH, {
        "functions": "\n".join(_function(key, *value) for key, value in (functions | more).items()),
        "declarations": "\n".join(declarations),
        "body": (_filled(_FILE, {"last": design.stream_beats * hw.beat_bytes - 1}) if stream else "")
        + (_filled(_ADAPTER, {"image": adapter_name(name, 1), "last": design.adapter_map.beats * hw.beat_bytes - 1})
           if adapters else "") + kv_memory(design, axi) + body,
        "parameters": "" if stream else "#(.ROM_FILE(ROM_FILE))",
        "connections": ",\n      ".join(f".{port.name}({port.name})" for port in ports),
        "passes": len(expected), "layers": design.layers, "limit": limit}) \
        .replace("FILE_PARAMETER", parameter).replace("IMAGE", image_name(design, name)) \
        .replace("CLOCK", "aclk" if axi else "clk").replace("NAME", name)


def _expected(design, quantized, adapters=()):
    """[(token, token after it, signatures)] of a text's first passes, of one entry each; the last one with the first
    adapter, if there is one."""
    decoder, token, found = GoldenDecoder(design, quantized), min(1, design.model.vocab_size - 1), []
    count = min(PASSES, design.room(1))
    for adapter in adapters[:1]:
        decoder.load_adapter(1, adapter)
    for position in range(count):
        number = int(bool(adapters) and position == count - 1)
        tokens, signatures, _ = decoder.run_pass([(0, position, token, True, 0, number)])
        found.append((token, tokens[0], [int(row) for layer in signatures for row in layer]))
        token = tokens[0]
    return found


def _filled(text, words):
    """Text with its @words."""
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(f"@{word}", str(words[word]))
    return text


def _function(name, width, values):
    """A Verilog function: index -> value."""
    lines = "\n".join(f"      {i}: {name} = {width}'h{value:x};" for i, value in enumerate(values))
    return (f"  function [{width - 1}:0] {name}(input integer index);\n"
            f"    case (index)\n{lines}\n      default: {name} = 0;\n    endcase\n  endfunction\n")


def _packed(fields, values):
    """A word of fields, name -> (lowest bit, width)."""
    return sum((int(values.get(name, 0)) & (1 << width) - 1) << lsb for name, (lsb, width) in fields.items())


def _word(size, at, memory="bytes"):
    """Bytes of a file as a word, the first lowest."""
    return "{" + ", ".join(f"{memory}[{at} + {i}]" for i in reversed(range(size))) + "}"


def _places(layout):
    return {name: (field.offset, field.width) for name, field in layout}


def _on_streams(design, ports, expected, words, adapted=False):
    """(body, functions) around a machine whose ports are streams."""
    hw, sizes = design.hw, make.request_sizes(design)
    command, outcome = command_layout(sizes), outcome_layout(sizes)
    functions = {
        "command": (command.size, [_packed(_places(command), {"position": i, "token": token, "want": 1, "last": 1,
                                                                "adapter": adapted and i == len(expected) - 1})
                                   for i, (token, _, _) in enumerate(expected)]),
        "outcome": (64, [_packed(_places(outcome), {"token": token, "last": 1}) for _, token, _ in expected])}
    signs = any(port.name == "signature_address" for port in ports)
    load, number = "", (hw.adapters - 1).bit_length()
    if adapted:
        load = _filled(_LOAD_ON_STREAMS, {"beats": design.adapter_map.beats, "number": f", {number}'d0" * bool(number),
                                          "word": _word(hw.beat_bytes, f"beat * {hw.beat_bytes}", "adapter_bytes")})
    body = _filled(_ON_STREAMS, words | {"load": load, "sign_at": f"signature_address = row * {hw.entries};"
                                         if signs else ""})
    if hw.source == "stream":
        request = request_layout(stream_beats=design.stream_beats)
        bits = {name: f"{lsb + width - 1}:{lsb}" for name, (lsb, width) in _places(request).items()}
        body = _filled(_SERVE, bits | {"beat": _word(hw.beat_bytes, f"at * {hw.beat_bytes}"),
                                       "tile_beats": hw.tile_beats}) + body
    return body, functions


def _on_buses(design, axi, expected, words, adapted=False):
    """(body, functions) around a machine on buses."""
    registers, stream = register_map(design, axi), design.hw.source == "stream"

    def at(register):
        return f"32'h{registers[register].offset:x}"

    fields = {field.name: (field.lsb, field.width) for field in command_fields(design)}
    width = max(lsb + width for lsb, width in fields.values())
    functions = {
        "command": (width, [_packed(fields, {"position": i, "token": token, "want": 1, "last": 1,
                                             "adapter": adapted and i == len(expected) - 1})
                            for i, (token, _, _) in enumerate(expected)]),
        "result": (64, [_packed({field.name: (field.lsb, field.width) for field in RESULT}, {"token": token, "last": 1})
                        for _, token, _ in expected])}
    start = [f'read({at(name)}, 32\'h{registers[name].fields[0].reset:x}, "{name}");'
             for name in ("ID", "VERSION", "DESIGN_ID")]
    start += [f"write({at(name)}, {PAGE});" for name in ("WEIGHT_BASE_LO", "KV_BASE_LO") if name in registers]
    start += [f"write({at('IRQ_ENABLE')}, 1);", f"write({at('CONTROL')}, 1);"]
    if axi.host == "stream":
        give = ["@(negedge aclk);", "s_axis_command_tvalid = 1;", "s_axis_command_tlast = 1;",
                "s_axis_command_tdata = command(number);", "#1;",
                "while (!s_axis_command_tready) begin @(negedge aclk); #1; end", "@(negedge aclk);",
                "s_axis_command_tvalid = 0;", "#1;",
                "while (!m_axis_result_tvalid) begin @(negedge aclk); #1; end",
                'check(m_axis_result_tdata, result(number), "result");']
    else:
        give = [f"write({at('COMMAND_LO')}, word[31:0]);", *([f"write({at('COMMAND_KEY')}, word[95:64]);"]
                                                             if "key" in fields else []),
                *([f"write({at('COMMAND_ADAPTER')}, word[{width - 1}:96]);"] if "adapter" in fields else []),
                f"write({at('COMMAND_HI')}, word[63:32]);"]
        give = ["word = command(number);", "wanted = result(number);", *give, "while (!irq) @(negedge aclk);",
                f'read({at("RESULT_LO")}, wanted[31:0], "RESULT_LO");',
                f'read({at("RESULT_HI")}, wanted[63:32], "RESULT_HI");',
                f"write({at('QUEUE')}, 32'h{registers['QUEUE'].fields[-1].mask:x});"]
    load = _filled(_LOAD_ON_BUSES, {"first": at("ADAPTER_LOAD"), "data": at("ADAPTER_DATA"),
                                    "last": design.adapter_map.beats * design.hw.beat_bytes,
                                    "word": _word(4, "beat", "adapter_bytes")}) if adapted else ""
    body = _filled(_ON_BUSES, words | {
        "load": load, "start": "\n    ".join(start),
        "pass": "\n      ".join(give), "irq_status": at("IRQ_STATUS"), "weights_id": at("WEIGHTS_ID"),
        "signatures": at("SIGNATURE"), "row_bytes": 4 * design.hw.entries})
    if axi.host == "queue":
        body = f"\n  reg [{width - 1}:0] word;\n  reg [63:0] wanted;\n" + body
    if stream:
        body = _filled(_MEMORY, {"high": axi.address_width - 1, "word_bytes": axi.word_bytes,
                                 "word": _word(axi.word_bytes, "at")}) + body
    return body, functions
