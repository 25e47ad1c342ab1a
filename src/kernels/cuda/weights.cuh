// How the weights of a panel of 16 outputs are kept, chunk by chunk along the inputs, and how a warp turns them into the first
// operand of its tensor cores. `matrix/pack.rs` writes what is read here.
//
// A lane (g = lane / 4, t = lane % 4) has outputs g and g + 8. Of every block of 32 inputs it has 4t .. 4t + 3 of both halves:
// two numbers each of four pairs, the first two of which go to the product of the first half. The 16 pairs of two blocks,
// [block, output, pair], are kept in as many words as a number has bits, one number of a pair in either half of a word. A half
// has as many whole numbers as fit, from its lowest bits on; the bits that are left of all words make up the last pairs.
//
// Integers become half-precision numbers without being converted: a number below 1024 is, as bits, that many times 2^-24, and
// the tensor cores multiply such subnormal numbers exactly. FACTOR takes the 2^-24 back. What is the same for all numbers of a
// block, its minimum or the number that stands for zero, is multiplied with the sum of the row's block instead.
#pragma once

#include "numbers.cuh"

enum class Scales {
    // A half-precision scale a block.
    HALF,
    // A half-precision scale and a half-precision addend a block.
    HALF_AND_ADDEND,
    // Half-precision scale and minimum a chunk; a byte each a block.
    BYTE_AND_MIN,
    // A half-precision scale a chunk; a signed byte, 128 added, a half block.
    BYTE_OF_HALF,
    // Half-precision scale and minimum a chunk; four bits each a half block.
    NIBBLES_OF_HALF,
};

__device__ inline float half_of(unsigned word, int which) {
    const unsigned short bits = static_cast<unsigned short>(word >> 16 * which);
    __half half;
    memcpy(&half, &bits, sizeof(half));
    return __half2float(half);
}

// 2^23 + byte `which` of `word`, in one instruction.
__device__ inline float above_2_23(unsigned word, int which) {
    return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440 + which));
}

constexpr float TWO_23 = 8388608.f;
constexpr float TWO_MINUS_24 = 5.9604644775390625e-8f;

template <int BITS, int ZERO, Scales SCALES> struct Quantized {
    static constexpr bool IS_OF_FILE_BLOCKS = SCALES == Scales::HALF || SCALES == Scales::HALF_AND_ADDEND;
    // Blocks of a chunk.
    static constexpr int BLOCKS = IS_OF_FILE_BLOCKS ? 4 : 8;
    static constexpr bool HAS_SCALE_OF_HALF = SCALES == Scales::BYTE_OF_HALF || SCALES == Scales::NIBBLES_OF_HALF;
    static constexpr bool HAS_ADDEND = true;
    static constexpr bool IS_SCALED = true;
    static constexpr int NUM_PLANES = 1;
    static constexpr float FACTOR = 16777216.f;

    static constexpr int WORDS = BITS * BLOCKS / 2;
    static constexpr int SCALE_WORDS = HAS_SCALE_OF_HALF ? 8 : 4;
    static constexpr int WHOLE_WORDS = IS_OF_FILE_BLOCKS ? 0 : SCALES == Scales::BYTE_OF_HALF ? 1 : 2;
    static constexpr int ADDEND_WORDS = SCALES == Scales::HALF_AND_ADDEND || SCALES == Scales::BYTE_AND_MIN ? 1 : 0;
    // Scales by pairs of outputs, those of the whole chunk by pairs of outputs, addends by lanes.
    static constexpr int CHUNK_BYTES = 128 * WORDS + 32 * (SCALE_WORDS + WHOLE_WORDS) + 128 * ADDEND_WORDS;

    unsigned words[WORDS];
    unsigned scales[SCALE_WORDS];
    unsigned whole[WHOLE_WORDS > 0 ? WHOLE_WORDS : 1];
    unsigned addends;

    __device__ void load(const unsigned char *chunk, int lane) {
        load_words<WORDS>(words, chunk, 32, lane);
        chunk += 128 * WORDS;
        load_words<SCALE_WORDS>(scales, chunk, 8, lane / 4);
        chunk += 32 * SCALE_WORDS;
        load_words<WHOLE_WORDS>(whole, chunk, 8, lane / 4);
        chunk += 32 * WHOLE_WORDS;
        if constexpr (ADDEND_WORDS > 0) {
            load_words<1>(&addends, chunk, 32, lane);
        }
    }

    // The operands of both halves of a block.
    __device__ void operands(int, int block, unsigned (&first)[4], unsigned (&second)[4]) const {
#pragma unroll
        for (int output = 0; output < 2; output++) {
            const int pair = (block * 2 + output) * 4;
            first[output] = two(pair);
            first[output + 2] = two(pair + 1);
            second[output] = two(pair + 2);
            second[output + 2] = two(pair + 3);
        }
    }

    // What half a block's products are multiplied by, for output g or g + 8.
    __device__ float scale(int block, int half, int output) const {
        if constexpr (IS_OF_FILE_BLOCKS) {
            return half_of(scales[output * 2 + block / 2], block % 2);
        } else if constexpr (SCALES == Scales::BYTE_AND_MIN) {
            const float scale = half_of(whole[output], 0);
            // Rounded once, as 2^23 times a half-precision number is exact.
            return fmaf(above_2_23(scales[output * 2 + block / 4], block % 4), scale, -TWO_23 * scale);
        } else if constexpr (SCALES == Scales::BYTE_OF_HALF) {
            // 2^15 + byte; 2^15 + 128 times a half-precision number is exact, too.
            const int byte = block % 2 * 2 + half;
            const unsigned bits = __byte_perm(scales[output * 4 + block / 2], 0x47000000u, 0x7404 + byte * 0x10);
            const float scale = half_of(whole[0], output);
            return fmaf(__uint_as_float(bits), scale, -(32768.f + 128.f) * scale);
        } else {
            const unsigned nibbles = scales[output * 4 + block / 2] & 0x0f0f0f0fu;
            const float scale = half_of(whole[output], 0);
            return fmaf(above_2_23(nibbles, block % 2 * 2 + half), scale, -TWO_23 * scale);
        }
    }

    // The operand that is multiplied with the sums of eight half blocks, those of blocks 4 * four and on. Lane t has half blocks
    // 2t and 2t + 1.
    __device__ void addend_operand(int four, int lane, unsigned (&operand)[4]) const {
#pragma unroll
        for (int output = 0; output < 2; output++) {
            if constexpr (SCALES == Scales::HALF_AND_ADDEND) {
                operand[output] = operand[output + 2] = __byte_perm(addends, 0, output == 0 ? 0x1010 : 0x3232);
            } else if constexpr (SCALES == Scales::BYTE_AND_MIN) {
                const int byte = output * 2 + four;
                operand[output] = operand[output + 2] = __byte_perm(addends, 0, 0x4040 + byte * 0x101);
            } else if constexpr (SCALES == Scales::HALF) {
                const unsigned *two = scales + output * 2;
                operand[output] = operand[output + 2] =
                    __byte_perm(lane % 4 < 2 ? two[0] : two[1], 0, lane % 2 == 0 ? 0x1010 : 0x3232);
            } else {
                const unsigned *four_bytes = scales + output * 4 + four * 2;
                const unsigned bytes = (lane % 4 < 2 ? four_bytes[0] : four_bytes[1]) >> lane % 2 * 16;
                const unsigned first = bytes & 255;
                const unsigned second = bytes >> 8 & 255;
                if constexpr (SCALES == Scales::BYTE_OF_HALF) {
                    operand[output] = subtract_halves(first * 0x10001u, both(128));
                    operand[output + 2] = subtract_halves(second * 0x10001u, both(128));
                } else {
                    operand[output] = (first >> 4) * 0x10001u;
                    operand[output + 2] = (second >> 4) * 0x10001u;
                }
            }
        }
    }

    // What the products of addends and sums are multiplied by.
    __device__ float addend_scale(int output) const {
        if constexpr (SCALES == Scales::HALF) {
            return -ZERO * TWO_MINUS_24;
        } else if constexpr (SCALES == Scales::HALF_AND_ADDEND) {
            // The addends are no integers, and not multiplied by 2^-24 as all else is.
            return TWO_MINUS_24;
        } else if constexpr (SCALES == Scales::BYTE_OF_HALF) {
            return -ZERO * half_of(whole[0], output);
        } else {
            return -half_of(whole[output], 1);
        }
    }

  private:
    // The numbers of a pair, times 2^-24.
    __device__ unsigned two(int pair) const {
        constexpr int WHOLE = 16 / BITS;
        constexpr int LEFT = 16 % BITS;
        const unsigned *group = words + pair / 16 * BITS;
        const int at = pair % 16;
        if (at < BITS * WHOLE) {
            return group[at / WHOLE] >> at % WHOLE * BITS & both((1 << BITS) - 1);
        }
        unsigned bits = 0;
        const int last = at - BITS * WHOLE;
        if constexpr (BITS == 6) {
            // Four bits are left in each of six words: the last pairs have one word each, and half of another.
            bits = group[last] >> 12 & both(15);
            bits |= group[4 + last / 2] >> (8 + last % 2 * 2) & both(3 << 4);
        } else if constexpr (LEFT == 1) {
#pragma unroll
            for (int bit = 0; bit < BITS; bit++) {
                bits |= group[bit] >> (15 - bit) & both(1 << bit);
            }
        }
        return bits;
    }

    __device__ static constexpr unsigned both(unsigned half) { return half * 0x10001u; }
};

// Numbers in half precision, PLANES of them for each weight, whose sum it is. They are multiplied by powers of two, one for
// each output, which is taken back at the end.
template <int PLANES> struct Halves {
    static constexpr int BLOCKS = 2 / PLANES;
    static constexpr bool HAS_SCALE_OF_HALF = false;
    static constexpr bool HAS_ADDEND = false;
    static constexpr bool IS_SCALED = false;
    static constexpr int NUM_PLANES = PLANES;
    static constexpr float FACTOR = 1.f;
    static constexpr int WORDS = BLOCKS * PLANES * 8;
    static constexpr int CHUNK_BYTES = 128 * WORDS;

    unsigned words[WORDS];

    __device__ void load(const unsigned char *chunk, int lane) { load_words<WORDS>(words, chunk, 32, lane); }

    __device__ void operands(int plane, int block, unsigned (&first)[4], unsigned (&second)[4]) const {
#pragma unroll
        for (int output = 0; output < 2; output++) {
            const unsigned *pairs = words + ((plane * BLOCKS + block) * 2 + output) * 4;
            first[output] = pairs[0];
            first[output + 2] = pairs[1];
            second[output] = pairs[2];
            second[output + 2] = pairs[3];
        }
    }
};

using Q4_0 = Quantized<4, 8, Scales::HALF>;
using Q4_1 = Quantized<4, 0, Scales::HALF_AND_ADDEND>;
using Q5_0 = Quantized<5, 16, Scales::HALF>;
using Q5_1 = Quantized<5, 0, Scales::HALF_AND_ADDEND>;
using Q8_0 = Quantized<8, 128, Scales::HALF>;
using Q2_K = Quantized<2, 0, Scales::NIBBLES_OF_HALF>;
using Q3_K = Quantized<3, 4, Scales::BYTE_OF_HALF>;
using Q4_K = Quantized<4, 0, Scales::BYTE_AND_MIN>;
using Q5_K = Quantized<5, 0, Scales::BYTE_AND_MIN>;
using Q6_K = Quantized<6, 32, Scales::BYTE_OF_HALF>;
using F16 = Halves<1>;
using F32 = Halves<2>;
