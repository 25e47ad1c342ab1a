//! A few queries of one sequence that read the same keys and values.

use std::ops::Range;

use half::f16;

use super::element::{CacheElement, LANES, SCALE_GROUP};
use super::{AttentionShape, LayerCache, Stored, num_scales};
use crate::kernels::matrix::float::{Instructions, Line, Output, PANEL, Rows};
use crate::kernels::vector::{scale, softmax_weight};

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
        let end = self.start + self.queries.len();
        let first_visible = shape.first_visible(self.start);
        let first_span = first_visible / SPAN * SPAN;
        let mut work = Work::new(&self, shape, SPAN.min(end - first_span));
        for span in (first_span..end).step_by(SPAN) {
            let span = Span {
                start: span,
                num_positions: SPAN.min(end - span),
            };
            let next = span.start + span.num_positions;
            self.prefetch(cache, next..end.min(next + SPAN));
            let seen = first_visible.max(span.start)..next;
            work.gather(&self, cache, &span, seen, instructions);
            work.score(&span, instructions);
            work.weigh::<FMA>(&self, &span);
            work.mix(&span, instructions);
        }
        work.finish(self.outputs);
    }

    /// Asks for keys and values that are wanted soon. They lie in many short pieces, so that the processor does not
    /// foresee it.
    #[inline(always)]
    fn prefetch<E: CacheElement>(&self, cache: &LayerCache<E>, positions: Range<usize>) {
        let shape = cache.shape;
        for run in self.runs(shape.block_size, positions) {
            let head = run.block * shape.num_kv_heads + self.kv_head;
            let keys = cache.keys.head(head, shape.block_size, shape.key_dim);
            prefetch(keys.numbers);
            let values = cache.values.head(head, shape.block_size, shape.value_dim);
            prefetch(values.numbers);
        }
    }

    /// Cuts positions where their block or their panel ends.
    fn runs(&self, block_size: usize, positions: Range<usize>) -> impl Iterator<Item = Run> {
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

/// Positions that are attended to together.
struct Span {
    start: usize,
    num_positions: usize,
}

/// What a tile's rows have come to, and room for what they read.
struct Work {
    shape: AttentionShape,
    /// Heads of a row that read the same key head.
    group: usize,
    /// `[num_queries, key_dim]`, scaled.
    queries: Vec<f32>,
    /// `[num_queries, padded_span]`: scores, then weights.
    scores: Vec<f32>,
    /// `[num_queries, padded_dim]`.
    sums: Vec<f32>,
    softmax: Vec<Softmax>,
    /// Panels of positions, `[padded_span / PANEL, key_dim]`. Lanes that nobody may see hold anything.
    keys: Vec<Line>,
    /// Panels of numbers, `[padded_dim / PANEL, span_len]`. Positions that nobody may see hold zeros.
    values: Vec<Line>,
    /// Positions of the longest span.
    span_len: usize,
    /// The same in whole panels.
    padded_span: usize,
    /// A value's numbers in whole panels.
    padded_dim: usize,
}

impl Work {
    fn new(tile: &Tile, shape: AttentionShape, span_len: usize) -> Self {
        let group = shape.num_heads / shape.num_kv_heads;
        let num_queries = tile.queries.len() * group;
        let mut queries = Vec::with_capacity(num_queries * shape.key_dim);
        for row in &tile.queries {
            queries.extend(row.iter().map(|number| number * shape.score_scale));
        }
        let padded_span = span_len.next_multiple_of(PANEL);
        let padded_dim = shape.value_dim.next_multiple_of(PANEL);
        let nothing = Softmax {
            max: f32::NEG_INFINITY,
            sum: 0.0,
        };
        Self {
            shape,
            group,
            queries,
            scores: vec![0.0; num_queries * padded_span],
            sums: vec![0.0; num_queries * padded_dim],
            softmax: vec![nothing; num_queries],
            keys: vec![[0.0; PANEL]; padded_span / PANEL * shape.key_dim],
            values: vec![[0.0; PANEL]; padded_dim / PANEL * span_len],
            span_len,
            padded_span,
            padded_dim,
        }
    }

    /// Reads the keys and values of those positions of the span that some row sees.
    #[inline(always)]
    fn gather<E: CacheElement>(
        &mut self,
        tile: &Tile,
        cache: &LayerCache<E>,
        span: &Span,
        seen: Range<usize>,
        instructions: Instructions,
    ) {
        let AttentionShape {
            num_kv_heads,
            key_dim,
            value_dim,
            block_size,
            ..
        } = self.shape;
        for run in tile.runs(block_size, seen) {
            let head = run.block * num_kv_heads + tile.kv_head;
            let lane = run.position - span.start;
            let panel = &mut self.keys[lane / PANEL * key_dim..][..key_dim];
            let stored = cache.keys.head(head, block_size, key_dim);
            stored.read_columns(&run, panel, lane % PANEL, instructions);
            let stored = cache.values.head(head, block_size, value_dim);
            for (panel, lines) in self.values.chunks_exact_mut(self.span_len).enumerate() {
                let lines = &mut lines[lane..][..run.len];
                stored.read_rows(&run, panel * PANEL, lines, instructions);
            }
        }
    }

    /// The products of all queries with all keys of the span.
    #[inline(always)]
    fn score(&mut self, span: &Span, instructions: Instructions) {
        let queries = Rows {
            numbers: &self.queries,
            len: self.shape.key_dim,
            first: 0,
        };
        self.scores.fill(0.0);
        let panels = self.keys.chunks_exact(self.shape.key_dim);
        let num_panels = span.num_positions.div_ceil(PANEL);
        for (panel, lines) in panels.take(num_panels).enumerate() {
            let output = Output {
                first: self.scores[panel * PANEL..].as_mut_ptr(),
                stride: self.padded_span,
            };
            // SAFETY: the scores have a row of `padded_span` numbers for every query, a whole number of panels.
            unsafe { instructions.dot(lines, queries, output) };
        }
    }

    /// Makes weights of the scores.
    #[inline(always)]
    fn weigh<const FMA: bool>(&mut self, tile: &Tile, span: &Span) {
        let rows = self.scores.chunks_exact_mut(self.padded_span);
        let rows = rows.zip(self.sums.chunks_exact_mut(self.padded_dim));
        for (query, ((scores, sums), softmax)) in rows.zip(&mut self.softmax).enumerate() {
            let position = tile.start + query / self.group;
            let first = self.shape.first_visible(position);
            let end = (position + 1).saturating_sub(span.start);
            let visible = first.saturating_sub(span.start)..end.min(span.num_positions);
            softmax.add::<FMA>(&mut scores[..span.num_positions], visible, sums);
        }
    }

    /// Adds the values by their weights.
    #[inline(always)]
    fn mix(&mut self, span: &Span, instructions: Instructions) {
        let weights = Rows {
            numbers: &self.scores,
            len: self.padded_span,
            first: 0,
        };
        for (panel, lines) in self.values.chunks_exact(self.span_len).enumerate() {
            let output = Output {
                first: self.sums[panel * PANEL..].as_mut_ptr(),
                stride: self.padded_dim,
            };
            // SAFETY: the sums have a row of `padded_dim` numbers for every query, a whole number of panels.
            unsafe { instructions.dot(&lines[..span.num_positions], weights, output) };
        }
    }

    #[inline(always)]
    fn finish(self, outputs: Vec<&mut [f32]>) {
        let value_dim = self.shape.value_dim;
        let outputs = outputs.into_iter();
        let outputs = outputs.flat_map(|output| output.chunks_exact_mut(value_dim));
        let sums = self.sums.chunks_exact(self.padded_dim).zip(&self.softmax);
        for (output, (sums, softmax)) in outputs.zip(sums) {
            output.copy_from_slice(&sums[..value_dim]);
            scale(output, 1.0 / softmax.sum);
        }
    }
}

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
        visible: Range<usize>,
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
            let correction = softmax_weight::<FMA>(self.max - max);
            self.sum *= correction;
            scale(sums, correction);
            self.max = max;
        }
        let mut totals = [0f32; LANES];
        for run in runs {
            for (total, score) in totals.iter_mut().zip(run) {
                *score = softmax_weight::<FMA>(*score - max);
                *total += *score;
            }
        }
        let mut total: f32 = totals.iter().sum();
        for score in rest {
            *score = softmax_weight::<FMA>(*score - max);
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
