//! Text to tokens and back, for every model the program runs, and the templates that turn a conversation into text.
//! Must never guess: a vocabulary is cut by the rules it was trained with, or refused by name.

mod bpe;
mod byte_alphabet;
mod chat_template;
mod defuse;
mod end_tokens;
mod from_dir;
mod from_gguf;
mod huggingface;
mod infill;
mod pretokenizer;
mod special;
mod spm;
mod stream;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::llm::gguf::GgufFile;
use bpe::Bpe;
use defuse::Defuser;
use huggingface::HuggingFace;
use special::{Fragment, SpecialSplitter};
use spm::Spm;
use vocabulary::{TokenKind, Vocabulary};

pub use chat_template::{ChatTemplate, TemplateError};
pub use stream::{Piece, StreamDecoder};

/// A model's tokenizer. Clones share it.
#[derive(Debug, Clone)]
pub struct Tokenizer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    vocabulary: Vocabulary,
    encoder: Encoder,
    bos: Option<u32>,
    adds_bos: bool,
    end_tokens: Vec<u32>,
    chat_template: Option<ChatTemplate>,
    defuser: Defuser,
}

/// How text becomes tokens.
#[derive(Debug)]
enum Encoder {
    Bpe(Bpe, SpecialSplitter),
    Spm(Spm, SpecialSplitter),
    HuggingFace(Box<HuggingFace>),
}

/// What to do with the spelling of a control token, such as `<|im_end|>`, in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokens {
    /// It is the token: for text that a template made.
    Parse,
    /// It is ordinary text: for what users and documents say.
    AsText,
}

impl Tokenizer {
    /// The tokenizer in a GGUF file's metadata.
    pub fn from_gguf(gguf: &GgufFile) -> Result<Self, TokenizerError> {
        from_gguf::load(gguf.metadata()).map(|inner| Self(Arc::new(inner)))
    }

    /// The tokenizer in a folder with `tokenizer.json` and, where they exist, `tokenizer_config.json`,
    /// `chat_template.jinja`, `generation_config.json` and `config.json`.
    pub fn from_dir(dir: &Path) -> Result<Self, TokenizerError> {
        from_dir::load(dir).map(|inner| Self(Arc::new(inner)))
    }

    /// The tokens of a text, without a beginning-of-sequence token. Takes time linear in the text, up to a logarithm.
    pub fn encode(&self, text: &str, special: SpecialTokens) -> Vec<u32> {
        let mut ids = Vec::new();
        match &self.0.encoder {
            Encoder::HuggingFace(encoder) => return encoder.encode(text, special),
            Encoder::Bpe(bpe, splitter) => {
                splitter.split(text, special, |fragment| match fragment {
                    Fragment::Token(id) => ids.push(id),
                    Fragment::Text(text) => bpe.encode(text, &mut ids),
                })
            }
            Encoder::Spm(spm, splitter) => {
                let mut after_special = true;
                splitter.split(text, special, |fragment| match fragment {
                    Fragment::Token(id) => {
                        ids.push(id);
                        after_special = true;
                    }
                    Fragment::Text(text) => {
                        spm.encode(&self.0.vocabulary, text, after_special, &mut ids);
                        after_special = false;
                    }
                });
            }
        }
        ids
    }

    /// The text with the power taken from what spells control tokens, such as `<|im_end|>`: for what users and documents
    /// say, before it goes into a chat template.
    pub fn defuse(&self, text: &str) -> String {
        self.0.defuser.defuse(text)
    }

    /// The text of tokens: the bytes of all of them, with U+FFFD for what is not UTF-8. SentencePiece models say the
    /// space before a word with the word, so a text of theirs starts with a space.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .filter_map(|&id| self.token_bytes(id))
            .flatten()
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The text of tokens with the spelling of control tokens in it, which [`Tokenizer::decode`] leaves out.
    pub fn spell(&self, ids: &[u32]) -> String {
        let vocabulary = &self.0.vocabulary;
        let steers = |id: u32| self.token_bytes(id).is_some_and(<[u8]>::is_empty);
        let mut spellings: HashMap<u32, &str> = HashMap::new();
        if ids.iter().any(|&id| steers(id)) {
            let pieces = vocabulary.iter().filter(|(_, id)| steers(*id));
            spellings.extend(pieces.map(|(text, id)| (id, text)));
        }
        let mut bytes = Vec::new();
        for &id in ids {
            let spelling = spellings.get(&id).map(|text| text.as_bytes());
            bytes.extend_from_slice(spelling.or(self.token_bytes(id)).unwrap_or_default());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes that a token adds to decoded text: none for control tokens, `None` for an id outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.0.vocabulary.bytes(id)
    }

    /// The bytes of a token that text is made of; `None` for one that steers the model or that text never has.
    pub fn text_bytes(&self, id: u32) -> Option<&[u8]> {
        let bytes = self.token_bytes(id)?;
        let is_text = matches!(
            self.0.vocabulary.kind(id),
            TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte
        );
        (is_text && !bytes.is_empty()).then_some(bytes)
    }

    /// The control token that is spelled like this: one that decoded text does not show.
    pub fn control_token(&self, spelling: &str) -> Option<u32> {
        let id = self.id_of(spelling)?;
        (self.0.vocabulary.kind(id) == TokenKind::Control).then_some(id)
    }

    /// The token that the vocabulary spells like this.
    pub fn id_of(&self, piece: &str) -> Option<u32> {
        self.0.vocabulary.id(piece)
    }

    /// Number of tokens; a model may have more logits than this.
    pub fn vocab_size(&self) -> usize {
        self.0.vocabulary.len()
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.0.bos
    }

    /// Whether a plain prompt starts with [`Tokenizer::bos`]. Chat templates write it themselves.
    pub fn adds_bos(&self) -> bool {
        self.0.adds_bos
    }

    /// The tokens that end an answer, ascending.
    pub fn end_tokens(&self) -> &[u32] {
        &self.0.end_tokens
    }

    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.0.chat_template.as_ref()
    }
}

/// Why a tokenizer could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error("cannot read {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is not valid JSON: {source}")]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{path} is not a usable tokenizer: {problem}")]
    TokenizerJson { path: PathBuf, problem: String },
    #[error("the model file has no usable {key:?}; convert the model again with current tools")]
    Missing { key: &'static str },
    #[error(
        "the model file's {key:?} has {found} entries, but the vocabulary has {expected}; convert the model again"
    )]
    Length {
        key: &'static str,
        found: usize,
        expected: usize,
    },
    #[error("the model file's {key:?} is {id}, but the vocabulary has only {vocab_size} tokens")]
    IdOutsideVocabulary {
        key: &'static str,
        id: u64,
        vocab_size: usize,
    },
    #[error("the vocabulary is empty")]
    EmptyVocabulary,
    #[error(
        "vocabularies of the kind {model:?} are not supported; use a model with a gpt2, llama or bert vocabulary"
    )]
    UnknownModel { model: String },
    #[error(
        "the rules by which pre-tokenizer {name:?} cuts text are not known, and wrong ones would silently make the \
         model worse; use another conversion of the model or a newer version of this program"
    )]
    UnknownPretokenizer { name: String },
    #[error("the merge {merge:?} is not two tokens with a space between; convert the model again")]
    Merge { merge: String },
    #[error(
        "the vocabulary has no token for byte {byte:#04x}, so it cannot express every text; convert the model again"
    )]
    NoByteToken { byte: u8 },
    #[error("the special tokens cannot be searched for: {0}")]
    SpecialTokens(String),
    #[error(transparent)]
    ChatTemplate(#[from] TemplateError),
}
