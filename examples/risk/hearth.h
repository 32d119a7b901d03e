/* The "function" task ABI of Hearthmesh, for C modules that import nothing.
 *
 * A module exports its memory and:
 *   hearth_alloc(len) -> ptr          room for len bytes, 16-byte aligned, 0 when there is none.
 *                                     The bytes stay valid until the next call of hearth_alloc.
 *   hearth_init(ptr, len) -> code     optional; called once per instance with the job's init file. 0 = ready.
 *   hearth_task(index, ptr, len)      one task. Returns where its output lies, HEARTH_OUTPUT(ptr, len), or
 *                                     HEARTH_FAIL(code). The output is copied before the next call.
 */
#ifndef HEARTH_H
#define HEARTH_H

#include <stddef.h>
#include <stdint.h>

#define HEARTH_EXPORT(name) __attribute__((export_name(name), visibility("default")))
#define HEARTH_OUTPUT(ptr, len) ((int64_t)(((uint64_t)(uintptr_t)(ptr) << 32) | (uint32_t)(len)))
#define HEARTH_FAIL(code) ((int64_t)((uint64_t)1 << 63 | (uint8_t)(code)))

extern unsigned char __heap_base;

/* Everything below the floor is kept for the instance's life; hearth_alloc hands out what is above it. */
static uintptr_t hearth_floor;

static void *hearth_take(uint32_t len) {
    uintptr_t page = 65536;
    if (!hearth_floor)
        hearth_floor = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
    uint64_t end = (uint64_t)hearth_floor + len;
    if (end > UINT32_MAX - page)
        return NULL;
    uintptr_t have = __builtin_wasm_memory_size(0) * page;
    if (end > have && __builtin_wasm_memory_grow(0, ((uintptr_t)end - have + page - 1) / page) == (size_t)-1)
        return NULL;
    return (void *)hearth_floor;
}

/* Keep len bytes for the instance's life. They follow what hearth_take handed out last if that is kept first. */
__attribute__((unused)) static void *hearth_keep(uint32_t len) {
    void *kept = hearth_take(len);
    if (kept)
        hearth_floor = ((uintptr_t)kept + len + 15) & ~(uintptr_t)15;
    return kept;
}

HEARTH_EXPORT("hearth_alloc") int32_t hearth_alloc(int32_t len) {
    return len < 0 ? 0 : (int32_t)(uintptr_t)hearth_take((uint32_t)len);
}

#endif
