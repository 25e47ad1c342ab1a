// Products of rows of activations with matrices of weights, [outputs, inputs], on the tensor cores: the weights of 16 outputs
// are one operand, eight rows the other. The inputs are cut into SLICES, each slice is summed in the order of its chunks, and
// the slices in theirs, whatever the number of rows: so a row's result has the same bits in any company.
//
// Few rows (decoding) are bound by memory: a warp takes one slice of 16 outputs and loads the next chunk of weights, about
// 2 KiB, while it computes with this one, so that an SM with 16 warps has some 32 KiB on their way. Many rows (reading a
// prompt) are bound by instructions: a warp takes all slices of 16 outputs for up to 64 rows, which eight warps share.
#pragma once

#include "weights.cuh"

constexpr int SLICES = 8;
constexpr int PRODUCT_THREADS = 32 * SLICES;
constexpr int PANEL = 16;

// Rows of activations in half precision, times a power of two for each row. Numbers lie as the tensor cores want them: of 32,
// piece t has 4t .. 4t + 3 of both halves.
struct Rows {
    const __half *numbers;
    // Of every half block, the sum's half-precision number and the rest of it.
    const unsigned *sums;
    // What each row is multiplied by at last.
    const float *factors;
    int count;
    // Numbers from one row to the next, a multiple of 256.
    int stride;
};

struct Part {
    const unsigned char *weights;
    // What each output is multiplied by at last, or null.
    const float *factors;
    const float *bias;
    float *output;
    int outputs;
    // What the products, multiplied by `scale`, are added to, [rows, outputs], or null for nothing.
    const float *added;
    float scale;

    __device__ int panels() const { return (outputs + PANEL - 1) / PANEL; }

    __device__ void store(const Rows &rows, int row, int output_index, float sum, float factor) const {
        if (row < rows.count && output_index < outputs) {
            // Powers of two.
            factor *= rows.factors[row] * (factors != nullptr ? factors[output_index] : 1.f);
            const size_t at = static_cast<size_t>(row) * outputs + output_index;
            const float product = fmaf(sum, factor, bias != nullptr ? bias[output_index] : 0.f);
            output[at] = added != nullptr ? fmaf(product, scale, added[at]) : product * scale;
        }
    }
};

// Up to three matrices that are multiplied with the same rows.
struct Parts {
    Part parts[3];

    // The part that has this panel of all, whose number there is put in its place.
    __device__ Part of(int &panel) const {
        Part part = parts[0];
        if (panel >= parts[0].panels()) {
            panel -= parts[0].panels();
            part = parts[1];
            if (panel >= parts[1].panels()) {
                panel -= parts[1].panels();
                part = parts[2];
            }
        }
        return part;
    }

    __device__ int panels() const { return parts[0].panels() + parts[1].panels() + parts[2].panels(); }
};

__device__ inline int slice_begin(int slice, int num_chunks) { return slice * num_chunks / SLICES; }

// Adds to `sums` what COUNT blocks of a chunk give, from block FIRST on; of the rows `piece(block, tile)` is this lane's part.
template <int FIRST, int COUNT, typename Weights, int TILES, typename PieceOf>
__device__ inline void multiply_blocks(const Weights &weights, float (&sums)[TILES][4], const PieceOf &piece) {
#pragma unroll
    for (int block = FIRST; block < FIRST + COUNT; block++) {
#pragma unroll
        for (int plane = 0; plane < Weights::NUM_PLANES; plane++) {
            unsigned first[4], second[4];
            weights.operands(plane, block, first, second);
            float scales[2][2] = {};
            if constexpr (Weights::IS_SCALED) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    scales[i / 2][i % 2] = weights.scale(block, i / 2, i % 2);
                }
            }
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                const Piece numbers = piece(block, tile);
                const unsigned low[2] = {numbers.words[0], numbers.words[1]};
                const unsigned high[2] = {numbers.words[2], numbers.words[3]};
                if constexpr (!Weights::IS_SCALED) {
                    multiply_tiles<__half>(sums[tile], first, low);
                    multiply_tiles<__half>(sums[tile], second, high);
                    continue;
                }
                float products[4] = {};
                multiply_tiles<__half>(products, first, low);
                if constexpr (Weights::HAS_SCALE_OF_HALF) {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        sums[tile][i] = fmaf(products[i], scales[0][i / 2], sums[tile][i]);
                        products[i] = 0.f;
                    }
                }
                multiply_tiles<__half>(products, second, high);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    sums[tile][i] = fmaf(products[i], scales[1][i / 2], sums[tile][i]);
                }
            }
        }
    }
}

// Adds what the addends of all blocks of a chunk give, with the sums of the rows' half blocks; from `sums_of(tile)` on lie this
// lane's for the chunk, those of four blocks eight further.
template <typename Weights, int TILES, typename SumsOf>
__device__ inline void multiply_addends(const Weights &weights, float (&sums)[TILES][4], const SumsOf &sums_of) {
    if constexpr (Weights::HAS_ADDEND) {
        const float scales[2] = {weights.addend_scale(0), weights.addend_scale(1)};
#pragma unroll
        for (int four = 0; four < Weights::BLOCKS / 4; four++) {
            unsigned addends[4];
            weights.addend_operand(four, threadIdx.x % 32, addends);
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                float products[4] = {};
                const Pair of_rows = *reinterpret_cast<const Pair *>(sums_of(tile) + four * 8);
                multiply_tiles<__half>(products, addends, of_rows.words);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    sums[tile][i] = fmaf(products[i], scales[i / 2], sums[tile][i]);
                }
            }
        }
    }
}

// One block of threads for a panel of 16 outputs (x) and TILES times eight rows (y), a warp for each slice.
template <typename Weights, int TILES> __device__ void multiply_few(const Rows &rows, const Parts &parts, int num_chunks) {
    // Lanes write to different banks.
    constexpr int STRIDE = PANEL + 4;
    __shared__ float merged[SLICES][8 * TILES][STRIDE];
    const int lane = threadIdx.x % 32;
    const int slice = threadIdx.x / 32;
    const int first_row = blockIdx.y * 8 * TILES;
    int panel = blockIdx.x;
    const Part part = parts.of(panel);
    const unsigned char *weights = part.weights + static_cast<size_t>(panel) * num_chunks * Weights::CHUNK_BYTES;
    const int begin = slice_begin(slice, num_chunks);
    const int end = slice_begin(slice + 1, num_chunks);
    // Rows that are not there are computed as the last one is, and not stored.
    const __half *numbers[TILES];
    const unsigned *row_sums[TILES];
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        const size_t row = min(first_row + tile * 8 + lane / 4, rows.count - 1);
        numbers[tile] = rows.numbers + row * rows.stride + lane % 4 * 8;
        row_sums[tile] = rows.sums + row * (rows.stride / 16) + lane % 4 * 2;
    }

    float sums[TILES][4] = {};
    Weights next;
    if (begin < end) {
        next.load(weights + static_cast<size_t>(begin) * Weights::CHUNK_BYTES, lane);
    }
    for (int chunk = begin; chunk < end; chunk++) {
        const Weights own = next;
        if (chunk + 1 < end) {
            next.load(weights + static_cast<size_t>(chunk + 1) * Weights::CHUNK_BYTES, lane);
        }
        multiply_blocks<0, Weights::BLOCKS>(own, sums, [&](int block, int tile) {
            return *reinterpret_cast<const Piece *>(numbers[tile] + (chunk * Weights::BLOCKS + block) * 32);
        });
        multiply_addends(own, sums, [&](int tile) { return row_sums[tile] + chunk * Weights::BLOCKS * 2; });
    }

#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            merged[slice][tile * 8 + lane % 4 * 2 + i % 2][lane / 4 + i / 2 * 8] = sums[tile][i];
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 8 * TILES * PANEL; i += PRODUCT_THREADS) {
        float total = 0.f;
        for (int from = 0; from < SLICES; from++) {
            total += merged[from][i / PANEL][i % PANEL];
        }
        part.store(rows, first_row + i / PANEL, panel * PANEL + i % PANEL, total, Weights::FACTOR);
    }
}

// One block of threads for eight panels (x), a warp for each, and TILES times eight rows (y). With `partial`, [SLICES, rows,
// outputs of all panels], it computes slice z only and stores it there, else all slices.
template <typename Weights, int TILES>
__device__ void multiply_many(const Rows &rows, const Parts &parts, int num_chunks, float *partial) {
    constexpr int NUM_ROWS = 8 * TILES;
    // Blocks of inputs that are in shared memory at a time.
    constexpr int STAGE = Weights::BLOCKS < 2 ? 1 : 2;
    constexpr int STAGES = Weights::BLOCKS / STAGE;
    __shared__ Piece numbers[2][STAGE * NUM_ROWS * 4];
    // Each thread's own, here because two sets of sums do not fit into its registers.
    __shared__ float totals[TILES * 4][PRODUCT_THREADS];

    const int lane = threadIdx.x % 32;
    const int first_row = blockIdx.y * NUM_ROWS;
    const int panel_of_all = blockIdx.x * SLICES + threadIdx.x / 32;
    const bool is_there = panel_of_all < parts.panels();
    // A panel that is not there is computed as the last one is, and not stored: without branches the loop is shorter.
    int panel = min(panel_of_all, parts.panels() - 1);
    const Part part = parts.of(panel);
    const unsigned char *weights = part.weights + static_cast<size_t>(panel) * num_chunks * Weights::CHUNK_BYTES;

    // There is room for whole tiles of rows; what lies in it beyond the last row comes to nothing that is stored.
    const __half *numbers_of_rows = rows.numbers + static_cast<size_t>(first_row) * rows.stride;
    const int sums_stride = rows.stride / 16;
    const unsigned *row_sums = rows.sums + static_cast<size_t>(first_row + lane / 4) * sums_stride + lane % 4 * 2;

    const auto copy_stage = [&](int stage, int to) {
        constexpr unsigned PIECES = STAGE * NUM_ROWS * 4;
#pragma unroll
        for (unsigned first = 0; first < PIECES; first += PRODUCT_THREADS) {
            const unsigned i = first + threadIdx.x;
            const unsigned at = i % (STAGE * 4);
            const unsigned row = i / (STAGE * 4);
            if (PIECES % PRODUCT_THREADS == 0 || i < PIECES) {
                copy_later(&numbers[to][(at / 4 * NUM_ROWS + row) * 4 + at % 4],
                           numbers_of_rows + static_cast<size_t>(row) * rows.stride + stage * STAGE * 32 + at * 8);
            }
        }
    };

    const int first_slice = partial != nullptr ? blockIdx.z : 0;
    const int last_slice = partial != nullptr ? blockIdx.z + 1 : SLICES;
    const int begin = slice_begin(first_slice, num_chunks);
    const int end = slice_begin(last_slice, num_chunks);
#pragma unroll
    for (int i = 0; i < TILES * 4; i++) {
        totals[i][threadIdx.x] = 0.f;
    }
    Weights next;
    if (begin < end) {
        copy_stage(begin * STAGES, 0);
        next.load(weights + static_cast<size_t>(begin) * Weights::CHUNK_BYTES, lane);
    }
    int buffer = 0;
    int chunk = begin;
    for (int slice = first_slice; slice < last_slice; slice++) {
        float sums[TILES][4] = {};
        for (const int slice_end = slice_begin(slice + 1, num_chunks); chunk < slice_end; chunk++) {
            const Weights own = next;
            if (chunk + 1 < end) {
                next.load(weights + static_cast<size_t>(chunk + 1) * Weights::CHUNK_BYTES, lane);
            }
            for_each_constant<STAGES>([&](auto stage) {
                constexpr int FIRST = decltype(stage)::VALUE * STAGE;
                wait_for_copies();
                // All have finished with the other buffer, too.
                __syncthreads();
                const int following = chunk * STAGES + decltype(stage)::VALUE + 1;
                if (following < end * STAGES) {
                    copy_stage(following, 1 - buffer);
                }
                multiply_blocks<FIRST, STAGE>(own, sums, [&](int block, int tile) {
                    return numbers[buffer][((block - FIRST) * NUM_ROWS + tile * 8 + lane / 4) * 4 + lane % 4];
                });
                buffer = 1 - buffer;
            });
            multiply_addends(own, sums, [&](int tile) {
                return row_sums + tile * 8 * sums_stride + chunk * Weights::BLOCKS * 2;
            });
        }
#pragma unroll
        for (int i = 0; i < TILES * 4; i++) {
            totals[i][threadIdx.x] += sums[i / 4][i % 4];
        }
    }

    if (!is_there) {
        return;
    }
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int row = first_row + tile * 8 + lane % 4 * 2 + i % 2;
            const int output = lane / 4 + i / 2 * 8;
            const float total = totals[tile * 4 + i][threadIdx.x];
            if (partial == nullptr) {
                part.store(rows, row, panel * PANEL + output, total, Weights::FACTOR);
            } else if (row < rows.count) {
                const size_t to = static_cast<size_t>(blockIdx.z) * rows.count + row;
                partial[(to * parts.panels() + panel_of_all) * PANEL + output] = total;
            }
        }
    }
}

// Adds up the slices of 16 panels (x) of one row (y).
__device__ void add_up(const Rows &rows, const Parts &parts, const float *partial, float factor) {
    const int row = blockIdx.y;
    const int panel_of_all = blockIdx.x * (PRODUCT_THREADS / PANEL) + threadIdx.x / PANEL;
    const int output = threadIdx.x % PANEL;
    if (panel_of_all >= parts.panels()) {
        return;
    }
    float total = 0.f;
    for (int slice = 0; slice < SLICES; slice++) {
        const size_t from = static_cast<size_t>(slice) * rows.count + row;
        total += partial[(from * parts.panels() + panel_of_all) * PANEL + output];
    }
    int panel = panel_of_all;
    const Part part = parts.of(panel);
    part.store(rows, row, panel * PANEL + output, total, factor);
}

// --- The functions that are launched, of one type of weights --------------------------------------------------------------------

#define PART(I) const unsigned char *weights##I, const float *factors##I, const float *bias##I, float *output##I, int outputs##I
#define THE_PART(I, ...) {weights##I, factors##I, bias##I, output##I, outputs##I, __VA_ARGS__}
#define ARGUMENTS                                                                                                       \
    const __half *numbers, const unsigned *sums, const float *row_factors, int num_rows, int stride, const float *added, float scale,        \
        PART(0), PART(1), PART(2)
#define THE_ROWS {numbers, sums, row_factors, num_rows, stride}
// Only a matrix that is multiplied alone has something that its products are added to.
#define THE_PARTS {{THE_PART(0, added, scale), THE_PART(1, nullptr, 1.f), THE_PART(2, nullptr, 1.f)}}

#define FEW(TYPE, TILES)                                                                                                \
    extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS, 2)                                                    \
        multiply_few_##TYPE##_##TILES(ARGUMENTS, int num_chunks) {                                                      \
        multiply_few<TYPE, TILES>(THE_ROWS, THE_PARTS, num_chunks);                                                     \
    }
#define MANY(TYPE, TILES)                                                                                               \
    extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS, 2)                                                    \
        multiply_many_##TYPE##_##TILES(ARGUMENTS, int num_chunks, float *partial) {                                     \
        multiply_many<TYPE, TILES>(THE_ROWS, THE_PARTS, num_chunks, partial);                                           \
    }
#define PRODUCTS(TYPE) FEW(TYPE, 1) FEW(TYPE, 2) MANY(TYPE, 4) MANY(TYPE, 8)
