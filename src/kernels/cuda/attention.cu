// Causal attention over the paged cache, with or without a sliding window. A position's keys and values lie together,
// [positions, kv heads, dim]; position p of a sequence is in block table[p / block_size], slot p % block_size.
//
// Rows that are few are attended to span by span, each by a block of threads of its own, and the spans' results merged
// (Flash-Decoding); rows of a long prompt are taken 64 at a time on the tensor cores (Dao 2023, arXiv:2307.08691). Spans and
// tiles begin at multiples of their size whatever else is computed, so that company does not change a row's result.
#include "numbers.cuh"

// A row with this slot and a position below 0 is nobody's: it fills up a step to a size that was computed before.
constexpr unsigned NO_SLOT = 0xffffffffu;

// Numbers that are the same for all rows.
struct Sizes {
    int num_heads;
    int num_kv_heads;
    int key_dim;
    int value_dim;
    int block_size;
    // Positions that a row sees; 0 for all.
    int window;
};

__device__ inline int first_visible(const Sizes &sizes, int position) {
    return sizes.window > 0 ? max(position + 1 - sizes.window, 0) : 0;
}

__device__ inline size_t place(const Sizes &sizes, const unsigned *table, int position) {
    return static_cast<size_t>(table[position / sizes.block_size]) * sizes.block_size + position % sizes.block_size;
}

// --- Rotation and storing -------------------------------------------------------------------------------------------

// Number `i` of a row of heads after rotation.
__device__ inline float rotated(const float *row, int i, int dim, const float *cosines, const float *sines, int num_pairs,
                                bool interleaved) {
    const int at = i % dim;
    if (at >= 2 * num_pairs) {
        return row[i];
    }
    const int pair = interleaved ? at / 2 : at % num_pairs;
    const bool is_first = interleaved ? at % 2 == 0 : at < num_pairs;
    const int distance = interleaved ? 1 : num_pairs;
    const float other = row[is_first ? i + distance : i - distance];
    return is_first ? row[i] * cosines[pair] - other * sines[pair] : other * sines[pair] + row[i] * cosines[pair];
}

// One block of threads a token. `query` and `rotated_query` are [tokens, heads, key_dim].
template <typename T>
__device__ void rotate_and_store(const float *query, const float *key, const float *value, const float *cosines,
                                 const float *sines, const unsigned *slots, float *rotated_query, T *keys, T *values,
                                 Sizes sizes, int num_pairs, int interleaved) {
    const size_t token = blockIdx.x;
    const int query_len = sizes.num_heads * sizes.key_dim;
    const int key_len = sizes.num_kv_heads * sizes.key_dim;
    const int value_len = sizes.num_kv_heads * sizes.value_dim;
    const size_t slot = slots[token];
    if (slot == NO_SLOT) {
        return;
    }
    query += token * query_len;
    rotated_query += token * query_len;
    key += token * key_len;
    value += token * value_len;
    cosines += token * num_pairs;
    sines += token * num_pairs;
    keys += slot * key_len;
    values += slot * value_len;
    for (int i = threadIdx.x; i < query_len; i += blockDim.x) {
        rotated_query[i] = rotated(query, i, sizes.key_dim, cosines, sines, num_pairs, interleaved);
    }
    for (int i = threadIdx.x; i < key_len; i += blockDim.x) {
        keys[i] = Stored<T>::from_float(rotated(key, i, sizes.key_dim, cosines, sines, num_pairs, interleaved));
    }
    for (int i = threadIdx.x; i < value_len; i += blockDim.x) {
        values[i] = Stored<T>::from_float(value[i]);
    }
}

// --- Few rows -------------------------------------------------------------------------------------------------------

constexpr int SPAN = 256;
constexpr int SPAN_THREADS = 128;
// Query heads that share what is read.
constexpr int SPAN_HEADS = 4;
// Threads that share a position's key.
constexpr int KEY_LANES = 8;

// One block of threads for a span (x), some query heads of a kv head (y) and a row (z). Of each row `rows` says which of the
// query's it is, `row_tables` where in `tables` its own begins. The results are [rows, heads, max_spans]: sums of values weighed by powers of two, [value_dim] each; the
// largest score, times log2(e); and the sum of the weights. `CHUNKS` times 64 is at least key_dim.
template <typename T, int CHUNKS>
__device__ void attend_span(const float *query, const T *keys, const T *values, const unsigned *tables,
                            const unsigned *rows, const unsigned *row_tables, const unsigned *row_positions, float *results,
                            float *maxima, float *sums, Sizes sizes, float scale, int max_spans) {
    __shared__ float scores[SPAN_HEADS][SPAN];
    __shared__ unsigned places[SPAN];
    __shared__ float partial[SPAN_THREADS * 8];

    const int row = blockIdx.z;
    const int position = row_positions[row];
    const int begin = max(static_cast<int>(blockIdx.x) * SPAN, first_visible(sizes, position));
    const int count = min((static_cast<int>(blockIdx.x) + 1) * SPAN, position + 1) - begin;
    if (count <= 0) {
        return;
    }
    const int group = sizes.num_heads / sizes.num_kv_heads;
    const int num_tiles = (group + SPAN_HEADS - 1) / SPAN_HEADS;
    const int kv_head = blockIdx.y / num_tiles;
    const int first_head = kv_head * group + blockIdx.y % num_tiles * SPAN_HEADS;
    const int num_heads = min(SPAN_HEADS, (kv_head + 1) * group - first_head);
    const unsigned *table = tables + row_tables[row];
    for (int i = threadIdx.x; i < count; i += SPAN_THREADS) {
        places[i] = static_cast<unsigned>(place(sizes, table, begin + i));
    }

    const int lane = threadIdx.x % KEY_LANES;
    float own_query[SPAN_HEADS][CHUNKS][8];
#pragma unroll
    for (int head = 0; head < SPAN_HEADS; head++) {
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const int at = (chunk * KEY_LANES + lane) * 8 + i;
                const bool is_there = head < num_heads && at < sizes.key_dim;
                const size_t from = (static_cast<size_t>(rows[row]) * sizes.num_heads + first_head + head) * sizes.key_dim + at;
                own_query[head][chunk][i] = is_there ? query[from] * scale : 0.f;
            }
        }
    }
    __syncthreads();

    for (int first = 0; first < count; first += SPAN_THREADS / KEY_LANES) {
        const int at = first + threadIdx.x / KEY_LANES;
        float products[SPAN_HEADS] = {};
        if (at < count) {
            const T *key = keys + (static_cast<size_t>(places[at]) * sizes.num_kv_heads + kv_head) * sizes.key_dim;
#pragma unroll
            for (int chunk = 0; chunk < CHUNKS; chunk++) {
                const int from = (chunk * KEY_LANES + lane) * 8;
                if (from < sizes.key_dim) {
                    float numbers[8];
                    load_eight(key + from, numbers);
#pragma unroll
                    for (int head = 0; head < SPAN_HEADS; head++) {
#pragma unroll
                        for (int i = 0; i < 8; i++) {
                            products[head] += own_query[head][chunk][i] * numbers[i];
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int head = 0; head < SPAN_HEADS; head++) {
#pragma unroll
            for (int distance = KEY_LANES / 2; distance > 0; distance /= 2) {
                products[head] += __shfl_xor_sync(0xffffffffu, products[head], distance);
            }
            if (lane == 0 && at < count) {
                scores[head][at] = products[head];
            }
        }
    }
    __syncthreads();

    // A warp for each head.
    const int head_of_warp = threadIdx.x / 32;
    const size_t span_of_warp = (static_cast<size_t>(row) * sizes.num_heads + first_head + head_of_warp) * max_spans + blockIdx.x;
    float maximum = -INFINITY;
    for (int i = threadIdx.x % 32; i < count; i += 32) {
        maximum = fmaxf(maximum, scores[head_of_warp][i]);
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, distance));
    }
    float sum = 0.f;
    for (int i = threadIdx.x % 32; i < count; i += 32) {
        const float weight = exp2f(scores[head_of_warp][i] - maximum);
        scores[head_of_warp][i] = weight;
        sum += weight;
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    }
    if (threadIdx.x % 32 == 0 && head_of_warp < num_heads) {
        maxima[span_of_warp] = maximum;
        sums[span_of_warp] = sum;
    }
    __syncthreads();

    const int value_lanes = sizes.value_dim / 8;
    const int num_groups = SPAN_THREADS / value_lanes;
    const int value_group = threadIdx.x / value_lanes;
    const int value_at = threadIdx.x % value_lanes * 8;
    float weighed[SPAN_HEADS][8] = {};
    if (value_group < num_groups) {
        for (int at = value_group; at < count; at += num_groups) {
            float numbers[8];
            load_eight(values + (static_cast<size_t>(places[at]) * sizes.num_kv_heads + kv_head) * sizes.value_dim + value_at,
                       numbers);
#pragma unroll
            for (int head = 0; head < SPAN_HEADS; head++) {
                const float weight = scores[head][at];
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    weighed[head][i] += weight * numbers[i];
                }
            }
        }
    }
#pragma unroll
    for (int head = 0; head < SPAN_HEADS; head++) {
        __syncthreads();
        if (value_group < num_groups) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                partial[value_group * sizes.value_dim + value_at + i] = weighed[head][i];
            }
        }
        __syncthreads();
        if (head < num_heads) {
            const size_t span = (static_cast<size_t>(row) * sizes.num_heads + first_head + head) * max_spans + blockIdx.x;
            for (int i = threadIdx.x; i < sizes.value_dim; i += SPAN_THREADS) {
                float total = 0.f;
                for (int from = 0; from < num_groups; from++) {
                    total += partial[from * sizes.value_dim + i];
                }
                results[span * sizes.value_dim + i] = total;
            }
        }
    }
}

// One block of threads for a head (x) and a row (y). `output` is [all rows, heads, value_dim].
__device__ void merge(const float *results, const float *maxima, const float *sums, const unsigned *rows,
                            const unsigned *row_positions, float *output, Sizes sizes, int max_spans) {
    output += (static_cast<size_t>(rows[blockIdx.y]) * sizes.num_heads + blockIdx.x) * sizes.value_dim;
    const int position = row_positions[blockIdx.y];
    if (position < 0) {
        for (int i = threadIdx.x; i < sizes.value_dim; i += blockDim.x) {
            output[i] = 0.f;
        }
        return;
    }
    const int begin = first_visible(sizes, position) / SPAN;
    const int end = position / SPAN + 1;
    const size_t first = (static_cast<size_t>(blockIdx.y) * sizes.num_heads + blockIdx.x) * max_spans;
    float maximum = -INFINITY;
    for (int span = begin; span < end; span++) {
        maximum = fmaxf(maximum, maxima[first + span]);
    }
    float sum = 0.f;
    for (int span = begin; span < end; span++) {
        sum += sums[first + span] * exp2f(maxima[first + span] - maximum);
    }
    for (int i = threadIdx.x; i < sizes.value_dim; i += blockDim.x) {
        float total = 0.f;
        for (int span = begin; span < end; span++) {
            total += results[(first + span) * sizes.value_dim + i] * exp2f(maxima[first + span] - maximum);
        }
        output[i] = total / sum;
    }
}

// --- Many rows ------------------------------------------------------------------------------------------------------

constexpr int TILE_THREADS = 128;

// Rows of a sequence in the paged cache, by number within a tile, and what they see.
template <typename T, int DIM> struct PagedRows {
    const float *query;
    const T *keys;
    const T *values;
    const unsigned *table;
    float *output;
    Sizes sizes;
    size_t first_row;
    int first_position;
    int head;

    __device__ const float *query_of(int row) const { return query + ((first_row + row) * sizes.num_heads + head) * DIM; }

    __device__ float *output_of(int row) const { return output + ((first_row + row) * sizes.num_heads + head) * DIM; }

    // The first position that a row sees; the last one is `last`.
    __device__ int first(int row) const { return first_visible(sizes, first_position + row); }

    __device__ int last(int row) const { return first_position + row; }

    // Eight numbers, from number 8 * part on.
    __device__ void load(int position, int part, Eight<T> &key, Eight<T> &value) const {
        const int kv_head = head / (sizes.num_heads / sizes.num_kv_heads);
        const size_t from = (place(sizes, table, position) * sizes.num_kv_heads + kv_head) * DIM;
        key = reinterpret_cast<const Eight<T> *>(keys + from)[part];
        value = reinterpret_cast<const Eight<T> *>(values + from)[part];
    }
};

// Rows of a text whose tokens all see each other: [tokens, 3 * width] are queries, keys and values of all heads.
template <typename T, int DIM> struct TextRows {
    const float *qkv;
    float *output;
    int width;
    size_t first_row;
    size_t text;
    int length;
    int head;

    __device__ const float *query_of(int row) const { return qkv + (first_row + row) * 3 * width + head * DIM; }

    __device__ float *output_of(int row) const { return output + (first_row + row) * width + head * DIM; }

    __device__ int first(int) const { return 0; }

    __device__ int last(int) const { return length - 1; }

    __device__ void load(int position, int part, Eight<T> &key, Eight<T> &value) const {
        const float *from = qkv + (text + position) * 3 * width + width + head * DIM + part * 8;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            key.numbers[i] = Stored<T>::from_float(from[i]);
            value.numbers[i] = Stored<T>::from_float(from[width + i]);
        }
    }
};

// One block of threads for up to 64 rows of one head; a warp has 16 of them. Keys and values have DIM numbers.
template <typename T, int DIM, typename Rows>
__device__ void attend_tile(const Rows &source, int num_rows, float scale) {
    constexpr int POSITIONS = DIM <= 128 ? 64 : 32;
    // Rows begin in different banks.
    constexpr int STRIDE = DIM + 8;
    __shared__ Eight<T> key_tile[POSITIONS * STRIDE / 8];
    __shared__ Eight<T> value_tile[POSITIONS * STRIDE / 8];
    T *const shared_keys = key_tile[0].numbers;
    T *const shared_values = value_tile[0].numbers;

    const int lane = threadIdx.x % 32;
    // The rows that this thread has two numbers each of, in every tile of eight columns.
    const int first_own = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
    const int rows[2] = {first_own, first_own + 8};
    const int column = lane % 4 * 2;

    unsigned own_query[DIM / 16][4];
#pragma unroll
    for (int step = 0; step < DIM / 16; step++) {
#pragma unroll
        for (int part = 0; part < 4; part++) {
            const int row = rows[part % 2];
            const int at = step * 16 + part / 2 * 8 + column;
            const float *from = source.query_of(row) + at;
            own_query[step][part] = row < num_rows ? packed<T>(from[0] * scale, from[1] * scale) : 0u;
        }
    }

    float sums[DIM / 8][4] = {};
    float maximum[2] = {-INFINITY, -INFINITY};
    float total[2] = {};
    const int last_position = source.last(num_rows - 1);
    const int begin = source.first(0) / POSITIONS * POSITIONS;
    for (int base = begin; base <= last_position; base += POSITIONS) {
        __syncthreads();
        for (int i = threadIdx.x; i < POSITIONS * (DIM / 8); i += TILE_THREADS) {
            const int at = i / (DIM / 8);
            const int part = i % (DIM / 8);
            const int to = at * (STRIDE / 8) + part;
            if (base + at <= last_position) {
                source.load(base + at, part, key_tile[to], value_tile[to]);
            } else {
                key_tile[to] = Eight<T>{};
                value_tile[to] = Eight<T>{};
            }
        }
        __syncthreads();

        float scores[POSITIONS / 8][4] = {};
#pragma unroll
        for (int step = 0; step < DIM / 16; step++) {
#pragma unroll
            for (int eight = 0; eight < POSITIONS / 8; eight++) {
                const T *from = shared_keys + (eight * 8 + lane / 4) * STRIDE + step * 16 + column;
                const unsigned key[2] = {*reinterpret_cast<const unsigned *>(from),
                                         *reinterpret_cast<const unsigned *>(from + 8)};
                multiply_tiles<T>(scores[eight], own_query[step], key);
            }
        }

        float largest[2] = {maximum[0], maximum[1]};
#pragma unroll
        for (int eight = 0; eight < POSITIONS / 8; eight++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = rows[i / 2];
                const int seen = base + eight * 8 + column + i % 2;
                if (seen > source.last(row) || seen < source.first(row)) {
                    scores[eight][i] = -INFINITY;
                }
                largest[i / 2] = fmaxf(largest[i / 2], scores[eight][i]);
            }
        }
        float kept[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            largest[i] = fmaxf(largest[i], __shfl_xor_sync(0xffffffffu, largest[i], 1));
            largest[i] = fmaxf(largest[i], __shfl_xor_sync(0xffffffffu, largest[i], 2));
            // A row that has seen nothing yet has no maximum to subtract.
            const float subtracted = largest[i] == -INFINITY ? 0.f : largest[i];
            kept[i] = exp2f(maximum[i] - subtracted);
            maximum[i] = largest[i];
            largest[i] = subtracted;
            total[i] *= kept[i];
        }
#pragma unroll
        for (int eight = 0; eight < POSITIONS / 8; eight++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                scores[eight][i] = exp2f(scores[eight][i] - largest[i / 2]);
                total[i / 2] += scores[eight][i];
            }
        }
#pragma unroll
        for (int eight = 0; eight < DIM / 8; eight++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                sums[eight][i] *= kept[i / 2];
            }
        }
#pragma unroll
        for (int step = 0; step < POSITIONS / 16; step++) {
            const float(&low)[4] = scores[2 * step];
            const float(&high)[4] = scores[2 * step + 1];
            const unsigned weights[4] = {packed<T>(low[0], low[1]), packed<T>(low[2], low[3]), packed<T>(high[0], high[1]),
                                         packed<T>(high[2], high[3])};
#pragma unroll
            for (int eight = 0; eight < DIM / 8; eight++) {
                unsigned value[2];
                load_transposed(value, shared_values + (step * 16 + lane % 16) * STRIDE + eight * 8);
                multiply_tiles<T>(sums[eight], weights, value);
            }
        }
    }

#pragma unroll
    for (int i = 0; i < 2; i++) {
        total[i] += __shfl_xor_sync(0xffffffffu, total[i], 1);
        total[i] += __shfl_xor_sync(0xffffffffu, total[i], 2);
        if (rows[i] < num_rows) {
            float *to = source.output_of(rows[i]) + column;
#pragma unroll
            for (int eight = 0; eight < DIM / 8; eight++) {
                to[eight * 8] = sums[eight][2 * i] / total[i];
                to[eight * 8 + 1] = sums[eight][2 * i + 1] / total[i];
            }
        }
    }
}

// One tile of rows (x) and one head (y). `tiles` has four numbers for each x: the first row, how many there are, the position
// of the first, and where its table begins in `tables`.
template <typename T, int DIM>
__device__ void attend_paged_tile(const float *query, const T *keys, const T *values, const unsigned *tables,
                                  const unsigned *tiles, float *output, Sizes sizes, float scale) {
    const unsigned *tile = tiles + 4 * blockIdx.x;
    const PagedRows<T, DIM> rows = {
        query, keys, values, tables + tile[3], output, sizes, tile[0], static_cast<int>(tile[2]), static_cast<int>(blockIdx.y)};
    attend_tile<T, DIM>(rows, tile[1], scale);
}

// One tile of rows (x) and one head (y). `tiles` has four numbers for each x: the first row, how many there are, the text's
// first row, and its length.
template <typename T, int DIM>
__device__ void attend_text(const float *qkv, const unsigned *tiles, float *output, int width, float scale) {
    const unsigned *tile = tiles + 4 * blockIdx.x;
    const TextRows<T, DIM> rows = {qkv, output, width, tile[0], tile[2], static_cast<int>(tile[3]),
                                   static_cast<int>(blockIdx.y)};
    attend_tile<T, DIM>(rows, tile[1], scale);
}

// --- The functions that are launched ----------------------------------------------------------------------------------

#define SIZES int num_heads, int num_kv_heads, int key_dim, int value_dim, int block_size, int window
#define THE_SIZES {num_heads, num_kv_heads, key_dim, value_dim, block_size, window}

#define STORE(T, NAME)                                                                                                  \
    extern "C" __global__ void rotate_and_store_##NAME(                                                                 \
        const float *query, const float *key, const float *value, const float *cosines, const float *sines,             \
        const unsigned *slots, float *rotated_query, T *keys, T *values, SIZES, int num_pairs, int interleaved) {        \
        rotate_and_store<T>(query, key, value, cosines, sines, slots, rotated_query, keys, values, THE_SIZES, num_pairs, \
                            interleaved);                                                                               \
    }

#define SPANS(T, NAME, CHUNKS)                                                                                          \
    extern "C" __global__ void __launch_bounds__(SPAN_THREADS) attend_span_##NAME##_##CHUNKS(                           \
        const float *query, const T *keys, const T *values, const unsigned *tables, const unsigned *rows,               \
        const unsigned *row_tables, const unsigned *row_positions, float *results, float *maxima, float *sums, SIZES,   \
        float scale, int max_spans) {                                                                                   \
        attend_span<T, CHUNKS>(query, keys, values, tables, rows, row_tables, row_positions, results, maxima, sums,     \
                               THE_SIZES, scale, max_spans);                                                            \
    }

#define TILES(T, NAME, DIM)                                                                                             \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS) attend_tile_##NAME##_##DIM(                              \
        const float *query, const T *keys, const T *values, const unsigned *tables, const unsigned *tiles,              \
        float *output, SIZES, float scale) {                                                                            \
        attend_paged_tile<T, DIM>(query, keys, values, tables, tiles, output, THE_SIZES, scale);                        \
    }

#define TEXTS(DIM)                                                                                                      \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS) attend_text_f16_##DIM(                                   \
        const float *qkv, const unsigned *tiles, float *output, int width, float scale) {                               \
        attend_text<__half, DIM>(qkv, tiles, output, width, scale);                                                     \
    }

#define ALL_SPANS(T, NAME) SPANS(T, NAME, 1) SPANS(T, NAME, 2) SPANS(T, NAME, 3) SPANS(T, NAME, 4)
#define ALL_TILES(T, NAME) TILES(T, NAME, 64) TILES(T, NAME, 80) TILES(T, NAME, 96) TILES(T, NAME, 128) TILES(T, NAME, 256)

STORE(float, f32)
STORE(__half, f16)
STORE(__nv_bfloat16, bf16)
ALL_SPANS(float, f32)
ALL_SPANS(__half, f16)
ALL_SPANS(__nv_bfloat16, bf16)
ALL_TILES(__half, f16)
ALL_TILES(__nv_bfloat16, bf16)

TEXTS(32)
TEXTS(64)
TEXTS(80)
TEXTS(96)
TEXTS(128)

extern "C" __global__ void merge_spans(const float *results, const float *maxima, const float *sums,
                                       const unsigned *rows, const unsigned *row_positions, float *output, SIZES,
                                       int max_spans) {
    merge(results, maxima, sums, rows, row_positions, output, THE_SIZES, max_spans);
}
