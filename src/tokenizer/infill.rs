//! Prompts that ask for the text between two others, for models that were trained to fill in the middle. Must never make
//! one for a vocabulary without tokens for it: such a model would take the marks for text.

use super::{SpecialTokens, Tokenizer};

/// What stands before the text before the hole, before the text after it, and before the answer.
const MARKS: &[[&str; 3]] = &[
    // Qwen-Coder, CodeGemma.
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    // StarCoder, Granite, SantaCoder's with dashes.
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    // CodeLlama, as its vocabulary spells them.
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
    // DeepSeek-Coder.
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
];

/// A character that no vocabulary joins with its neighbours.
const WEDGE: &str = "\u{263A}";

impl Tokenizer {
    /// The prompt after which the model writes what belongs between `prefix` and `suffix`, without a beginning-of-sequence
    /// token; `None` when the vocabulary has no tokens for it. Neither text can act as a control token.
    pub fn infill(&self, prefix: &str, suffix: &str) -> Option<Vec<u32>> {
        let ids = |marks: &[&str; 3]| {
            let [prefix, suffix, middle] = marks.map(|mark| self.id_of(mark));
            Some([prefix?, suffix?, middle?])
        };
        let [before_prefix, before_suffix, before_middle] = MARKS.iter().find_map(ids)?;
        let mut prompt = vec![before_prefix];
        prompt.extend(self.encode(prefix, SpecialTokens::AsText));
        prompt.push(before_suffix);
        prompt.extend(self.encode_inside(suffix));
        prompt.push(before_middle);
        Some(prompt)
    }

    /// The tokens of a text that goes on from another: SentencePiece vocabularies put a space before what begins.
    fn encode_inside(&self, text: &str) -> Vec<u32> {
        let plain = self.encode(text, SpecialTokens::AsText);
        if self.decode(&plain) == text {
            return plain;
        }
        let ids = self.encode(&format!("{WEDGE}{text}"), SpecialTokens::AsText);
        let mut num_bytes = 0;
        let num_before = ids.iter().take_while(|id| {
            let is_before = num_bytes < WEDGE.len();
            let bytes = self.token_bytes(**id).unwrap_or_default();
            // The space before the wedge is not a part of it.
            num_bytes += bytes.strip_prefix(b" ").unwrap_or(bytes).len();
            is_before
        });
        let num_before = num_before.count();
        ids[num_before..].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::gguf::GgufFile;
    use crate::test_data;

    fn tokenizer(file: &str) -> Option<Tokenizer> {
        let path = test_data::require(&format!("tokenizers/{file}"))?;
        Some(Tokenizer::from_gguf(&GgufFile::open(&path).unwrap()).unwrap())
    }

    #[test]
    fn what_goes_on_from_another_text_gets_no_space_before_it() {
        let Some(tokenizer) = tokenizer("ggml-vocab-llama-spm.gguf") else {
            return;
        };
        let plain = tokenizer.encode("b)", SpecialTokens::AsText);
        assert_eq!(tokenizer.decode(&plain), " b)");
        for text in ["b)", " b)", "\n    return", "}", "  ", "é", "☺ b", ""] {
            assert_eq!(tokenizer.decode(&tokenizer.encode_inside(text)), text);
        }
        assert_eq!(tokenizer.infill("a", "b"), None);
    }

    #[test]
    fn a_hole_lies_between_marks_and_texts_cannot_be_marks() {
        let Some(tokenizer) = tokenizer("ggml-vocab-refact.gguf") else {
            return;
        };
        let mark = |text: &str| tokenizer.id_of(text).unwrap();
        let text = |text: &str| tokenizer.encode(text, SpecialTokens::AsText);
        let expected = [
            vec![mark("<fim_prefix>")],
            text("def f(a):\n"),
            vec![mark("<fim_suffix>")],
            text("# <fim_middle>"),
            vec![mark("<fim_middle>")],
        ];
        let prompt = tokenizer.infill("def f(a):\n", "# <fim_middle>").unwrap();
        assert_eq!(prompt, expected.concat());
        let num_marks = prompt.iter().filter(|id| **id == mark("<fim_middle>"));
        assert_eq!(num_marks.count(), 1);
    }
}
