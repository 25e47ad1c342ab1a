//! The tokens of a tokenizer: their spelling, what they are for, and the bytes each adds to a text. Knows nothing of how
//! text is cut into them.

use std::collections::HashMap;

/// What a token is for; the numbers are those of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal,
    Unknown,
    /// Steers the model; found in text only when special tokens are parsed, and never part of the output.
    Control,
    /// Found in text before anything else, always; part of the output.
    UserDefined,
    Unused,
    /// One byte, spelled `<0x0A>`.
    Byte,
}

impl TokenKind {
    pub fn from_number(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// One token as a model file lists it.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub text: String,
    pub kind: TokenKind,
}

/// All tokens by id and by spelling.
#[derive(Debug)]
pub(super) struct Vocabulary {
    ids: HashMap<String, u32>,
    kinds: Vec<TokenKind>,
    /// The bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Where in `bytes` each token ends.
    ends: Vec<usize>,
}

impl Vocabulary {
    /// `tokens` in order of their ids; `bytes_of` says what a token adds to decoded text. Where two tokens are spelled
    /// the same, the spelling means the first.
    pub fn new(tokens: Vec<Token>, bytes_of: impl Fn(&Token) -> Vec<u8>) -> Self {
        let mut vocabulary = Self {
            ids: HashMap::with_capacity(tokens.len()),
            kinds: Vec::new(),
            bytes: Vec::new(),
            ends: Vec::new(),
        };
        for (id, token) in (0..).zip(tokens) {
            vocabulary.bytes.extend(bytes_of(&token));
            vocabulary.ends.push(vocabulary.bytes.len());
            vocabulary.kinds.push(token.kind);
            if !token.text.is_empty() {
                vocabulary.ids.entry(token.text).or_insert(id);
            }
        }
        vocabulary
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The token with this spelling.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// The token of this kind that ordinary text may be cut into, that is none that steers the model.
    pub fn text_id(&self, text: &str) -> Option<u32> {
        self.id(text).filter(|&id| {
            matches!(
                self.kind(id),
                TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused
            )
        })
    }

    pub fn kind(&self, id: u32) -> TokenKind {
        self.kinds[id as usize]
    }

    /// The spellings of tokens that steer the model.
    pub fn control_spellings(&self) -> impl Iterator<Item = &str> {
        let is_control = |id: u32| matches!(self.kind(id), TokenKind::Control | TokenKind::Unknown);
        self.iter()
            .filter(move |(_, id)| is_control(*id))
            .map(|(text, _)| text)
    }

    /// What the token adds to decoded text; `None` for an id outside the vocabulary.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        Some(&self.bytes[start..end])
    }

    /// All spellings with their ids, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.ids.iter().map(|(text, &id)| (text.as_str(), id))
    }
}

/// The byte of a byte token's spelling, such as `<0x0A>`.
pub(super) fn byte_of_spelling(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() != 2 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(hex, 16).ok()
}
