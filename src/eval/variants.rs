//! The choices of settings that are compared, and how they are typed. Pure.

use serde::Serialize;

/// Who answers the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum AnswerMode {
    /// Nobody: only the search is measured
    None,
    /// The documents' own sentences are quoted
    Quote,
    /// The chat model writes
    Chat,
}

/// How what both kinds of search say becomes one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum FusionMode {
    Weighted,
    #[value(name = "rrf")]
    ReciprocalRank,
}

/// One choice of settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Variant {
    /// What sets it apart.
    pub name: String,
    /// How much meaning counts in a search beside words: 0 is words alone, 1 meaning alone.
    pub alpha: f32,
    pub fusion: FusionMode,
    /// `auto`, `none` or the name of a rerank model.
    pub ranker: String,
    pub diversity: f32,
    pub neighbors: Option<usize>,
    /// Passages that an answer is made from.
    pub top_k: usize,
    pub min_similarity: Option<f32>,
    pub min_quote_confidence: Option<f32>,
    pub answer: AnswerMode,
    /// Tokens of a passage, and of what two have in common.
    pub chunk_tokens: u32,
    pub overlap_tokens: u32,
    /// As the settings name it; `None` for the default.
    pub embedding_model: Option<String>,
}

/// What two variants must share to be asked of the same stored passages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ingestion {
    pub chunk_tokens: u32,
    pub overlap_tokens: u32,
    pub embedding_model: Option<String>,
}

impl Variant {
    pub fn ingestion(&self) -> Ingestion {
        Ingestion {
            chunk_tokens: self.chunk_tokens,
            overlap_tokens: self.overlap_tokens,
            embedding_model: self.embedding_model.clone(),
        }
    }
}

/// A setting with the values that are compared, as typed: `alpha=0,0.5,1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    key: Key,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Alpha,
    Fusion,
    Ranker,
    Diversity,
    Neighbors,
    TopK,
    MinSimilarity,
    MinQuoteConfidence,
    Answer,
    ChunkTokens,
    OverlapTokens,
    EmbeddingModel,
}

const KEYS: &[(&str, Key)] = &[
    ("alpha", Key::Alpha),
    ("fusion", Key::Fusion),
    ("ranker", Key::Ranker),
    ("diversity", Key::Diversity),
    ("neighbors", Key::Neighbors),
    ("top_k", Key::TopK),
    ("min_similarity", Key::MinSimilarity),
    ("min_quote_confidence", Key::MinQuoteConfidence),
    ("answer", Key::Answer),
    ("chunk_tokens", Key::ChunkTokens),
    ("overlap_tokens", Key::OverlapTokens),
    ("embedding_model", Key::EmbeddingModel),
];

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name(), self.values.join(","))
    }
}

impl std::str::FromStr for Comparison {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let known = || {
            let names: Vec<&str> = KEYS.iter().map(|(name, _)| *name).collect();
            format!("give one of {} as KEY=VALUE,VALUE", names.join(", "))
        };
        let (name, values) = typed.split_once('=').ok_or_else(known)?;
        let name = name.trim().replace('-', "_");
        let found = KEYS.iter().find(|(key, _)| *key == name);
        let (_, key) = found.ok_or_else(|| format!("there is no setting {name}; {}", known()))?;
        let values: Vec<String> = values.split(',').map(|it| it.trim().to_owned()).collect();
        let comparison = Self { key: *key, values };
        // A value that cannot be is told before anything is done.
        for value in &comparison.values {
            set(&mut probe(), *key, value).map_err(|why| format!("{name}={value}: {why}"))?;
        }
        Ok(comparison)
    }
}

impl Comparison {
    /// Whether its values need passages of their own.
    pub fn needs_ingestion(&self) -> bool {
        matches!(
            self.key,
            Key::ChunkTokens | Key::OverlapTokens | Key::EmbeddingModel
        )
    }

    fn name(&self) -> &'static str {
        let named = KEYS.iter().find(|(_, key)| *key == self.key);
        named.map_or("", |(name, _)| name)
    }
}

/// `base` and what differs from it in one value each, in order, each choice once.
pub fn one_at_a_time(base: Variant, comparisons: &[Comparison]) -> Result<Vec<Variant>, String> {
    let mut variants = vec![base.clone()];
    for comparison in comparisons {
        for value in &comparison.values {
            let mut variant = base.clone();
            set(&mut variant, comparison.key, value)?;
            variant.name = format!("{}={}", comparison.name(), shown(value));
            push_new(&mut variants, variant);
        }
    }
    Ok(variants)
}

/// Every combination of the values; the first is what the others are compared with.
pub fn grid(base: Variant, comparisons: &[Comparison]) -> Result<Vec<Variant>, String> {
    let mut combined = vec![Variant {
        name: String::new(),
        ..base.clone()
    }];
    for comparison in comparisons {
        let mut longer = Vec::new();
        for variant in &combined {
            for value in &comparison.values {
                let mut variant = variant.clone();
                set(&mut variant, comparison.key, value)?;
                let blank = if variant.name.is_empty() { "" } else { " " };
                variant.name += &format!("{blank}{}={}", comparison.name(), shown(value));
                longer.push(variant);
            }
        }
        combined = longer;
    }
    let mut variants = Vec::new();
    for variant in combined {
        push_new(&mut variants, variant);
    }
    for variant in &mut variants {
        if variant.name.is_empty() {
            variant.name = base.name.clone();
        }
    }
    Ok(variants)
}

/// The end of a path is enough to tell models apart.
fn shown(value: &str) -> &str {
    value
        .rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or(value)
}

fn push_new(variants: &mut Vec<Variant>, new: Variant) {
    let is_same = |old: &Variant| {
        let named = Variant {
            name: old.name.clone(),
            ..new.clone()
        };
        named == *old
    };
    if !variants.iter().any(is_same) {
        variants.push(new);
    }
}

fn set(variant: &mut Variant, key: Key, value: &str) -> Result<(), String> {
    match key {
        Key::Alpha => variant.alpha = within(value, 0.0, 1.0)?,
        Key::Fusion => variant.fusion = clap::ValueEnum::from_str(value, true)?,
        Key::Ranker if value.is_empty() => return Err("auto, none or a name is missing".into()),
        Key::Ranker => variant.ranker = value.to_owned(),
        Key::Diversity => variant.diversity = within(value, 0.0, 1.0)?,
        Key::Neighbors if value == "none" => variant.neighbors = None,
        Key::Neighbors => variant.neighbors = Some(count(value, 0, 8)? as usize),
        Key::TopK => variant.top_k = count(value, 1, 50)? as usize,
        Key::MinSimilarity => variant.min_similarity = Some(within(value, -1.0, 1.0)?),
        Key::MinQuoteConfidence => variant.min_quote_confidence = Some(within(value, 0.0, 1.0)?),
        Key::Answer => variant.answer = clap::ValueEnum::from_str(value, true)?,
        Key::ChunkTokens => {
            variant.chunk_tokens = count(value, 16, 8192)?;
            variant.overlap_tokens = variant.overlap_tokens.min(variant.chunk_tokens / 4);
        }
        Key::OverlapTokens => variant.overlap_tokens = count(value, 0, 4096)?,
        Key::EmbeddingModel if value.is_empty() => {
            return Err("a name or a folder is missing".into());
        }
        Key::EmbeddingModel => variant.embedding_model = Some(value.to_owned()),
    }
    Ok(())
}

fn within(value: &str, low: f32, high: f32) -> Result<f32, String> {
    let number: Option<f32> = value.parse().ok();
    number
        .filter(|number| (low..=high).contains(number))
        .ok_or_else(|| format!("must be a number between {low} and {high}"))
}

fn count(value: &str, low: u32, high: u32) -> Result<u32, String> {
    let number: Option<u32> = value.parse().ok();
    number
        .filter(|number| (low..=high).contains(number))
        .ok_or_else(|| format!("must be a whole number between {low} and {high}"))
}

fn probe() -> Variant {
    Variant {
        name: String::new(),
        alpha: 0.5,
        fusion: FusionMode::Weighted,
        ranker: "auto".into(),
        diversity: 0.0,
        neighbors: None,
        top_k: 6,
        min_similarity: None,
        min_quote_confidence: None,
        answer: AnswerMode::Quote,
        chunk_tokens: 256,
        overlap_tokens: 32,
        embedding_model: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(variants: &[Variant]) -> Vec<&str> {
        variants.iter().map(|it| it.name.as_str()).collect()
    }

    fn typed(all: &[&str]) -> Vec<Comparison> {
        all.iter().map(|it| it.parse().unwrap()).collect()
    }

    fn base() -> Variant {
        Variant {
            name: "defaults".into(),
            ..probe()
        }
    }

    #[test]
    fn one_value_differs_from_the_defaults_at_a_time() {
        let compared = typed(&["alpha=0,0.5,1", "top-k=4, 6"]);
        let variants = one_at_a_time(base(), &compared).unwrap();
        assert_eq!(
            names(&variants),
            ["defaults", "alpha=0", "alpha=1", "top_k=4"]
        );
        assert_eq!((variants[1].alpha, variants[1].top_k), (0.0, 6));
        assert_eq!((variants[3].alpha, variants[3].top_k), (0.5, 4));
    }

    #[test]
    fn a_grid_has_every_combination_once() {
        let compared = typed(&["alpha=0,1,0", "chunk_tokens=128,256"]);
        let variants = grid(base(), &compared).unwrap();
        let expected = [
            "alpha=0 chunk_tokens=128",
            "alpha=0 chunk_tokens=256",
            "alpha=1 chunk_tokens=128",
            "alpha=1 chunk_tokens=256",
        ];
        assert_eq!(names(&variants), expected);
        assert_eq!(variants[0].ingestion(), variants[2].ingestion());
        assert_ne!(variants[0].ingestion(), variants[1].ingestion());
        assert_eq!(names(&grid(base(), &[]).unwrap()), ["defaults"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let error = |typed: &str| typed.parse::<Comparison>().unwrap_err();
        assert!(error("alpha=2").contains("between 0 and 1"));
        assert!(error("beta=2").contains("no setting beta"));
        assert!(error("alpha").contains("KEY=VALUE"));
        assert!(error("top_k=0").contains("between 1 and 50"));
        assert!(error("answer=maybe").contains("answer=maybe"));
        assert_eq!(shown("/models/all-MiniLM-L6-v2/"), "all-MiniLM-L6-v2");
    }
}
