//! The code of a format, cut into its sections and these into tokens.

/// What is shown of some numbers.
pub struct Section {
    pub condition: Option<Condition>,
    pub tokens: Vec<Token>,
}

/// As `[>=1000]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    is_below: bool,
    is_above: bool,
    or_equal: bool,
    bound: f64,
}

impl Condition {
    fn new(inside: &str) -> Option<Self> {
        let number_at = inside.find(|c: char| !"<>=".contains(c))?;
        let (comparison, bound) = inside.split_at(number_at);
        let bound = bound.trim().parse().ok()?;
        let (is_below, is_above, or_equal) = match comparison {
            "<" => (true, false, false),
            "<=" => (true, false, true),
            ">" => (false, true, false),
            ">=" => (false, true, true),
            "=" => (false, false, true),
            "<>" => (true, true, false),
            _ => return None,
        };
        Some(Self {
            is_below,
            is_above,
            or_equal,
            bound,
        })
    }

    pub fn holds(self, number: f64) -> bool {
        (self.is_below && number < self.bound)
            || (self.is_above && number > self.bound)
            || (self.or_equal && number == self.bound)
    }

    /// Its section says by itself that a number is negative.
    pub fn is_for_negatives(self) -> bool {
        self.is_below && !self.is_above && self.bound <= 0.0
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Literal(String),
    /// `0`, `#` or `?` before the point.
    Digit(char),
    Point,
    /// The same behind the point.
    Decimal(char),
    Comma,
    Percent,
    Exponent,
    General,
    Text,
    /// As `yyyy`, with how many letters.
    Date(char, usize),
    /// As `[h]`: all hours that have gone by.
    Elapsed(char),
    AmPm,
}

/// The sections of a code, in their order.
pub fn sections(code: &str) -> Vec<Section> {
    let sections = split(code).into_iter().map(|section| Section {
        condition: condition(&section),
        tokens: tokens(&section),
    });
    sections.collect()
}

/// The condition of a section, which stands in brackets before its digits.
fn condition(section: &str) -> Option<Condition> {
    let mut rest = section;
    while let Some((inside, after)) = rest.strip_prefix('[').and_then(|it| it.split_once(']')) {
        let condition = Condition::new(inside);
        if condition.is_some() {
            return condition;
        }
        rest = after;
    }
    None
}

fn split(code: &str) -> Vec<String> {
    let mut sections = vec![String::new()];
    let mut is_quoted = false;
    let mut chars = code.chars();
    while let Some(c) = chars.next() {
        let section = sections.last_mut().expect("there is always one");
        match c {
            '"' => {
                is_quoted = !is_quoted;
                section.push(c);
            }
            '\\' if !is_quoted => {
                section.push(c);
                section.extend(chars.next());
            }
            ';' if !is_quoted => sections.push(String::new()),
            c => section.push(c),
        }
    }
    sections
}

fn tokens(section: &str) -> Vec<Token> {
    let chars: Vec<char> = section.chars().collect();
    let mut tokens = Vec::new();
    let mut has_point = false;
    let mut at = 0;
    let starts = |at: usize, word: &str| {
        let found: String = chars[at..].iter().take(word.len()).collect();
        found.eq_ignore_ascii_case(word)
    };
    while let Some(&c) = chars.get(at) {
        let mut step = 1;
        match c {
            '"' => {
                let text: String = chars[at + 1..].iter().take_while(|c| **c != '"').collect();
                step = text.chars().count() + 2;
                tokens.push(Token::Literal(text));
            }
            '\\' => {
                tokens.extend(chars.get(at + 1).map(|c| Token::Literal(c.to_string())));
                step = 2;
            }
            // Room as wide as the next character.
            '_' => {
                tokens.push(Token::Literal(" ".to_owned()));
                step = 2;
            }
            '*' => step = 2,
            '[' => {
                let inside: String = chars[at + 1..].iter().take_while(|c| **c != ']').collect();
                step = inside.chars().count() + 2;
                tokens.extend(bracketed(&inside));
            }
            '0' | '#' | '?' if has_point => tokens.push(Token::Decimal(c)),
            '0' | '#' | '?' => tokens.push(Token::Digit(c)),
            '.' if chars.get(at + 1).is_some_and(|next| "0#?".contains(*next)) && !has_point => {
                has_point = true;
                tokens.push(Token::Point);
            }
            ',' => tokens.push(Token::Comma),
            '%' => tokens.push(Token::Percent),
            '@' => tokens.push(Token::Text),
            'E' | 'e' if matches!(chars.get(at + 1), Some('+' | '-')) => {
                // How many digits the exponent has at least is not looked at: two.
                let digits = chars[at + 2..].iter().take_while(|c| "0#?".contains(**c));
                step = digits.count() + 2;
                tokens.push(Token::Exponent);
            }
            _ if starts(at, "General") => {
                tokens.push(Token::General);
                step = 7;
            }
            _ if starts(at, "AM/PM") => {
                tokens.push(Token::AmPm);
                step = 5;
            }
            _ if starts(at, "A/P") => {
                tokens.push(Token::AmPm);
                step = 3;
            }
            c if "ymdhse".contains(c.to_ascii_lowercase()) => {
                let is_same = |next: &&char| next.eq_ignore_ascii_case(&c);
                step = chars[at..].iter().take_while(is_same).count();
                let letter = match c.to_ascii_lowercase() {
                    'e' => 'y',
                    letter => letter,
                };
                tokens.push(Token::Date(letter, step));
            }
            c => tokens.push(Token::Literal(c.to_string())),
        }
        at += step;
    }
    minutes(&mut tokens);
    tokens
}

/// A colour, a condition, a currency with its language, or all the hours.
fn bracketed(inside: &str) -> Option<Token> {
    if let Some(currency) = inside.strip_prefix('$') {
        let sign = currency.split('-').next().unwrap_or_default();
        return (!sign.is_empty()).then(|| Token::Literal(sign.to_owned()));
    }
    let letter = inside.chars().next()?.to_ascii_lowercase();
    let is_elapsed =
        "hms".contains(letter) && inside.chars().all(|c| c.eq_ignore_ascii_case(&letter));
    is_elapsed.then_some(Token::Elapsed(letter))
}

/// `m` stands for minutes behind hours and before seconds, else for months. They become `n` here.
fn minutes(tokens: &mut [Token]) {
    let fields: Vec<usize> = (0..tokens.len())
        .filter(|at| matches!(tokens[*at], Token::Date(..) | Token::Elapsed(_)))
        .collect();
    let letter = |token: &Token| match token {
        Token::Date(letter, _) | Token::Elapsed(letter) => *letter,
        _ => ' ',
    };
    for (place, at) in fields.iter().enumerate() {
        let Token::Date('m', width @ 1..=2) = tokens[*at] else {
            continue;
        };
        let before = place
            .checked_sub(1)
            .map(|place| letter(&tokens[fields[place]]));
        let after = fields.get(place + 1).map(|next| letter(&tokens[*next]));
        if before == Some('h') || after == Some('s') {
            tokens[*at] = Token::Date('n', width);
        }
    }
}
