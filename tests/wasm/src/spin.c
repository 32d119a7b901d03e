/* Burns CPU for benchmarks: the input is a little-endian u32 n; n rounds of xorshift64*, each waiting for the last.
 * The output is the 8 bytes of the final state. Fails with code 1 unless the input is 4 bytes. */
#include <string.h>

#include "hearth.h"

static uint64_t state;

HEARTH_EXPORT("hearth_task") int64_t hearth_task(int64_t index, int32_t ptr, int32_t len) {
    uint32_t rounds;
    if (len != 4)
        return HEARTH_FAIL(1);
    memcpy(&rounds, (const void *)(uintptr_t)ptr, sizeof rounds);
    uint64_t x = 0x9E3779B97F4A7C15u ^ (uint64_t)index;
    x = x ? x : 1;
    for (uint32_t i = 0; i < rounds; i++) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        x *= 0x2545F4914F6CDD1Du;
    }
    state = x;
    return HEARTH_OUTPUT(&state, sizeof state);
}
