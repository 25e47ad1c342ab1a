// All kernels as functions of a library, launched by name as the driver launches them: with pointers to the arguments.
#include "emulator.h"

#include "../attention.cu"

#define KERNEL(NAME)                                                                                                    \
    if (strcmp(name, #NAME) == 0) {                                                                                     \
        emulator::launch(NAME, {grid[0], grid[1], grid[2]}, num_threads, args);                                         \
        return 1;                                                                                                       \
    }
#define KERNELS(TYPE)                                                                                                   \
    KERNEL(rotate_and_store_##TYPE)                                                                                     \
    KERNEL(attend_span_##TYPE##_1)                                                                                      \
    KERNEL(attend_span_##TYPE##_2)                                                                                      \
    KERNEL(attend_span_##TYPE##_3)                                                                                      \
    KERNEL(attend_span_##TYPE##_4)
#define TILE_KERNELS(TYPE)                                                                                              \
    KERNEL(attend_tile_##TYPE##_64)                                                                                     \
    KERNEL(attend_tile_##TYPE##_80)                                                                                     \
    KERNEL(attend_tile_##TYPE##_96)                                                                                     \
    KERNEL(attend_tile_##TYPE##_128)                                                                                    \
    KERNEL(attend_tile_##TYPE##_256)

// Whether there is a kernel of this name.
extern "C" int launch(const char *name, const unsigned *grid, unsigned num_threads, void **args) {
    KERNELS(f32)
    KERNELS(f16)
    KERNELS(bf16)
    TILE_KERNELS(f16)
    TILE_KERNELS(bf16)
    KERNEL(merge_spans)
    KERNEL(attend_text_f16_32)
    KERNEL(attend_text_f16_64)
    KERNEL(attend_text_f16_80)
    KERNEL(attend_text_f16_96)
    KERNEL(attend_text_f16_128)
    return 0;
}
