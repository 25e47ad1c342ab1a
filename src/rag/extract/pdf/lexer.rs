//! The words of PDF content streams and CMaps (ISO 32000-1, 7.2 and 7.3). Forgives everything: what is no word is
//! skipped, what is nested too deeply is flattened, and the end is the end.

/// An operand.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(f64),
    Name(Vec<u8>),
    String(Vec<u8>),
    Array(Vec<Value>),
    /// Keys and values in turn.
    Dictionary(Vec<(Vec<u8>, Value)>),
}

impl Value {
    pub fn number(&self) -> Option<f64> {
        if let Self::Number(number) = self {
            Some(*number)
        } else {
            None
        }
    }

    pub fn name(&self) -> Option<&[u8]> {
        if let Self::Name(name) = self {
            Some(name)
        } else {
            None
        }
    }

    pub fn string(&self) -> Option<&[u8]> {
        if let Self::String(string) = self {
            Some(string)
        } else {
            None
        }
    }

    pub fn array(&self) -> Option<&[Value]> {
        if let Self::Array(values) = self {
            Some(values)
        } else {
            None
        }
    }

    pub fn get(&self, key: &[u8]) -> Option<&Value> {
        match self {
            Self::Dictionary(entries) => entries
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }
}

/// Reads operators with the operands before them.
pub struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
}

enum Token<'a> {
    Value(Value),
    Keyword(&'a [u8]),
    OpenArray,
    CloseArray,
    OpenDictionary,
    CloseDictionary,
}

/// More operands than any operator has; what is before the last ones is noise.
const MAX_OPERANDS: usize = 1 << 16;
const MAX_DEPTH: usize = 32;

impl<'a> Lexer<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next operator; its operands replace those in `operands`. The data of inline images are skipped.
    pub fn operator(&mut self, operands: &mut Vec<Value>) -> Option<&'a [u8]> {
        operands.clear();
        // Arrays and dictionaries that are open: whether it is a dictionary, and where its values begin.
        let mut open: Vec<(bool, usize)> = Vec::new();
        loop {
            match self.token()? {
                Token::Value(value) => {
                    if operands.len() < MAX_OPERANDS {
                        operands.push(value);
                    }
                }
                Token::OpenArray | Token::OpenDictionary if open.len() == MAX_DEPTH => {}
                Token::OpenArray => open.push((false, operands.len())),
                Token::OpenDictionary => open.push((true, operands.len())),
                Token::CloseArray | Token::CloseDictionary => {
                    if let Some((is_dictionary, start)) = open.pop() {
                        let values = operands.split_off(start.min(operands.len()));
                        operands.push(if is_dictionary {
                            dictionary(values)
                        } else {
                            Value::Array(values)
                        });
                    }
                }
                Token::Keyword(b"true" | b"false" | b"null") => {}
                // An operator ends whatever was left open before it.
                Token::Keyword(b"ID") => {
                    self.skip_image_data();
                    return Some(b"BI");
                }
                Token::Keyword(b"BI") => operands.clear(),
                Token::Keyword(keyword) => return Some(keyword),
            }
        }
    }

    fn token(&mut self) -> Option<Token<'a>> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            match byte {
                b'%' => self.skip_comment(),
                b'/' => return Some(Token::Value(Value::Name(self.name()))),
                b'(' => return Some(Token::Value(Value::String(self.literal_string()))),
                b'<' if self.bytes.get(self.at) == Some(&b'<') => {
                    self.at += 1;
                    return Some(Token::OpenDictionary);
                }
                b'<' => return Some(Token::Value(Value::String(self.hex_string()))),
                b'>' if self.bytes.get(self.at) == Some(&b'>') => {
                    self.at += 1;
                    return Some(Token::CloseDictionary);
                }
                b'[' => return Some(Token::OpenArray),
                b']' => return Some(Token::CloseArray),
                b'>' | b')' | b'{' | b'}' => {}
                byte if is_space(byte) => {}
                _ => {
                    self.at -= 1;
                    let word = self.regular();
                    return Some(match number(word) {
                        Some(number) => Token::Value(Value::Number(number)),
                        None => Token::Keyword(word),
                    });
                }
            }
        }
    }

    fn regular(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let len = rest
            .iter()
            .position(|byte| !is_regular(*byte))
            .unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn skip_comment(&mut self) {
        let rest = &self.bytes[self.at..];
        self.at += rest
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'))
            .unwrap_or(rest.len());
    }

    fn name(&mut self) -> Vec<u8> {
        let word = self.regular();
        let mut name = Vec::with_capacity(word.len());
        let mut at = 0;
        while at < word.len() {
            let escaped = (word[at] == b'#')
                .then(|| {
                    Some((
                        hex_digit(*word.get(at + 1)?)?,
                        hex_digit(*word.get(at + 2)?)?,
                    ))
                })
                .flatten();
            match escaped {
                Some((high, low)) => {
                    name.push(high << 4 | low);
                    at += 3;
                }
                None => {
                    name.push(word[at]);
                    at += 1;
                }
            }
        }
        name
    }

    fn literal_string(&mut self) -> Vec<u8> {
        let mut string = Vec::new();
        let mut depth = 1;
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'(' => depth += 1,
                b')' => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                b'\\' => {
                    self.escape(&mut string);
                    continue;
                }
                _ => {}
            }
            string.push(byte);
        }
        string
    }

    fn escape(&mut self, string: &mut Vec<u8>) {
        let Some(&byte) = self.bytes.get(self.at) else {
            return;
        };
        self.at += 1;
        match byte {
            b'n' => string.push(b'\n'),
            b'r' => string.push(b'\r'),
            b't' => string.push(b'\t'),
            b'b' => string.push(8),
            b'f' => string.push(12),
            b'\n' => {}
            b'\r' => {
                if self.bytes.get(self.at) == Some(&b'\n') {
                    self.at += 1;
                }
            }
            b'0'..=b'7' => {
                let mut code = u32::from(byte - b'0');
                for _ in 0..2 {
                    match self.bytes.get(self.at) {
                        Some(digit @ b'0'..=b'7') => {
                            code = code * 8 + u32::from(digit - b'0');
                            self.at += 1;
                        }
                        _ => break,
                    }
                }
                string.push(code as u8);
            }
            other => string.push(other),
        }
    }

    fn hex_string(&mut self) -> Vec<u8> {
        let mut string = Vec::new();
        let mut high = None;
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            if byte == b'>' {
                break;
            }
            let Some(digit) = hex_digit(byte) else {
                continue;
            };
            match high.take() {
                None => high = Some(digit),
                Some(high) => string.push(high << 4 | digit),
            }
        }
        string.extend(high.map(|high| high << 4));
        string
    }

    /// Inline image data end at `EI` between white space, if what follows looks like text again.
    fn skip_image_data(&mut self) {
        let rest = &self.bytes[self.at..];
        let ends = |at: usize| {
            let after = &rest[at + 3..];
            is_space(rest[at])
                && rest[at + 1..].starts_with(b"EI")
                && after.first().is_none_or(|byte| is_space(*byte))
                && after
                    .iter()
                    .take(12)
                    .all(|byte| is_space(*byte) || (32..127).contains(byte))
        };
        let end = (0..rest.len().saturating_sub(2)).find(|at| ends(*at));
        self.at += end.map_or(rest.len(), |at| at + 3);
    }
}

fn dictionary(values: Vec<Value>) -> Value {
    let mut entries = Vec::new();
    let mut values = values.into_iter();
    while let Some(key) = values.next() {
        if let Value::Name(key) = key
            && let Some(value) = values.next()
        {
            entries.push((key, value));
        }
    }
    Value::Dictionary(entries)
}

fn number(word: &[u8]) -> Option<f64> {
    if !word
        .iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.'))
        || !word.iter().any(u8::is_ascii_digit)
    {
        return None;
    }
    let text = std::str::from_utf8(word).ok()?;
    text.parse().ok().or_else(|| {
        // Writers are known to emit "--5" and "12-34"; readers take the number at the beginning.
        let text = text.trim_start_matches('-');
        let end = text.find('-').unwrap_or(text.len());
        text[..end]
            .parse::<f64>()
            .ok()
            .map(|number| if word[0] == b'-' { -number } else { number })
    })
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, 0 | 9 | 10 | 12 | 13 | 32)
}

fn is_regular(byte: u8) -> bool {
    !is_space(byte)
        && !matches!(
            byte,
            b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(source: &[u8]) -> Vec<(String, Vec<Value>)> {
        let mut lexer = Lexer::new(source);
        let mut operands = Vec::new();
        let mut found = Vec::new();
        while let Some(operator) = lexer.operator(&mut operands) {
            found.push((
                String::from_utf8_lossy(operator).into_owned(),
                operands.clone(),
            ));
        }
        found
    }

    #[test]
    fn operators_come_with_their_operands() {
        let found = all(b"/F#311 12.5 Tf % comment\n[(a\\(b\\051\\\nc) -20 <4 1>]TJ /P <</MCID 3/T(x)>> BDC--3 .5 Td");
        let string = |bytes: &[u8]| Value::String(bytes.to_vec());
        let name = |bytes: &[u8]| Value::Name(bytes.to_vec());
        assert_eq!(
            found,
            [
                ("Tf".to_owned(), vec![name(b"F11"), Value::Number(12.5)]),
                (
                    "TJ".to_owned(),
                    vec![Value::Array(vec![
                        string(b"a(b)c"),
                        Value::Number(-20.0),
                        string(b"A")
                    ])]
                ),
                (
                    "BDC--3".to_owned(),
                    vec![
                        name(b"P"),
                        Value::Dictionary(vec![
                            (b"MCID".to_vec(), Value::Number(3.0)),
                            (b"T".to_vec(), string(b"x"))
                        ])
                    ]
                ),
                ("Td".to_owned(), vec![Value::Number(0.5)]),
            ]
        );
    }

    #[test]
    fn inline_images_are_skipped() {
        let found = all(b"BI /W 1 ID \x01 EI\x02(Tj EI Q 1 w");
        let operators: Vec<_> = found
            .iter()
            .map(|(operator, _)| operator.as_str())
            .collect();
        assert_eq!(operators, ["BI", "Q", "w"]);
    }

    #[test]
    fn broken_input_ends() {
        for source in [
            &b"(((("[..],
            b"<41",
            b"[[[[",
            b"<<<<>>",
            b"/#",
            b"BI ID",
            &[b'['; 100_000],
        ] {
            all(source);
        }
    }
}
