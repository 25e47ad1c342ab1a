//! Numbers by their digits. Halves are rounded up, as sheets do.

use super::code::Token;

pub fn decimal(section: &[Token], number: f64) -> String {
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
