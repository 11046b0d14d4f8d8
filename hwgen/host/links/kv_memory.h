// Wrong bits in the KV memory of a model. design.h (generated) says where it is.
#include <cstdio>
#include <cstring>

#include "Vtop.h"
#include "Vtop___024root.h"
#include "design.h"

template <class Word> void flip_bit(Word &word, unsigned bit) { word = Word(word ^ Word(1) << bit); }
template <size_t words> void flip_bit(VlWide<words> &word, unsigned bit) { word[bit >> 5] ^= 1u << (bit & 31); }

// The line `flip MEMORY WORD BIT`; false if it is another one.
static bool flip_kv(Vtop *top, const char *line) {
    char name[32];
    unsigned word, bit;
    if (sscanf(line, "flip %31s %u %u", name, &word, &bit) != 3) return false;
#ifdef FLIP_KV
    if (!strcmp(name, "k_codes")) FLIP_KV(k_codes);
    if (!strcmp(name, "v_codes")) FLIP_KV(v_codes);
    if (!strcmp(name, "k_exps")) FLIP_KV(k_exps);
    if (!strcmp(name, "v_exps")) FLIP_KV(v_exps);
#endif
#ifdef ADAPTER_MEMORY
    if (!strcmp(name, "adapters")) flip_bit(ADAPTER_MEMORY[word], bit);
#endif
    return true;
}
