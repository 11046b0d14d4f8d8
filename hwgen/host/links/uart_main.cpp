// A board's top as a Verilator model whose UART pins are stdin and stdout: bytes become levels of the pin rx, one bit per DIVISOR cycles, and
// what the pin tx says becomes bytes. The clock stands still while nothing is sent or received for IDLE cycles and no byte is waiting.
//
//   model [CONTROL [MEMORY]]
//
// CONTROL is the number of an open file with lines, each done before the bytes that are sent after it:
//   flip MEMORY WORD BIT    kv_memory.h
//   time N                  cycles that pass before the clock stands still
//   report FILE             cycles so far, into a file
// and of a top with an AXI4 memory, whose bytes are the file MEMORY:
//   memory flip BYTE BIT    a bit of it
//   memory ready N, memory failed N     its start-up is over, or has failed: it is over some time after the reset by itself
//   memory refuse BYTE      reads of that word are answered with SLVERR; none is, beyond its end
// and of a top with a chip of SDRAM behind its pins, whose first complaint ends the program:
//   memory flip BYTE BIT    a bit of it, by its address on the bus
// The memory takes an address a cycle, has its first word LATENCY cycles later, and distrusts its master: what a burst may not be ends the program.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "Vtop.h"
#include "kv_memory.h"
#include "verilated.h"

static const unsigned IDLE = 64 * 10 * DIVISOR;

static uint64_t until;          // the clock does not stand still before

#if MEMORY_BYTES
#include <sys/mman.h>
static const uint64_t LATENCY = 20, STARTUP = 400;
static uint8_t *memory;
static uint64_t refused = MEMORY_BYTES;
static bool up, failed;
struct Burst { uint64_t address, left, first; };
static std::deque<Burst> reads;
static Burst write_burst;               // left: words to come; first: when it is answered
static bool writing;

static void demand(bool right, const char *what) {
    if (!right) fprintf(stderr, "the memory: %s\n", what), exit(4);
}
static void demand_burst(uint64_t address, uint64_t words, unsigned size, unsigned kind, unsigned id) {
    demand(1u << size == MEMORY_WORD && kind == 1 && id == 0, "a burst is not of whole words that follow each other");
    demand(address % MEMORY_WORD == 0 && address / 4096 == (address + words * MEMORY_WORD - 1) / 4096, "a burst crosses 4 KiB");
    demand(up, "a burst before the start-up was over");
}
static uint8_t response(uint64_t address) { return address >= MEMORY_BYTES ? 3 : address / MEMORY_WORD == refused / MEMORY_WORD ? 2 : 0; }

// A cycle: what the machine offers is looked at, what the memory says is driven for the next edge.
static void memory_cycle(Vtop &top, uint64_t now) {
    if (now == STARTUP) up = true;
    top.memory_ready = up, top.memory_failed = failed;
    top.m_axi_arready = 1;
    if (top.m_axi_arvalid) {
        demand_burst(top.m_axi_araddr, top.m_axi_arlen + 1, top.m_axi_arsize, top.m_axi_arburst, top.m_axi_arid);
        reads.push_back({top.m_axi_araddr, top.m_axi_arlen + 1ull, now + LATENCY});
    }
    top.m_axi_rvalid = !reads.empty() && reads.front().first <= now;
    if (top.m_axi_rvalid) {
        Burst &b = reads.front();
        demand(top.m_axi_rready, "a word is not taken");
        top.m_axi_rresp = response(b.address), top.m_axi_rlast = b.left == 1;
        if (b.address < MEMORY_BYTES) memcpy(&top.m_axi_rdata, memory + b.address, MEMORY_WORD);
        b.address += MEMORY_WORD;
        if (--b.left == 0) reads.pop_front();
    }
    top.m_axi_awready = !writing, top.m_axi_wready = writing && write_burst.left;
    top.m_axi_bvalid = writing && !write_burst.left && write_burst.first <= now;
    if (top.m_axi_bvalid) writing = false;
    if (top.m_axi_wready && top.m_axi_wvalid) {
        uint8_t word[MEMORY_WORD];
        memcpy(word, &top.m_axi_wdata, MEMORY_WORD);
        for (unsigned k = 0; k < MEMORY_WORD; k++)
            if (top.m_axi_wstrb >> k & 1 && write_burst.address < MEMORY_BYTES) memory[write_burst.address + k] = word[k];
        top.m_axi_bresp = response(write_burst.address);
        write_burst.address += MEMORY_WORD;
        demand((--write_burst.left == 0) == top.m_axi_wlast, "a burst's last word is another one");
        write_burst.first = now + LATENCY;
    }
    if (top.m_axi_awready && top.m_axi_awvalid) {
        demand_burst(top.m_axi_awaddr, top.m_axi_awlen + 1, top.m_axi_awsize, top.m_axi_awburst, top.m_axi_awid);
        write_burst = {top.m_axi_awaddr, top.m_axi_awlen + 1ull, 0};
        writing = true;
    }
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

static void memory_cycle(Vtop &top, uint64_t) {
    if (top.chip_error) fprintf(stderr, "the chip: error %u in its cycle %u (sdram_chip.v)\n", top.chip_error, top.chip_error_cycle), exit(4);
    const uint64_t word = chip_byte / SDRAM_WORD, bank = word / SDRAM_COLUMNS % SDRAM_BANKS, row = word / SDRAM_COLUMNS / SDRAM_BANKS;
    top.flip = flips, top.flip_bits = 1u << (chip_byte % SDRAM_WORD * 8 + chip_bit);
    top.flip_address = (bank * SDRAM_ROWS + row) * SDRAM_COLUMNS + word % SDRAM_COLUMNS;
    flips = false;
}
static void control_memory(const char *line) {
    flips = sscanf(line, "memory flip %llu %llu", &chip_byte, &chip_bit) == 2;
}
#else
static void memory_cycle(Vtop &, uint64_t) {}
static void control_memory(const char *) {}
#endif

static void control_any(const char *line, uint64_t now) {
    unsigned long long cycles;
    if (sscanf(line, "time %llu", &cycles) == 1) until = now + cycles;
    if (!strncmp(line, "report ", 7))
        if (FILE *file = fopen(line + 7, "w")) fprintf(file, "%llu\n", (unsigned long long)now), fclose(file);
    control_memory(line);
}

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
#if MEMORY_BYTES
    int file = argc > 2 ? open(argv[2], O_RDWR) : -1;
    if (file < 0 || ftruncate(file, MEMORY_BYTES)) return perror("memory"), 2;
    memory = (uint8_t *)mmap(nullptr, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) return perror("memory"), 2;
#endif
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
        if (!send_left && now > 256 && (sending || !waiting.empty())) {     // behind the reset
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
