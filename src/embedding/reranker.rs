//! The reranker's handle: a cross-encoder on a thread of its own, batched and queued as the embedder is. A pair that is too
//! long is refused, or its document's end is cut when the caller asks for that, and the answer says so.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;

use super::bert::Tokens;
use super::config::{Architecture, ScoreHead, read, read_max_tokens};
use super::cross_encoder::CrossEncoder;
use super::load::folder_name;
use super::thread::ModelThread;
use super::tokenizer::FileTokenizer;
use super::weights::Weights;
use super::worker::Computation;
use super::{EmbeddingError, Placement, Precision, Priority, Stop, TooLong};
use crate::kernels::mapped_file::MappedFile;

/// A handle to a running rerank model. The model stops when the last clone is dropped.
#[derive(Clone)]
pub struct Reranker {
    shared: Arc<Shared>,
}

struct Shared {
    spec: RerankerSpec,
    thread: ModelThread<Reranking>,
}

/// What to assume where the model's own files say nothing.
#[derive(Clone, Debug, Default)]
pub struct RerankerOptions {
    /// The name to report; by default the folder's.
    pub name: Option<String>,
    /// Where the model runs; by default on the CPU.
    pub device: Option<Device>,
    pub precision: Precision,
}

/// What a reranker is, fixed at load.
#[derive(Clone, Debug, PartialEq)]
pub struct RerankerSpec {
    pub name: String,
    /// The longest pair in tokens, special tokens included.
    pub max_tokens: usize,
    pub num_parameters: usize,
    /// Memory that the weights occupy while loaded.
    pub memory_bytes: usize,
}

/// A document that is to be scored for a query.
#[derive(Clone, Debug)]
pub struct RerankPair {
    pub query: Arc<str>,
    pub document: String,
    pub too_long: TooLong,
}

/// How well a document answers a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// As the model gives it, unbounded.
    pub logit: f32,
    /// Whether the document's end was left out.
    pub is_cut: bool,
    /// Tokens of the pair as it was read.
    pub num_tokens: usize,
}

impl Score {
    /// The logit as a probability.
    pub fn relevance(&self) -> f32 {
        1.0 / (1.0 + (-self.logit).exp())
    }
}

/// Pairs to scores.
struct Reranking {
    model: CrossEncoder,
    tokenizer: FileTokenizer,
    max_tokens: usize,
}

struct Pair {
    tokens: Tokens,
    is_cut: bool,
}

impl Computation for Reranking {
    type Input = RerankPair;
    type Tokens = Pair;
    type Output = Score;

    fn encode(&self, pair: &RerankPair, index: usize) -> Result<Pair, EmbeddingError> {
        let encoded = self.tokenizer.encode_pair(&pair.query, &pair.document)?;
        let (mut ids, second) = (encoded.ids, encoded.second);
        let num_tokens = ids.len();
        let num_excess = num_tokens.saturating_sub(self.max_tokens);
        if num_excess > 0 {
            let num_max_tokens = self.max_tokens;
            if num_excess >= second.len() {
                return Err(EmbeddingError::QueryTooLong {
                    num_tokens: num_tokens - second.len(),
                    num_max_tokens,
                });
            }
            if pair.too_long == TooLong::Refuse {
                return Err(EmbeddingError::PairTooLong {
                    index,
                    num_tokens,
                    num_max_tokens,
                });
            }
            ids.drain(second.end - num_excess..second.end);
        }
        let num_first = encoded.num_first.min(ids.len());
        Ok(Pair {
            tokens: Tokens { ids, num_first },
            is_cut: num_excess > 0,
        })
    }

    fn num_tokens(pair: &Pair) -> usize {
        pair.tokens.ids.len()
    }

    fn batch_tokens(&self, _: Priority) -> usize {
        self.model.batch_tokens()
    }

    fn compute(
        &mut self,
        batch: &[Pair],
        _: Stop<'_>,
    ) -> Result<Vec<Option<Score>>, EmbeddingError> {
        let tokens: Vec<Tokens> = batch.iter().map(|pair| pair.tokens.clone()).collect();
        let logits = self.model.score(&tokens)?;
        let score = |(pair, logit): (&Pair, f32)| {
            Some(Score {
                logit,
                is_cut: pair.is_cut,
                num_tokens: pair.tokens.ids.len(),
            })
        };
        Ok(batch.iter().zip(logits).map(score).collect())
    }
}

impl Reranker {
    /// Loads the model in `dir` (config.json, tokenizer.json, model.safetensors) and starts its thread. Blocks for as long
    /// as reading the weights takes.
    pub fn load(dir: &Path, options: RerankerOptions) -> Result<Reranker, EmbeddingError> {
        let architecture = Architecture::read(dir)?;
        let head = ScoreHead::read(dir)?;
        let tokenizer_path = dir.join("tokenizer.json");
        let tokenizer = FileTokenizer::from_bytes(
            &read(&tokenizer_path)?,
            &tokenizer_path,
            architecture.vocab_size,
        )?;
        let num_positions = architecture.num_positions - architecture.first_position;
        let max_tokens = read_max_tokens(dir)?.map_or(num_positions, |max| max.min(num_positions));
        let num_special_tokens = tokenizer.encode_pair("", "")?.ids.len();
        if max_tokens <= num_special_tokens {
            return Err(EmbeddingError::Unsupported {
                reason: format!(
                    "it reads {max_tokens} tokens, of which {num_special_tokens} are special ones"
                ),
            });
        }
        let weights_path = dir.join("model.safetensors");
        let bytes = MappedFile::open(&weights_path).map_err(|error| EmbeddingError::Read {
            path: weights_path.clone(),
            source: Arc::new(error),
        })?;
        let weights = Weights::new(&bytes, &weights_path)?;
        let placement = Placement {
            device: options.device.unwrap_or(Device::Cpu),
            precision: options.precision,
        };
        let model = CrossEncoder::load(&weights, &architecture, head, &placement)?;
        let num_parameters = weights.num_parameters();
        let spec = RerankerSpec {
            name: options.name.unwrap_or_else(|| folder_name(dir)),
            max_tokens,
            num_parameters,
            memory_bytes: model.num_bytes(),
        };
        let reranking = Reranking {
            model,
            tokenizer,
            max_tokens,
        };
        let thread = ModelThread::start("reranker", reranking)?;
        let shared = Arc::new(Shared { spec, thread });
        Ok(Reranker { shared })
    }

    pub fn spec(&self) -> &RerankerSpec {
        &self.shared.spec
    }

    /// One score a pair, in the order of the pairs. Waits while the queue is full; dropping the future withdraws the
    /// request.
    ///
    /// # Errors
    /// [`EmbeddingError::PairTooLong`] and [`EmbeddingError::QueryTooLong`] for the first pair that does not fit.
    pub async fn score(
        &self,
        pairs: Vec<RerankPair>,
        priority: Priority,
    ) -> Result<Vec<Score>, EmbeddingError> {
        Ok(self.shared.thread.compute(pairs, priority).await?.values)
    }

    /// Whether the thread still runs; once false, every request fails with [`EmbeddingError::Stopped`].
    pub fn is_alive(&self) -> bool {
        self.shared.thread.is_alive()
    }

    /// Stops the thread after the batch it is computing and waits for its end.
    pub async fn shutdown(&self) {
        self.shared.thread.shutdown().await;
    }
}
