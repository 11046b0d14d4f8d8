"""Of a testbench: the memory of a machine whose keys and values are outside."""
from ..params.axi import PAGE, AxiShape
from ..params.design import Design
from ..params.kv_port import kv_axi

__all__ = ["kv_memory"]

_MEMORY = """
  // A memory on the bus of keys and values, from @base on. Nobody knows what is in it at first.
  reg [7:0] kv_bytes [0:@last];
  reg [@high:0] kv_addresses [0:15];
  reg [7:0] kv_lengths [0:15];
  integer kv_asked, kv_given, kv_index, kv_at, kv_byte;
  reg kv_writing, kv_answering;
  wire [31:0] kv_from = kv_addresses[kv_given[3:0]] - @base + kv_index * @size;
  assign m_axi_kv_arready = kv_asked - kv_given < 15;
  assign m_axi_kv_rvalid = kv_asked != kv_given;
  assign m_axi_kv_rlast = kv_index == kv_lengths[kv_given[3:0]];
  assign m_axi_kv_rdata = @word;
  assign m_axi_kv_rid = 0;
  assign m_axi_kv_rresp = 0;
  assign m_axi_kv_awready = !kv_writing && !kv_answering;
  assign m_axi_kv_wready = kv_writing;
  assign m_axi_kv_bvalid = kv_answering;
  assign m_axi_kv_bid = 0;
  assign m_axi_kv_bresp = 0;
  initial begin kv_asked = 0; kv_given = 0; kv_index = 0; kv_writing = 0; kv_answering = 0; end
  always @(posedge CLOCK) begin
    if (m_axi_kv_arvalid && m_axi_kv_arready) begin
      kv_addresses[kv_asked[3:0]] <= m_axi_kv_araddr;
      kv_lengths[kv_asked[3:0]] <= m_axi_kv_arlen;
      kv_asked <= kv_asked + 1;
    end
    if (m_axi_kv_rvalid && m_axi_kv_rready) begin
      kv_index <= m_axi_kv_rlast ? 0 : kv_index + 1;
      if (m_axi_kv_rlast) kv_given <= kv_given + 1;
    end
    if (m_axi_kv_awvalid && m_axi_kv_awready) begin
      kv_at <= m_axi_kv_awaddr - @base;
      kv_writing <= 1;
    end
    if (m_axi_kv_wvalid && m_axi_kv_wready) begin
      for (kv_byte = 0; kv_byte < @size; kv_byte = kv_byte + 1)
        if (m_axi_kv_wstrb[kv_byte]) kv_bytes[kv_at + kv_byte] <= m_axi_kv_wdata[8 * kv_byte +: 8];
      kv_at <= kv_at + @size;
      kv_writing <= !m_axi_kv_wlast;
      kv_answering <= m_axi_kv_wlast;
    end
    if (m_axi_kv_bvalid && m_axi_kv_bready) kv_answering <= 0;
  end
"""


def kv_memory(design: Design, axi: AxiShape | None = None) -> str:
    """Verilog of the memory behind the port to keys and values, at address `PAGE`; "" for a machine without one."""
    if not design.hw.kv_port:
        return ""
    bus = kv_axi(design.hw, axi)
    word = ", ".join(f"kv_bytes[kv_from + {i}]" for i in reversed(range(bus.word_bytes)))
    words = {"base": PAGE, "last": design.kv_places.size - 1, "high": bus.address_width - 1, "size": bus.word_bytes,
             "word": f"{{{word}}}"}
    text = _MEMORY
    for name, value in words.items():
        text = text.replace(f"@{name}", str(value))
    return text
