// All kernels as functions of a library, launched by name as the driver launches them: with pointers to the arguments.
#include "emulator.h"

#include "../attention.cu"
#include "../elementwise.cu"
#include "../matrix.cu"
#include "../sampling.cu"

PRODUCTS(Q4_0)
PRODUCTS(Q4_1)
PRODUCTS(Q5_0)
PRODUCTS(Q5_1)
PRODUCTS(Q8_0)
PRODUCTS(Q2_K)
PRODUCTS(Q3_K)
PRODUCTS(Q4_K)
PRODUCTS(Q5_K)
PRODUCTS(Q6_K)
PRODUCTS(F16)
PRODUCTS(F32)

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
#define PRODUCT_KERNELS(TYPE)                                                                                           \
    KERNEL(multiply_few_##TYPE##_1)                                                                                     \
    KERNEL(multiply_few_##TYPE##_2)                                                                                     \
    KERNEL(multiply_many_##TYPE##_4)                                                                                    \
    KERNEL(multiply_many_##TYPE##_8)

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
    PRODUCT_KERNELS(Q4_0)
    PRODUCT_KERNELS(Q4_1)
    PRODUCT_KERNELS(Q5_0)
    PRODUCT_KERNELS(Q5_1)
    PRODUCT_KERNELS(Q8_0)
    PRODUCT_KERNELS(Q2_K)
    PRODUCT_KERNELS(Q3_K)
    PRODUCT_KERNELS(Q4_K)
    PRODUCT_KERNELS(Q5_K)
    PRODUCT_KERNELS(Q6_K)
    PRODUCT_KERNELS(F16)
    PRODUCT_KERNELS(F32)
    KERNEL(add_slices)
    KERNEL(halve_rows)
    KERNEL(halve_normed_rows)
    KERNEL(halve_silu_rows)
    KERNEL(halve_gelu_rows)
    KERNEL(norm_heads)
    KERNEL(add_normed_rows)
    KERNEL(gather_rows)
    KERNEL(copy_pieces)
    KERNEL(draw_tokens)
    return 0;
}
