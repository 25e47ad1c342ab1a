//! Finds special tokens in text, before the text between them is cut into ordinary ones. Must find control tokens only
//! where the caller trusts the text.

use std::collections::HashSet;

use aho_corasick::{AhoCorasick, MatchKind};

use super::vocabulary::{TokenKind, Vocabulary};
use super::{SpecialTokens, TokenizerError};

#[derive(Debug)]
pub(super) struct SpecialSplitter {
    all: Matcher,
    user_defined: Matcher,
    /// Tokens that swallow the white space after them.
    strip_right: HashSet<u32>,
}

/// A stretch of a text.
#[derive(Debug, PartialEq)]
pub(super) enum Fragment<'a> {
    Text(&'a str),
    Token(u32),
}

impl SpecialSplitter {
    pub fn new(vocabulary: &Vocabulary, strip_right: HashSet<u32>) -> Result<Self, TokenizerError> {
        use TokenKind::{Control, Unknown, UserDefined};
        Ok(Self {
            all: Matcher::new(vocabulary, |kind| {
                matches!(kind, Control | Unknown | UserDefined)
            })?,
            user_defined: Matcher::new(vocabulary, |kind| kind == UserDefined)?,
            strip_right,
        })
    }

    /// Calls `each` for the fragments of the text, none of them empty. Where tokens overlap the first one counts, and
    /// of those with one start the longest.
    pub fn split<'a>(
        &self,
        text: &'a str,
        special: SpecialTokens,
        mut each: impl FnMut(Fragment<'a>),
    ) {
        let matcher = match special {
            SpecialTokens::Parse => &self.all,
            SpecialTokens::AsText => &self.user_defined,
        };
        let mut rest = 0;
        for found in matcher.automaton.find_iter(text) {
            // White space that was swallowed may be a special token itself.
            if found.start() < rest {
                continue;
            }
            if rest < found.start() {
                each(Fragment::Text(&text[rest..found.start()]));
            }
            let id = matcher.ids[found.pattern().as_usize()];
            each(Fragment::Token(id));
            rest = found.end();
            if self.strip_right.contains(&id) {
                let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
                rest += text.as_bytes()[rest..]
                    .iter()
                    .take_while(|byte| is_space(byte))
                    .count();
            }
        }
        if rest < text.len() {
            each(Fragment::Text(&text[rest..]));
        }
    }
}

#[derive(Debug)]
struct Matcher {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl Matcher {
    fn new(
        vocabulary: &Vocabulary,
        wanted: impl Fn(TokenKind) -> bool,
    ) -> Result<Self, TokenizerError> {
        let tokens = vocabulary
            .iter()
            .filter(|&(text, id)| !text.is_empty() && wanted(vocabulary.kind(id)));
        let (texts, ids): (Vec<_>, Vec<_>) = tokens.unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts)
            .map_err(|error| TokenizerError::SpecialTokens(error.to_string()))?;
        Ok(Self { automaton, ids })
    }
}
