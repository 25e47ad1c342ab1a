//! The embedder's handle: cheap to clone, safe to use from any thread, async where it waits. It never runs the model and
//! never holds a lock while waiting.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use super::thread::ModelThread;
use super::worker::Computation;
use super::{
    EmbedderOptions, EmbedderSpec, EmbeddingError, EmbeddingModel, EmbeddingTokenizer, Embeddings,
    InputKind, Priority, Stop, TooLong, load,
};

/// A handle to a running embedding model. The model stops when the last clone is dropped.
#[derive(Clone)]
pub struct Embedder {
    shared: Arc<Shared>,
}

struct Shared {
    spec: EmbedderSpec,
    tokenizer: Arc<dyn EmbeddingTokenizer>,
    max_passage_tokens: usize,
    thread: ModelThread<Embedding>,
}

/// Texts to vectors.
struct Embedding {
    model: Box<dyn EmbeddingModel>,
    tokenizer: Arc<dyn EmbeddingTokenizer>,
    max_tokens: usize,
    /// Special tokens after the text.
    num_last: usize,
}

/// A text to embed.
struct Input {
    text: String,
    too_long: TooLong,
    is_passage: bool,
}

struct Encoded {
    ids: Vec<u32>,
    is_passage: bool,
    is_cut: bool,
}

struct Vector {
    values: Vec<f32>,
    is_cut: bool,
}

/// That a model gave as many vectors as it may.
fn check(vectors: &[Vec<f32>], num: RangeInclusive<usize>) -> Result<(), EmbeddingError> {
    if num.contains(&vectors.len()) {
        return Ok(());
    }
    Err(EmbeddingError::Compute {
        reason: format!("it gave {} outputs for {} inputs", vectors.len(), num.end()),
    })
}

impl Computation for Embedding {
    type Input = Input;
    type Tokens = Encoded;
    type Output = Vector;

    fn encode(&self, input: &Input, index: usize) -> Result<Encoded, EmbeddingError> {
        let mut ids = self.tokenizer.encode(&input.text)?;
        let num_tokens = ids.len();
        let num_excess = num_tokens.saturating_sub(self.max_tokens);
        if num_excess > 0 {
            if input.too_long == TooLong::Refuse {
                return Err(EmbeddingError::InputTooLong {
                    index,
                    num_tokens,
                    num_max_tokens: self.max_tokens,
                });
            }
            let end = num_tokens - self.num_last;
            ids.drain(end - num_excess..end);
        }
        Ok(Encoded {
            ids,
            is_passage: input.is_passage,
            is_cut: num_excess > 0,
        })
    }

    fn num_tokens(encoded: &Encoded) -> usize {
        encoded.ids.len()
    }

    fn batch_tokens(&self, priority: Priority) -> usize {
        self.model.batch_tokens(priority)
    }

    fn compute(
        &mut self,
        batch: &[Encoded],
        stop: Stop<'_>,
    ) -> Result<Vec<Option<Vector>>, EmbeddingError> {
        let ids = |is_passage: bool| -> Vec<Vec<u32>> {
            let some = batch.iter().filter(|it| it.is_passage == is_passage);
            some.map(|it| it.ids.clone()).collect()
        };
        let (passages, others) = (ids(true), ids(false));
        let mut in_order = [Vec::new(), Vec::new()];
        if !passages.is_empty() {
            in_order[0] = self.model.embed_passages(&passages, stop)?;
            check(&in_order[0], 1..=passages.len())?;
        }
        if !others.is_empty() {
            in_order[1] = self.model.embed(&others)?;
            check(&in_order[1], others.len()..=others.len())?;
        }
        let [mut passages, mut others] = in_order.map(Vec::into_iter);
        let vector = |encoded: &Encoded| {
            let values = match encoded.is_passage {
                true => passages.next(),
                false => others.next(),
            };
            values.map(|values| Vector {
                values,
                is_cut: encoded.is_cut,
            })
        };
        Ok(batch.iter().map(vector).collect())
    }
}

impl Embedder {
    /// Loads the model in `dir` (config.json, tokenizer.json, model.safetensors and the sentence-transformers files
    /// beside them) and starts its thread. Blocks for as long as reading and hashing the weights takes.
    pub fn load(dir: &Path, options: EmbedderOptions) -> Result<Embedder, EmbeddingError> {
        let loaded = load::load(dir, options)?;
        Embedder::start(
            Box::new(loaded.model),
            Arc::new(loaded.tokenizer),
            loaded.spec,
        )
    }

    /// Starts a thread for a model that is already in memory.
    pub fn start(
        model: Box<dyn EmbeddingModel>,
        tokenizer: Arc<dyn EmbeddingTokenizer>,
        spec: EmbedderSpec,
    ) -> Result<Embedder, EmbeddingError> {
        let instruction = spec.passage_instruction.as_deref().unwrap_or("");
        let max_passage_tokens = spec
            .max_tokens
            .saturating_sub(tokenizer.encode(instruction)?.len());
        let num_last = num_last_special_tokens(&*tokenizer)?;
        let computation = Embedding {
            model,
            tokenizer: tokenizer.clone(),
            max_tokens: spec.max_tokens,
            num_last,
        };
        Ok(Embedder {
            shared: Arc::new(Shared {
                spec,
                tokenizer,
                max_passage_tokens,
                thread: ModelThread::start("embedder", computation)?,
            }),
        })
    }

    pub fn spec(&self) -> &EmbedderSpec {
        &self.shared.spec
    }

    /// One vector a text. Waits while the queue is full; dropping the future withdraws the request.
    ///
    /// # Errors
    /// [`EmbeddingError::InputTooLong`] for the first text that does not fit; nothing is cut.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        kind: InputKind,
        priority: Priority,
    ) -> Result<Embeddings, EmbeddingError> {
        self.compute(texts, kind, priority, TooLong::Refuse).await
    }

    /// As [`embed`](Self::embed), but of a text that is too long, what fits of its beginning is embedded.
    pub async fn embed_cut(
        &self,
        texts: Vec<String>,
        kind: InputKind,
        priority: Priority,
    ) -> Result<Embeddings, EmbeddingError> {
        self.compute(texts, kind, priority, TooLong::Cut).await
    }

    async fn compute(
        &self,
        texts: Vec<String>,
        kind: InputKind,
        priority: Priority,
        too_long: TooLong,
    ) -> Result<Embeddings, EmbeddingError> {
        let instruction = self.instruction(kind).unwrap_or_default();
        let input = |mut text: String| {
            text.insert_str(0, instruction);
            Input {
                text,
                too_long,
                is_passage: kind == InputKind::Passage,
            }
        };
        let inputs = texts.into_iter().map(input).collect();
        let outputs = self.shared.thread.compute(inputs, priority).await?;
        let vectors = outputs.values.into_iter();
        let (vectors, is_cut) = vectors.map(|it| (it.values, it.is_cut)).unzip();
        Ok(Embeddings {
            vectors,
            num_tokens: outputs.num_tokens,
            is_cut,
        })
    }

    /// The text put before an input of this kind.
    fn instruction(&self, kind: InputKind) -> Option<&str> {
        let spec = &self.shared.spec;
        match kind {
            InputKind::Query => spec.query_instruction.as_deref(),
            InputKind::Passage => spec.passage_instruction.as_deref(),
            InputKind::Raw => None,
        }
    }

    /// Tokens of `text` as this model counts them, without special tokens and instructions. A text that the tokenizer
    /// refuses counts as its length in bytes, which no tokenization exceeds.
    pub fn count_tokens(&self, text: &str) -> usize {
        match self.shared.tokenizer.encode(text) {
            Ok(ids) => ids.len() - self.shared.tokenizer.num_special_tokens(),
            Err(_) => text.len(),
        }
    }

    /// Whether the vocabulary has at least half of what `text` is made of. Otherwise its vector says nothing: texts in
    /// two foreign scripts are all alike.
    pub fn can_read(&self, text: &str) -> bool {
        let (tokenizer, unknown) = match self.shared.tokenizer.unknown_token() {
            Some(unknown) => (&self.shared.tokenizer, unknown),
            None => return true,
        };
        let Ok(ids) = tokenizer.encode(text) else {
            return false;
        };
        let num_unknown = ids.iter().filter(|id| **id == unknown).count();
        num_unknown * 2 <= ids.len().saturating_sub(tokenizer.num_special_tokens())
    }

    /// The most tokens, by [`count_tokens`](Self::count_tokens), that a passage may have.
    pub fn max_passage_tokens(&self) -> usize {
        self.shared.max_passage_tokens
    }

    /// The most tokens, by [`count_tokens`](Self::count_tokens), that a query may have.
    pub fn max_query_tokens(&self) -> usize {
        let instruction = self.shared.spec.query_instruction.as_deref();
        let num_instruction_tokens = instruction.map_or(0, |text| self.count_tokens(text));
        let num_special_tokens = self.shared.tokenizer.num_special_tokens();
        let num_taken = num_instruction_tokens + num_special_tokens;
        self.shared.spec.max_tokens.saturating_sub(num_taken)
    }

    /// Whether the thread still runs; once false, every request fails with [`EmbeddingError::Stopped`].
    pub fn is_alive(&self) -> bool {
        self.shared.thread.is_alive()
    }

    /// Stops the thread after the batch it is computing and waits for its end. Requests that are not finished by then
    /// fail with [`EmbeddingError::Stopped`].
    pub async fn shutdown(&self) {
        self.shared.thread.shutdown().await;
    }
}

/// How many special tokens the tokenizer puts after a text: those that a text and none at all have in common.
fn num_last_special_tokens(tokenizer: &dyn EmbeddingTokenizer) -> Result<usize, EmbeddingError> {
    let (none, some) = (tokenizer.encode("")?, tokenizer.encode("a")?);
    let pairs = none.iter().rev().zip(some.iter().rev());
    Ok(pairs.take_while(|(one, other)| one == other).count())
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder")
            .field("name", &self.shared.spec.name)
            .finish_non_exhaustive()
    }
}
