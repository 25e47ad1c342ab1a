//! Tells passages that say the same in nearly the same words, as two versions of a document do, so that a reader gets
//! each once.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Words that are compared together, so that order counts.
const SHINGLE: usize = 3;
/// Two passages are the same when they share so much of all their shingles (Broder, 1997).
const MIN_SHARED: f32 = 0.8;

/// What passages are compared by.
pub struct Shingles(HashSet<u64>);

impl Shingles {
    pub fn of(text: &str) -> Self {
        let words: Vec<String> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        let hash = |words: &[String]| {
            let mut hasher = DefaultHasher::new();
            words.hash(&mut hasher);
            hasher.finish()
        };
        let shingles = match words.len() < SHINGLE {
            true => [hash(&words)].into(),
            false => words.windows(SHINGLE).map(hash).collect(),
        };
        Self(shingles)
    }

    pub fn is_near(&self, other: &Self) -> bool {
        let (few, many) = match self.0.len() <= other.0.len() {
            true => (&self.0, &other.0),
            false => (&other.0, &self.0),
        };
        // Sets of very different sizes cannot share enough.
        if (few.len() as f32) < MIN_SHARED * many.len() as f32 {
            return false;
        }
        let shared = few.iter().filter(|it| many.contains(it)).count();
        shared as f32 >= MIN_SHARED * (few.len() + many.len() - shared) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "The keeper of the lighthouse is Maren Holt, who came in 1998 from the mainland and has lit \
         the lamp on every evening since, in storms and in the long nights of winter.";

    fn is_near(a: &str, b: &str) -> bool {
        Shingles::of(a).is_near(&Shingles::of(b))
    }

    #[test]
    fn a_changed_word_case_and_spaces_make_no_other_passage() {
        assert!(is_near(TEXT, &TEXT.to_uppercase()));
        assert!(is_near(TEXT, &TEXT.replace(' ', "\n ")));
        assert!(is_near(TEXT, &TEXT.replace("winter", "autumn")));
    }

    #[test]
    fn what_says_more_or_another_thing_is_another_passage() {
        assert!(!is_near(
            TEXT,
            &TEXT
                .replace("1998", "2004")
                .replace("Maren Holt", "Jon Berg")
        ));
        assert!(!is_near(
            TEXT,
            &format!("{TEXT} Its lamp is seen from thirty miles away when the air is clear.")
        ));
        assert!(!is_near("Row 1", "Row 2"));
        assert!(!is_near("", "Row 2"));
    }
}
