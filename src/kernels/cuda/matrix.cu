// What products of all types of weights share. build.rs compiles the products of each type apart, so that only those of the
// types that a model has are loaded.
#include "matrix.cuh"

extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS) add_slices(ARGUMENTS, const float *partial, float factor) {
    add_up(THE_ROWS, THE_PARTS, partial, factor);
}
