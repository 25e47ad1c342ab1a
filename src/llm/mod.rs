//! Tokens in, logits out: GGUF loading, one decoder, and the seam that the engine drives it through.
//! Knows nothing of text or requests, and of sampling only what a [`Draw`] says.

pub mod gguf;

mod attention;
#[cfg(feature = "cuda")]
mod attention_cuda;
mod attention_ops;
mod checkpoint;
mod decoder;
#[cfg(any(feature = "cuda", test))]
mod device_model;
#[cfg(feature = "cuda")]
mod drawing_cuda;
mod feed_forward;
mod folder;
mod hyperparameters;
mod linear;
#[cfg(feature = "cuda")]
mod linear_cuda;
mod rope;
mod rows;
mod split;
mod step;
mod tensor_model;
#[doc(hidden)]
pub mod testing;
mod weights;

use std::path::PathBuf;

pub use decoder::{Beside, CacheSize, Decoder, GPU_PACKING_SHARE, KvDtype, LoadOptions, StepSize};
pub use rope::RopeScaling;
pub use split::{PartBytes, split, with_cache_that_fits};

pub use crate::kernels::draw::{Draw, Drawn, InvalidLogits};

/// What a loaded model is and how much it can hold.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    /// Architecture name as GGUF spells it, such as `llama` or `qwen2`.
    pub architecture: String,
    /// Number of logits a row has.
    pub vocab_size: usize,
    /// Longest sequence, in tokens, that the model was made for.
    pub context_length: usize,
    /// Positions in one block of the paged KV cache.
    pub block_size: usize,
    /// Blocks that the KV cache holds in all.
    pub num_blocks: usize,
    /// Bytes held by weights.
    pub weights_bytes: u64,
    /// Bytes held by the KV cache.
    pub cache_bytes: u64,
}

/// The work of one step: slices of several sequences, run as one flat batch.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Cache blocks to copy, from and to, one after the other, before anything is computed.
    pub copies: Vec<(u32, u32)>,
    pub sequences: Vec<SequenceInput>,
}

impl Batch {
    /// For each row of logits that is asked for, what its token may be drawn by instead.
    pub fn draws(&self) -> Vec<Option<Draw>> {
        let of_sequence = |input: &SequenceInput| match input.logits {
            LogitsFor::None => vec![],
            LogitsFor::Last => vec![input.draw],
            LogitsFor::All => vec![None; input.tokens.len()],
        };
        self.sequences.iter().flat_map(of_sequence).collect()
    }
}

/// The next tokens of one sequence.
#[derive(Debug, Clone)]
pub struct SequenceInput {
    /// Tokens at positions `start .. start + tokens.len()`; never empty.
    pub tokens: Vec<u32>,
    /// Positions before `start` are in the cache already.
    pub start: usize,
    /// Position `p` is kept in block `block_table[p / block_size]`, slot `p % block_size`.
    pub block_table: Vec<u32>,
    /// Which of the tokens need a row of logits.
    pub logits: LogitsFor,
    /// With [`LogitsFor::Last`]: the model may draw the next token by this and keep the logits for itself.
    pub draw: Option<Draw>,
}

/// Which positions of a sequence's slice get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsFor {
    None,
    Last,
    All,
}

/// Rows of logits, in the order of the batch's sequences and positions, or the tokens that were drawn from them.
#[derive(Debug, Clone)]
pub struct Logits {
    rows: Vec<Kept>,
    values: Vec<f32>,
    vocab_size: usize,
}

/// What there is of a row of logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Row<'a> {
    Logits(&'a [f32]),
    Drawn(Drawn),
}

#[derive(Debug, Clone, Copy)]
enum Kept {
    /// Which of the rows in `values` it is.
    Values(usize),
    Drawn(Drawn),
}

impl Logits {
    /// `values` is row-major `[num_rows, vocab_size]`.
    pub fn new(values: Vec<f32>, vocab_size: usize) -> Self {
        assert!(vocab_size > 0 && values.len().is_multiple_of(vocab_size));
        let rows = (0..values.len() / vocab_size).map(Kept::Values).collect();
        Self {
            rows,
            values,
            vocab_size,
        }
    }

    /// `values` has the rows of which no token was drawn.
    pub fn with_drawn(
        values: Vec<f32>,
        vocab_size: usize,
        drawn: impl IntoIterator<Item = Option<Drawn>>,
    ) -> Self {
        let mut logits = Self::new(values, vocab_size);
        let mut rest = std::mem::take(&mut logits.rows).into_iter();
        let row = |drawn: Option<Drawn>| match drawn {
            Some(drawn) => Kept::Drawn(drawn),
            None => rest.next().expect("a row was drawn from or has values"),
        };
        logits.rows = drawn.into_iter().map(row).collect();
        assert!(rest.next().is_none(), "a row was drawn from and has values");
        logits
    }

    pub fn num_rows(&self) -> usize {
        self.rows.len()
    }

    pub fn given(&self, index: usize) -> Row<'_> {
        match self.rows[index] {
            Kept::Values(place) => {
                Row::Logits(&self.values[place * self.vocab_size..][..self.vocab_size])
            }
            Kept::Drawn(drawn) => Row::Drawn(drawn),
        }
    }

    /// # Panics
    /// When a token was drawn from the row, which happens only where it was asked for.
    pub fn row(&self, index: usize) -> &[f32] {
        match self.given(index) {
            Row::Logits(logits) => logits,
            Row::Drawn(_) => panic!("a token was drawn from row {index}"),
        }
    }
}

/// A decoder with an external, paged KV cache. The model owns the cache's memory, its caller decides which blocks
/// belong to which sequence.
pub trait LanguageModel: Send {
    fn spec(&self) -> &ModelSpec;

    /// Runs one step: copies blocks, writes keys and values of every token into the cache and returns the logits asked for,
    /// or what it has drawn from them.
    fn forward(&mut self, batch: &Batch) -> Result<Logits, LlmError>;
}

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum LlmError {
    #[error(transparent)]
    Gguf(#[from] gguf::GgufError),
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is not a usable file of a model: {problem}; download it again", path = path.display())]
    InvalidFile { path: PathBuf, problem: String },
    #[error("models of the architecture {name:?} cannot be run; use one of {supported}")]
    UnsupportedArchitecture { name: String, supported: String },
    #[error("the model needs {feature}, which cannot be computed; use another conversion of it")]
    UnsupportedFeature { feature: String },
    #[error(
        "the model's metadata {key:?} is missing or not of its type; convert the model again with current tools"
    )]
    MissingMetadata { key: String },
    #[error("the model's metadata {key:?} is {value}, but {problem}; convert the model again")]
    InvalidMetadata {
        key: String,
        value: String,
        problem: String,
    },
    #[error("the model has no tensor {name:?}; download it again or convert it again")]
    MissingTensor { name: String },
    #[error("the model's tensor {tensor:?} {problem}; convert the model again")]
    InvalidTensor { tensor: String, problem: String },
    #[error("{problem}; change the cache's settings")]
    InvalidOptions { problem: String },
    #[error(
        "the KV cache would take {needed_bytes} bytes, but only {available_bytes} are available; make it smaller"
    )]
    CacheTooLarge {
        needed_bytes: u64,
        available_bytes: u64,
    },
    #[error(
        "the system gives no memory for the model's weights and cache ({0}); make the cache smaller or take a smaller model"
    )]
    NoMemory(#[source] std::io::Error),
    #[error(
        "its {num_layers} layers, which take up to {layer_bytes} bytes each with their cache, and its output matrix of {head_bytes} \
         bytes do not fit into what the GPUs have free, {free_bytes:?} bytes, beside {each_bytes} bytes on each; make the KV \
         cache smaller or take a smaller model"
    )]
    SplitTooLarge {
        num_layers: usize,
        layer_bytes: u64,
        head_bytes: u64,
        each_bytes: u64,
        free_bytes: Vec<u64>,
    },
    #[error("sequence {sequence} of the batch cannot be run: {problem}")]
    InvalidBatch { sequence: usize, problem: String },
    #[error("block {block} cannot be copied: it is outside the cache of {num_blocks}")]
    InvalidCopy { block: u32, num_blocks: usize },
    #[error("the model computation failed: {0}")]
    Compute(#[from] candle_core::Error),
}
