// Runs the SoC of docs/soc.md: a clock, and somebody who writes down what its UART says.
#include <cstdio>
#include <cstdlib>
#include "Vsoc.h"
#include "verilated.h"

int main(int argc, char **argv)
{
    VerilatedContext context;
    Vsoc soc{&context};
    const unsigned long long limit = argc > 1 ? strtoull(argv[1], nullptr, 10) : 0;
    unsigned long long cycles = 0;
    bool ended = false;
    soc.serial_source_ready = 1;
    soc.serial_sink_valid = 0;
    while (!ended && cycles < limit) {
        soc.sys_clk = 0;
        soc.eval();
        if (soc.serial_source_valid) {
            ended = soc.serial_source_data == 4;
            if (!ended)
                putchar(soc.serial_source_data);
            fflush(stdout);
        }
        soc.sys_clk = 1;
        soc.eval();
        cycles++;
    }
    fprintf(stderr, "%llu cycles\n", cycles);
    return ended ? 0 : 1;
}
