//! Numbers as a sheet shows them: places, thousands, percent, currency, dates and times (ECMA-376 part 1, 18.8.30 and
//! 18.8.31). Colours, fractions and widths are left out; a date without a fixed order is written as year-month-day.

pub struct NumberFormat {
    /// For positive numbers, negative ones, and zero, unless they have conditions.
    sections: Vec<Section>,
}

struct Section {
    condition: Option<Condition>,
    tokens: Vec<Token>,
}

/// As `[>=1000]`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Condition {
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

    fn holds(self, number: f64) -> bool {
        (self.is_below && number < self.bound)
            || (self.is_above && number > self.bound)
            || (self.or_equal && number == self.bound)
    }

    /// Its section says by itself that a number is negative.
    fn is_for_negatives(self) -> bool {
        self.is_below && !self.is_above && self.bound <= 0.0
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
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

impl NumberFormat {
    pub fn general() -> Self {
        Self::new("General")
    }

    /// The formats that have a number instead of a code.
    pub fn built_in(id: u32) -> Self {
        Self::new(match id {
            1 => "0",
            2 => "0.00",
            3 => "#,##0",
            4 => "#,##0.00",
            9 => "0%",
            10 => "0.00%",
            11 | 48 => "0.00E+00",
            14 | 27..=31 | 34..=36 | 50..=58 => "yyyy-mm-dd",
            15 => "d-mmm-yy",
            16 => "d-mmm",
            17 => "mmm-yy",
            18 => "h:mm AM/PM",
            19 => "h:mm:ss AM/PM",
            20 | 32 => "h:mm",
            21 | 33 => "h:mm:ss",
            22 => "yyyy-mm-dd h:mm",
            37 | 38 => "#,##0;(#,##0)",
            39 | 40 => "#,##0.00;(#,##0.00)",
            41 | 42 => "#,##0",
            43 | 44 => "#,##0.00",
            45 => "mm:ss",
            46 => "[h]:mm:ss",
            47 => "mm:ss.0",
            _ => "General",
        })
    }

    pub fn new(code: &str) -> Self {
        let sections = sections(code).into_iter().map(|section| Section {
            condition: condition(&section),
            tokens: tokens(&section),
        });
        Self {
            sections: sections.collect(),
        }
    }

    /// `number` as shown. `from_1904` says from which year dates are counted.
    pub fn shown(&self, number: f64, from_1904: bool) -> String {
        let Some((section, has_own_sign)) = self.section(number) else {
            return general(number);
        };
        let is_date = |token: &Token| matches!(token, Token::Date(..) | Token::Elapsed(_));
        if section.iter().any(is_date) {
            return date(section, number, from_1904).unwrap_or_else(|| general(number));
        }
        let has_digits = |token: &Token| matches!(token, Token::Digit(_) | Token::Decimal(_));
        if section.iter().any(has_digits) {
            let magnitude = if has_own_sign { number.abs() } else { number };
            return decimal(section, magnitude);
        }
        let shown: String = section
            .iter()
            .map(|token| match token {
                Token::Literal(text) => text.clone(),
                Token::General | Token::Text => general(number),
                Token::Percent => "%".to_owned(),
                _ => String::new(),
            })
            .collect();
        // A format may hide a number; a reader of the text should know it.
        match shown.trim().is_empty() {
            true => general(number),
            false => shown.trim().to_owned(),
        }
    }
}

impl NumberFormat {
    /// The section for a number, and whether it says itself that the number is negative.
    fn section(&self, number: f64) -> Option<(&[Token], bool)> {
        if self.sections.iter().any(|it| it.condition.is_some()) {
            let holds = |section: &&Section| section.condition.is_none_or(|it| it.holds(number));
            let section = self.sections.iter().find(holds)?;
            let has_own_sign = section.condition.is_some_and(Condition::is_for_negatives);
            return Some((&section.tokens, has_own_sign));
        }
        let (section, has_own_sign) = match (number, self.sections.as_slice()) {
            (_, []) => return None,
            (n, [_, negative, ..]) if n < 0.0 => (negative, true),
            (0.0, [_, _, zero, ..]) => (zero, false),
            (_, [first, ..]) => (first, false),
        };
        Some((&section.tokens, has_own_sign))
    }
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

fn sections(code: &str) -> Vec<String> {
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

fn decimal(section: &[Token], number: f64) -> String {
    let mut value = number;
    let last_digit = section
        .iter()
        .rposition(|token| matches!(token, Token::Digit(_) | Token::Decimal(_)))
        .unwrap_or(0);
    let mut has_thousands = false;
    for (at, token) in section.iter().enumerate() {
        match token {
            Token::Percent => value *= 100.0,
            // Behind the digits a comma divides.
            Token::Comma if at > last_digit => value /= 1000.0,
            Token::Comma => has_thousands = true,
            _ => {}
        }
    }
    if has_gaps(section, value) {
        return spread(section, value);
    }
    // A fraction, such as `# ?/?`.
    if section.contains(&Token::Literal("/".to_owned())) {
        return general(number);
    }
    let count = |wanted: fn(&Token) -> bool| section.iter().filter(|token| wanted(token)).count();
    let places = count(|token| matches!(token, Token::Decimal(_)));
    let needed = count(|token| matches!(token, Token::Decimal('0')));
    let whole = count(|token| matches!(token, Token::Digit('0')));
    let body = match section.contains(&Token::Exponent) {
        true => exponential(value.abs(), places),
        false => fixed(
            value.abs(),
            (places.min(30), needed),
            whole.min(30),
            has_thousands,
        ),
    };
    let is_zero = body.chars().all(|c| !c.is_ascii_digit() || c == '0');
    let mut out = String::new();
    if value < 0.0 && !is_zero {
        out.push('-');
    }
    let mut body = Some(body);
    for token in section {
        match token {
            Token::Digit(_) | Token::Decimal(_) | Token::Point => {
                out.push_str(&body.take().unwrap_or_default());
            }
            Token::Literal(text) => out.push_str(text),
            Token::Percent => out.push('%'),
            _ => {}
        }
    }
    out.trim().to_owned()
}

/// Whether something stands between the digits of a mask that a whole number fills, as in a telephone number.
fn has_gaps(section: &[Token], value: f64) -> bool {
    let is_other = |token: &Token| {
        matches!(
            token,
            Token::Digit('#' | '?') | Token::Decimal(_) | Token::Percent
        )
    };
    if value < 0.0 || value != value.trunc() || section.iter().any(is_other) {
        return false;
    }
    let is_digit = |token: &Token| matches!(token, Token::Digit(_));
    let first = section.iter().position(is_digit).unwrap_or(0);
    let last = section.iter().rposition(is_digit).unwrap_or(0);
    section[first..last.max(first)]
        .iter()
        .any(|token| matches!(token, Token::Literal(_)))
}

/// A whole number with a digit at each place, and what is too much at the first.
fn spread(section: &[Token], value: f64) -> String {
    let num_places = section
        .iter()
        .filter(|token| matches!(token, Token::Digit(_)))
        .count();
    let digits = format!("{:0>num_places$}", format!("{:.0}", value.abs()));
    let mut digits = digits.chars();
    let mut surplus = digits.clone().count() - num_places;
    let mut out = String::new();
    for token in section {
        match token {
            Token::Digit(_) => {
                out.extend(digits.by_ref().take(std::mem::take(&mut surplus) + 1));
            }
            Token::Literal(text) => out.push_str(text),
            _ => {}
        }
    }
    out.trim().to_owned()
}

fn fixed(
    value: f64,
    (places, needed): (usize, usize),
    whole: usize,
    has_thousands: bool,
) -> String {
    let text = rounded(value, places);
    let (digits, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let mut decimals = decimals.to_owned();
    while decimals.len() > needed && decimals.ends_with('0') {
        decimals.pop();
    }
    let digits = match whole {
        0 => digits.trim_start_matches('0').to_owned(),
        _ => format!("{digits:0>whole$}"),
    };
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if has_thousands && at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if out.is_empty() && decimals.is_empty() {
        out.push('0');
    }
    if !decimals.is_empty() {
        out.push('.');
        out.push_str(&decimals);
    }
    out
}

/// As many digits as a sheet counts with.
const NUM_DIGITS: usize = 15;

/// A number that is not negative with `places` decimals. Sheets round halves up, and what is written with 15 digits:
/// 1.005 is a half there, though the nearest binary number is below it.
fn rounded(value: f64, places: usize) -> String {
    let (digits, exponent) = digits_of(value);
    // How many of the digits stay.
    let kept = i64::from(exponent) + 1 + places as i64;
    if kept >= NUM_DIGITS as i64 {
        return format!("{value:.places$}");
    }
    let number = match usize::try_from(kept) {
        Ok(kept) => rounded_to(digits, kept),
        Err(_) => 0,
    };
    let text = format!("{number:0>width$}", width = places + 1);
    let (whole, decimals) = text.split_at(text.len() - places);
    match places {
        0 => whole.to_owned(),
        _ => format!("{whole}.{decimals}"),
    }
}

/// The first `NUM_DIGITS` digits of a number that is not negative, and the power of ten of the first of them.
fn digits_of(value: f64) -> (u64, i32) {
    let text = format!("{value:.*e}", NUM_DIGITS - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = mantissa.replace('.', "").parse().unwrap_or(0);
    (digits, exponent.parse().unwrap_or(0))
}

/// The first `kept` of `NUM_DIGITS` digits as a number, halves rounded up.
fn rounded_to(digits: u64, kept: usize) -> u64 {
    let unit = 10u64.pow((NUM_DIGITS - kept) as u32);
    (digits + unit / 2) / unit
}

fn exponential(value: f64, places: usize) -> String {
    let places = places.min(NUM_DIGITS - 1);
    let (digits, mut exponent) = digits_of(value);
    let mut number = rounded_to(digits, places + 1);
    if number >= 10u64.pow(places as u32 + 1) {
        number /= 10;
        exponent += 1;
    }
    let text = number.to_string();
    let (first, decimals) = text.split_at(1.min(text.len()));
    let mantissa = match places {
        0 => first.to_owned(),
        _ => format!("{first}.{decimals:0<places$}"),
    };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}E{sign}{:02}", exponent.abs())
}

/// As many digits as a sheet keeps, without zeros at the end.
pub fn general(number: f64) -> String {
    if number == number.trunc() && number.abs() < 1e15 {
        return match number == 0.0 {
            true => "0".to_owned(),
            false => format!("{number:.0}"),
        };
    }
    let rounded: f64 = format!("{number:.14e}").parse().unwrap_or(number);
    match rounded.abs() {
        1e-9..1e21 => rounded.to_string(),
        _ => {
            let text = format!("{rounded:e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            format!("{mantissa}E{sign}{exponent}")
        }
    }
}

fn date(section: &[Token], number: f64, from_1904: bool) -> Option<String> {
    const MAX_DAYS: f64 = 2_958_466.0;
    // A time that has gone by has no calendar.
    let is_of_calendar = |token: &Token| matches!(token, Token::Date('y' | 'm' | 'd', _));
    let number = match from_1904 && section.iter().any(is_of_calendar) {
        true => number + 1462.0,
        false => number,
    };
    if !(0.0..MAX_DAYS).contains(&number) {
        return None;
    }
    let shows_parts = section
        .iter()
        .any(|token| matches!(token, Token::Decimal(_)));
    // Half a second is nothing that was typed.
    let seconds = match shows_parts {
        true => number * 86_400.0,
        false => (number * 86_400.0).round(),
    };
    let days = (seconds / 86_400.0).floor();
    let of_day = seconds - days * 86_400.0;
    let (hour, minute, second) = (
        (of_day / 3600.0) as u32,
        (of_day / 60.0) as u32 % 60,
        of_day % 60.0,
    );
    let (year, month, day, weekday) = calendar(days as i64);
    let has_half_days = section.contains(&Token::AmPm);
    let mut out = String::new();
    for token in section {
        match token {
            Token::Date('y', 1..=2) => out.push_str(&format!("{:02}", year % 100)),
            Token::Date('y', _) => out.push_str(&format!("{year:04}")),
            Token::Date('m', 1) => out.push_str(&month.to_string()),
            Token::Date('m', 2) => out.push_str(&format!("{month:02}")),
            Token::Date('m', 3) => out.push_str(&MONTHS[month as usize - 1][..3]),
            Token::Date('m', 5) => out.push_str(&MONTHS[month as usize - 1][..1]),
            Token::Date('m', _) => out.push_str(MONTHS[month as usize - 1]),
            Token::Date('d', 1) => out.push_str(&day.to_string()),
            Token::Date('d', 2) => out.push_str(&format!("{day:02}")),
            Token::Date('d', 3) => out.push_str(&WEEKDAYS[weekday][..3]),
            Token::Date('d', _) => out.push_str(WEEKDAYS[weekday]),
            Token::Date('h', width) => {
                let hour = match (has_half_days, hour % 12) {
                    (false, _) => hour,
                    (true, 0) => 12,
                    (true, hour) => hour,
                };
                out.push_str(&padded(hour, *width));
            }
            Token::Date('n', width) => out.push_str(&padded(minute, *width)),
            Token::Date('s', width) => out.push_str(&padded(second as u32, *width)),
            Token::Elapsed(letter) => {
                let unit = match letter {
                    'h' => 3600.0,
                    'm' => 60.0,
                    _ => 1.0,
                };
                out.push_str(&format!("{:.0}", (seconds / unit).floor()));
            }
            Token::AmPm => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Token::Literal(text) => out.push_str(text),
            Token::Comma => out.push(','),
            Token::Point => out.push('.'),
            Token::Decimal(_) if out.ends_with('.') => {
                out.push_str(&format!("{:.0}", (second.fract() * 10.0).floor()));
            }
            _ => {}
        }
    }
    Some(out.trim().to_owned())
}

fn padded(value: u32, width: usize) -> String {
    match width {
        1 => value.to_string(),
        _ => format!("{value:02}"),
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Year, month, day and day of the week of a day counted from the beginning of 1900, which sheets take for a leap year.
fn calendar(days: i64) -> (i64, u32, u32, usize) {
    let weekday = (days + 6).rem_euclid(7) as usize;
    match days {
        0 => return (1900, 1, 0, 6),
        60 => return (1900, 2, 29, weekday),
        _ => {}
    }
    // Days since 1970, then by eras of 400 years that begin in March.
    let since_1970 = days - if days < 60 { 25_568 } else { 25_569 };
    let shifted = since_1970 + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32, weekday)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_their_format_says() {
        for (code, number, expected) in [
            ("General", 0.1 + 0.2, "0.3"),
            ("General", 1e21, "1E+21"),
            ("General", -42.0, "-42"),
            ("General", 0.0, "0"),
            ("General", 1234567.891, "1234567.891"),
            ("0.00", 1.005, "1.01"),
            ("0", 2.5, "3"),
            ("0.0", 0.25, "0.3"),
            ("0.0", 0.04, "0.0"),
            ("0.0", 9.95, "10.0"),
            ("0", 0.5, "1"),
            ("0%", 0.145, "15%"),
            ("0.00", 123456789012345.0, "123456789012345.00"),
            ("0E+00", 95.0, "1E+02"),
            ("[<100]0.0;[>=1000]#,##0;0", 99.0, "99.0"),
            ("[<100]0.0;[>=1000]#,##0;0", 1234.0, "1,234"),
            ("[<100]0.0;[>=1000]#,##0;0", 500.0, "500"),
            ("[Red][<0](0);0", -7.0, "(7)"),
            ("[=1]0\" day\";0\" days\"", 2.0, "2 days"),
            ("0.00", -0.001, "0.00"),
            ("#,##0", 1234567.0, "1,234,567"),
            ("#,##0.00 \"€\"", 1234.5, "1,234.50 €"),
            ("[$€-407] #,##0.00", 1234.5, "€ 1,234.50"),
            ("0%", 0.25, "25%"),
            ("0.0#%", 0.12345, "12.35%"),
            ("#,##0;[Red](#,##0)", -1500.0, "(1,500)"),
            ("0;-0;\"none\"", 0.0, "none"),
            ("0.00E+00", 12345.0, "1.23E+04"),
            ("000-00", 12345.0, "123-45"),
            ("(000) 000", 12.0, "(000) 012"),
            ("#\\ ##0", -1234.0, "-1234"),
            ("#\\ ##0.00", 1234.56, "1234.56"),
            ("# ?/?", 2.5, "2.5"),
            ("0.0,,\" million\"", 2_500_000.0, "2.5 million"),
            ("_-* #,##0.00_-", 5.0, "5.00"),
            ("@", 5.0, "5"),
            (";;;", 5.0, "5"),
        ] {
            assert_eq!(
                NumberFormat::new(code).shown(number, false),
                expected,
                "{code}"
            );
        }
    }

    #[test]
    fn dates_are_shown_as_their_format_says() {
        for (code, number, expected) in [
            ("yyyy-mm-dd", 45352.0, "2024-03-01"),
            ("dd.mm.yyyy", 45351.0, "29.02.2024"),
            ("d mmmm yyyy", 1.0, "1 January 1900"),
            ("m/d/yy", 60.0, "2/29/00"),
            ("yyyy-mm-dd", 61.0, "1900-03-01"),
            ("dddd, mmm d", 45352.0, "Friday, Mar 1"),
            ("yyyy-mm-dd hh:mm:ss", 45352.75, "2024-03-01 18:00:00"),
            ("h:mm AM/PM", 0.5, "12:00 PM"),
            ("h:mm", 0.999_999_9, "0:00"),
            ("[h]:mm:ss", 1.5, "36:00:00"),
            ("mm:ss", 0.0625, "30:00"),
            ("[$-409]mmmm yyyy", 45352.0, "March 2024"),
            ("yyyy", -1.0, "-1"),
        ] {
            assert_eq!(
                NumberFormat::new(code).shown(number, false),
                expected,
                "{code}"
            );
        }
        assert_eq!(NumberFormat::new("[h]:mm").shown(1.5, true), "36:00");
        assert_eq!(
            NumberFormat::built_in(14).shown(43890.0, true),
            "2024-03-01"
        );
    }
}
