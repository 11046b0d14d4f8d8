// A machine on buses (hwgen.top.axi) as a Verilator model behind a pipe: commands on stdin, each a line that is answered with a line of
// JSON.
//
//   memory L P B K      weights at address B, keys and values (where they are outside: kv_bus.h) at K; a burst of weights comes after 1 to
//                       L + 1 cycles, and with probability P a cycle has no word, takes no address, takes no result
//   read A N            {"words": [...]}: N registers from byte address A on
//   write A V           {}; a register that refuses answers {"refused": 1}, as it does to a read
//   give LOW HIGH LAST  an entry at the stream of commands, of two halves of 64 bits
//   take                {"results": [...]} that have come from the stream of results by now, and up to 64 cycles later
//   flip M W B          as sim_main.cpp
//   quit
//
// The memory distrusts its master: what a burst may not be is an error in the next answer.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>

#include "Vtop.h"
#include "design.h"
#include "kv_memory.h"
#include "verilated.h"

static const unsigned LIMIT = 200000000;        // cycles after which nothing comes any more
static Vtop *top;
static uint64_t now, noise = 88172645463325252ull, latency;
static double stall;
static std::string wrong;               // what somebody did who must not
static std::deque<uint64_t> results;

static uint64_t random_bits() { return noise ^= noise << 13, noise ^= noise >> 7, noise ^= noise << 17, noise; }
static bool held_back() { return stall > 0 && double(random_bits() >> 11) / double(1ull << 53) < stall; }

#include "kv_bus.h"

#if HAS_BUS
static const uint8_t *weights;
static uint64_t base, bytes;
struct Burst { uint64_t address, left, first; };
static std::deque<Burst> bursts;
static bool offering;

static void drive_memory() {
    top->m_axi_arready = !held_back();
    if (!offering && !bursts.empty() && bursts.front().first <= now && !held_back()) {
        Burst &b = bursts.front();
        uint8_t word[WORD_BYTES] = {};
        uint64_t at = b.address - base;
        if (b.address < base || at >= bytes) wrong = "a word beyond the weights was read";
        else memcpy(word, weights + at, bytes - at < WORD_BYTES ? bytes - at : WORD_BYTES);
        memcpy(&top->m_axi_rdata, word, WORD_BYTES);
        top->m_axi_rlast = b.left == 1, top->m_axi_rid = 0, top->m_axi_rresp = 0;
        offering = true;
    }
    top->m_axi_rvalid = offering;
}
static void take_memory() {
    if (offering && top->m_axi_rready) {
        Burst &b = bursts.front();
        b.address += WORD_BYTES;
        if (--b.left == 0) bursts.pop_front();
        offering = false;
    }
    if (top->m_axi_arvalid && top->m_axi_arready) {
        uint64_t address = top->m_axi_araddr, words = top->m_axi_arlen + 1ull, first = now + 1 + random_bits() % (latency + 1);
        if (1u << top->m_axi_arsize != WORD_BYTES || top->m_axi_arburst != 1 || top->m_axi_arid)
            wrong = "a burst is not of whole words that follow each other";
        if (address % WORD_BYTES || address / 4096 != (address + words * WORD_BYTES - 1) / 4096) wrong = "a burst crosses 4 KiB";
        if (bursts.size() == OUTSTANDING) wrong = "more bursts are owed than may be";
        if (!bursts.empty() && bursts.back().first > first) first = bursts.back().first;
        bursts.push_back({address, words, first});
    }
}
#else
static void drive_memory() {}
static void take_memory() {}
#endif

static void settle() {
    drive_memory(), drive_kv(now);
#if HAS_STREAMS
    top->m_axis_result_tready = !held_back();
#endif
    top->eval();
}
static void edge() {
    take_memory();
    if (top->aresetn) take_kv(now);
#if HAS_STREAMS
    if (top->m_axis_result_tvalid && top->m_axis_result_tready) {
        uint64_t word = top->m_axis_result_tdata;
        if (bool(word >> 63) != bool(top->m_axis_result_tlast)) wrong = "TLAST of a result is not its bit last";
        results.push_back(word);
    }
#endif
    top->aclk = 1, top->eval();
    top->aclk = 0, top->eval();
    now++;
}
static void idle(unsigned cycles) { while (cycles--) settle(), edge(); }

// AXI4-Lite. Returns whether it was done.
static bool write_register(uint32_t address, uint32_t value) {
    unsigned late_address = random_bits() % 3, late_data = random_bits() % 3;
    bool address_taken = false, data_taken = false;
    top->s_axi_awaddr = address, top->s_axi_wdata = value, top->s_axi_wstrb = 15;
    for (unsigned i = 0; i < LIMIT; i++) {
        top->s_axi_awvalid = !address_taken && i >= late_address, top->s_axi_wvalid = !data_taken && i >= late_data;
        top->s_axi_bready = !held_back();
        settle();
        bool a = top->s_axi_awvalid && top->s_axi_awready, d = top->s_axi_wvalid && top->s_axi_wready;
        bool b = top->s_axi_bvalid && top->s_axi_bready;
        unsigned response = top->s_axi_bresp;
        edge();
        address_taken |= a, data_taken |= d;
        if (b) return top->s_axi_bready = top->s_axi_awvalid = top->s_axi_wvalid = 0, response == 0;
    }
    return wrong = "a write of a register has no answer", false;
}
static bool read_register(uint32_t address, uint32_t &value) {
    bool taken = false;
    top->s_axi_araddr = address;
    for (unsigned i = 0; i < LIMIT; i++) {
        top->s_axi_arvalid = !taken, top->s_axi_rready = !held_back();
        settle();
        bool a = top->s_axi_arvalid && top->s_axi_arready, r = top->s_axi_rvalid && top->s_axi_rready;
        unsigned response = top->s_axi_rresp;
        value = top->s_axi_rdata;
        edge();
        taken |= a;
        if (r) return top->s_axi_rready = top->s_axi_arvalid = 0, response == 0;
    }
    return wrong = "a read of a register has no answer", false;
}

#if HAS_STREAMS
static void give(const uint64_t *word, bool last) {
    while (held_back()) idle(1);
    memcpy(&top->s_axis_command_tdata, word, sizeof top->s_axis_command_tdata < 16 ? 8 : 16);
    top->s_axis_command_tlast = last, top->s_axis_command_tvalid = 1;
    bool taken = false;
    for (unsigned i = 0; i < LIMIT && !taken; i++) {
        settle();
        taken = top->s_axis_command_tready;
        edge();
    }
    if (!taken) wrong = "an entry is not taken";
    top->s_axis_command_tvalid = 0;
}
#endif

static void answer(const std::string &text) {
    if (wrong.empty()) wrong = kv_wrong;
    if (wrong.empty()) printf("{%s}\n", text.c_str());
    else printf("{\"error\": \"%s\"}\n", wrong.c_str());
    fflush(stdout);
}

int main(int argc, char **argv) {
    VerilatedContext context;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--stall")) stall = atof(argv[i + 1]);
        if (!strcmp(argv[i], "--seed")) noise ^= strtoull(argv[i + 1], nullptr, 0) * 0x9E3779B97F4A7C15ull;
#if HAS_BUS
        if (!strcmp(argv[i], "--weights")) {
            int file = open(argv[i + 1], O_RDONLY);
            struct stat about;
            if (file < 0 || fstat(file, &about)) return perror(argv[i + 1]), 2;
            bytes = about.st_size;
            weights = (const uint8_t *)mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
        }
#endif
    }
    top = new Vtop(&context);
    if (!start_kv(0)) return perror("the memory of keys and values"), 2;
    idle(4);
    top->aresetn = 1;
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long long a, b, c, d;
        double p;
        std::string words;
        if (sscanf(line, "memory %llu %lf %llu %llu", &a, &p, &b, &d) == 4) {
            latency = a, stall = p;
#if HAS_BUS
            base = b;
#endif
#if KV_WORD
            kv_base = d;
#endif
            answer("");
        } else if (sscanf(line, "read %llu %llu", &a, &b) == 2) {
            bool done = true;
            idle(b == 1 ? 32 : 0);          // one word is often waited for
            for (unsigned long long i = 0; i < b; i++) {
                uint32_t value;
                done &= read_register(a + 4 * i, value);
                words += (i ? ", " : "") + std::to_string(value);
            }
            answer(done ? "\"words\": [" + words + "]" : "\"refused\": 1");
        } else if (sscanf(line, "write %llu %llu", &a, &b) == 2) {
            answer(write_register(a, b) ? "" : "\"refused\": 1");
#if HAS_STREAMS
        } else if (sscanf(line, "give %llu %llu %llu", &a, &b, &c) == 3) {
            const uint64_t word[2] = {a, b};
            give(word, c);
            answer("");
        } else if (!strncmp(line, "take", 4)) {
            idle(64);
            for (uint64_t result : results) words += (words.empty() ? "" : ", ") + std::to_string(result);
            results.clear();
            answer("\"results\": [" + words + "]");
#endif
        } else if (flip_outside(line) || flip_kv(top, line)) {
            answer("");
        } else if (!strncmp(line, "quit", 4)) {
            break;
        }
    }
    top->final();
    return 0;
}
