//! Byte-level byte pair encoding: words are cut out by the pre-tokenizer, and in each the pair of neighbours with the
//! lowest rank is merged until no pair has a rank. Must leave out nothing that the vocabulary can
//! express.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::TokenizerError;
use super::byte_alphabet;
use super::pretokenizer::Pretokenizer;
use super::vocabulary::Vocabulary;

/// A part of a word: the id of a token, or an id after the last one for a merge that is no token by itself.
type Symbol = u32;

#[derive(Debug)]
pub(super) struct Bpe {
    pretokenizer: Pretokenizer,
    /// Some vocabularies lack the first bytes of characters that do not exist yet. Such bytes are left out, as the
    /// models' own tokenizers leave them out.
    byte_symbols: [Option<Symbol>; 256],
    merges: HashMap<(Symbol, Symbol), Merge>,
    num_tokens: usize,
    /// Bytes of the symbols that are no tokens; symbol `num_tokens + i` has `other_symbols[i]`.
    other_symbols: Vec<Vec<u8>>,
    /// Words that are tokens as they stand, for vocabularies that take those without merging.
    whole_words: Option<HashMap<Vec<u8>, u32>>,
}

#[derive(Debug, Clone, Copy)]
struct Merge {
    rank: u32,
    result: Symbol,
}

impl Bpe {
    /// `merges` are pairs of spellings with a space between them, best first.
    pub fn new(
        pretokenizer: Pretokenizer,
        vocabulary: &Vocabulary,
        merges: &[String],
    ) -> Result<Self, TokenizerError> {
        let mut symbols = Symbols {
            vocabulary,
            others: HashMap::new(),
            bytes: Vec::new(),
        };
        let mut byte_symbols = [None; 256];
        for byte in 0..=255 {
            let symbol = vocabulary.text_id(&byte_alphabet::char_of(byte).to_string());
            if symbol.is_none() && byte.is_ascii_graphic() {
                return Err(TokenizerError::NoByteToken { byte });
            }
            byte_symbols[usize::from(byte)] = symbol;
        }
        let mut table = HashMap::with_capacity(merges.len());
        for (rank, merge) in (0..).zip(merges) {
            // A spelling can start with a space only in the first place.
            let split = merge.char_indices().skip(1).find(|&(_, char)| char == ' ');
            let Some((at, _)) = split else {
                return Err(TokenizerError::Merge {
                    merge: merge.clone(),
                });
            };
            let (left, right) = (&merge[..at], &merge[at + 1..]);
            let pair = (symbols.intern(left)?, symbols.intern(right)?);
            let result = symbols.intern(&format!("{left}{right}"))?;
            table.entry(pair).or_insert(Merge { rank, result });
        }
        let whole_words = pretokenizer.takes_whole_words().then(|| {
            let words = vocabulary
                .iter()
                .filter(|(text, _)| vocabulary.text_id(text).is_some());
            words
                .filter_map(|(text, id)| Some((byte_alphabet::bytes_of(text)?, id)))
                .collect()
        });
        Ok(Self {
            pretokenizer,
            byte_symbols,
            merges: table,
            num_tokens: vocabulary.len(),
            other_symbols: symbols.bytes,
            whole_words,
        })
    }

    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut merger = Merger::default();
        self.pretokenizer.split(text, |word| {
            let whole = self
                .whole_words
                .as_ref()
                .and_then(|words| words.get(word.as_bytes()));
            match whole {
                Some(&id) => ids.push(id),
                None => merger.merge(self, word.as_bytes(), ids),
            }
        });
    }

    fn push_symbol(&self, symbol: Symbol, ids: &mut Vec<u32>) {
        match (symbol as usize).checked_sub(self.num_tokens) {
            None => ids.push(symbol),
            Some(other) => {
                let bytes = self.other_symbols[other].iter();
                ids.extend(bytes.filter_map(|&byte| self.byte_symbols[usize::from(byte)]));
            }
        }
    }
}

/// Gives symbols to spellings while the merge table is built.
struct Symbols<'a> {
    vocabulary: &'a Vocabulary,
    others: HashMap<String, Symbol>,
    bytes: Vec<Vec<u8>>,
}

impl Symbols<'_> {
    fn intern(&mut self, text: &str) -> Result<Symbol, TokenizerError> {
        if let Some(id) = self.vocabulary.text_id(text) {
            return Ok(id);
        }
        if let Some(&symbol) = self.others.get(text) {
            return Ok(symbol);
        }
        let Some(bytes) = byte_alphabet::bytes_of(text) else {
            return Err(TokenizerError::Merge { merge: text.into() });
        };
        let symbol = (self.vocabulary.len() + self.bytes.len()) as Symbol;
        self.bytes.push(bytes);
        self.others.insert(text.into(), symbol);
        Ok(symbol)
    }
}

/// Working memory of merging, kept from word to word.
#[derive(Default)]
struct Merger {
    parts: Vec<Part>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

/// A symbol in a doubly linked list over the word.
struct Part {
    symbol: Symbol,
    previous: usize,
    next: usize,
}

/// Ordered by rank, then from left to right.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: usize,
    right: usize,
    pair: (Symbol, Symbol),
    result: Symbol,
}

const NONE: usize = usize::MAX;
/// The symbol of a part that was merged into its left neighbour.
const MERGED: Symbol = Symbol::MAX;

impl Merger {
    fn merge(&mut self, bpe: &Bpe, word: &[u8], ids: &mut Vec<u32>) {
        self.parts.clear();
        let symbols = word
            .iter()
            .filter_map(|&byte| bpe.byte_symbols[usize::from(byte)]);
        self.parts
            .extend(symbols.enumerate().map(|(i, symbol)| Part {
                symbol,
                previous: i.wrapping_sub(1),
                next: i + 1,
            }));
        if let Some(last) = self.parts.last_mut() {
            last.next = NONE;
        }
        for right in 1..self.parts.len() {
            self.consider(bpe, right - 1, right);
        }
        while let Some(Reverse(best)) = self.queue.pop() {
            let (left, right) = (best.left, best.right);
            if (self.parts[left].symbol, self.parts[right].symbol) != best.pair
                || self.parts[left].next != right
            {
                continue;
            }
            let next = self.parts[right].next;
            self.parts[left].symbol = best.result;
            self.parts[left].next = next;
            self.parts[right].symbol = MERGED;
            self.consider(bpe, self.parts[left].previous, left);
            if next != NONE {
                self.parts[next].previous = left;
                self.consider(bpe, left, next);
            }
        }
        for part in &self.parts {
            if part.symbol != MERGED {
                bpe.push_symbol(part.symbol, ids);
            }
        }
    }

    fn consider(&mut self, bpe: &Bpe, left: usize, right: usize) {
        if left == NONE {
            return;
        }
        let pair = (self.parts[left].symbol, self.parts[right].symbol);
        if let Some(&Merge { rank, result }) = bpe.merges.get(&pair) {
            self.queue.push(Reverse(Candidate {
                rank,
                left,
                right,
                pair,
                result,
            }));
        }
    }
}
