//! How sure it is, from 0 to 1, that what was found answers a question: of a hundred questions with a confidence of 0.7
//! about seventy are answered by the documents. docs/answers.md has the measured curve. Pure.

/// Confidence below which nothing is quoted, unless the owner or a request sets another. docs/answers.md says what is
/// declined rightly and wrongly at each value.
pub const DEFAULT_MIN_OF_QUOTES: f32 = 0.2;
/// The same for answers that a chat model writes, which can say itself that its sources have no answer.
pub const DEFAULT_MIN: f32 = 0.0;

/// A logistic curve (Platt, 1999) through 307 questions of xquad_en that the documents answer and as many that they do not:
/// half of these asked of the other half of the documents, half with only their own passage left out.
const INTERCEPT: f32 = -11.17;
const SLOPE: f32 = 21.81;

/// The confidence of a sentence with this score, a share of the highest there can be.
pub fn of_score(score: f32) -> f32 {
    1.0 / (1.0 + (-INTERCEPT - SLOPE * score.clamp(0.0, 1.0)).exp())
}

/// The same where a cross-encoder has read the passages: both count alike. What cross-encoders say is already meant as a
/// share, but of no collection that we know of, so this is not measured.
pub fn with_relevance(confidence: f32, relevance: Option<f32>) -> f32 {
    match relevance {
        Some(relevance) => (confidence + relevance.clamp(0.0, 1.0)) / 2.0,
        None => confidence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_a_share_that_grows_with_the_score() {
        let confidences: Vec<f32> = (0..=20).map(|step| of_score(step as f32 / 20.0)).collect();
        assert!(confidences.is_sorted());
        assert!(confidences.iter().all(|it| (0.0..=1.0).contains(it)));
        assert_eq!(of_score(-1.0), of_score(0.0));
        assert!(of_score(0.0) < 0.001 && of_score(1.0) > 0.999);
        assert!((of_score(0.45) - DEFAULT_MIN_OF_QUOTES).abs() < 0.02);
        assert_eq!(with_relevance(0.4, None), 0.4);
        assert!((with_relevance(0.4, Some(0.8)) - 0.6).abs() < 1e-6);
    }
}
