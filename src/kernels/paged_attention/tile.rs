//! A few queries of one sequence that read the same keys and values.

use half::f16;

use super::element::{CacheElement, LANES, SCALE_GROUP};
use super::{AttentionShape, LayerCache, Stored, num_scales};
use crate::kernels::matrix::float::{Instructions, Line, Output, PANEL, Rows};
use crate::kernels::vector::{exp, scale};

/// Positions that are attended to at a time, whole panels. Spans begin at multiples of it, so that a row's sums are cut
/// in the same places whatever else is in its tile.
const SPAN: usize = 4 * PANEL;

/// Consecutive rows of one sequence under one key head.
pub(super) struct Tile<'a> {
    pub kv_head: usize,
    /// Position of the first row.
    pub start: usize,
    pub block_table: &'a [u32],
    /// A row's query heads that read this key head, `[group, key_dim]`.
    pub queries: Vec<&'a [f32]>,
    /// Where their results go, `[group, value_dim]`.
    pub outputs: Vec<&'a mut [f32]>,
}

/// Running softmax of one query.
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    sum: f32,
}

impl Tile<'_> {
    pub fn attend<E: CacheElement>(self, cache: &LayerCache<E>, instructions: Instructions) {
        match instructions {
            // SAFETY: a value of these exists only where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => unsafe { x86::attend_avx512(self, cache) },
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe { x86::attend_avx2(self, cache) },
            Instructions::Portable => self.attend_with::<E, false>(cache, Instructions::Portable),
        }
    }

    #[inline(always)]
    fn attend_with<E: CacheElement, const FMA: bool>(
        self,
        cache: &LayerCache<E>,
        instructions: Instructions,
    ) {
        let shape = cache.shape;
        let AttentionShape {
            num_heads,
            num_kv_heads,
            key_dim,
            value_dim,
            score_scale,
            ..
        } = shape;
        let group = num_heads / num_kv_heads;
        let num_queries = self.queries.len() * group;
        let end = self.start + self.queries.len();
        let first_visible = shape.first_visible(self.start);

        let mut queries: Vec<f32> = Vec::with_capacity(num_queries * key_dim);
        for row in &self.queries {
            queries.extend(row.iter().map(|number| number * score_scale));
        }
        let queries = Rows {
            numbers: &queries,
            len: key_dim,
            first: 0,
        };
        let padded_dim = value_dim.next_multiple_of(PANEL);
        let mut sums = vec![0f32; num_queries * padded_dim];
        let mut softmax = vec![
            Softmax {
                max: f32::NEG_INFINITY,
                sum: 0.0,
            };
            num_queries
        ];

        let first_span = first_visible / SPAN * SPAN;
        let longest = SPAN.min(end - first_span);
        let padded_span = longest.next_multiple_of(PANEL);
        let mut scores = vec![0f32; num_queries * padded_span];
        let mut keys = vec![[0f32; PANEL]; padded_span / PANEL * key_dim];
        let mut values = vec![[0f32; PANEL]; padded_dim / PANEL * longest];

        for span in (first_span..end).step_by(SPAN) {
            let num_positions = SPAN.min(end - span);
            let skipped = first_visible.saturating_sub(span);
            let next = span + num_positions;
            for run in self.runs(shape.block_size, next..end.min(next + SPAN)) {
                let head = run.block * num_kv_heads + self.kv_head;
                prefetch(cache.keys.head(head, shape.block_size, key_dim).numbers);
                prefetch(cache.values.head(head, shape.block_size, value_dim).numbers);
            }
            for run in self.runs(shape.block_size, span + skipped..span + num_positions) {
                let head = run.block * num_kv_heads + self.kv_head;
                let lane = run.position - span;
                let panel = &mut keys[lane / PANEL * key_dim..][..key_dim];
                let stored = cache.keys.head(head, shape.block_size, key_dim);
                stored.read_columns(&run, panel, lane % PANEL, instructions);
                let stored = cache.values.head(head, shape.block_size, value_dim);
                for (panel, lines) in values.chunks_exact_mut(longest).enumerate() {
                    let lines = &mut lines[lane..][..run.len];
                    stored.read_rows(&run, panel * PANEL, lines, instructions);
                }
            }
            scores.fill(0.0);
            let panels = keys.chunks_exact(key_dim);
            for (panel, lines) in panels.take(num_positions.div_ceil(PANEL)).enumerate() {
                let output = Output {
                    first: scores[panel * PANEL..].as_mut_ptr(),
                    stride: padded_span,
                };
                // SAFETY: the scores have a row of `padded_span` numbers for every query, a whole number of panels.
                unsafe { instructions.dot(lines, queries, output) };
            }
            let rows = scores.chunks_exact_mut(padded_span).zip(&mut softmax);
            let rows = rows.zip(sums.chunks_exact_mut(padded_dim)).enumerate();
            for (query, ((scores, softmax), sums)) in rows {
                let position = self.start + query / group;
                let visible = shape.first_visible(position).saturating_sub(span)
                    ..(position + 1).saturating_sub(span).min(num_positions);
                softmax.add::<FMA>(&mut scores[..num_positions], visible, sums);
            }
            let weights = Rows {
                numbers: &scores,
                len: padded_span,
                first: 0,
            };
            for (panel, lines) in values.chunks_exact(longest).enumerate() {
                let output = Output {
                    first: sums[panel * PANEL..].as_mut_ptr(),
                    stride: padded_dim,
                };
                // SAFETY: the sums have a row of `padded_dim` numbers for every query, a whole number of panels.
                unsafe { instructions.dot(&lines[..num_positions], weights, output) };
            }
        }
        let outputs = self.outputs.into_iter();
        let outputs = outputs.flat_map(|output| output.chunks_exact_mut(value_dim));
        let sums = sums.chunks_exact(padded_dim).zip(&softmax);
        for (output, (sums, softmax)) in outputs.zip(sums) {
            output.copy_from_slice(&sums[..value_dim]);
            scale(output, 1.0 / softmax.sum);
        }
    }

    /// Cuts positions where their block or their panel ends.
    fn runs(
        &self,
        block_size: usize,
        positions: std::ops::Range<usize>,
    ) -> impl Iterator<Item = Run> {
        let mut position = positions.start;
        std::iter::from_fn(move || {
            let slot = position % block_size;
            let left = positions.end - position;
            let len = left.min(block_size - slot).min(PANEL - position % PANEL);
            let run = (len > 0).then(|| Run {
                position,
                block: self.block_table[position / block_size] as usize,
                slot,
                len,
            });
            position += len;
            run
        })
    }
}

/// Asks for numbers that are wanted soon. They lie in many short pieces, so that the processor does not foresee it.
#[inline(always)]
fn prefetch<E>(numbers: &[E]) {
    #[cfg(target_arch = "x86_64")]
    for line in numbers.chunks((CACHE_LINE / size_of::<E>()).max(1)) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every processor of this kind has the instruction, and it changes nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = numbers;
}

const CACHE_LINE: usize = 64;

/// Consecutive positions in one block and one panel.
struct Run {
    position: usize,
    block: usize,
    slot: usize,
    len: usize,
}

impl Softmax {
    /// Turns the visible scores into weights and the others into zeros, and scales the sums so far to them.
    #[inline(always)]
    fn add<const FMA: bool>(
        &mut self,
        scores: &mut [f32],
        visible: std::ops::Range<usize>,
        sums: &mut [f32],
    ) {
        if visible.is_empty() {
            return scores.fill(0.0);
        }
        scores[..visible.start].fill(0.0);
        scores[visible.end..].fill(0.0);
        let (runs, rest) = scores[visible].as_chunks_mut::<LANES>();
        let mut max = [self.max; LANES];
        for run in &*runs {
            for (max, score) in max.iter_mut().zip(run) {
                *max = if *score > *max { *score } else { *max };
            }
        }
        let max = max
            .iter()
            .chain(&*rest)
            .fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        if max > self.max {
            let correction = exp::<FMA>(self.max - max);
            self.sum *= correction;
            scale(sums, correction);
            self.max = max;
        }
        let mut totals = [0f32; LANES];
        for run in runs {
            for (total, score) in totals.iter_mut().zip(run) {
                *score = exp::<FMA>(*score - max);
                *total += *score;
            }
        }
        let mut total: f32 = totals.iter().sum();
        for score in rest {
            *score = exp::<FMA>(*score - max);
            total += *score;
        }
        self.sum += total;
    }
}

/// What one block has of one head.
struct Head<'a, E> {
    numbers: &'a [E],
    scales: &'a [f16],
    block_size: usize,
    dim: usize,
}

impl<E: CacheElement> Stored<E> {
    #[inline(always)]
    fn head(&self, index: usize, block_size: usize, dim: usize) -> Head<'_, E> {
        let len = block_size * dim;
        let scales = block_size * num_scales::<E>(dim);
        Head {
            numbers: &self.numbers[index * len..][..len],
            scales: &self.scales[index * scales..][..scales],
            block_size,
            dim,
        }
    }
}

impl<E: CacheElement> Head<'_, E> {
    /// Reads keys, `[dim, block_size]`, into the lanes of a panel from `lane` on.
    #[inline(always)]
    fn read_columns(&self, run: &Run, panel: &mut [Line], lane: usize, instructions: Instructions) {
        let groups = panel.chunks_mut(SCALE_GROUP).enumerate();
        for (group, lines) in groups {
            for first in (0..run.len).step_by(LANES) {
                let len = LANES.min(run.len - first);
                let mut scales = [1f32; LANES];
                if E::IS_SCALED {
                    let stored = &self.scales[group * self.block_size + run.slot + first..][..len];
                    read_up_to::<f16>(stored, &mut scales[..len], instructions);
                }
                for (index, line) in lines.iter_mut().enumerate() {
                    let number = group * SCALE_GROUP + index;
                    let from = &self.numbers[number * self.block_size + run.slot + first..][..len];
                    let to = &mut line[lane + first..][..len];
                    read_up_to::<E>(from, to, instructions);
                    if E::IS_SCALED {
                        for (number, scale) in to.iter_mut().zip(&scales) {
                            *number *= scale;
                        }
                    }
                }
            }
        }
    }

    /// Reads values, `[block_size, dim]`, the numbers from `first` on, into one line for each position.
    #[inline(always)]
    fn read_rows(&self, run: &Run, first: usize, lines: &mut [Line], instructions: Instructions) {
        let width = PANEL.min(self.dim - first);
        let num_scales = num_scales::<E>(self.dim);
        for (index, line) in lines.iter_mut().enumerate() {
            let slot = run.slot + index;
            let from = &self.numbers[slot * self.dim + first..][..width];
            for (from, to) in from.chunks(LANES).zip(line.chunks_exact_mut(LANES)) {
                read_up_to::<E>(from, &mut to[..from.len()], instructions);
            }
            if E::IS_SCALED {
                let scale = self.scales[slot * num_scales + first / SCALE_GROUP].to_f32();
                line.iter_mut().for_each(|number| *number *= scale);
            }
        }
    }
}

/// Reads up to [`LANES`] numbers; both have the same number of them.
#[inline(always)]
fn read_up_to<E: CacheElement>(from: &[E], to: &mut [f32], instructions: Instructions) {
    if let (Ok(from), Ok(to)) = (from.try_into(), <&mut [f32; LANES]>::try_from(&mut *to)) {
        *to = E::read(from, instructions);
        return;
    }
    let mut padded = [E::default(); LANES];
    padded[..from.len()].copy_from_slice(from);
    to.copy_from_slice(&E::read(&padded, instructions)[..from.len()]);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CacheElement, Instructions, LayerCache, Tile};

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub fn attend_avx512<E: CacheElement>(tile: Tile, cache: &LayerCache<E>) {
        tile.attend_with::<E, true>(cache, Instructions::Avx512);
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn attend_avx2<E: CacheElement>(tile: Tile, cache: &LayerCache<E>) {
        tile.attend_with::<E, true>(cache, Instructions::Avx2);
    }
}
