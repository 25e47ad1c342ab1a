//! Dates and times, which are days since the beginning of 1900 or 1904.

use super::code::Token;

pub fn date(section: &[Token], number: f64, from_1904: bool) -> Option<String> {
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
