// Runs CUDA kernels on the CPU, one block of threads after the other, so that what they compute can be checked without a
// GPU. Each thread of a block is a fiber; whoever waits for others lets them run. Put before a kernel's source.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)
// Blocks run one after the other, and all threads of one see the same.
#define __shared__ static

struct Index {
    unsigned x, y, z;
};

inline Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

constexpr size_t STACK_BYTES = 256 << 10;

struct Fiber {
    // Where it begins, and then where it goes on: changing contexts would ask the system each time.
    ucontext_t context;
    jmp_buf place;
    std::unique_ptr<char[]> stack;
    bool is_done;
};

// Threads that wait for each other.
struct Group {
    unsigned size, num_waiting, round;
};

inline std::vector<Fiber> fibers;
inline jmp_buf scheduler;
inline unsigned current;
inline std::function<void()> body;
inline Group block;
inline std::vector<Group> warps;
// What each thread shows the others of its warp; what it showed last is kept, since others may not have read it yet.
inline std::vector<uint64_t> all_shown[2][8];

__attribute__((noinline)) inline void yield() {
    if (_setjmp(fibers[current].place) == 0) {
        _longjmp(scheduler, 1);
    }
}

inline void wait(Group &group) {
    const unsigned round = group.round;
    if (++group.num_waiting == group.size) {
        group.num_waiting = 0;
        group.round++;
        return;
    }
    while (group.round == round) {
        yield();
    }
}

inline void wait_for_warp() { wait(warps[current / 32]); }

// Until the next wait.
inline std::vector<uint64_t> *shown() { return all_shown[warps[current / 32].round % 2]; }

// A fiber runs one block after the other.
inline void start() {
    while (true) {
        body();
        fibers[current].is_done = true;
        yield();
    }
}

inline void create(Fiber &fiber) {
    fiber.stack = std::make_unique<char[]>(STACK_BYTES);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, start, 0);
}

// Until it yields.
__attribute__((noinline)) inline void resume(bool is_new) {
    if (_setjmp(scheduler) != 0) {
        return;
    }
    if (is_new) {
        setcontext(&fibers[current].context);
    }
    _longjmp(fibers[current].place, 1);
}

inline void run_block(unsigned num_threads) {
    const size_t num_created = fibers.size();
    if (num_created < num_threads) {
        fibers.resize(num_threads);
    }
    for (auto &shown : all_shown) {
        for (auto &values : shown) {
            values.assign(num_threads, 0);
        }
    }
    block = {num_threads, 0, 0};
    warps.assign(num_threads / 32, {32, 0, 0});
    for (unsigned i = 0; i < num_threads; i++) {
        fibers[i].is_done = false;
        if (i >= num_created) {
            create(fibers[i]);
        }
    }
    bool is_first = true;
    for (bool is_done = false; !is_done; is_first = false) {
        is_done = true;
        for (current = 0; current < num_threads; current++) {
            if (!fibers[current].is_done) {
                threadIdx = {current, 0, 0};
                resume(is_first && current >= num_created);
                is_done &= fibers[current].is_done;
            }
        }
    }
}

template <typename... Args, size_t... Indices>
void launch(void (*kernel)(Args...), Index grid, unsigned num_threads, void **args, std::index_sequence<Indices...>) {
    body = [=] { kernel(*static_cast<Args *>(args[Indices])...); };
    gridDim = grid;
    blockDim = {num_threads, 1, 1};
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++) {
        for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++) {
            for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) {
                run_block(num_threads);
            }
        }
    }
}

template <typename... Args>
void launch(void (*kernel)(Args...), Index grid, unsigned num_threads, void **args) {
    launch(kernel, grid, num_threads, args, std::index_sequence_for<Args...>());
}

template <typename To, typename From> To bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof(to));
    return to;
}

} // namespace emulator

inline void __syncthreads() { emulator::wait(emulator::block); }

inline float __shfl_xor_sync(unsigned, float value, unsigned distance) {
    auto &shown = emulator::shown()[0];
    shown[emulator::current] = emulator::bits<uint32_t>(value);
    emulator::wait_for_warp();
    return emulator::bits<float>(static_cast<uint32_t>(shown[emulator::current ^ distance]));
}

inline unsigned long long __shfl_xor_sync(unsigned, unsigned long long value, unsigned distance) {
    auto &shown = emulator::shown()[0];
    shown[emulator::current] = value;
    emulator::wait_for_warp();
    return shown[emulator::current ^ distance];
}

// Threads take turns only where they wait.
inline unsigned atomicAdd(unsigned *to, unsigned added) {
    const unsigned before = *to;
    *to += added;
    return before;
}

using std::max;
using std::min;

struct __half {
    uint16_t bits;
};

struct __half2 {
    __half x, y;
};

struct __nv_bfloat16 {
    uint16_t bits;
};

inline float __half2float(__half x) {
    const auto convert = [](unsigned bits) {
        const int exponent = bits >> 10 & 31;
        const float magnitude = exponent == 0 ? ldexpf(bits & 1023, -24)
                                : exponent == 31 ? (bits & 1023 ? NAN : INFINITY)
                                                 : ldexpf((bits & 1023) + 1024, exponent - 25);
        return bits & 0x8000 ? -magnitude : magnitude;
    };
    static const std::vector<float> numbers = [&] {
        std::vector<float> all(1 << 16);
        for (unsigned bits = 0; bits < all.size(); bits++) {
            all[bits] = convert(bits);
        }
        return all;
    }();
    return numbers[x.bits];
}

inline float __uint_as_float(uint32_t bits) { return emulator::bits<float>(bits); }

inline uint32_t __float_as_uint(float x) { return emulator::bits<uint32_t>(x); }

// PRMT: each of the four lowest nibbles of `selector` names one of the eight bytes.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const uint64_t bytes = low | static_cast<uint64_t>(high) << 32;
    unsigned chosen = 0;
    for (int i = 0; i < 4; i++) {
        chosen |= (bytes >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
    }
    return chosen;
}

inline __half __float2half_rn(float x) {
    const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    const float magnitude = fabsf(x);
    if (std::isnan(x)) {
        return {0x7fff};
    }
    if (magnitude >= 65520.f) {
        return {static_cast<uint16_t>(sign | 0x7c00)};
    }
    if (magnitude < 6.103515625e-5f) {
        return {static_cast<uint16_t>(sign | static_cast<uint16_t>(nearbyintf(ldexpf(magnitude, 24))))};
    }
    const uint32_t bits = emulator::bits<uint32_t>(magnitude);
    const uint32_t rounded = bits + 0xfff + (bits >> 13 & 1);
    return {static_cast<uint16_t>(sign | ((rounded >> 13) - (112 << 10)))};
}

inline float __bfloat162float(__nv_bfloat16 x) { return emulator::bits<float>(static_cast<uint32_t>(x.bits) << 16); }

inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    const uint32_t bits = emulator::bits<uint32_t>(x);
    return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

namespace emulator {

template <typename T> float first_of_two(uint64_t two);
template <> inline float first_of_two<__half>(uint64_t two) { return __half2float({static_cast<uint16_t>(two)}); }
template <> inline float first_of_two<__nv_bfloat16>(uint64_t two) {
    return __bfloat162float({static_cast<uint16_t>(two)});
}

} // namespace emulator

template <int WORDS> void load_passing(unsigned (&to)[WORDS], const void *from) { memcpy(to, from, sizeof(to)); }

inline void copy_later(void *to, const void *from) { memcpy(to, from, 16); }

inline void wait_for_copies() {}

inline unsigned subtract_halves(unsigned from, unsigned subtracted) {
    unsigned both = 0;
    for (int shift = 0; shift < 32; shift += 16) {
        const float first = __half2float({static_cast<uint16_t>(from >> shift)});
        const float second = __half2float({static_cast<uint16_t>(subtracted >> shift)});
        both |= static_cast<unsigned>(__float2half_rn(first - second).bits) << shift;
    }
    return both;
}

// The warp's tiles as PTX spreads them (mma.m16n8k16): a thread of group g = lane / 4 and place t = lane % 4 has of `a` rows g
// and g + 8, columns 2t, 2t + 1 and those 8 further; of `b` rows 2t, 2t + 1 and 8 further of column g; of `d` rows g and
// g + 8, columns 2t and 2t + 1.
template <typename T> void multiply_tiles(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    auto *const shown = emulator::shown();
    for (int i = 0; i < 4; i++) {
        shown[i][emulator::current] = a[i];
    }
    for (int i = 0; i < 2; i++) {
        shown[4 + i][emulator::current] = b[i];
    }
    emulator::wait_for_warp();
    const unsigned warp = emulator::current / 32 * 32;
    const unsigned lane = emulator::current % 32;
    for (int i = 0; i < 4; i++) {
        const unsigned row = lane / 4 + i / 2 * 8;
        const unsigned column = lane % 4 * 2 + i % 2;
        float sum = 0.f;
        for (unsigned inner = 0; inner < 16; inner++) {
            const unsigned place = inner % 8 / 2;
            const uint64_t x = shown[row / 8 + inner / 8 * 2][warp + row % 8 * 4 + place] >> inner % 2 * 16;
            const uint64_t y = shown[4 + inner / 8][warp + column * 4 + place] >> inner % 2 * 16;
            sum += emulator::first_of_two<T>(x & 0xffff) * emulator::first_of_two<T>(y & 0xffff);
        }
        d[i] += sum;
    }
}

// ldmatrix.m8n8.x2.trans
inline void load_transposed(unsigned (&to)[2], const void *row) {
    auto &shown = emulator::shown()[0];
    shown[emulator::current] = reinterpret_cast<uint64_t>(row);
    emulator::wait_for_warp();
    const unsigned warp = emulator::current / 32 * 32;
    const unsigned lane = emulator::current % 32;
    for (unsigned i = 0; i < 2; i++) {
        const auto number = [&](unsigned row) {
            return static_cast<unsigned>(reinterpret_cast<const uint16_t *>(shown[warp + i * 8 + row])[lane / 4]);
        };
        to[i] = number(lane % 4 * 2) | number(lane % 4 * 2 + 1) << 16;
    }
}
