//! What a caller of [`retrieve`](super::retrieve()) may choose.

/// How a search is made. What is not named is as by default.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrieveOptions {
    /// Passages that are wanted.
    pub top_k: usize,
    pub weights: Weights,
    pub fusion: Fusion,
    pub ranker: Ranker,
    /// From 0, where only scores count, to 1, where only it counts that a passage says something else than those before
    /// it.
    pub diversity: f32,
    /// Chunks of a document that are found side by side become one passage, each with so many chunks before and behind
    /// it; `None` leaves every chunk a passage of its own.
    pub neighbors: Option<usize>,
    /// Whether each passage says how it came to its place.
    pub explains: bool,
}

impl Default for RetrieveOptions {
    fn default() -> Self {
        Self {
            top_k: 6,
            weights: Weights::default(),
            fusion: Fusion::default(),
            ranker: Ranker::default(),
            diversity: 0.0,
            neighbors: None,
            explains: false,
        }
    }
}

/// How much each kind of search counts. What counts 0 finds nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    pub meaning: f32,
    pub words: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            meaning: 1.0,
            words: 1.0,
        }
    }
}

impl Weights {
    /// From 0, only words, to 1, only meaning.
    pub fn from_alpha(alpha: f32) -> Self {
        Self {
            meaning: alpha,
            words: 1.0 - alpha,
        }
    }
}

/// How what both kinds of search say becomes one score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fusion {
    /// The weighted mean of both scores, which are shares of the most that there can be: it finds more than reciprocal
    /// ranks, which forget by how much one is better (Bruch, Gai and Ingber, 2023; `tests/retrieval.rs` measures it).
    #[default]
    Weighted,
    /// The weighted sum of the reciprocals of both ranks (Cormack, Clarke and Büttcher, 2009), for who cannot compare
    /// the scores.
    ReciprocalRank,
}

/// The cross-encoder that reads the first passages again, together with the question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Ranker {
    /// The server's own, if it has one.
    #[default]
    Auto,
    None,
    Named(String),
}
