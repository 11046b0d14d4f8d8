// A decoder's Verilator model behind a pipe: reads commands from stdin, one a line, and answers each with one line of JSON.
//
//   adapter A N   then N lines, a beat each in hexadecimal, byte 0 first: the adapter's memory; A: its number less 1
//   pass N        then N lines `slot position token want key adapter`; runs them as one pass (of nothing, if N is 0)
//   kv OP A B N   operation on the KV memory: number, slot, other slot, length; answers {"code": error code, "cycles": c}
//   flip M W B    flips bit B of word W of the KV memory M (k_codes, v_codes, k_exps, v_exps; outside: byte W of kv_bus.h's)
//   ecc           {"corrected": n, "failed": n, "fault": [slot, position]} since reset, if the model has error correction
//   config T S    inverse temperature (Q8.8) and seed, if the model has a temperature
//   reset         back to the state after reset
//   trace C C P P L L M FILE   writes a waveform of what follows (models built with tracing): of the cycles C to C, passes P to P, and
//                 layers L to L, of phases whose bits are 1 in M
//   traced        {"cycles": n} that the waveform has
//   quit
//
// The answer to a pass: {"outcomes": [[cycle, entry, token, none, last, error], ...], "phases": [[cycle, phase, layer], ...],
// "cycles": c, "counters": [...], "signatures": [[layer 0's, one per entry], ...]}. Cycle 0 is the one that accepts the first
// entry; `cycles` is the cycle of the last outcome. design.h (generated) says where the fields of each payload lie.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "Vtop.h"
#include "design.h"
#include "kv_memory.h"
#include "verilated.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
typedef VerilatedFstC Tracer;
#elif VM_TRACE
#include "verilated_vcd_c.h"
typedef VerilatedVcdC Tracer;
#endif

enum { TRACE_FAILED = 3 };      // exit code

// Verilator spells the two underscores between a stream and its member in its own way.
#define PORT(stream, member) top->stream##___05F##member

// Fields of packed payloads, whatever C++ type the port has.
template <class Port> void put(Port &port, int low, int width, uint64_t value) {
    uint64_t mask = width >= 64 ? ~0ull : (1ull << width) - 1;
    port = Port((uint64_t(port) & ~(mask << low)) | ((value & mask) << low));
}
template <size_t words> void put(VlWide<words> &port, int low, int width, uint64_t value) {
    for (int i = 0; i < width; i++) {
        uint32_t bit = 1u << ((low + i) & 31);
        port[(low + i) >> 5] = (port[(low + i) >> 5] & ~bit) | (((value >> i) & 1) ? bit : 0);
    }
}
template <class Port> uint64_t get(const Port &port, int low, int width) {
    return width ? (uint64_t(port) >> low) & (width >= 64 ? ~0ull : (1ull << width) - 1) : 0;
}
template <size_t words> uint64_t get(const VlWide<words> &port, int low, int width) {
    uint64_t value = 0;
    for (int i = 0; i < width; i++) value |= uint64_t((port[(low + i) >> 5] >> ((low + i) & 31)) & 1) << i;
    return value;
}

static VerilatedContext context;
static Vtop *top;
static uint64_t now;            // cycles since the start of the process
static double stall;            // probability that a beat, an entry or the taking of a result is held back for a cycle
static uint64_t noise = 88172645463325252ull;
#if VM_TRACE
static Tracer *tracer;
static struct { uint64_t cycles[2], passes[2], layers[2], phases; } window;
static uint64_t passes, written;        // passes that have ended, cycles in the waveform

static std::string traced;      // its file
static void trace_failed(int error) { fprintf(stderr, "%s\n", strerror(error)), _exit(TRACE_FAILED); }

#if VM_TRACE_FST
// The writer notices a full disk late, by an abort or not at all. What it writes last is the header at the start: kind 0, 329 bytes.
static void check_trace() {
    const unsigned char header[9] = {0, 0, 0, 0, 0, 0, 0, 1, 0x49};
    unsigned char got[9];
    int file = open(traced.c_str(), O_RDWR);
    if (file < 0) trace_failed(errno);
    if (read(file, got, 9) == 9 && !memcmp(got, header, 9)) return void(close(file));
    lseek(file, 0, SEEK_END);
    for (int i = 0; i < 1 << 10; i++)       // why?
        if (std::string more(1 << 16, 1); write(file, more.data(), more.size()) < 0) trace_failed(errno);
    trace_failed(EIO);
}

static Tracer *new_tracer() {
    signal(SIGABRT, [](int) { check_trace(); });
    return new Tracer;
}
#else
// Verilator's own file waits for itself for ever when the disk is full.
struct TraceFile : VerilatedVcdFile {
    ssize_t write(const char *data, ssize_t length) override {
        ssize_t got = VerilatedVcdFile::write(data, length);
        if (got < 0 && errno != EAGAIN && errno != EINTR) trace_failed(errno);
        return got;
    }
};
static Tracer *new_tracer() { return new Tracer(new TraceFile); }
static void check_trace() {}
#endif
#endif

static bool held_back() {
    noise ^= noise << 13, noise ^= noise >> 7, noise ^= noise << 17;
    return stall > 0 && double(noise >> 11) / double(1ull << 53) < stall;
}

#include "kv_bus.h"

#if HAS_WEIGHT_STREAM
// External memory: a request accepted in cycle s has its first beat in cycle s + ROM_LATENCY and then one a cycle, like the ROM.
static const uint8_t *weights;
struct Request { uint64_t address, count, step, first; };
static std::deque<Request> requests;
static bool offering;

template <class Port> void put_beat(Port &port, const uint8_t *from) { memcpy(&port, from, BEAT_BYTES); }

static void drive_weights() {
    PORT(weight_req, ready) = requests.size() < 64;
    if (!offering && !requests.empty() && requests.front().first <= now && !held_back()) {
        put_beat(PORT(weight_beats, payload), weights + requests.front().address * BEAT_BYTES);
        offering = true;
    }
    PORT(weight_beats, valid) = offering;
}
static void take_weights() {
    if (offering && PORT(weight_beats, ready)) {
        Request &r = requests.front();
        r.address += r.step;
        if (--r.count == 0) requests.pop_front();
        offering = false;
    }
    if (PORT(weight_req, valid) && PORT(weight_req, ready))
        requests.push_back({get(PORT(weight_req, payload), REQ_ADDRESS), get(PORT(weight_req, payload), REQ_COUNT),
                            get(PORT(weight_req, payload), REQ_STRIDE) ? TILE_BEATS : 1ull, now + ROM_LATENCY});
}
#else
static void drive_weights() {}
static void take_weights() {}
#endif

#if VM_TRACE
static bool within(const uint64_t *range, uint64_t number) { return number >= range[0] && number <= range[1]; }

// The cycle as it is before its edge, inputs and registers of the same cycle; the clock is high in its first half.
static void dump() {
    if (!tracer || !within(window.cycles, now) || !within(window.passes, passes) || !within(window.layers, LAYER_PORT) ||
        !(window.phases >> (top->phase & 63) & 1)) return;
    top->clk = 1, tracer->dump(now * 10);
    top->clk = 0, top->eval();          // of no edge: without it the tracer does not look
    tracer->dump(now * 10 + 5);
    written++;
}
#else
static void dump() {}
#endif

// One cycle: inputs are set by the caller before; outputs can be read between settle() and edge(). The falling edge, which nothing waits for, is
// seen by the next settle().
static void settle() { drive_weights(); drive_kv(now); top->eval(); }
static void edge() {
    take_weights();
    if (!top->rst) take_kv(now);
    dump();
    top->clk = 1, top->eval();
    top->clk = 0;
    now++;
}

static void reset() {
    PORT(command, valid) = 0, PORT(outcome, ready) = 1, PORT(kv_command, valid) = 0, PORT(kv_answer, ready) = 1;
#if HAS_ADAPTERS
    PORT(adapter, valid) = 0;
#endif
#if HAS_WEIGHT_STREAM
    requests.clear(), offering = false;
#endif
    forget_kv();
    top->rst = 1;
    for (int i = 0; i < 4; i++) settle(), edge();
    top->rst = 0;
}

struct Entry { unsigned long slot, position, token, want, key, adapter; };

#if HAS_ADAPTERS
// A beat of an adapter, of the line that spells it.
static void load_beat(uint64_t adapter, bool first, const char *digits) {
    put(PORT(adapter, payload), ADAPTER_ADAPTER, adapter);
    put(PORT(adapter, payload), ADAPTER_FIRST, first);
    int low[] = {ADAPTER_DATA};
    for (int i = 0; i < BEAT_BYTES; i++) {
        unsigned byte = 0;
        if (sscanf(digits + 2 * i, "%2x", &byte) != 1) exit(2);
        put(PORT(adapter, payload), low[0] + 8 * i, 8, byte);
    }
    PORT(adapter, valid) = 1;
    for (bool taken = false; !taken;) settle(), taken = PORT(adapter, ready), edge();
    PORT(adapter, valid) = 0;
}
#endif

static void pass(const std::vector<Entry> &entries, uint64_t limit) {
    std::string outcomes, phases;
    size_t sent = 0, count = entries.empty() ? 1 : entries.size();      // a pass of nothing has a transfer too
    bool offered = false;
    uint64_t start = 0, idle = 0;
    int phase = -1, layer = -1;
    size_t refused = 0;
    char text[128];
    for (bool over = false; !over;) {
        offered = sent < count && (offered || !held_back());
        PORT(command, valid) = offered, PORT(outcome, ready) = !held_back();
        put(PORT(command, payload), CMD_NONE, entries.empty());
        put(PORT(command, payload), CMD_LAST, sent + 1 == count);
        if (sent < entries.size()) {
            put(PORT(command, payload), CMD_SLOT, entries[sent].slot);
            put(PORT(command, payload), CMD_POSITION, entries[sent].position);
            put(PORT(command, payload), CMD_TOKEN, entries[sent].token);
            put(PORT(command, payload), CMD_WANT, entries[sent].want);
#if HAS_TEMPERATURE
            put(PORT(command, payload), CMD_KEY, entries[sent].key);
#endif
#if HAS_ADAPTERS
            put(PORT(command, payload), CMD_ADAPTER, entries[sent].adapter);
#endif
        }
        settle();
        if (PORT(command, valid) && PORT(command, ready)) {
            if (!sent) start = now;
            sent++, offered = false;
        }
        if (sent && (top->phase != phase || int(LAYER_PORT) != layer)) {
            phase = top->phase, layer = LAYER_PORT;
            snprintf(text, sizeof text, "%s[%llu, %d, %d]", phases.empty() ? "" : ", ", (unsigned long long)(now - start), phase, layer);
            phases += text;
        }
        if (PORT(outcome, valid) && PORT(outcome, ready)) {
            over = get(PORT(outcome, payload), OUT_LAST);
            snprintf(text, sizeof text, "%s[%llu, %llu, %llu, %d, %d, %d]", outcomes.empty() ? "" : ", ", (unsigned long long)(now - start),
                     (unsigned long long)get(PORT(outcome, payload), OUT_ENTRY), (unsigned long long)get(PORT(outcome, payload), OUT_TOKEN),
                     int(get(PORT(outcome, payload), OUT_NONE)), int(over), int(get(PORT(outcome, payload), OUT_ERROR)));
            refused += get(PORT(outcome, payload), OUT_ERROR) && !get(PORT(outcome, payload), OUT_NONE);
            outcomes += text;
        }
        edge();
        if (!kv_wrong.empty() || ++idle > limit) {
            if (!kv_wrong.empty()) printf("{\"error\": \"%s\"}\n", kv_wrong.c_str());
            else printf("{\"error\": \"no answer after %llu cycles (phase %d, layer %d)\"}\n", (unsigned long long)limit, phase, layer);
            fflush(stdout);
            return;
        }
    }
    uint64_t cycles = now - 1 - start;
    PORT(command, valid) = 0, PORT(outcome, ready) = 1;
    size_t rows = std::min(entries.size(), size_t(ENTRIES)) - refused;
    for (int i = 0; i < 4; i++) settle(), edge();
    printf("{\"outcomes\": [%s], \"phases\": [%s], \"cycles\": %llu, \"counters\": [", outcomes.c_str(), phases.c_str(), (unsigned long long)cycles);
    for (int i = 0; i < COUNTERS; i++) {
        top->counter_address = i;
        settle(), edge(), settle();
        printf("%s%u", i ? ", " : "", unsigned(top->counter_data));
    }
    printf("], \"signatures\": [");
    for (int l = 0; l < LAYERS; l++) {
        printf("%s[", l ? ", " : "");
        for (size_t t = 0; t < rows; t++) {
            SIGNATURE_ADDRESS(l * ENTRIES + t);
            settle(), edge(), settle();
            printf("%s%u", t ? ", " : "", unsigned(top->signature_data));
        }
        printf("]");
    }
    printf("]}\n");
    fflush(stdout);
#if VM_TRACE
    passes++;
#endif
}

// An operation on the KV memory; cycle 0 accepts it.
static void operate(uint64_t op, uint64_t slot, uint64_t other, uint64_t length) {
    uint64_t start = 0;
    int code = -1;
    PORT(kv_command, valid) = 1, PORT(kv_answer, ready) = 1;
    put(PORT(kv_command, payload), KV_OP, op);
    put(PORT(kv_command, payload), KV_SLOT, slot);
    put(PORT(kv_command, payload), KV_OTHER, other);
    put(PORT(kv_command, payload), KV_LENGTH, length);
    for (uint64_t idle = 0; code < 0; idle++) {
        settle();
        bool taken = PORT(kv_command, valid) && PORT(kv_command, ready);
        if (taken) start = now;
        if (PORT(kv_answer, valid)) {
            code = get(PORT(kv_answer, payload), KV_ANSWER_ERROR);
            printf("{\"code\": %d, \"cycles\": %llu}\n", code, (unsigned long long)(now - start));
        }
        edge();
        if (taken) PORT(kv_command, valid) = 0;
        if (code < 0 && idle > PASS_LIMIT) {
            printf("{\"error\": \"no answer to an operation on the KV memory\"}\n");
            break;
        }
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--stall")) stall = atof(argv[i + 1]);
        if (!strcmp(argv[i], "--seed")) noise ^= strtoull(argv[i + 1], nullptr, 0) * 0x9E3779B97F4A7C15ull;
#if HAS_WEIGHT_STREAM
        if (!strcmp(argv[i], "--weights")) {
            int file = open(argv[i + 1], O_RDONLY);
            struct stat about;
            if (file < 0 || fstat(file, &about)) return perror(argv[i + 1]), 2;
            if (uint64_t(about.st_size) != STREAM_BEATS * uint64_t(BEAT_BYTES)) return fprintf(stderr, "weights of another design\n"), 2;
            weights = (const uint8_t *)mmap(nullptr, about.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        }
#endif
    }
#if VM_TRACE
    context.traceEverOn(true);
#endif
    top = new Vtop(&context);
#if KV_WORD
    if (!start_kv(noise % KV_PAGES * 4096)) return perror("the memory of keys and values"), 2;
    top->kv_base = kv_base, top->kv_timeout = 0, top->kv_flush = 0;
#endif
    reset();
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long n, t, s, l;
        if (sscanf(line, "pass %lu", &n) == 1) {
            std::vector<Entry> entries(n);
            for (Entry &e : entries)
                if (!fgets(line, sizeof line, stdin) ||
                    sscanf(line, "%lu %lu %lu %lu %lu %lu", &e.slot, &e.position, &e.token, &e.want, &e.key, &e.adapter) != 6) return 2;
            pass(entries, PASS_LIMIT);
#if HAS_ADAPTERS
        } else if (sscanf(line, "adapter %lu %lu", &s, &n) == 2) {
            std::string digits(2 * BEAT_BYTES + 2, 0);
            for (unsigned long i = 0; i < n; i++) {
                if (!fgets(&digits[0], digits.size(), stdin)) return 2;
                load_beat(s, !i, digits.c_str());
            }
            printf("{}\n"), fflush(stdout);
#endif
        } else if (sscanf(line, "config %lu %lu", &t, &s) == 2) {
#if HAS_TEMPERATURE
            top->inv_temperature = t, top->seed = s;
#endif
            printf("{}\n"), fflush(stdout);
        } else if (sscanf(line, "kv %lu %lu %lu %lu", &n, &s, &t, &l) == 4) {
            operate(n, s, t, l);
        } else if (flip_outside(line) || flip_kv(top, line)) {
            printf("{}\n"), fflush(stdout);
        } else if (!strncmp(line, "ecc", 3)) {
#if HAS_ECC
            printf("{\"corrected\": %u, \"failed\": %u, \"fault\": [%llu, %llu]}\n", unsigned(top->kv_corrected), unsigned(top->kv_failed),
                   (unsigned long long)get(KV_FAULT, FAULT_SLOT), (unsigned long long)get(KV_FAULT, FAULT_POSITION)), fflush(stdout);
#else
            printf("{\"error\": \"no error correction\"}\n"), fflush(stdout);
#endif
        } else if (!strncmp(line, "reset", 5)) {
            reset();
            printf("{}\n"), fflush(stdout);
        } else if (!strncmp(line, "trace ", 6)) {
#if VM_TRACE
            int file = 0;
            unsigned long long w[7];
            line[strcspn(line, "\n")] = 0;
            if (sscanf(line, "trace %llu %llu %llu %llu %llu %llu %llu %n",
                       w, w + 1, w + 2, w + 3, w + 4, w + 5, w + 6, &file) != 7) return 2;
            window = {{w[0], w[1]}, {w[2], w[3]}, {w[4], w[5]}, w[6]};
            signal(SIGXFSZ, SIG_IGN);       // write() says it
            tracer = new_tracer(), traced = line + file;
            top->trace(tracer, 99);
            tracer->open(traced.c_str());
#endif
            printf("{}\n"), fflush(stdout);
#if VM_TRACE
        } else if (!strncmp(line, "traced", 6)) {
            printf("{\"cycles\": %llu}\n", (unsigned long long)written), fflush(stdout);
#endif
        } else if (!strncmp(line, "quit", 4)) {
            break;
        }
    }
#if VM_TRACE
    if (tracer) tracer->close(), check_trace();
#endif
    top->final();
    return 0;
}
