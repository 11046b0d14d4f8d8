/* What the CPU of docs/soc.md runs: it loads the weights, gives the machine a prompt, waits for its interrupts and prints the text. */
#include <stdint.h>
#include <irq.h>
#include <generated/csr.h>
#include <generated/mem.h>
#include <generated/soc.h>

#include "driver.c"     /* that of docs/axi.md */
#include "text.h"       /* PROMPT, TOKENS, ENDS, WEIGHT_WORDS, and VOCABULARY: what each token is in letters */

static const uint32_t prompt[] = {PROMPT}, ends[] = {ENDS};
static const char *const vocabulary[] = {VOCABULARY};
static volatile uint32_t interrupts;

/* The line stays high until the driver has cleared the cause: until the next wait it is masked. */
void isr(void)
{
    interrupts++;
    irq_setmask(0);
}

static void wait(void)
{
    uint32_t before = interrupts;
    irq_setmask(1 << CHIP_INTERRUPT);
    while (interrupts == before) {}
}

static void print(const char *text)
{
    for (; *text; text++) {
        while (uart_txfull_read()) {}
        uart_rxtx_write(*text);
    }
}

static void load_weights(void)
{
    const volatile uint32_t *from = (const uint32_t *)FLASH_BASE;
    volatile uint32_t *to = (uint32_t *)MAIN_RAM_BASE;      /* a multiple of 4096, as WEIGHT_BASE wants it; the cache writes through */
    for (uint32_t i = 0; i < WEIGHT_WORDS; i++)
        to[i] = from[i];
}

static int ended(uint32_t token)
{
    for (uint32_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends[i] == token)
            return 1;
    return 0;
}

static const char *generate(void)
{
    const uint32_t given = sizeof prompt / sizeof *prompt;
    uint32_t token = prompt[0];
    for (uint32_t position = 0; position < given + TOKENS; position++) {
        int64_t next;
        print(vocabulary[token]);
        if (position == given + TOKENS - 1)
            break;
        next = chip_decode(0, position, token, wait);
        if (next < 0)
            return "FAIL: a pass was refused, or its weights were not read\n";
        token = position + 1 < given ? prompt[position + 1] : (uint32_t)next;
        if (position + 1 >= given && ended(token))
            break;
    }
    return "\n";
}

int main(void)
{
    irq_setmask(0);
    irq_setie(1);
    load_weights();
    if (chip_start((volatile void *)CHIP_BASE, MAIN_RAM_BASE))
        print("FAIL: there is another machine\n");
    else if (chip_check(wait))
        print("FAIL: there are other weights\n");
    else
        print(generate());
    print("\4");            /* the end of the transmission: the simulation stops there */
    return 0;
}
