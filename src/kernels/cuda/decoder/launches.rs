//! What a step launches, kernel by kernel. Every argument follows from the step's size, never from the numbers that it uploads: else
//! a step could not be replayed with those of another.

use super::Layer;
use super::stage::Stage;
use super::workspace::Places;
use crate::kernels::cuda::attention::{self, Addresses, Plan, Rotation};
use crate::kernels::cuda::matrix::{self, Onto, Product};
use crate::kernels::cuda::memory::{Capture, Floats};
use crate::kernels::cuda::rows::{
    HalfRows, Heads, NormedUpdate, Source, add_normed, gather, halve, norm_heads,
};

/// A step for which the workspace has room, its numbers uploaded.
#[derive(Debug)]
pub(super) struct Run {
    pub plan: Plan,
    pub num_rows: usize,
    pub logits: LogitRows,
    pub places: Places,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogitRows {
    /// The head is elsewhere.
    None,
    All,
    /// So many, which the uploaded numbers name.
    Chosen(usize),
}

impl LogitRows {
    pub fn count(self, num_rows: usize) -> usize {
        match self {
            Self::None => 0,
            Self::All => num_rows,
            Self::Chosen(count) => count,
        }
    }

    /// How many are named by numbers that are uploaded, next to the angles.
    fn num_chosen(self) -> usize {
        self.count(0)
    }
}

/// Rows as the last part of a layer finds them.
#[derive(Debug, Clone, Copy)]
struct LayerRows {
    num_rows: usize,
    hidden: u64,
    attended: u64,
}

impl<M: Capture> Stage<M> {
    pub(super) fn launch(&self, run: &Run) -> Result<(), M::Error> {
        let mut rows = LayerRows {
            num_rows: run.num_rows,
            hidden: run.places.of_rows.hidden,
            attended: run.places.of_rows.attended,
        };
        for (index, layer) in self.layers.iter().enumerate() {
            self.attend(index, layer, run)?;
            if index + 1 == self.layers.len()
                && let LogitRows::Chosen(count) = run.logits
            {
                // Nothing reads the other rows any more.
                if count == 0 {
                    return Ok(());
                }
                rows = self.choose(count, run)?;
            }
            self.finish_layer(layer, rows, &run.places)?;
        }
        let Some(head) = &self.head else {
            return Ok(());
        };
        let source = self.normed(rows.hidden, &head.norm);
        let scaled = Onto {
            rows: 0,
            scale: self.settings.logit_scale,
        };
        let logits = Product {
            output: run.places.of_logits.logits,
            onto: Some(scaled),
            ..Product::alone(&head.output)
        };
        self.multiply(source, rows.num_rows, &[logits], &run.places)
    }

    /// Attention of one layer, before its output matrix.
    fn attend(&self, index: usize, layer: &Layer<M>, run: &Run) -> Result<(), M::Error> {
        let (sizes, places) = (self.workspace.sizes(), &run.places);
        let query = places.of_rows.qkv;
        let key = query + float_bytes(run.num_rows * sizes.queries());
        let value = key + float_bytes(run.num_rows * sizes.keys());
        let source = self.normed(places.of_rows.hidden, &layer.attention_norm);
        let matrices = [&layer.query, &layer.key, &layer.value];
        let products = [query, key, value]
            .iter()
            .zip(matrices)
            .map(|(&output, matrix)| Product {
                output,
                ..Product::alone(matrix)
            })
            .collect::<Vec<_>>();
        self.multiply(source, run.num_rows, &products, places)?;
        if let Some([query_norm, key_norm]) = &layer.head_norms {
            let heads = Heads {
                query,
                key,
                query_weight: query_norm.address(&self.memory),
                key_weight: key_norm.address(&self.memory),
                num_heads: layer.shape.num_heads,
                num_kv_heads: layer.shape.num_kv_heads,
                dim: layer.shape.key_dim,
            };
            let epsilon = self.settings.norm_epsilon;
            // SAFETY: the workspace has room for the run's rows, here and below.
            unsafe { norm_heads(&self.memory, &heads, run.num_rows, epsilon)? };
        }
        let [keys, values] = &self.cache[index];
        let at = Addresses {
            query,
            key,
            value,
            rotated: places.of_rows.rotated,
            keys: self.memory.address(keys),
            values: self.memory.address(values),
            plan: places.inputs + number_bytes(self.angles_len(run) + run.logits.num_chosen()),
            scratch: places.of_rows.attention_scratch,
            output: places.of_rows.attended,
        };
        let rotation = layer.rotation.map(|rotation| self.rotation(rotation, run));
        let stored = self.settings.stored;
        // SAFETY: the plan was made of slots and tables that were checked.
        unsafe { attention::attend(&self.memory, &layer.shape, stored, &run.plan, rotation, &at) }
    }

    /// Numbers of all angles, which come first among those that are uploaded.
    fn angles_len(&self, run: &Run) -> usize {
        2 * run.num_rows * self.workspace.sizes().num_pairs
    }

    fn rotation(&self, index: usize, run: &Run) -> Rotation {
        let rotations = &self.settings.rotations;
        let before: usize = rotations[..index].iter().map(|it| it.num_pairs).sum();
        let rotation = rotations[index];
        let cosines = run.places.inputs + number_bytes(2 * run.num_rows * before);
        Rotation {
            cosines,
            sines: cosines + number_bytes(run.num_rows * rotation.num_pairs),
            num_pairs: rotation.num_pairs,
            is_interleaved: rotation.is_interleaved,
        }
    }

    /// Gathers the rows that have logits.
    fn choose(&self, count: usize, run: &Run) -> Result<LayerRows, M::Error> {
        let (sizes, places) = (self.workspace.sizes(), &run.places);
        let chosen = places.inputs + number_bytes(self.angles_len(run));
        for (from, to, len) in [
            (
                places.of_rows.hidden,
                places.of_logits.hidden,
                sizes.hidden_size,
            ),
            (
                places.of_rows.attended,
                places.of_logits.attended,
                sizes.attended(),
            ),
        ] {
            // SAFETY: the rows that are chosen are among the step's.
            unsafe { gather(&self.memory, [from, chosen, to], [count, len])? };
        }
        Ok(LayerRows {
            num_rows: count,
            hidden: places.of_logits.hidden,
            attended: places.of_logits.attended,
        })
    }

    /// What follows attention in a layer; `rows.hidden` becomes the next layer's.
    fn finish_layer(
        &self,
        layer: &Layer<M>,
        rows: LayerRows,
        places: &Places,
    ) -> Result<(), M::Error> {
        let source = Source::Plain {
            rows: rows.attended,
        };
        let product = Product::alone(&layer.attention_output);
        self.add(
            source,
            product,
            layer.attention_post_norm.as_ref(),
            rows,
            places,
        )?;

        let gate = places.of_rows.gate_up;
        let up = gate + float_bytes(rows.num_rows * layer.gate.num_outputs());
        let products = [(&layer.gate, gate), (&layer.up, up)].map(|(matrix, output)| Product {
            output,
            ..Product::alone(matrix)
        });
        let source = self.normed(rows.hidden, &layer.feed_forward_norm);
        self.multiply(source, rows.num_rows, &products, places)?;
        let gate_is = self.settings.gate_is;
        let source = Source::Gated { gate, up, gate_is };
        let product = Product::alone(&layer.down);
        self.add(
            source,
            product,
            layer.feed_forward_post_norm.as_ref(),
            rows,
            places,
        )
    }

    /// Adds a product, normed where there is a norm for it, to the hidden rows.
    fn add(
        &self,
        source: Source,
        product: Product<M>,
        norm: Option<&Floats<M>>,
        rows: LayerRows,
        places: &Places,
    ) -> Result<(), M::Error> {
        let scale = self.settings.residual_scale;
        let Some(norm) = norm else {
            // A number is read, added to and written by one thread.
            let product = Product {
                output: rows.hidden,
                onto: Some(Onto {
                    rows: rows.hidden,
                    scale,
                }),
                ..product
            };
            return self.multiply(source, rows.num_rows, &[product], places);
        };
        let product = Product {
            output: places.of_rows.update,
            ..product
        };
        self.multiply(source, rows.num_rows, &[product], places)?;
        let update = NormedUpdate {
            update: places.of_rows.update,
            weight: norm.address(&self.memory),
            epsilon: self.settings.norm_epsilon,
            scale,
        };
        let shape = [rows.num_rows, self.workspace.sizes().hidden_size];
        // SAFETY: as above.
        unsafe { add_normed(&self.memory, rows.hidden, &update, shape) }
    }

    fn normed(&self, rows: u64, weight: &Floats<M>) -> Source {
        Source::Normed {
            rows,
            weight: weight.address(&self.memory),
            epsilon: self.settings.norm_epsilon,
        }
    }

    fn multiply(
        &self,
        source: Source,
        num_rows: usize,
        products: &[Product<M>],
        places: &Places,
    ) -> Result<(), M::Error> {
        let len = products[0].matrix.num_inputs();
        let rows = HalfRows::new(places.of_rows.halves, num_rows, len);
        // SAFETY: the workspace has room for so many rows of any of the model's matrices.
        unsafe {
            halve(&self.memory, source, &rows)?;
            matrix::multiply(
                &self.memory,
                &rows,
                products,
                places.of_rows.product_scratch,
            )
        }
    }
}

fn float_bytes(count: usize) -> u64 {
    (count * size_of::<f32>()) as u64
}

fn number_bytes(count: usize) -> u64 {
    (count * size_of::<u32>()) as u64
}
