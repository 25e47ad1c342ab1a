//! Which tokens end an answer. Must not miss one, or a model talks on for both sides; must not have one too many, or
//! answers break off.

use super::vocabulary::{Token, TokenKind};

/// Turn or text ends that files often forget to declare. None of them can come out of ordinary text.
const UNMISTAKABLE: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<turn|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// Ends in some vocabularies, ordinary text in others: they count where they are control tokens.
const AMBIGUOUS: &[&str] = &[
    "</s>", "<eos>", "<EOT>", "_<EOT>", "▁<EOT>", "[EOT]", "[EOS]",
];

/// Makes control tokens of those end tokens that the file wrongly lists as text.
pub(super) fn correct_kinds(tokens: &mut [Token]) {
    for token in tokens {
        if UNMISTAKABLE.contains(&token.text.as_str()) {
            token.kind = TokenKind::Control;
        }
    }
}

/// The end tokens of a vocabulary: the declared ones and those known by their spelling. Ascending.
pub(super) fn find(tokens: &[Token], declared: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let spelled = |texts: &'static [&str]| {
        let controls = (0u32..)
            .zip(tokens)
            .filter(|(_, token)| token.kind == TokenKind::Control);
        controls.filter(move |(_, token)| texts.contains(&token.text.as_str()))
    };
    let mut ends: Vec<u32> = declared.into_iter().collect();
    let has = |text| tokens.iter().any(|token| token.text == text);
    // Where answers end with these two, `<|end|>` only separates the parts of one.
    let end_is_inside = has("<|return|>") && has("<|call|>");
    let known = spelled(UNMISTAKABLE).chain(spelled(AMBIGUOUS));
    ends.extend(
        known
            .filter(|(_, token)| !(end_is_inside && token.text == "<|end|>"))
            .map(|(id, _)| id),
    );
    ends.sort_unstable();
    ends.dedup();
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(tokens: &[(&str, TokenKind)]) -> Vec<Token> {
        tokens
            .iter()
            .map(|&(text, kind)| Token {
                text: text.into(),
                kind,
            })
            .collect()
    }

    #[test]
    fn declared_and_well_known_ends_are_found() {
        use TokenKind::{Control, Normal, UserDefined};
        let mut tokens = tokens(&[
            ("a", Normal),
            ("<|im_end|>", UserDefined),
            ("</s>", Normal),
            ("<eos>", Control),
            ("b", Normal),
            ("<|end|>", Control),
        ]);
        correct_kinds(&mut tokens);
        assert_eq!(tokens[1].kind, Control);
        assert_eq!(find(&tokens, [4, 3]), [1, 3, 4, 5]);
    }

    #[test]
    fn an_end_of_a_part_is_no_end_of_an_answer() {
        use TokenKind::Control;
        let tokens = tokens(&[
            ("<|end|>", Control),
            ("<|return|>", Control),
            ("<|call|>", Control),
        ]);
        assert_eq!(find(&tokens, []), [1, 2]);
    }
}
