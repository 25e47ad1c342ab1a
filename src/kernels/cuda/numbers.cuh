// The types that keys and values are kept in, eight numbers at a time, and the tensor cores' instructions.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

// What is stored is always finite, so that no row can spoil another: too large becomes the largest.
__device__ inline float finite(float x, float largest) { return fminf(fmaxf(x, -largest), largest); }

template <typename T> struct Stored;

template <> struct Stored<float> {
    static __device__ float to_float(float x) { return x; }
    static __device__ float from_float(float x) { return finite(x, 3.402823466e38f); }
};

template <> struct Stored<__half> {
    static __device__ float to_float(__half x) { return __half2float(x); }
    static __device__ __half from_float(float x) { return __float2half_rn(finite(x, 65504.f)); }
};

template <> struct Stored<__nv_bfloat16> {
    static __device__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
    static __device__ __nv_bfloat16 from_float(float x) { return __float2bfloat16_rn(finite(x, 3.389531390e38f)); }
};

// Eight numbers that lie together; `from` is a multiple of sixteen bytes.
template <typename T> struct alignas(16) Eight {
    T numbers[8];
};

template <typename T> __device__ inline void load_eight(const T *from, float (&to)[8]) {
    const Eight<T> eight = *reinterpret_cast<const Eight<T> *>(from);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        to[i] = Stored<T>::to_float(eight.numbers[i]);
    }
}

// Two numbers in one register, the first in its lower half.
template <typename T> __device__ inline unsigned packed(float first, float second) {
    const T two[2] = {Stored<T>::from_float(first), Stored<T>::from_float(second)};
    unsigned both;
    memcpy(&both, two, sizeof(both));
    return both;
}

// Sixteen bytes that are moved at once.
struct alignas(16) Piece {
    unsigned words[4];
};

#ifdef __CUDACC__
// Words that are read once and need no place in the L1 cache.
__device__ inline void load_passing(unsigned (&to)[1], const void *from) {
    asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(to[0]) : "l"(from));
}

__device__ inline void load_passing(unsigned (&to)[2], const void *from) {
    asm("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "l"(from));
}

__device__ inline void load_passing(unsigned (&to)[4], const void *from) {
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
        : "l"(from));
}

// Starts to copy sixteen bytes from global to shared memory.
__device__ inline void copy_later(Piece *to, const void *from) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}

// Until all that this thread has started to copy is there.
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Both half-precision numbers of a register.
__device__ inline unsigned subtract_halves(unsigned from, unsigned subtracted) {
    unsigned difference;
    asm("sub.f16x2 %0, %1, %2;" : "=r"(difference) : "r"(from), "r"(subtracted));
    return difference;
}

// d += a * b: a is 16 x 16 by rows, b 16 x 8 by columns, d 16 x 8; spread over a warp as PTX's m16n8k16 wants it.
template <typename T> __device__ inline void multiply_tiles(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);

template <>
__device__ inline void multiply_tiles<__half>(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ inline void multiply_tiles<__nv_bfloat16>(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Two 8 x 8 tiles of sixteen-bit numbers in shared memory, transposed: lane i of the first sixteen names row i.
__device__ inline void load_transposed(unsigned (&to)[2], const void *row) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "r"(address));
}
#endif

struct alignas(8) Pair {
    unsigned words[2];
};

// A number that is known when the kernels are compiled.
template <int N> struct Constant {
    static constexpr int VALUE = N;
};

// Calls `work` with Constant<0> to Constant<COUNT - 1>.
template <int COUNT, int FIRST = 0, typename Work> __device__ inline void for_each_constant(const Work &work) {
    if constexpr (FIRST < COUNT) {
        work(Constant<FIRST>{});
        for_each_constant<COUNT, FIRST + 1>(work);
    }
}

// Words of one of several lanes: four at a time lie together, those of the lanes beside each other; then two, then one.
template <int WORDS> __device__ inline void load_words(unsigned *to, const unsigned char *from, int lanes, int lane) {
#pragma unroll
    for (int first = 0; first < WORDS / 4; first++) {
        load_passing(*reinterpret_cast<unsigned(*)[4]>(to + 4 * first), from + (first * lanes + lane) * 16);
    }
    from += WORDS / 4 * lanes * 16;
    if constexpr (WORDS % 4 >= 2) {
        load_passing(*reinterpret_cast<unsigned(*)[2]>(to + WORDS / 4 * 4), from + lane * 8);
        from += lanes * 8;
    }
    if constexpr (WORDS % 2 == 1) {
        load_passing(*reinterpret_cast<unsigned(*)[1]>(to + WORDS - 1), from + lane * 4);
    }
}
