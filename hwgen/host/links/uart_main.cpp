// A board's top as a Verilator model whose UART pins are stdin and stdout: bytes become levels of the pin rx, one bit per DIVISOR cycles, and
// what the pin tx says becomes bytes. The clock stands still while nothing is sent or received for IDLE cycles and no byte is waiting.
//
//   model [CONTROL [MEMORY [CARD [NAME=VALUE ...]]]]
//
// CONTROL is the number of an open file with lines, each done before the bytes that are sent after it:
//   flip MEMORY WORD BIT    kv_memory.h
//   time N                  cycles that pass before the clock stands still
//   report FILE             cycles so far, into a file; with a card behind them the blocks that it sent, and the cycles of the first and the last
// and of a top with an AXI4 memory, whose bytes are the file MEMORY:
//   memory flip BYTE BIT    a bit of it
//   memory ready N, memory failed N     its start-up is over, or has failed: it is over some time after the reset by itself
//   memory refuse BYTE      reads of that word are answered with SLVERR; none is, beyond its end
// and of a top with a chip of SDRAM behind its pins, whose first complaint ends the program. The chip has the bytes of the file MEMORY before the first cycle, as if they had been
// loaded before, unless that is "-" or not given:
//   memory flip BYTE BIT    a bit of it, by its address on the bus
// A top with an SD card at its pins has one whose bytes are the file CARD, unless that is "-" or not given: then there is none. NAME is one of the inputs of sd_card.v that say
// what it does; its first complaint ends the program.
// The memory takes an address a cycle, has its first word LATENCY cycles later, and distrusts its master: what a burst may not be ends the program.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include <vector>

#include "Vtop.h"
#include "kv_memory.h"
#include "verilated.h"

static const unsigned IDLE = 64 * 10 * DIVISOR;
#ifndef SETTLED
#define SETTLED 256     // cycles of reset, and more
#endif

static uint64_t until;          // the clock does not stand still before
#if CARD
static uint32_t card_blocks;            // that a card has sent, and the cycles of the first and the last
static uint64_t card_first, card_last;
#endif

#if MEMORY_BYTES
#include <sys/mman.h>
static const uint64_t LATENCY = 20, STARTUP = 400;
static uint8_t *memory;
static uint64_t refused = MEMORY_BYTES;
static bool up, failed;
struct Burst { uint64_t address, left, first; };
struct Port {                           // what is under way
    std::deque<Burst> reads;
    Burst write;                        // left: words to come; first: when it is answered
    bool writing;
};
static Port ports[2];
// A bus of the top by the names of its signals, whatever the names of its ports begin with.
#define WIRE(prefix, name) decltype(Vtop::prefix##name) name = top.prefix##name;
#define BUS(bus, p) struct bus { Vtop &top; \
    WIRE(p, arready) WIRE(p, arvalid) WIRE(p, araddr) WIRE(p, arlen) WIRE(p, arsize) WIRE(p, arburst) WIRE(p, arid) \
    WIRE(p, rvalid) WIRE(p, rready) WIRE(p, rresp) WIRE(p, rlast) WIRE(p, rdata) WIRE(p, awready) WIRE(p, awvalid) \
    WIRE(p, awaddr) WIRE(p, awlen) WIRE(p, awsize) WIRE(p, awburst) WIRE(p, awid) WIRE(p, wready) WIRE(p, wvalid) \
    WIRE(p, wdata) WIRE(p, wstrb) WIRE(p, wlast) WIRE(p, bvalid) WIRE(p, bresp) };
BUS(WeightBus, m_axi_)
#if KV_PORT
BUS(KvBus, m_axi_kv_)
#endif

static void demand(bool right, const char *what) {
    if (!right) fprintf(stderr, "the memory: %s\n", what), exit(4);
}
static void demand_burst(uint64_t address, uint64_t words, unsigned size, unsigned kind, unsigned id) {
    demand(1u << size == MEMORY_WORD && kind == 1 && id == 0, "a burst is not of whole words that follow each other");
    demand(address % MEMORY_WORD == 0 && address / 4096 == (address + words * MEMORY_WORD - 1) / 4096, "a burst crosses 4 KiB");
    demand(up, "a burst before the start-up was over");
}
static bool start_memory(Vtop &, int argc, char **argv) {
    int file = argc > 2 ? open(argv[2], O_RDWR) : -1;
    if (file < 0 || ftruncate(file, MEMORY_BYTES)) return perror("memory"), false;
    memory = (uint8_t *)mmap(nullptr, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) return perror("memory"), false;
    return true;
}
static uint8_t response(uint64_t address) { return address >= MEMORY_BYTES ? 3 : address / MEMORY_WORD == refused / MEMORY_WORD ? 2 : 0; }

// A cycle: what the machine offers is looked at, what the memory says is driven for the next edge.
template <class Bus> static void port_cycle(Bus bus, Port &port, uint64_t now) {
    bus.arready = 1;
    if (bus.arvalid) {
        demand_burst(bus.araddr, bus.arlen + 1, bus.arsize, bus.arburst, bus.arid);
        port.reads.push_back({bus.araddr, bus.arlen + 1ull, now + LATENCY});
    }
    bus.rvalid = !port.reads.empty() && port.reads.front().first <= now;
    if (bus.rvalid) {
        Burst &b = port.reads.front();
        demand(bus.rready, "a word is not taken");
        bus.rresp = response(b.address), bus.rlast = b.left == 1;
        if (b.address < MEMORY_BYTES) memcpy(&bus.rdata, memory + b.address, MEMORY_WORD);
        b.address += MEMORY_WORD;
        if (--b.left == 0) port.reads.pop_front();
    }
    Burst &write = port.write;
    bus.awready = !port.writing, bus.wready = port.writing && write.left;
    bus.bvalid = port.writing && !write.left && write.first <= now;
    if (bus.bvalid) port.writing = false;
    if (bus.wready && bus.wvalid) {
        uint8_t word[MEMORY_WORD];
        memcpy(word, &bus.wdata, MEMORY_WORD);
        for (unsigned k = 0; k < MEMORY_WORD; k++)
            if (bus.wstrb >> k & 1 && write.address < MEMORY_BYTES) memory[write.address + k] = word[k];
        bus.bresp = response(write.address);
        write.address += MEMORY_WORD;
        demand((--write.left == 0) == bus.wlast, "a burst's last word is another one");
        write.first = now + LATENCY;
    }
    if (bus.awready && bus.awvalid) {
        demand_burst(bus.awaddr, bus.awlen + 1, bus.awsize, bus.awburst, bus.awid);
        write = {bus.awaddr, bus.awlen + 1ull, 0};
        port.writing = true;
    }
}
static void memory_cycle(Vtop &top, uint64_t now) {
    if (now == STARTUP) up = true;
    top.memory_ready = up, top.memory_failed = failed;
    port_cycle(WeightBus{top}, ports[0], now);
#if KV_PORT
    port_cycle(KvBus{top}, ports[1], now);
#endif
}
static void control_memory(const char *line) {
    unsigned long long a, b;
    if (sscanf(line, "memory flip %llu %llu", &a, &b) == 2 && a < MEMORY_BYTES) memory[a] ^= 1 << b;
    if (sscanf(line, "memory ready %llu", &a) == 1) up = a;
    if (sscanf(line, "memory failed %llu", &a) == 1) failed = a;
    if (sscanf(line, "memory refuse %llu", &a) == 1) refused = a;
}
#elif SDRAM_BANKS
static unsigned long long chip_byte, chip_bit;
static bool flips;

// Where the chip has a byte: LiteDRAM's order of addresses is row, bank, column.
static uint64_t chip_address(uint64_t byte) {
    const uint64_t word = byte / SDRAM_WORD, bank = word / SDRAM_COLUMNS % SDRAM_BANKS, row = word / SDRAM_COLUMNS / SDRAM_BANKS;
    return (bank * SDRAM_ROWS + row) * SDRAM_COLUMNS + word % SDRAM_COLUMNS;
}
static bool start_memory(Vtop &top, int argc, char **argv) {
    if (argc < 3 || !strcmp(argv[2], "-")) return true;
    FILE *file = fopen(argv[2], "rb");
    if (!file) return perror("memory"), false;
    top.eval();         // behind this the chip's own power-up is over
    auto &cells = top.rootp->board__DOT__chip__DOT__cells;
    int byte;
    for (uint64_t at = 0; (byte = fgetc(file)) != EOF && at < 1ull * SDRAM_BANKS * SDRAM_ROWS * SDRAM_COLUMNS * SDRAM_WORD; at++) {
        auto &word = cells[chip_address(at)];
        const unsigned shift = at % SDRAM_WORD * 8;
        word = (word & ~(0xFFu << shift)) | byte << shift;
    }
    fclose(file);
    return true;
}
static void memory_cycle(Vtop &top, uint64_t) {
    if (top.chip_error) fprintf(stderr, "the chip: error %u in its cycle %u (hwgen/host/links/*_chip.v)\n", top.chip_error, top.chip_error_cycle), exit(4);
    top.flip = flips, top.flip_bits = 1u << (chip_byte % SDRAM_WORD * 8 + chip_bit);
    top.flip_address = chip_address(chip_byte);
    flips = false;
}
static void control_memory(const char *line) {
    flips = sscanf(line, "memory flip %llu %llu", &chip_byte, &chip_bit) == 2;
}
#else
static bool start_memory(Vtop &, int, char **) { return true; }
static void memory_cycle(Vtop &, uint64_t) {}
static void control_memory(const char *) {}
#endif

static void control_any(const char *line, uint64_t now) {
    unsigned long long cycles;
    if (sscanf(line, "time %llu", &cycles) == 1) until = now + cycles;
    if (!strncmp(line, "report ", 7))
        if (FILE *file = fopen(line + 7, "w")) {
            fprintf(file, "%llu\n", (unsigned long long)now);
#if CARD
            fprintf(file, "%u %llu %llu\n", card_blocks, (unsigned long long)card_first, (unsigned long long)card_last);
#endif
            fclose(file);
        }
    control_memory(line);
}

#if CARD
static std::vector<uint8_t> card_bytes;
static bool card_there;

static bool start_card(Vtop &top, int argc, char **argv) {
    top.card_waits = 1;
    if (argc < 4 || !strcmp(argv[3], "-")) return true;
    FILE *file = fopen(argv[3], "rb");
    if (!file) return perror("card"), false;
    for (int byte; (byte = fgetc(file)) != EOF;) card_bytes.push_back(byte);
    fclose(file);
    card_there = true;      // from the second cycle on: in the first it gets its power
    for (int k = 4; k < argc; k++) {
        char name[16];
        unsigned value;
        if (sscanf(argv[k], "%15[a-z_]=%u", name, &value) != 2) return fprintf(stderr, "the card: %s\n", argv[k]), false;
#define SAID(NAME) if (!strcmp(name, #NAME)) top.card_##NAME = value;
        SAID(seed) SAID(kind) SAID(deaf) SAID(starts) SAID(waits) SAID(fault) SAID(fault_block) SAID(fault_times)
    }
    return true;
}
// Returns that its clock has moved.
static bool card_cycle(Vtop &top, uint64_t now) {
    static bool clock;
    if (top.card_error) fprintf(stderr, "the card: error %u in its cycle %u (sd_card.v)\n", top.card_error, top.card_error_cycle), exit(4);
    const uint64_t place = top.card_at_block * 512ull + top.card_at_byte;
    top.card_content = place < card_bytes.size() ? card_bytes[place] : 0;
    top.card_present = card_there && now;
    if (card_blocks != top.card_blocks) {
        if (!card_blocks) card_first = now;
        card_blocks = top.card_blocks, card_last = now;
    }
    const bool moved = clock != top.card_sck;
    clock = top.card_sck;
    return moved;
}
#else
static bool start_card(Vtop &, int, char **) { return true; }
static bool card_cycle(Vtop &, uint64_t) { return false; }
#endif

int main(int argc, char **argv) {
    VerilatedContext context;
    Vtop top{&context};
    uint64_t now = 0;
    int control = argc > 1 ? atoi(argv[1]) : -1;
    std::deque<unsigned char> waiting;      // bytes to send
    unsigned sending = 0, send_left = 0;    // bits of the byte on rx, cycles of the current one
    unsigned word = 0;
    unsigned receiving = 0, receive_left = 0, received = 0;
    unsigned quiet = 0;
    if (!start_memory(top, argc, argv)) return 2;
    if (!start_card(top, argc, argv)) return 2;
    top.rx = 1;
    for (;;) {
        if (now % 64 == 0) {
            pollfd from[2] = {{0, POLLIN, 0}, {control, POLLIN, 0}};
            bool still = quiet >= IDLE && now >= until && waiting.empty() && !sending && !receiving;
            if (still) fflush(stdout);
            poll(from, 2, still ? -1 : 0);
            if (from[1].revents & POLLIN) {
                char text[4096] = {};
                if (read(control, text, sizeof text - 1) > 0)
                    for (char *line = strtok(text, "\n"); line; line = strtok(nullptr, "\n"))
                        if (!flip_kv(&top, line)) control_any(line, now);
            } else if (from[0].revents) {
                unsigned char bytes[256];
                ssize_t n = read(0, bytes, sizeof bytes);
                if (n <= 0) break;
                waiting.insert(waiting.end(), bytes, bytes + n);
                quiet = 0;
            }
        }
        if (send_left) --send_left;
        if (!send_left && now > SETTLED && (sending || !waiting.empty())) {     // behind the reset
            if (!sending) {
                word = 0x200u | waiting.front() << 1;       // stop, data, start
                waiting.pop_front();
                sending = 10;
            }
            top.rx = word & 1;
            word >>= 1;
            --sending;
            send_left = DIVISOR;
            quiet = 0;
        }
        memory_cycle(top, now);
        if (card_cycle(top, now)) quiet = 0;
        top.clk = 1;
        top.eval();
        top.clk = 0;
        top.eval();
        if (!receiving) {
            if (!top.tx) receiving = 10, receive_left = DIVISOR / 2;
            else ++quiet;
        } else if (receive_left) {
            --receive_left;
        } else {
            receive_left = DIVISOR - 1;
            --receiving;
            if (receiving == 0) {
                if (top.tx) putchar(received), fflush(stdout);
                quiet = 0;
            } else if (receiving < 9) {
                received = (received >> 1 | (top.tx ? 0x80u : 0)) & 0xFF;
            }
        }
        ++now;
    }
    top.final();
}
