//! The embedder's handle: cheap to clone, safe to use from any thread, async where it waits. It never runs the model and
//! never holds a lock while waiting.

use std::path::Path;
use std::sync::Arc;

use super::thread::ModelThread;
use super::worker::Computation;
use super::{
    EmbedderOptions, EmbedderSpec, EmbeddingError, EmbeddingModel, EmbeddingTokenizer, Embeddings,
    InputKind, Priority, load,
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
}

impl Computation for Embedding {
    type Input = String;
    type Tokens = Vec<u32>;
    type Output = Vec<f32>;

    fn encode(&self, text: &String, index: usize) -> Result<Vec<u32>, EmbeddingError> {
        let ids = self.tokenizer.encode(text)?;
        if ids.len() > self.max_tokens {
            return Err(EmbeddingError::InputTooLong {
                index,
                num_tokens: ids.len(),
                num_max_tokens: self.max_tokens,
            });
        }
        Ok(ids)
    }

    fn num_tokens(ids: &Vec<u32>) -> usize {
        ids.len()
    }

    fn compute(&mut self, batch: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        self.model.embed(batch)
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
        let computation = Embedding {
            model,
            tokenizer: tokenizer.clone(),
            max_tokens: spec.max_tokens,
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
    /// [`EmbeddingError::InputTooLong`] for the first text that does not fit; nothing is ever cut.
    pub async fn embed(
        &self,
        mut texts: Vec<String>,
        kind: InputKind,
        priority: Priority,
    ) -> Result<Embeddings, EmbeddingError> {
        if let Some(instruction) = self.instruction(kind) {
            texts
                .iter_mut()
                .for_each(|it| it.insert_str(0, instruction));
        }
        let outputs = self.shared.thread.compute(texts, priority).await?;
        Ok(Embeddings {
            vectors: outputs.values,
            num_tokens: outputs.num_tokens,
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

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder")
            .field("name", &self.shared.spec.name)
            .finish_non_exhaustive()
    }
}
