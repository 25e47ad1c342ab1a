//! Tells passages that say the same in nearly the same words, as two versions of a document do, so that a reader gets
//! each once.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Words that are compared together, so that order counts.
const SHINGLE: usize = 3;
/// Two passages are the same when they share so much of all their shingles (Broder, 1997), and all their numbers: reports
/// made from one template differ in little else.
const MIN_SHARED: f32 = 0.95;

/// What passages are compared by.
pub struct Shingles {
    shingles: HashSet<u64>,
    /// Words with a digit.
    numbers: HashSet<String>,
}

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
        let has_digit = |word: &String| word.chars().any(char::is_numeric);
        Self {
            shingles,
            numbers: words.into_iter().filter(has_digit).collect(),
        }
    }

    pub fn is_near(&self, other: &Self) -> bool {
        let (few, many) = match self.shingles.len() <= other.shingles.len() {
            true => (&self.shingles, &other.shingles),
            false => (&other.shingles, &self.shingles),
        };
        // Sets of very different sizes cannot share enough.
        if self.numbers != other.numbers || (few.len() as f32) < MIN_SHARED * many.len() as f32 {
            return false;
        }
        let shared = few.iter().filter(|it| many.contains(it)).count();
        shared as f32 >= MIN_SHARED * (few.len() + many.len() - shared) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words that are all different, with a number in the middle.
    fn text() -> String {
        let words = |from: char| ('a'..='z').map(move |c| format!("{from}{c} "));
        let first: String = words('x').chain(words('y')).collect();
        format!("{first} in 1998 {}", words('z').collect::<String>())
    }

    fn is_near(a: &str, b: &str) -> bool {
        Shingles::of(a).is_near(&Shingles::of(b))
    }

    #[test]
    fn case_spaces_and_a_word_at_the_end_make_no_other_passage() {
        let text = text();
        assert!(is_near(&text, &text.to_uppercase()));
        assert!(is_near(&text, &text.replace(' ', "\n ")));
        assert!(is_near(&text, &format!("{text} end")));
    }

    #[test]
    fn another_number_or_a_few_other_words_make_another_passage() {
        let text = text();
        assert!(!is_near(&text, &text.replace("1998", "2004")));
        assert!(!is_near(
            &text,
            &text.replace("xc", "first").replace("yk", "second")
        ));
        assert!(!is_near("Row 1", "Row 2"));
        assert!(!is_near("", "Row 2"));
    }
}
