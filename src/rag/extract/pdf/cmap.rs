//! CMaps: which codes a string of a font holds, and what text they stand for (ISO 32000-1, 9.7.5 and 9.10.3).
//! A broken entry costs that entry only.

use std::collections::HashMap;

use super::lexer::{Lexer, Value};

/// What a CMap stream says.
#[derive(Debug, Default)]
pub struct CMap {
    codespaces: Vec<Codespace>,
    text: HashMap<u32, String>,
    cid_ranges: Vec<(u32, u32, u32)>,
}

#[derive(Debug)]
struct Codespace {
    num_bytes: usize,
    low: u32,
    high: u32,
}

/// A range maps at most this many codes: more is an attack on memory.
const MAX_RANGE: u32 = 1 << 16;

impl CMap {
    pub fn parse(source: &[u8]) -> Self {
        let mut cmap = Self::default();
        let mut lexer = Lexer::new(source);
        let mut operands = Vec::new();
        while let Some(operator) = lexer.operator(&mut operands) {
            match operator {
                b"endcodespacerange" => cmap.add_codespaces(&operands),
                b"endbfchar" => cmap.add_chars(&operands),
                b"endbfrange" => cmap.add_ranges(&operands),
                b"endcidchar" => cmap.add_cids(&operands, 2),
                b"endcidrange" => cmap.add_cids(&operands, 3),
                _ => {}
            }
        }
        cmap
    }

    /// The text for a code.
    pub fn text(&self, code: u32) -> Option<&str> {
        self.text.get(&code).map(String::as_str)
    }

    pub fn has_text(&self) -> bool {
        !self.text.is_empty()
    }

    /// The character identifier for a code; without ranges a code is its own identifier.
    pub fn cid(&self, code: u32) -> u32 {
        let found = self
            .cid_ranges
            .iter()
            .find(|(low, high, _)| (*low..=*high).contains(&code));
        found.map_or(code, |(low, _, cid)| cid.saturating_add(code - low))
    }

    /// The next code of `bytes` and its length: by codespace, else two bytes.
    pub fn next_code(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        let mut code = 0;
        for (index, byte) in bytes.iter().take(4).enumerate() {
            code = code << 8 | u32::from(*byte);
            if self
                .codespaces
                .iter()
                .any(|space| space.contains(code, index + 1))
            {
                return Some((code, index + 1));
            }
        }
        let num_bytes = self
            .codespaces
            .iter()
            .map(|space| space.num_bytes)
            .min()
            .unwrap_or(2)
            .min(bytes.len());
        let code = bytes[..num_bytes]
            .iter()
            .fold(0, |code, byte| code << 8 | u32::from(*byte));
        (num_bytes > 0).then_some((code, num_bytes))
    }

    fn add_codespaces(&mut self, operands: &[Value]) {
        for pair in operands.chunks_exact(2) {
            if let [Value::String(low), Value::String(high)] = pair
                && (1..=4).contains(&low.len())
            {
                self.codespaces.push(Codespace {
                    num_bytes: low.len(),
                    low: code(low),
                    high: code(high),
                });
            }
        }
    }

    fn add_chars(&mut self, operands: &[Value]) {
        for pair in operands.chunks_exact(2) {
            if let [Value::String(from), Value::String(to)] = pair {
                self.text.insert(code(from), utf16(to));
            }
        }
    }

    fn add_ranges(&mut self, operands: &[Value]) {
        for triple in operands.chunks_exact(3) {
            let [Value::String(low), Value::String(high), to] = triple else {
                continue;
            };
            let (low, high) = (code(low), code(high));
            let num_codes = high.saturating_sub(low).min(MAX_RANGE - 1);
            match to {
                Value::String(first) => {
                    for step in 0..=num_codes {
                        self.text
                            .insert(low.saturating_add(step), utf16(&advanced(first, step)));
                    }
                }
                Value::Array(each) => {
                    for (step, to) in (0..=num_codes).zip(each) {
                        if let Some(to) = to.string() {
                            self.text.insert(low.saturating_add(step), utf16(to));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn add_cids(&mut self, operands: &[Value], arity: usize) {
        for entry in operands.chunks_exact(arity) {
            let (Some(low), Some(high)) = (entry[0].string(), entry[arity - 2].string()) else {
                continue;
            };
            if let Some(cid) = entry[arity - 1].number() {
                self.cid_ranges.push((code(low), code(high), cid as u32));
            }
        }
    }
}

impl Codespace {
    /// Each byte of a code lies between the same bytes of the bounds.
    fn contains(&self, code: u32, num_bytes: usize) -> bool {
        self.num_bytes == num_bytes
            && (0..num_bytes).all(|index| {
                let byte = |value: u32| value >> (8 * index) & 0xff;
                (byte(self.low)..=byte(self.high)).contains(&byte(code))
            })
    }
}

fn code(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |code, byte| code << 8 | u32::from(*byte))
}

fn utf16(bytes: &[u8]) -> String {
    // Some writers give one byte for a Latin letter.
    if let [byte] = bytes {
        return char::from(*byte).to_string();
    }
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    char::decode_utf16(units)
        .filter_map(Result::ok)
        .filter(|c| *c != '\0')
        .collect()
}

/// `first` with `step` added to its last two bytes.
fn advanced(first: &[u8], step: u32) -> Vec<u8> {
    let mut bytes = first.to_vec();
    let mut carry = step;
    for byte in bytes.iter_mut().rev().take(2) {
        carry += u32::from(*byte);
        *byte = carry as u8;
        carry >>= 8;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_and_ranges_are_mapped() {
        let cmap = CMap::parse(
            b"1 begincodespacerange <0000> <FFFF> endcodespacerange\n2 beginbfchar <0003> <0020> <0004> <00660069> \
              endbfchar 2 beginbfrange <0010> <0012> <0041> <0020> <0021> [<D83DDE00> <0042>] endbfrange",
        );
        let found: Vec<_> = [3, 4, 0x10, 0x12, 0x20, 0x21, 0x22]
            .map(|code| cmap.text(code))
            .to_vec();
        assert_eq!(
            found,
            [
                Some(" "),
                Some("fi"),
                Some("A"),
                Some("C"),
                Some("😀"),
                Some("B"),
                None
            ]
        );
        assert_eq!(cmap.next_code(&[0, 0x10, 9]), Some((0x10, 2)));
    }

    #[test]
    fn codes_may_have_different_lengths() {
        let cmap = CMap::parse(
            b"begincodespacerange <00> <80> <8140> <9ffc> endcodespacerange 1 begincidrange <20> <7e> 231 endcidrange",
        );
        assert_eq!(cmap.next_code(b"a"), Some((0x61, 1)));
        assert_eq!(cmap.next_code(&[0x82, 0xa0]), Some((0x82a0, 2)));
        assert_eq!(cmap.next_code(&[0xff, 0xff]), Some((0xff, 1)));
        assert_eq!(cmap.next_code(&[]), None);
        assert_eq!(cmap.cid(0x21), 232);
    }
}
