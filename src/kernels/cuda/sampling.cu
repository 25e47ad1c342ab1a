// Draws tokens from logits, in the order of steps that sampler.rs has. A block of threads has one row, which depends on itself
// alone: all sums are of whole numbers, so neither the order nor the number of threads changes a bit of them.
#include "numbers.cuh"

// How a row's token is drawn; as in sampling.rs.
struct RowDraw {
    unsigned row;
    float temperature;
    unsigned top_k;
    float top_p;
    float min_p;
    unsigned padding;
    double uniform;
};

// How much of something there is: tokens, or weight in units of 2^-40 of the most probable token's. That of 2^22 tokens fits.
using Mass = unsigned long long;

__device__ inline Mass mass_of(float weight) { return static_cast<Mass>(llrintf(weight * 1099511627776.f)); }

constexpr unsigned NOT_A_NUMBER = 0xffffffffu;
constexpr unsigned NO_TOKEN = 0xffffffffu;

// Whole numbers in the order of the logits; NaN and positive infinity are not told apart and come last.
__device__ inline unsigned ordered(float logit) {
    if (!(logit < INFINITY)) {
        return NOT_A_NUMBER;
    }
    // Adding zero makes one of both zeros.
    const unsigned bits = __float_as_uint(logit + 0.f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

constexpr unsigned NUM_PARTS = 32;
constexpr int DIGIT_BITS = 11;
constexpr unsigned NUM_BUCKETS = 1 << DIGIT_BITS;

struct Workspace {
    Mass parts[NUM_PARTS];
    // The masses of buckets, as two words, for which there are fast atomic additions.
    unsigned low[NUM_BUCKETS], high[NUM_BUCKETS];

    __device__ void clear_buckets() {
        for (unsigned bucket = threadIdx.x; bucket < NUM_BUCKETS; bucket += blockDim.x) {
            low[bucket] = high[bucket] = 0;
        }
    }

    __device__ void add(unsigned bucket, Mass mass) {
        const unsigned added = static_cast<unsigned>(mass);
        const unsigned before = atomicAdd(&low[bucket], added);
        const unsigned above = static_cast<unsigned>(mass >> 32) + (before + added < before);
        if (above != 0) {
            atomicAdd(&high[bucket], above);
        }
    }

    __device__ Mass bucket(unsigned bucket) const { return static_cast<Mass>(high[bucket]) << 32 | low[bucket]; }
};

// The largest number of all threads.
__device__ inline Mass largest_of_block(Workspace &shared, Mass own) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        own = max(own, __shfl_xor_sync(0xffffffffu, own, distance));
    }
    if (threadIdx.x % 32 == 0) {
        shared.parts[threadIdx.x / 32] = own;
    }
    __syncthreads();
    for (unsigned warp = 0; warp < blockDim.x / 32; warp++) {
        own = max(own, shared.parts[warp]);
    }
    __syncthreads();
    return own;
}

// Where masses, added up one after the other, reach a target.
struct Reached {
    unsigned at;
    // The mass there, and what was missing before it.
    Mass there, missing;
};

// `mass_at(0)` to `mass_at(num - 1)` reach `target_of` their sum, which must be from 1 to that sum.
template <typename MassAt, typename TargetOf>
__device__ Reached reach(Workspace &shared, unsigned num, const MassAt &mass_at, const TargetOf &target_of) {
    unsigned first = 0;
    Mass missing = 0;
    for (bool is_whole = true;; is_whole = false) {
        // Each warp adds up some of the parts; the one that matters is looked at again.
        const unsigned len = (num + NUM_PARTS - 1) / NUM_PARTS;
        for (unsigned part = threadIdx.x / 32; part < NUM_PARTS; part += blockDim.x / 32) {
            const unsigned end = min(num, (part + 1) * len);
            Mass sum = 0;
            for (unsigned i = part * len + threadIdx.x % 32; i < end; i += 32) {
                sum += mass_at(first + i);
            }
#pragma unroll
            for (int distance = 16; distance > 0; distance /= 2) {
                sum += __shfl_xor_sync(0xffffffffu, sum, distance);
            }
            if (threadIdx.x % 32 == 0) {
                shared.parts[part] = sum;
            }
        }
        __syncthreads();
        if (is_whole) {
            Mass total = 0;
            for (unsigned part = 0; part < NUM_PARTS; part++) {
                total += shared.parts[part];
            }
            missing = target_of(total);
        }
        unsigned part = 0;
        while (shared.parts[part] < missing) {
            missing -= shared.parts[part++];
        }
        const Mass there = shared.parts[part];
        __syncthreads();
        first += part * len;
        num = min(len, num - part * len);
        if (num == 1) {
            return {first, there, missing};
        }
    }
}

// What is looked for among tokens in the order of their keys, the largest first; of equals the lowest id. Tokens without mass
// are not there.
struct Item {
    unsigned key;
    Mass mass;
};

// The last of the tokens that are kept.
struct Last {
    unsigned key, id;

    __device__ bool keeps(unsigned other_key, unsigned other_id) const {
        return other_key > key || (other_key == key && other_id <= id);
    }
};

constexpr Last KEEP_ALL = {0, NO_TOKEN};

// Where tokens, added up in their order, reach `target_of` their sum, which must be from 1 to that sum. Equal keys must have
// equal masses. The key is found digit by digit.
template <typename ItemAt, typename TargetOf>
__device__ Last last_of(Workspace &shared, unsigned num, const ItemAt &item_at, const TargetOf &target_of) {
    unsigned key = 0;
    Mass missing = 0;
    for (int shift = 32; shift > 0;) {
        const bool is_first = shift == 32;
        const int bits = min(DIGIT_BITS, shift);
        const unsigned last_bucket = (1u << bits) - 1;
        shared.clear_buckets();
        __syncthreads();
        for (unsigned id = threadIdx.x; id < num; id += blockDim.x) {
            const Item item = item_at(id);
            if (item.mass != 0 && static_cast<Mass>(item.key) >> shift == key) {
                shared.add(item.key >> (shift - bits) & last_bucket, item.mass);
            }
        }
        __syncthreads();
        const auto from_the_top = [&](unsigned place) { return shared.bucket(last_bucket - place); };
        const Reached reached = reach(shared, last_bucket + 1, from_the_top, [&](Mass total) {
            return is_first ? target_of(total) : missing;
        });
        missing = reached.missing;
        key = key << bits | (last_bucket - reached.at);
        shift -= bits;
    }
    const auto of_key = [&](unsigned id) {
        const Item item = item_at(id);
        return item.key == key ? item.mass : 0;
    };
    return {key, reach(shared, num, of_key, [&](Mass) { return missing; }).at};
}

// A token, or NO_TOKEN where the logits are no distribution.
__device__ inline unsigned draw_token(Workspace &shared, const float *logits, unsigned vocab_size, const RowDraw &draw) {
    Mass largest = 0;
    for (unsigned id = threadIdx.x; id < vocab_size; id += blockDim.x) {
        largest = max(largest, static_cast<Mass>(ordered(logits[id])) << 32 | ~id);
    }
    largest = largest_of_block(shared, largest);
    const unsigned largest_key = static_cast<unsigned>(largest >> 32);
    const unsigned most_probable = ~static_cast<unsigned>(largest);
    const unsigned minus_infinity = ordered(-INFINITY);
    if (largest_key == NOT_A_NUMBER || largest_key == minus_infinity) {
        return NO_TOKEN;
    }
    if (draw.temperature == 0.f) {
        return most_probable;
    }
    const float highest = logits[most_probable];
    const auto weight_of = [&](float logit) { return expf((logit - highest) / draw.temperature); };

    const bool has_top_k = draw.top_k < vocab_size;
    Last of_largest = KEEP_ALL;
    if (has_top_k) {
        const auto counted = [&](unsigned id) {
            const unsigned key = ordered(logits[id]);
            return Item{key, key > minus_infinity};
        };
        of_largest = last_of(shared, vocab_size, counted, [&](Mass num) { return min(num, static_cast<Mass>(draw.top_k)); });
    }

    Last of_nucleus = KEEP_ALL;
    if (draw.top_p < 1.f) {
        const auto weighed = [&](unsigned id) {
            if (!of_largest.keeps(ordered(logits[id]), id)) {
                return Item{0, 0};
            }
            const float weight = weight_of(logits[id]);
            return Item{__float_as_uint(weight), mass_of(weight)};
        };
        of_nucleus = last_of(shared, vocab_size, weighed, [&](Mass total) {
            return max(Mass{1}, min(total, static_cast<Mass>(ceil(static_cast<double>(draw.top_p) * total))));
        });
    }

    const auto left_at = [&](unsigned id) -> Mass {
        if (!of_largest.keeps(ordered(logits[id]), id)) {
            return 0;
        }
        const float weight = weight_of(logits[id]);
        const bool is_left = weight >= draw.min_p && of_nucleus.keeps(__float_as_uint(weight), id);
        return is_left ? mass_of(weight) : 0;
    };
    const auto drawn_at = [&](Mass total) { return min(total, static_cast<Mass>(draw.uniform * total) + 1); };
    if (has_top_k) {
        const auto by_logit = [&](unsigned id) { return Item{ordered(logits[id]), left_at(id)}; };
        return last_of(shared, vocab_size, by_logit, drawn_at).id;
    }
    return reach(shared, vocab_size, left_at, drawn_at).at;
}

// A token for each of `draws` (x), from logits [rows, vocab_size].
extern "C" __global__ void __launch_bounds__(1024)
    draw_tokens(const float *logits, int vocab_size, const RowDraw *draws, unsigned *tokens) {
    __shared__ Workspace shared;
    const RowDraw draw = draws[blockIdx.x];
    const unsigned token = draw_token(shared, logits + static_cast<size_t>(draw.row) * vocab_size, vocab_size, draw);
    if (threadIdx.x == 0) {
        tokens[blockIdx.x] = token;
    }
}
