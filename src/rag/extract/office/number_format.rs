//! Numbers as a sheet shows them: places, thousands, percent, currency, dates and times (ECMA-376 part 1, 18.8.30 and
//! 18.8.31). Colours, fractions and widths are left out; a date without a fixed order is written as year-month-day.

mod code;
mod date;
mod decimal;

use code::{Condition, Section, Token, sections};
use date::date;
use decimal::{decimal, general};

pub struct NumberFormat {
    /// For positive numbers, negative ones, and zero, unless they have conditions.
    sections: Vec<Section>,
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
        Self {
            sections: sections(code),
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
