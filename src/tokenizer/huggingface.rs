//! Tokenizers described by a `tokenizer.json`, run by Hugging Face's own library. Must not let it cut or pad a text.

use serde_json::{Value, json};

use super::vocabulary::{Token, TokenKind, byte_of_spelling};
use super::{SpecialTokens, TokenizerError, byte_alphabet, spm};

/// A vocabulary with greater ids would cost memory for nothing.
const MAX_ID: u32 = 1 << 24;

#[derive(Debug)]
pub(super) struct HuggingFace {
    parsing: tokenizers::Tokenizer,
    /// The same, with special tokens as ordinary text. The library has this as a setting of the whole tokenizer.
    as_text: tokenizers::Tokenizer,
    decoding: Decoding,
}

/// What the spelling of an ordinary token stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Decoding {
    ByteLevel,
    SentencePiece,
    WordPiece,
}

impl HuggingFace {
    pub fn from_json(json: &Value) -> Result<Self, String> {
        let mut parsing: tokenizers::Tokenizer =
            tokenizers::Tokenizer::from_bytes(json.to_string())
                .map_err(|error| error.to_string())?;
        parsing
            .with_truncation(None)
            .map_err(|error| error.to_string())?;
        parsing.with_padding(None);
        let decoding = decoding(json)?;
        let mut as_text = parsing.clone();
        as_text.set_encode_special_tokens(true);
        let loaded = Self {
            parsing,
            as_text,
            decoding,
        };
        // Models without an unknown token fail on such text; better now than on somebody's question.
        loaded
            .parsing
            .encode_fast("a\u{10FFFD}\u{1}", false)
            .map_err(|error| error.to_string())?;
        Ok(loaded)
    }

    /// BERT's tokenizer over this vocabulary, where `##` marks what continues a word.
    pub fn word_piece(tokens: &[Token], unknown: u32) -> Result<Self, TokenizerError> {
        let special = (0u32..)
            .zip(tokens)
            .filter(|(_, token)| token.kind == TokenKind::Control);
        let added = special.map(|(id, token)| {
            json!({
                "id": id, "content": token.text, "special": true,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        });
        let vocab: serde_json::Map<_, _> = (0u32..)
            .zip(tokens)
            .map(|(id, token)| (token.text.clone(), id.into()))
            .collect();
        let json = json!({
            "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true,
            },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": false },
            "model": {
                "type": "WordPiece",
                "unk_token": tokens[unknown as usize].text,
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": vocab,
            },
        });
        Self::from_json(&json).map_err(|problem| TokenizerError::TokenizerJson {
            path: "the model file".into(),
            problem,
        })
    }

    pub fn encode(&self, text: &str, special: SpecialTokens) -> Vec<u32> {
        let tokenizer = match special {
            SpecialTokens::Parse => &self.parsing,
            SpecialTokens::AsText => &self.as_text,
        };
        match tokenizer.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            // `from_json` has seen it encode what it has no token for. An empty prompt is refused further on.
            Err(error) => {
                tracing::error!(%error, "the tokenizer failed on a text");
                Vec::new()
            }
        }
    }

    /// Whether the model's own way to mark a text begins it with this token.
    pub fn adds_bos(&self, bos: u32) -> bool {
        self.parsing
            .encode_fast("a", true)
            .is_ok_and(|encoding| encoding.get_ids().first() == Some(&bos))
    }

    /// All tokens in order of their ids. An id that nothing has is an unused token with an empty spelling.
    pub fn tokens(&self) -> Result<Vec<Token>, String> {
        let vocabulary = self.parsing.get_vocab(true);
        let last = vocabulary.values().copied().max().unwrap_or(0);
        if last > MAX_ID {
            return Err(format!("a token has the id {last}, more than {MAX_ID}"));
        }
        let unused = Token {
            text: String::new(),
            kind: TokenKind::Unused,
        };
        let mut tokens = vec![unused; last as usize + 1];
        for (text, id) in vocabulary {
            let is_byte =
                self.decoding == Decoding::SentencePiece && byte_of_spelling(&text).is_some();
            let kind = if is_byte {
                TokenKind::Byte
            } else {
                TokenKind::Normal
            };
            tokens[id as usize] = Token { text, kind };
        }
        for (id, added) in self.parsing.get_added_tokens_decoder() {
            if let Some(token) = tokens.get_mut(id as usize) {
                token.kind = if added.special {
                    TokenKind::Control
                } else {
                    TokenKind::UserDefined
                };
            }
        }
        Ok(tokens)
    }

    /// What a token adds to decoded text.
    pub fn bytes_of(&self, token: &Token) -> Vec<u8> {
        match (token.kind, self.decoding) {
            (TokenKind::Control | TokenKind::Unknown, _) => Vec::new(),
            (TokenKind::UserDefined, _) => token.text.clone().into_bytes(),
            (_, Decoding::ByteLevel) => byte_alphabet::bytes_of(&token.text)
                .unwrap_or_else(|| token.text.clone().into_bytes()),
            (TokenKind::Byte, _) => byte_of_spelling(&token.text).into_iter().collect(),
            (_, Decoding::SentencePiece) => token.text.replace(spm::SPACE, " ").into_bytes(),
            (_, Decoding::WordPiece) => match token.text.strip_prefix("##") {
                Some(continuation) => continuation.into(),
                None => format!(" {}", token.text).into_bytes(),
            },
        }
    }
}

/// How the tokenizer's decoder, or the parts that it consists of, read spellings.
fn decoding(json: &Value) -> Result<Decoding, String> {
    let decoder = &json["decoder"];
    let parts = match decoder["decoders"].as_array() {
        Some(parts) => parts.as_slice(),
        None => std::slice::from_ref(decoder),
    };
    let known = parts.iter().find_map(|part| match part["type"].as_str()? {
        "ByteLevel" => Some(Decoding::ByteLevel),
        "Metaspace" => Some(Decoding::SentencePiece),
        "Replace" if part["pattern"]["String"] == "▁" => Some(Decoding::SentencePiece),
        "WordPiece" if part["prefix"] == "##" => Some(Decoding::WordPiece),
        _ => None,
    });
    known.ok_or_else(|| {
        format!("its decoder {decoder} is not known; ByteLevel, Metaspace, SentencePiece's and WordPiece are")
    })
}
