// What is done with rows between matrix products. A row's result depends on that row alone: a block of threads has one row.
#include "numbers.cuh"

constexpr int ROW_THREADS = 256;
constexpr int ROW_WARPS = ROW_THREADS / 32;

struct Add {
    __device__ float operator()(float a, float b) const { return a + b; }
};

struct Largest {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// What all threads of the block have together, in the same order for every row.
template <typename Join> __device__ float joined(float own, const Join &join) {
    __shared__ float of_warps[ROW_WARPS];
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        own = join(own, __shfl_xor_sync(0xffffffffu, own, distance));
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        of_warps[threadIdx.x / 32] = own;
    }
    __syncthreads();
    float all = of_warps[0];
#pragma unroll
    for (int warp = 1; warp < ROW_WARPS; warp++) {
        all = join(all, of_warps[warp]);
    }
    return all;
}

// Where a row of activations is written in half precision, as matrix.cu's Rows has it. `stride` is a multiple of 256.
struct HalfRow {
    __half *numbers;
    unsigned *sums;
    float *factor;
    int stride;

    __device__ HalfRow(__half *numbers, unsigned *sums, float *factors, int stride, size_t row)
        : numbers(numbers + row * stride), sums(sums + row * (stride / 16)), factor(factors + row), stride(stride) {}

    // Writes number(0) to number(len - 1), none of which is larger than `largest`, and zeros after them. They are multiplied by
    // a power of two that makes the largest 1024 to 2048, so that neither they nor the sum of 16 of them are too large.
    template <typename Number> __device__ void write(int len, float largest, const Number &number) const {
        const int exponent = static_cast<int>(__float_as_uint(largest) >> 23 & 255) - 127;
        const int shift = max(-100, min(100, 10 - exponent));
        const float scale = power_of_two(shift);
        if (threadIdx.x == 0) {
            *factor = power_of_two(-shift);
        }
        // A piece each, of four numbers of either half of a block.
        for (int piece = threadIdx.x; piece < stride / 8; piece += ROW_THREADS) {
            Piece written;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int first = piece / 4 * 32 + half * 16 + piece % 4 * 4;
                float sum = 0.f;
#pragma unroll
                for (int i = 0; i < 4; i += 2) {
                    const float low = first + i < len ? number(first + i) * scale : 0.f;
                    const float high = first + i + 1 < len ? number(first + i + 1) * scale : 0.f;
                    const __half2 two = {__float2half_rn(low), __float2half_rn(high)};
                    sum += __half2float(two.x) + __half2float(two.y);
                    memcpy(&written.words[half * 2 + i / 2], &two, sizeof(two));
                }
                sum += __shfl_xor_sync(0xffffffffu, sum, 1);
                sum += __shfl_xor_sync(0xffffffffu, sum, 2);
                if (piece % 4 == half) {
                    const __half whole = __float2half_rn(sum);
                    const __half2 two = {whole, __float2half_rn(sum - __half2float(whole))};
                    memcpy(&sums[piece / 4 * 2 + half], &two, sizeof(two));
                }
            }
            reinterpret_cast<Piece *>(numbers)[piece] = written;
        }
    }

  private:
    __device__ static float power_of_two(int exponent) { return __uint_as_float((exponent + 127) << 23); }
};

// The rows of `input`, [rows (x), len].
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    halve_rows(const float *input, int len, __half *numbers, unsigned *sums, float *factors, int stride) {
    input += static_cast<size_t>(blockIdx.x) * len;
    float largest = 0.f;
    for (int i = threadIdx.x; i < len; i += ROW_THREADS) {
        largest = fmaxf(largest, fabsf(input[i]));
    }
    largest = joined(largest, Largest{});
    HalfRow(numbers, sums, factors, stride, blockIdx.x).write(len, largest, [&](int i) { return input[i]; });
}

// The rows divided by their root mean square (Zhang and Sennrich 2019, arXiv:1910.07467) and multiplied with `weight`, [len].
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    halve_normed_rows(const float *input, const float *weight, float epsilon, int len, __half *numbers, unsigned *sums,
                      float *factors, int stride) {
    input += static_cast<size_t>(blockIdx.x) * len;
    float squares = 0.f;
    float largest = 0.f;
    for (int i = threadIdx.x; i < len; i += ROW_THREADS) {
        squares = fmaf(input[i], input[i], squares);
        largest = fmaxf(largest, fabsf(input[i] * weight[i]));
    }
    squares = joined(squares, Add{});
    largest = joined(largest, Largest{});
    const float factor = 1.f / sqrtf(squares / len + epsilon);
    HalfRow(numbers, sums, factors, stride, blockIdx.x).write(len, largest * factor, [&](int i) {
        return input[i] * factor * weight[i];
    });
}

// x / (1 + exp(-x))
struct Silu {
    __device__ float operator()(float x) const { return x / (1.f + expf(-x)); }
};

// GELU's approximation by a hyperbolic tangent (Hendrycks and Gimpel 2016, arXiv:1606.08415): x / 2 * (1 + tanh(u)), which is
// x / (1 + exp(-2 u)).
struct Gelu {
    __device__ float operator()(float x) const {
        const float u = 0.7978845608f * (x + 0.044715f * x * x * x);
        return x / (1.f + expf(-2.f * u));
    }
};

template <typename Activation>
__device__ void halve_gated(const float *gate, const float *up, int len, __half *numbers, unsigned *sums, float *factors,
                            int stride) {
    gate += static_cast<size_t>(blockIdx.x) * len;
    up += static_cast<size_t>(blockIdx.x) * len;
    const auto gated = [&](int i) { return Activation{}(gate[i]) * up[i]; };
    float largest = 0.f;
    for (int i = threadIdx.x; i < len; i += ROW_THREADS) {
        largest = fmaxf(largest, fabsf(gated(i)));
    }
    largest = joined(largest, Largest{});
    HalfRow(numbers, sums, factors, stride, blockIdx.x).write(len, largest, gated);
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    halve_silu_rows(const float *gate, const float *up, int len, __half *numbers, unsigned *sums, float *factors, int stride) {
    halve_gated<Silu>(gate, up, len, numbers, sums, factors, stride);
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    halve_gelu_rows(const float *gate, const float *up, int len, __half *numbers, unsigned *sums, float *factors, int stride) {
    halve_gated<Gelu>(gate, up, len, numbers, sums, factors, stride);
}

// Divides heads by their root mean square and multiplies them with a weight, [dim], in place: a block of threads for a row (x) and
// eight of its heads (y), a warp for each. Heads of queries come first, [rows, num_heads, dim], then those of keys, [rows,
// num_kv_heads, dim].
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    norm_heads(float *query, float *key, const float *query_weight, const float *key_weight, float epsilon, int num_heads,
               int num_kv_heads, int dim) {
    const int lane = threadIdx.x % 32;
    const int head_of_all = blockIdx.y * ROW_WARPS + threadIdx.x / 32;
    if (head_of_all >= num_heads + num_kv_heads) {
        return;
    }
    const bool is_query = head_of_all < num_heads;
    const size_t row = blockIdx.x;
    float *head = is_query ? query + (row * num_heads + head_of_all) * dim
                           : key + (row * num_kv_heads + head_of_all - num_heads) * dim;
    const float *weight = is_query ? query_weight : key_weight;
    float squares = 0.f;
    for (int i = lane; i < dim; i += 32) {
        squares = fmaf(head[i], head[i], squares);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        squares += __shfl_xor_sync(0xffffffffu, squares, distance);
    }
    const float factor = 1.f / sqrtf(squares / dim + epsilon);
    for (int i = lane; i < dim; i += 32) {
        head[i] = head[i] * factor * weight[i];
    }
}

// Adds `scale` times the rows of `update`, divided by their root mean square and multiplied with `weight`, [len], to `rows`; both
// are [rows (x), len].
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    add_normed_rows(float *rows, const float *update, const float *weight, float epsilon, float scale, int len) {
    rows += static_cast<size_t>(blockIdx.x) * len;
    update += static_cast<size_t>(blockIdx.x) * len;
    float squares = 0.f;
    for (int i = threadIdx.x; i < len; i += ROW_THREADS) {
        squares = fmaf(update[i], update[i], squares);
    }
    squares = joined(squares, Add{});
    const float factor = 1.f / sqrtf(squares / len + epsilon);
    for (int i = threadIdx.x; i < len; i += ROW_THREADS) {
        rows[i] = fmaf(update[i] * factor * weight[i], scale, rows[i]);
    }
}

// Row chosen[x] of `rows`, [.., len], becomes row x of `output`.
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    gather_rows(const float *rows, const unsigned *chosen, float *output, int len) {
    rows += static_cast<size_t>(chosen[blockIdx.x]) * len;
    output += static_cast<size_t>(blockIdx.x) * len;
    for (int i = threadIdx.x; i < len; i += ROW_THREADS) {
        output[i] = rows[i];
    }
}

// Copies pieces, each thread one of them, to where nothing is copied from.
extern "C" __global__ void __launch_bounds__(ROW_THREADS) copy_pieces(const Piece *from, Piece *to, int count) {
    const int i = blockIdx.x * ROW_THREADS + threadIdx.x;
    if (i < count) {
        to[i] = from[i];
    }
}
