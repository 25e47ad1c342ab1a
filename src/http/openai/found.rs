//! What a search found, as it is shown.

use serde::Serialize;
use utoipa::ToSchema;

use crate::rag::retrieve::{self, Passage, RetrieveOptions, Retrieved};
use crate::store::{AttributeValue, Attributes};

/// Where a passage was found, and how well it fits.
#[derive(Debug, Serialize, ToSchema)]
pub struct FoundPassage {
    file_id: String,
    filename: String,
    /// From 0 to 1: what the rerank model says where one has read it, else its similarity and how much of the query's words
    /// it has, fused.
    score: f32,
    #[schema(value_type = BTreeMap<String, AttributeValue>)]
    attributes: Attributes,
    /// The number that an answer cites it by.
    number: usize,
    /// Cosine similarity to the query; null where only its words were found.
    #[schema(required)]
    similarity: Option<f32>,
    /// The page that it begins on, from 1; 0 in documents without pages.
    page_first: u32,
    /// The page that it ends on.
    page_last: u32,
    /// Its first byte in the document's text.
    start: usize,
    /// The byte after its last.
    end: usize,
    /// The headings that it stands under.
    heading_path: Vec<String>,
    /// How it came to its place, where `explain` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
}

impl From<&Passage> for FoundPassage {
    fn from(passage: &Passage) -> Self {
        let chunk = &passage.chunk;
        Self {
            file_id: chunk.file_id.clone(),
            filename: chunk.filename.clone(),
            score: passage.score,
            attributes: chunk.attributes.clone(),
            number: passage.number,
            similarity: passage.similarity,
            page_first: chunk.page_first,
            page_last: chunk.page_last,
            start: chunk.span.start,
            end: chunk.span.end,
            heading_path: chunk.heading_path.clone(),
            explanation: passage
                .explanation
                .as_ref()
                .map(|explained| Explanation::new(passage, explained)),
        }
    }
}

/// What each stage of the search said of a passage.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// Cosine similarity to the query.
    #[schema(required)]
    similarity: Option<f32>,
    /// Among what was found by meaning, from 1.
    #[schema(required)]
    similarity_rank: Option<usize>,
    /// BM25 as a share of the most that it could be.
    words_score: f32,
    /// Among what was found by words, from 1.
    #[schema(required)]
    words_rank: Option<usize>,
    /// Words of the query that it has, and groups of letters of scripts without blanks.
    matched_words: Vec<String>,
    /// Of both searches together.
    fused_score: f32,
    /// Among all that was found, from 1.
    fused_rank: usize,
    /// What the rerank model says, from 0 to 1.
    #[schema(required)]
    rerank_score: Option<f32>,
    /// Its worth beside those before it, where `diversity` counts.
    #[schema(required)]
    diversity_score: Option<f32>,
    /// Passages that say the same in nearly the same words, and are not shown.
    duplicates: Vec<DuplicatePassage>,
    /// Chunks that were joined to it.
    joined: Vec<JoinedChunk>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DuplicatePassage {
    file_id: String,
    filename: String,
    start: usize,
    end: usize,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct JoinedChunk {
    start: usize,
    end: usize,
    /// Its rank where it was found too; null where it only stands beside what was.
    #[schema(required)]
    fused_rank: Option<usize>,
}

impl Explanation {
    fn new(passage: &Passage, explained: &retrieve::Explanation) -> Self {
        let duplicates = explained.duplicates.iter().map(|place| DuplicatePassage {
            file_id: place.file_id.clone(),
            filename: place.filename.clone(),
            start: place.span.start,
            end: place.span.end,
        });
        let joined = explained.joined.iter().map(|joined| JoinedChunk {
            start: joined.span.start,
            end: joined.span.end,
            fused_rank: joined.fused_rank,
        });
        Self {
            similarity: passage.similarity,
            similarity_rank: explained.similarity_rank,
            words_score: passage.words,
            words_rank: explained.words_rank,
            matched_words: explained.matched_words.clone(),
            fused_score: explained.fused_score,
            fused_rank: explained.fused_rank,
            rerank_score: explained.rerank_score,
            diversity_score: explained.diversity_score,
            duplicates: duplicates.collect(),
            joined: joined.collect(),
        }
    }
}

/// Milliseconds of each stage of a search; a stage that was not needed took none.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct SearchTimings {
    embedding_ms: f64,
    words_ms: f64,
    meaning_ms: f64,
    /// Reading the texts of what was found, and telling duplicates.
    reading_ms: f64,
    reranking_ms: f64,
    diversity_ms: f64,
    joining_ms: f64,
    total_ms: f64,
}

impl From<retrieve::Timings> for SearchTimings {
    fn from(timings: retrieve::Timings) -> Self {
        let rounded = |ms: f64| (ms * 1000.0).round() / 1000.0;
        Self {
            embedding_ms: rounded(timings.embedding_ms),
            words_ms: rounded(timings.words_ms),
            meaning_ms: rounded(timings.meaning_ms),
            reading_ms: rounded(timings.reading_ms),
            reranking_ms: rounded(timings.reranking_ms),
            diversity_ms: rounded(timings.diversity_ms),
            joining_ms: rounded(timings.joining_ms),
            total_ms: rounded(timings.total_ms),
        }
    }
}

/// A passage that was found, with its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchResult {
    #[serde(flatten)]
    passage: FoundPassage,
    content: Vec<TextContent>,
}

/// A piece of a document's text.
#[derive(Debug, Serialize, ToSchema)]
pub struct TextContent {
    /// Always `text`.
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
}

impl TextContent {
    pub fn new(text: String) -> Self {
        Self { kind: "text", text }
    }
}

/// All at once: nothing follows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchResults {
    /// Always `vector_store.search_results.page`.
    object: &'static str,
    /// What was searched for.
    search_query: Vec<String>,
    data: Vec<SearchResult>,
    /// Always false.
    has_more: bool,
    /// Always null.
    #[schema(required)]
    next_page: Option<String>,
    /// Extension: what did not go as it should, such as a rerank model that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// Extension: how long the stages took, where `explain` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<SearchTimings>,
}

impl SearchResults {
    /// What was found, without what scores less than `threshold`.
    pub fn new(retrieved: &Retrieved, threshold: f32, options: &RetrieveOptions) -> Self {
        let passages = retrieved.passages.iter();
        let shown = passages.filter(|passage| passage.score >= threshold);
        let data = shown.map(|passage| SearchResult {
            passage: passage.into(),
            content: vec![TextContent::new(passage.chunk.text.clone())],
        });
        Self {
            object: "vector_store.search_results.page",
            search_query: retrieved.queries.clone(),
            data: data.collect(),
            has_more: false,
            next_page: None,
            notes: retrieved.notes.clone(),
            timings: options.explains.then(|| retrieved.timings.into()),
        }
    }
}
