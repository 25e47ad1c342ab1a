//! Products of a vector of eight-bit numbers with very many of two-bit ones. Sums of integers are exact, so every path gives
//! the same result.
//!
//! A row has its numbers, 0 to 3, in slices: byte `i` holds those at `i`, `i + n`, `i + 2n` and `i + 3n` from its low bits
//! on, where `n` is the row's length in bytes. So a shift and a mask of many bytes at once give a slice in order.

pub const NUMBERS_PER_BYTE: usize = 4;

/// The products of `query` with each of `rows`, which lie one behind the other, each a quarter as long as `query`. At most
/// 65,536 numbers long, so that no sum overflows.
pub fn products(query: &[i8], rows: &[u8], out: &mut Vec<i32>) {
    out.clear();
    if query.len() < NUMBERS_PER_BYTE {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512vnni") {
            // SAFETY: the processor has these instructions; it was asked.
            return unsafe { x86::products_vnni(query, rows, out) };
        }
        if has!("avx2") {
            // SAFETY: as above.
            return unsafe { x86::products_avx2(query, rows, out) };
        }
    }
    products_portable(query, rows, out);
}

fn products_portable(query: &[i8], rows: &[u8], out: &mut Vec<i32>) {
    let row_len = query.len() / NUMBERS_PER_BYTE;
    out.extend(
        rows.chunks_exact(row_len)
            .map(|row| product(query, row, row_len)),
    );
}

/// The product of what `row` holds with the numbers of a query of whose slices it is the beginning, each `slice_len` after
/// the one before.
#[inline(always)]
fn product(query: &[i8], row: &[u8], slice_len: usize) -> i32 {
    let slices = query.chunks(slice_len).zip([0, 2, 4, 6]);
    slices
        .map(|(slice, shift)| {
            let pairs = slice.iter().zip(row);
            pairs
                .map(|(number, byte)| i32::from(*number) * i32::from(byte >> shift & 3))
                .sum::<i32>()
        })
        .sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{NUMBERS_PER_BYTE, product};

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub fn products_vnni(query: &[i8], rows: &[u8], out: &mut Vec<i32>) {
        const LANES: usize = 64;
        let row_len = query.len() / NUMBERS_PER_BYTE;
        let (low, high) = (_mm512_set1_epi8(3), _mm512_set1_epi8(12));
        for row in rows.chunks_exact(row_len) {
            let mut sum = _mm512_setzero_si512();
            // Of numbers that are left where they are, two bits up.
            let mut sum_of_fourfold = _mm512_setzero_si512();
            for at in (0..row_len).step_by(LANES) {
                let mask = u64::MAX >> (LANES - LANES.min(row_len - at));
                // SAFETY: the mask lets nothing beyond the row be read, nor beyond a slice of the query.
                let (bytes, slices) = unsafe {
                    let load = |from: *const i8| _mm512_maskz_loadu_epi8(mask, from);
                    let slice = |number: usize| load(query.as_ptr().add(number * row_len + at));
                    (
                        load(row.as_ptr().add(at).cast()),
                        [slice(0), slice(1), slice(2), slice(3)],
                    )
                };
                let upper = _mm512_srli_epi16::<4>(bytes);
                for (bytes, slices) in [(bytes, &slices[..2]), (upper, &slices[2..])] {
                    sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(bytes, low), slices[0]);
                    let numbers = _mm512_and_si512(bytes, high);
                    sum_of_fourfold = _mm512_dpbusd_epi32(sum_of_fourfold, numbers, slices[1]);
                }
            }
            let sum_of_others = _mm512_srai_epi32::<2>(sum_of_fourfold);
            out.push(_mm512_reduce_add_epi32(_mm512_add_epi32(
                sum,
                sum_of_others,
            )));
        }
    }

    #[target_feature(enable = "avx2")]
    pub fn products_avx2(query: &[i8], rows: &[u8], out: &mut Vec<i32>) {
        const LANES: usize = 32;
        let row_len = query.len() / NUMBERS_PER_BYTE;
        let (three, ones) = (_mm256_set1_epi8(3), _mm256_set1_epi16(1));
        let num_whole = row_len / LANES * LANES;
        for row in rows.chunks_exact(row_len) {
            let mut sum = _mm256_setzero_si256();
            for at in (0..num_whole).step_by(LANES) {
                // SAFETY: reads 32 bytes of the row and of each slice of the query, which are there, at any alignment.
                let (bytes, slices) = unsafe {
                    let load = |from: *const u8| _mm256_loadu_si256(from.cast());
                    let slice =
                        |number: usize| load(query.as_ptr().add(number * row_len + at).cast());
                    (
                        load(row.as_ptr().add(at)),
                        [slice(0), slice(1), slice(2), slice(3)],
                    )
                };
                let numbers = [
                    bytes,
                    _mm256_srli_epi16::<2>(bytes),
                    _mm256_srli_epi16::<4>(bytes),
                    _mm256_srli_epi16::<6>(bytes),
                ];
                // Of four slices at most 4 * 2 * 3 * 128, which 16 bits hold.
                let mut pairs = _mm256_setzero_si256();
                for (numbers, slice) in numbers.into_iter().zip(slices) {
                    let numbers = _mm256_and_si256(numbers, three);
                    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(numbers, slice));
                }
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
            }
            let mut lanes = [0i32; 8];
            // SAFETY: the array has the 32 bytes that are written, at any alignment.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
            let rest = product(&query[num_whole..], &row[num_whole..], row_len);
            out.push(lanes.iter().sum::<i32>() + rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_gives_the_products_of_the_definition() {
        for row_len in [1, 3, 16, 31, 32, 33, 63, 64, 65, 96, 192, 200] {
            let mixed = |i: usize| (i * 89 + i / 7) % 256;
            let mut query: Vec<i8> = (0..4 * row_len).map(|i| mixed(i) as u8 as i8).collect();
            let mut rows: Vec<u8> = (0..5 * row_len).map(|i| mixed(i + 3) as u8).collect();
            rows[..row_len].fill(0xFF);
            for _ in 0..2 {
                let expected: Vec<i32> = rows
                    .chunks(row_len)
                    .map(|row| {
                        let number =
                            |i: usize| i32::from(row[i % row_len] >> (i / row_len * 2) & 3);
                        (0..query.len())
                            .map(|i| number(i) * i32::from(query[i]))
                            .sum()
                    })
                    .collect();
                let mut found = vec![7];
                products(&query, &rows, &mut found);
                assert_eq!(found, expected, "{row_len} bytes");
                #[cfg(target_arch = "x86_64")]
                if std::arch::is_x86_feature_detected!("avx2") {
                    found.clear();
                    // SAFETY: the processor has these instructions; it was asked.
                    unsafe { x86::products_avx2(&query, &rows, &mut found) };
                    assert_eq!(found, expected, "{row_len} bytes, AVX2");
                }
                found.clear();
                products_portable(&query, &rows, &mut found);
                assert_eq!(found, expected, "{row_len} bytes, portable");
                // The most that a sum can be.
                query.fill(-128);
                rows.fill(0xFF);
            }
        }
    }
}
