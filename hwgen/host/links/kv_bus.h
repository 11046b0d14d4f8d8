// The memory of keys and values behind m_axi_kv_*, of which the cycle model speaks: it takes every address and word at once, has the first word
// KV_READ_CYCLES after an address and then one a cycle, and answers a write KV_WRITE_CYCLES after its last word; unless held_back() (of who
// includes this) says that a channel rests. It has KV_BYTES bytes from kv_base on, at first with anything in them.
//
// The memory distrusts its master: what a burst may not be is left in kv_wrong.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <sys/mman.h>

#if KV_WORD
struct KvBurst { uint64_t address, left, when; };       // when: of the first word, or of the answer
static std::deque<KvBurst> kv_reads;
static KvBurst kv_write;
static bool kv_writing, kv_answering;
static std::string kv_wrong;
static uint64_t kv_base;
static uint8_t *kv_bytes;       // of a file of zeros, of which only what is used takes room: contents are these and kv_noise

// What the memory has in a byte that nobody has written.
static uint8_t kv_noise(uint64_t at) { return at * 0x9E3779B97F4A7C15ull >> 56; }

// False: there is no room.
static bool start_kv(uint64_t base) {
    void *room = mmap(nullptr, KV_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    kv_bytes = (uint8_t *)room, kv_base = base;
    return room != MAP_FAILED;
}

static void forget_kv() { kv_reads.clear(), kv_writing = kv_answering = false; }

// The line `flip outside BYTE BIT`; false if it is another one.
static bool flip_outside(const char *line) {
    unsigned long long byte;
    unsigned bit;
    if (sscanf(line, "flip outside %llu %u", &byte, &bit) != 2 || byte >= KV_BYTES) return false;
    kv_bytes[byte] ^= 1 << bit;
    return true;
}

static KvBurst kv_burst(uint64_t address, unsigned length, unsigned size, unsigned kind, unsigned tag, uint64_t when) {
    uint64_t bytes = (length + 1ull) * KV_WORD;
    if (1u << size != KV_WORD || kind != 1 || tag) kv_wrong = "a burst of keys or values is not of whole words that follow each other";
    if (address % KV_WORD || address / 4096 != (address + bytes - 1) / 4096) kv_wrong = "a burst of keys or values crosses 4 KiB";
    if (address < kv_base || address - kv_base + bytes > KV_BYTES) {
        kv_wrong = "a burst goes beyond keys and values";
        address = kv_base;
    }
    return {address - kv_base, length + 1ull, when};
}

static void drive_kv(uint64_t now) {
    top->m_axi_kv_arready = !held_back(), top->m_axi_kv_awready = !held_back(), top->m_axi_kv_wready = !held_back();
    top->m_axi_kv_rvalid = !kv_reads.empty() && kv_reads.front().when <= now && !held_back();
    if (top->m_axi_kv_rvalid) {
        uint8_t word[KV_WORD];
        const KvBurst &b = kv_reads.front();
        for (unsigned k = 0; k < KV_WORD; k++) word[k] = kv_bytes[b.address + k] ^ kv_noise(b.address + k);
        memcpy(&top->m_axi_kv_rdata, word, KV_WORD);
        top->m_axi_kv_rlast = b.left == 1;
    }
    top->m_axi_kv_bvalid = kv_answering && kv_write.when <= now;
    top->m_axi_kv_rid = top->m_axi_kv_bid = top->m_axi_kv_rresp = top->m_axi_kv_bresp = 0;
}

static void take_kv_writes(uint64_t now) {
    if (top->m_axi_kv_bvalid) kv_answering = false;
    if (top->m_axi_kv_wvalid && top->m_axi_kv_wready) {
        uint8_t word[KV_WORD], strobe[16] = {};
        memcpy(word, &top->m_axi_kv_wdata, KV_WORD), memcpy(strobe, &top->m_axi_kv_wstrb, (KV_WORD + 7) / 8);
        if (!kv_writing) kv_wrong = "a word of keys or values comes before its address";
        for (unsigned k = 0; kv_writing && k < KV_WORD; k++)
            if (strobe[k / 8] >> k % 8 & 1) kv_bytes[kv_write.address + k] = word[k] ^ kv_noise(kv_write.address + k);
        kv_write.address += KV_WORD;
        if (bool(top->m_axi_kv_wlast) != (--kv_write.left == 0)) kv_wrong = "a burst's last word of keys or values is another one";
        if (!kv_write.left) kv_writing = false, kv_answering = true, kv_write.when = now + KV_WRITE_CYCLES;
    }
    if (top->m_axi_kv_awvalid && top->m_axi_kv_awready) {
        if (kv_writing || kv_answering) kv_wrong = "a burst is written before the answer to the one before";
        kv_write = kv_burst(top->m_axi_kv_awaddr, top->m_axi_kv_awlen, top->m_axi_kv_awsize, top->m_axi_kv_awburst, top->m_axi_kv_awid, 0);
        kv_writing = true;
    }
}

static void take_kv(uint64_t now) {
    if (!top->m_axi_kv_rready || !top->m_axi_kv_bready) kv_wrong = "what the memory of keys and values says is not taken";
    if (top->m_axi_kv_rvalid) {
        KvBurst &b = kv_reads.front();
        b.address += KV_WORD;
        if (--b.left == 0) kv_reads.pop_front();
    }
    if (top->m_axi_kv_arvalid && top->m_axi_kv_arready) {
        if (kv_reads.size() == KV_OUTSTANDING) kv_wrong = "more bursts of keys and values are owed than may be";
        kv_reads.push_back(kv_burst(top->m_axi_kv_araddr, top->m_axi_kv_arlen, top->m_axi_kv_arsize, top->m_axi_kv_arburst, top->m_axi_kv_arid,
                                    now + KV_READ_CYCLES));
    }
    take_kv_writes(now);
}
#else
static void drive_kv(uint64_t) {}
static void take_kv(uint64_t) {}
static bool start_kv(uint64_t) { return true; }
static void forget_kv() {}
static bool flip_outside(const char *) { return false; }
static const std::string kv_wrong;
#endif
