//! How a search ranks what it finds, as requests say it.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::{needed_number, number};
use crate::rag::models::ModelKind;
use crate::rag::retrieve::{Fusion, Ranker, RetrieveOptions, Weights};

/// How what was found is ranked.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct RankingOptions {
    /// `auto`, or a version of it: by the server's own rerank model, if it has one. `none`: by none. Else the id of a rerank
    /// model.
    #[schema(min_length = 1)]
    ranker: Option<String>,
    /// Results below it are left out; 0 by default.
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = 0, maximum = 1)]
    score_threshold: Option<f32>,
    hybrid_search: Option<HybridSearch>,
    /// Extension, in place of `hybrid_search`: from 0, only words, to 1, only meaning.
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = 0, maximum = 1)]
    alpha: Option<f32>,
    /// Extension: how both searches become one score; `weighted` by default.
    #[schema(inline)]
    fusion: Option<FusionName>,
    /// Extension: from 0, which is the default, where only scores count, to 1, where only it counts that a passage says
    /// something else than those before it.
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = 0, maximum = 1)]
    diversity: Option<f32>,
    /// Extension: chunks that are found side by side become one passage, each with so many chunks before and behind it.
    #[schema(value_type = Option<u32>, maximum = 4)]
    neighbors: Option<usize>,
}

/// How both searches become one score.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FusionName {
    /// The weighted mean of both scores.
    Weighted,
    /// The weighted sum of the reciprocals of both ranks.
    ReciprocalRank,
}

/// How much either search counts; one must be above 0.
#[derive(Debug, Deserialize, ToSchema)]
pub struct HybridSearch {
    /// Of the search by meaning.
    #[serde(deserialize_with = "needed_number")]
    #[schema(minimum = 0)]
    embedding_weight: f32,
    /// Of the search by words.
    #[serde(deserialize_with = "needed_number")]
    #[schema(minimum = 0)]
    text_weight: f32,
}

/// Chunks that may be joined to a passage on each side.
const MAX_NEIGHBORS: usize = 4;

impl RankingOptions {
    /// The lowest score to show, and how to search. `param` names the place in an error.
    pub async fn checked(
        self,
        context: &Context,
        param: &str,
    ) -> Result<(f32, RetrieveOptions), ApiError> {
        let threshold = share(param, "score_threshold", self.score_threshold)?.unwrap_or(0.0);
        let diversity = share(param, "diversity", self.diversity)?.unwrap_or(0.0);
        let alpha = share(param, "alpha", self.alpha)?;
        if let Some(neighbors) = self.neighbors
            && neighbors > MAX_NEIGHBORS
        {
            let param = format!("{param}.neighbors");
            let message =
                format!("{param} is {neighbors}, but must be between 0 and {MAX_NEIGHBORS}");
            return Err(ApiError::invalid(param, message));
        }
        let weights = match (self.hybrid_search, alpha) {
            (Some(_), Some(_)) => {
                let param = format!("{param}.alpha");
                let message =
                    format!("{param} and hybrid_search say the same in two ways; send one of them");
                return Err(ApiError::invalid(param, message));
            }
            (Some(hybrid), None) => checked_weights(param, hybrid)?,
            (None, Some(alpha)) => Weights::from_alpha(alpha),
            (None, None) => Weights::default(),
        };
        let options = RetrieveOptions {
            weights,
            fusion: match self.fusion {
                Some(FusionName::ReciprocalRank) => Fusion::ReciprocalRank,
                Some(FusionName::Weighted) | None => Fusion::Weighted,
            },
            ranker: checked_ranker(context, param, self.ranker).await?,
            diversity,
            neighbors: self.neighbors,
            ..RetrieveOptions::default()
        };
        Ok((threshold, options))
    }
}

/// A number from 0 to 1.
fn share(param: &str, name: &str, value: Option<f32>) -> Result<Option<f32>, ApiError> {
    match value {
        Some(value) if !(0.0..=1.0).contains(&value) => {
            let param = format!("{param}.{name}");
            let message = format!("{param} is {value}, but must be between 0 and 1");
            Err(ApiError::invalid(param, message))
        }
        value => Ok(value),
    }
}

fn checked_weights(param: &str, hybrid: HybridSearch) -> Result<Weights, ApiError> {
    let (meaning, words) = (hybrid.embedding_weight, hybrid.text_weight);
    let is_sound = |weight: f32| weight >= 0.0 && weight.is_finite();
    if !is_sound(meaning) || !is_sound(words) || meaning + words == 0.0 {
        let param = format!("{param}.hybrid_search");
        let message = format!(
            "{param} has the weights {meaning} and {words}, but none may be negative and one must be above 0"
        );
        return Err(ApiError::invalid(param, message));
    }
    Ok(Weights { meaning, words })
}

/// A model that is named must be here and of the right kind; whether it can be loaded shows when it is needed.
async fn checked_ranker(
    context: &Context,
    param: &str,
    ranker: Option<String>,
) -> Result<Ranker, ApiError> {
    let name = match ranker {
        None => return Ok(Ranker::Auto),
        Some(name) if name == "none" => return Ok(Ranker::None),
        Some(name) if name == "auto" || name.starts_with("default") => return Ok(Ranker::Auto),
        Some(name) => name,
    };
    let models = &context.workspace.models;
    let entries = models.list().await;
    let rerankers = || entries.iter().filter(|it| it.kind == ModelKind::Rerank);
    if rerankers().any(|entry| entry.id == models.id(&name)) {
        return Ok(Ranker::Named(name));
    }
    let param = format!("{param}.ranker");
    let names: Vec<&str> = rerankers().map(|entry| entry.id.as_str()).collect();
    let here = match names.is_empty() {
        true => "of which none is on this machine".to_owned(),
        false => format!("such as {}", names.join(", ")),
    };
    let message = format!(
        "{param} is '{name}', but must be 'none', 'auto' or the id of a rerank model, {here}"
    );
    Err(ApiError::invalid(param, message))
}

pub fn checked_results(param: &str, count: usize) -> Result<usize, ApiError> {
    match count {
        1..=50 => Ok(count),
        _ => Err(ApiError::invalid(
            param,
            format!("{param} is {count}, but must be between 1 and 50"),
        )),
    }
}
