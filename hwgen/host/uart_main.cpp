// A board's top as a Verilator model whose UART pins are stdin and stdout: bytes become levels of the pin rx, one bit per DIVISOR cycles, and
// what the pin tx says becomes bytes. The clock stands still while nothing is sent or received for IDLE cycles and no byte is waiting.
//
//   model [CONTROL]
//
// CONTROL is the number of an open file with lines `flip MEMORY WORD BIT` (kv_memory.h), each done before the bytes that are sent after it.
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
    top.rx = 1;
    for (;;) {
        if (now % 64 == 0) {
            pollfd from[2] = {{0, POLLIN, 0}, {control, POLLIN, 0}};
            bool still = quiet >= IDLE && waiting.empty() && !sending && !receiving;
            if (still) fflush(stdout);
            poll(from, 2, still ? -1 : 0);
            if (from[1].revents & POLLIN) {
                char text[4096] = {};
                if (read(control, text, sizeof text - 1) > 0)
                    for (char *line = strtok(text, "\n"); line; line = strtok(nullptr, "\n")) flip_kv(&top, line);
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
