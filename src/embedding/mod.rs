//! Text to vectors, on a thread of its own: a BERT encoder behind a cloneable handle. Nothing is cut to fit
//! unless the caller asks for that: a text that is too long is an error with both counts. Vectors do not depend on which other texts share a batch. Beside it the
//! [`Reranker`], which reads a query and a document together and gives a score.
//!
//! A text's way: [`Embedder::embed`] queues the request; the worker takes waiting texts in turn, interactive requests
//! first, turns each into token ids and fills one batch up to a token budget; the model gives one vector a text; when a
//! request has all of its vectors it is answered. A request whose future was dropped is forgotten before the next batch.

#[cfg(feature = "cuda")]
mod attention_cuda;
mod bert;
mod byte_layer;
mod config;
mod cross_encoder;
mod embedder;
mod fused;
mod linear;
mod load;
mod reranker;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
mod thread;
mod tokenizer;
mod weights;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

pub use embedder::Embedder;
pub use reranker::{RerankPair, Reranker, RerankerOptions, RerankerSpec, Score};
use worker::BATCH_TOKENS;

/// Token ids to vectors: what the worker thread owns. A fake and [`bert`] implement it.
pub trait EmbeddingModel: Send {
    /// One vector for each sequence of token ids, special tokens included, pooled and, where the model's files ask for
    /// it, normalised.
    fn embed(&mut self, token_ids: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EmbeddingError>;

    /// The same for passages. There are very many of them, so that a model may compute them faster and a little less
    /// exactly, and may end early where `stop` says that something more urgent waits: the vectors are those of the first
    /// sequences, at least one.
    fn embed_passages(
        &mut self,
        token_ids: &[Vec<u32>],
        stop: Stop<'_>,
    ) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        let _ = stop;
        self.embed(token_ids)
    }

    /// How many tokens it is given at a time, at most; more than by default only if it is quick, or, for what is done in the
    /// background, heeds `stop`.
    fn batch_tokens(&self, priority: Priority) -> usize {
        let _ = priority;
        BATCH_TOKENS
    }
}

/// Asked between two steps of a long computation: whether to end it.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// Text to token ids. Used from the worker and, for counting, from any thread.
pub trait EmbeddingTokenizer: Send + Sync {
    /// The ids of `text` between the special tokens that the model expects around it.
    fn encode(&self, text: &str) -> Result<Vec<u32>, EmbeddingError>;

    /// How many of the ids that [`encode`](Self::encode) returns are added special tokens.
    fn num_special_tokens(&self) -> usize;

    /// The id that stands for whatever the vocabulary does not have, where there is one.
    fn unknown_token(&self) -> Option<u32> {
        None
    }
}

/// How one vector is made from the vectors of all tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The vector of the first token.
    Cls,
    /// The mean over all tokens, special ones included.
    Mean,
}

/// What to assume where the model's own files say nothing; where they speak, they are right.
#[derive(Clone, Debug, Default)]
pub struct EmbedderOptions {
    /// The name to report; by default the folder's.
    pub name: Option<String>,
    pub pooling: Option<Pooling>,
    /// Put before each query.
    pub query_instruction: Option<String>,
    /// Put before each passage.
    pub passage_instruction: Option<String>,
    /// Where the model runs; by default on the CPU.
    pub device: Option<candle_core::Device>,
    pub precision: Precision,
}

/// The numbers that an encoder's matrices are multiplied in, for passages and for pairs; what else is embedded, questions
/// and the texts of API clients, is in f32 always. Vectors of both may be compared with one another: with all-MiniLM-L6-v2
/// those of one text have a cosine similarity of 0.999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As the model was trained, but for the order of additions.
    #[default]
    F32,
    /// Weights and activations in eight bits, 64 to a scale, on processors that are faster with those (AVX-512 VNNI); on
    /// others f32. On a GPU f16, for questions too.
    Int8,
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "int8" => Ok(Self::Int8),
            _ => Err(format!("{text:?} is not one of int8 and f32")),
        }
    }
}

/// Where and how an encoder is computed.
struct Placement {
    device: candle_core::Device,
    precision: Precision,
}

impl Placement {
    /// Whether matrices and attention are in f16, on a GPU.
    fn is_half(&self) -> bool {
        self.device.is_cuda() && self.precision == Precision::Int8
    }

    /// candle has a stream of a GPU for each thread, and nothing else would make that of the thread that computes wait until
    /// everything is where this one has put it.
    fn wait_for_weights(&self) -> Result<(), candle_core::Error> {
        self.device.synchronize()
    }
}

/// What an embedder is, fixed at load.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbedderSpec {
    pub name: String,
    /// The length of each vector.
    pub dimensions: usize,
    /// Lengths to which a vector may be cut and still serve, as the model was trained for it (Matryoshka representation
    /// learning, Kusupati et al. 2022). Mostly none.
    pub matryoshka_dimensions: Vec<usize>,
    /// The longest input in tokens, special tokens included.
    pub max_tokens: usize,
    pub pooling: Pooling,
    /// Whether vectors have length 1.
    pub normalize: bool,
    pub query_instruction: Option<String>,
    pub passage_instruction: Option<String>,
    /// SHA-256, in hex, over everything that decides a passage's vector: weights, tokenizer, pooling, instruction.
    /// Vectors with different hashes must not be compared.
    pub model_hash: String,
    pub num_parameters: usize,
    /// Memory that the weights occupy while loaded.
    pub memory_bytes: usize,
}

/// What a text is; decides the instruction put before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    Query,
    Passage,
    /// Embedded exactly as given.
    Raw,
}

/// What happens to a text or a pair that the model cannot read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLong {
    /// It is an error with both counts.
    Refuse,
    /// Its end is left out; of a pair the document's, never any of the query.
    Cut,
}

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Somebody sits in front of it: goes ahead of everything in the background.
    Interactive,
    Background,
}

/// The answer to one request, in the order of its texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of each text as it was read, special tokens and instruction included.
    pub num_tokens: Vec<usize>,
    /// Whether the end of each text was left out, because the caller allowed that.
    pub is_cut: Vec<bool>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum EmbeddingError {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        path: PathBuf,
        source: Arc<std::io::Error>,
    },
    #[error("{path} is not valid: {reason}", path = path.display())]
    InvalidFile { path: PathBuf, reason: String },
    #[error("this embedding model cannot be run: {reason}")]
    Unsupported { reason: String },
    #[error(
        "text {index} has {num_tokens} tokens, but the embedding model reads at most {num_max_tokens}; split it, or let its end be cut with 'truncate'"
    )]
    InputTooLong {
        /// Which text of the request.
        index: usize,
        num_tokens: usize,
        num_max_tokens: usize,
    },
    #[error(
        "document {index} has {num_tokens} tokens together with the query, but the rerank model reads at most \
         {num_max_tokens}; shorten it, or let its end be cut with 'truncate'"
    )]
    PairTooLong {
        /// Which document of the request.
        index: usize,
        num_tokens: usize,
        num_max_tokens: usize,
    },
    #[error(
        "the query leaves no room for a document: it takes {num_tokens} of the {num_max_tokens} tokens that the \
         rerank model reads; shorten the query"
    )]
    QueryTooLong {
        num_tokens: usize,
        num_max_tokens: usize,
    },
    #[error("cannot split the text into tokens: {reason}")]
    Tokenize { reason: String },
    #[error("token {id} is not in the embedding model's vocabulary of {vocab_size}")]
    UnknownToken { id: u32, vocab_size: usize },
    #[error(
        "the embedding model gave numbers that are not finite; its weights are damaged, pull the model again"
    )]
    NotFinite,
    #[error("the embedding model failed: {reason}")]
    Compute { reason: String },
    #[error("the embedder has stopped")]
    Stopped,
}

impl From<candle_core::Error> for EmbeddingError {
    fn from(error: candle_core::Error) -> Self {
        EmbeddingError::Compute {
            reason: error.to_string(),
        }
    }
}
