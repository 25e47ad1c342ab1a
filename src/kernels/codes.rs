//! Products of vectors of eight-bit numbers, for comparing one with very many. Sums of integers are exact, so every path
//! gives the same result.

/// The products of `query` with each of `rows`, which lie one behind the other, each as long as `query`. At most 65,536
/// numbers long, so that no sum overflows.
pub fn products(query: &[i8], rows: &[i8], out: &mut Vec<i32>) {
    out.clear();
    if query.is_empty() {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512vnni") {
            // SAFETY: the processor has these instructions; it was asked.
            return unsafe { x86::products_vnni(query, rows, out) };
        }
        if has!("avx512f") && has!("avx512bw") {
            // SAFETY: as above.
            return unsafe { x86::products_avx512(query, rows, out) };
        }
        if has!("avx2") {
            // SAFETY: as above.
            return unsafe { x86::products_avx2(query, rows, out) };
        }
    }
    out.extend(
        rows.chunks_exact(query.len())
            .map(|row| product(query, row)),
    );
}

/// Asks for memory that will be read soon.
#[inline]
pub fn prefetch<T>(soon: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..size_of_val(soon)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every processor has this instruction; it reads nothing, and the address is within the slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(soon.as_ptr().cast::<i8>().add(at)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = soon;
}

#[inline(always)]
fn product(a: &[i8], b: &[i8]) -> i32 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| i32::from(i16::from(a) * i16::from(b)))
        .sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::product;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub fn products_vnni(query: &[i8], rows: &[i8], out: &mut Vec<i32>) {
        const LANES: usize = 64;
        // The instruction takes one side without a sign: 128 is added to a row's numbers, and what that adds to its
        // product taken away.
        let flip = _mm512_set1_epi8(-128);
        let added: i32 = query.iter().map(|number| i32::from(*number) * 128).sum();
        for row in rows.chunks_exact(query.len()) {
            let mut sums = [_mm512_setzero_si512(); 2];
            for (i, at) in (0..query.len()).step_by(LANES).enumerate() {
                let mask = u64::MAX >> (LANES - LANES.min(query.len() - at));
                // SAFETY: the mask lets nothing beyond the row or the query be read.
                let (a, b) = unsafe {
                    (
                        _mm512_maskz_loadu_epi8(mask, row.as_ptr().add(at)),
                        _mm512_maskz_loadu_epi8(mask, query.as_ptr().add(at)),
                    )
                };
                // Beyond the mask 128 is multiplied by zero.
                sums[i % 2] = _mm512_dpbusd_epi32(sums[i % 2], _mm512_xor_si512(a, flip), b);
            }
            let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]));
            out.push(sum - added);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn products_avx512(query: &[i8], rows: &[i8], out: &mut Vec<i32>) {
        const LANES: usize = 32;
        let (query_runs, query_rest) = query.as_chunks::<LANES>();
        for row in rows.chunks_exact(query.len()) {
            let (row_runs, row_rest) = row.as_chunks::<LANES>();
            let mut sums = [_mm512_setzero_si512(); 2];
            for (i, (a, b)) in query_runs.iter().zip(row_runs).enumerate() {
                // SAFETY: each reads the 32 bytes of its array, at any alignment.
                let (a, b) = unsafe {
                    (
                        _mm256_loadu_si256(a.as_ptr().cast()),
                        _mm256_loadu_si256(b.as_ptr().cast()),
                    )
                };
                let pairs = _mm512_madd_epi16(_mm512_cvtepi8_epi16(a), _mm512_cvtepi8_epi16(b));
                sums[i % 2] = _mm512_add_epi32(sums[i % 2], pairs);
            }
            let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]));
            out.push(sum + product(query_rest, row_rest));
        }
    }

    #[target_feature(enable = "avx2")]
    pub fn products_avx2(query: &[i8], rows: &[i8], out: &mut Vec<i32>) {
        const LANES: usize = 16;
        let (query_runs, query_rest) = query.as_chunks::<LANES>();
        for row in rows.chunks_exact(query.len()) {
            let (row_runs, row_rest) = row.as_chunks::<LANES>();
            let mut sums = [_mm256_setzero_si256(); 2];
            for (i, (a, b)) in query_runs.iter().zip(row_runs).enumerate() {
                // SAFETY: each reads the 16 bytes of its array, at any alignment.
                let (a, b) = unsafe {
                    (
                        _mm_loadu_si128(a.as_ptr().cast()),
                        _mm_loadu_si128(b.as_ptr().cast()),
                    )
                };
                let pairs = _mm256_madd_epi16(_mm256_cvtepi8_epi16(a), _mm256_cvtepi8_epi16(b));
                sums[i % 2] = _mm256_add_epi32(sums[i % 2], pairs);
            }
            let mut lanes = [0i32; 8];
            // SAFETY: the array has the 32 bytes that are written, at any alignment.
            unsafe {
                _mm256_storeu_si256(
                    lanes.as_mut_ptr().cast(),
                    _mm256_add_epi32(sums[0], sums[1]),
                );
            }
            out.push(lanes.iter().sum::<i32>() + product(query_rest, row_rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_gives_the_products_of_the_definition() {
        for length in [1, 15, 16, 31, 32, 33, 384, 400] {
            let number = |i: usize| ((i * 89 + i / 7) % 255) as u8 as i8;
            let query: Vec<i8> = (0..length).map(number).collect();
            let mut rows: Vec<i8> = (0..5 * length).map(|i| number(i + 3)).collect();
            rows[..length].fill(-128);
            let expected: Vec<i32> = rows
                .chunks(length)
                .map(|row| {
                    let pairs = query.iter().zip(row);
                    pairs.map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
                })
                .collect();
            let mut found = vec![7];
            products(&query, &rows, &mut found);
            assert_eq!(found, expected, "{length} numbers");
            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::is_x86_feature_detected as has;
                if has!("avx512f") && has!("avx512bw") {
                    found.clear();
                    // SAFETY: the processor has these instructions; it was asked.
                    unsafe { x86::products_avx512(&query, &rows, &mut found) };
                    assert_eq!(found, expected, "{length} numbers, AVX-512");
                }
                if has!("avx2") {
                    found.clear();
                    // SAFETY: as above.
                    unsafe { x86::products_avx2(&query, &rows, &mut found) };
                    assert_eq!(found, expected, "{length} numbers, AVX2");
                }
            }
            let portable: Vec<i32> = rows
                .chunks(length)
                .map(|row| product(&query, row))
                .collect();
            assert_eq!(portable, expected, "{length} numbers, portable");
        }
    }
}
