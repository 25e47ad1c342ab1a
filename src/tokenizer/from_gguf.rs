//! Builds the tokenizer that a GGUF file's metadata describes. Must refuse what it does not know, by name.

use std::collections::HashSet;

use super::bpe::Bpe;
use super::defuse::Defuser;
use super::huggingface::HuggingFace;
use super::pretokenizer::Pretokenizer;
use super::special::SpecialSplitter;
use super::spm::{SPACE, Spm};
use super::vocabulary::{Token, TokenKind, Vocabulary, byte_of_spelling};
use super::{ChatTemplate, Encoder, Inner, TokenizerError, byte_alphabet, end_tokens};
use crate::llm::gguf::Metadata;

const MODEL: &str = "tokenizer.ggml.model";
const PRETOKENIZER: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const END_OF_TURN: &str = "tokenizer.ggml.eot_token_id";
const END_OF_MESSAGE: &str = "tokenizer.ggml.eom_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const CLS: &str = "tokenizer.ggml.cls_token_id";
const SEPARATOR: &str = "tokenizer.ggml.seperator_token_id";
const ADDS_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADDS_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

pub(super) fn load(metadata: &Metadata) -> Result<Inner, TokenizerError> {
    let model = metadata
        .string(MODEL)
        .ok_or(TokenizerError::Missing { key: MODEL })?;
    let mut tokens = tokens(metadata)?;
    end_tokens::correct_kinds(&mut tokens);
    let ids = SpecialIds::read(metadata, tokens.len())?;
    match model {
        "gpt2" => {
            let pretokenizer = pretokenizer(metadata)?;
            let adds_bos = pretokenizer.adds_bos();
            let merges = metadata
                .strings(MERGES)
                .ok_or(TokenizerError::Missing { key: MERGES })?;
            inner(
                metadata,
                tokens,
                ids,
                adds_bos,
                byte_level_bytes,
                |vocabulary, splitter| {
                    Ok(Encoder::Bpe(
                        Bpe::new(pretokenizer, vocabulary, merges)?,
                        splitter,
                    ))
                },
            )
        }
        "llama" => {
            let scores = metadata
                .f32s(SCORES)
                .ok_or(TokenizerError::Missing { key: SCORES })?;
            check_length(SCORES, scores.len(), tokens.len())?;
            let adds_space_prefix = metadata.bool(ADDS_SPACE_PREFIX).unwrap_or(true);
            inner(
                metadata,
                tokens,
                ids,
                true,
                sentencepiece_bytes,
                |vocabulary, splitter| {
                    let spm =
                        Spm::new(vocabulary, scores.to_vec(), ids.unknown, adds_space_prefix)?;
                    Ok(Encoder::Spm(spm, splitter))
                },
            )
        }
        "bert" => {
            let unknown = ids
                .unknown
                .ok_or(TokenizerError::Missing { key: UNKNOWN })?;
            let tokens: Vec<_> = tokens.into_iter().map(without_phantom_space).collect();
            let encoder =
                Encoder::HuggingFace(Box::new(HuggingFace::word_piece(&tokens, unknown)?));
            inner(metadata, tokens, ids, true, word_piece_bytes, |_, _| {
                Ok(encoder)
            })
        }
        _ => Err(TokenizerError::UnknownModel {
            model: model.into(),
        }),
    }
}

/// The ids that the metadata gives a role.
#[derive(Clone, Copy)]
struct SpecialIds {
    bos: Option<u32>,
    eos: Option<u32>,
    end_of_turn: Option<u32>,
    end_of_message: Option<u32>,
    unknown: Option<u32>,
}

impl SpecialIds {
    fn read(metadata: &Metadata, vocab_size: usize) -> Result<Self, TokenizerError> {
        let id = |key| match metadata.u64(key) {
            // How files say that there is none.
            None | Some(0xFFFF_FFFF) => Ok(None),
            Some(id) if id < vocab_size as u64 => Ok(Some(id as u32)),
            Some(id) => Err(TokenizerError::IdOutsideVocabulary {
                key,
                id,
                vocab_size,
            }),
        };
        Ok(Self {
            bos: id(BOS)?.or(id(CLS)?),
            eos: id(EOS)?.or(id(SEPARATOR)?),
            end_of_turn: id(END_OF_TURN)?,
            end_of_message: id(END_OF_MESSAGE)?,
            unknown: id(UNKNOWN)?,
        })
    }
}

fn tokens(metadata: &Metadata) -> Result<Vec<Token>, TokenizerError> {
    let texts = metadata
        .strings(TOKENS)
        .ok_or(TokenizerError::Missing { key: TOKENS })?;
    if texts.is_empty() {
        return Err(TokenizerError::EmptyVocabulary);
    }
    let kinds = match metadata.get(KINDS) {
        None => vec![1; texts.len()],
        Some(_) => metadata
            .i64s(KINDS)
            .ok_or(TokenizerError::Missing { key: KINDS })?,
    };
    check_length(KINDS, kinds.len(), texts.len())?;
    let token = |(text, kind): (&String, i64)| Token {
        text: text.clone(),
        kind: TokenKind::from_number(kind),
    };
    Ok(texts.iter().zip(kinds).map(token).collect())
}

fn check_length(key: &'static str, found: usize, expected: usize) -> Result<(), TokenizerError> {
    if found == expected {
        Ok(())
    } else {
        Err(TokenizerError::Length {
            key,
            found,
            expected,
        })
    }
}

fn pretokenizer(metadata: &Metadata) -> Result<Pretokenizer, TokenizerError> {
    match (
        metadata.string(PRETOKENIZER),
        metadata.string("general.architecture"),
    ) {
        (Some(name), _) => Pretokenizer::named(name),
        // Files from before the key existed: these architectures have only ever had one tokenizer.
        (None, Some("gptneox" | "gpt2")) => Pretokenizer::named("gpt-2"),
        (None, _) => Err(TokenizerError::Missing { key: PRETOKENIZER }),
    }
}

fn inner(
    metadata: &Metadata,
    tokens: Vec<Token>,
    ids: SpecialIds,
    adds_bos_by_default: bool,
    bytes_of: fn(&Token) -> Vec<u8>,
    encoder: impl FnOnce(&Vocabulary, SpecialSplitter) -> Result<Encoder, TokenizerError>,
) -> Result<Inner, TokenizerError> {
    let text_of = |id: Option<u32>| id.map_or(String::new(), |id| tokens[id as usize].text.clone());
    let chat_template = match metadata.string(CHAT_TEMPLATE) {
        Some(source) => Some(ChatTemplate::new(
            source,
            &text_of(ids.bos),
            &text_of(ids.eos),
        )?),
        None => None,
    };
    let declared_ends = [ids.eos, ids.end_of_turn, ids.end_of_message]
        .into_iter()
        .flatten();
    let end_tokens = end_tokens::find(&tokens, declared_ends);
    let vocabulary = Vocabulary::new(tokens, bytes_of);
    let splitter = SpecialSplitter::new(&vocabulary, swallowing_tokens(metadata, &vocabulary))?;
    Ok(Inner {
        encoder: encoder(&vocabulary, splitter)?,
        defuser: Defuser::new(vocabulary.control_spellings())?,
        vocabulary,
        bos: ids.bos,
        adds_bos: ids.bos.is_some() && metadata.bool(ADDS_BOS).unwrap_or(adds_bos_by_default),
        end_tokens,
        chat_template,
    })
}

/// The special tokens that swallow the white space after them. GGUF files do not say which do; Phi-3's are known.
fn swallowing_tokens(metadata: &Metadata, vocabulary: &Vocabulary) -> HashSet<u32> {
    let name = metadata
        .string("general.name")
        .unwrap_or_default()
        .to_lowercase();
    if !name.contains("phi-3") && !name.contains("phi3") {
        return HashSet::new();
    }
    let special = vocabulary.iter().filter(|&(text, id)| {
        let is_special = matches!(
            vocabulary.kind(id),
            TokenKind::Control | TokenKind::UserDefined
        );
        is_special && !matches!(text, "<unk>" | "<s>" | "<|endoftext|>")
    });
    special.map(|(_, id)| id).collect()
}

fn byte_level_bytes(token: &Token) -> Vec<u8> {
    match token.kind {
        TokenKind::Control | TokenKind::Unknown => Vec::new(),
        TokenKind::UserDefined => token.text.as_bytes().to_vec(),
        _ => byte_alphabet::bytes_of(&token.text).unwrap_or_else(|| token.text.as_bytes().to_vec()),
    }
}

fn sentencepiece_bytes(token: &Token) -> Vec<u8> {
    match token.kind {
        TokenKind::Control | TokenKind::Unknown => Vec::new(),
        TokenKind::UserDefined => token.text.as_bytes().to_vec(),
        TokenKind::Byte => byte_of_spelling(&token.text).into_iter().collect(),
        TokenKind::Normal | TokenKind::Unused => token.text.replace(SPACE, " ").into_bytes(),
    }
}

fn word_piece_bytes(token: &Token) -> Vec<u8> {
    match (token.kind, token.text.strip_prefix("##")) {
        (TokenKind::Control | TokenKind::Unknown, _) => Vec::new(),
        (_, Some(continuation)) => continuation.as_bytes().to_vec(),
        (_, None) => format!(" {}", token.text).into_bytes(),
    }
}

/// GGUF files mark the tokens that start a word; WordPiece marks the others. Names in brackets are never marked.
fn without_phantom_space(mut token: Token) -> Token {
    let is_name = token.text.starts_with('[') && token.text.ends_with(']');
    if token.kind != TokenKind::Control && !is_name {
        token.text = match token.text.strip_prefix(SPACE) {
            Some(word) => word.into(),
            None => format!("##{}", token.text),
        };
    }
    token
}
