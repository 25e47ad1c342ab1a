//! Text of DOS and of the old Mac OS, which detectors take for Windows': the same bytes are other letters there. Only
//! claims a text whose letters make no sense as they were read, and all but all of which do as one of these.

use std::borrow::Cow;

use encoding_rs::MACINTOSH;

/// Bytes 128 to 255 of code page 850 (Western Europe).
const CP850: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}";
/// The same of code page 437 (the first one, of the USA).
const CP437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// The text of `bytes`, if `guessed`, which is what they are in the encoding that was guessed, cannot be it.
pub fn corrected(bytes: &[u8], guessed: &str) -> Option<String> {
    const MIN_SENSE: f64 = 0.95;
    let as_guessed = Sense::of(guessed);
    if !as_guessed.is_absurd() {
        return None;
    }
    let readings = [
        Cow::Owned(paged(bytes, CP850)),
        Cow::Owned(paged(bytes, CP437)),
        MACINTOSH.decode_without_bom_handling(bytes).0,
    ];
    let mut best: Option<Cow<'_, str>> = None;
    let mut most = as_guessed.share();
    for reading in readings {
        let share = Sense::of(&reading).share();
        if share >= MIN_SENSE && share > most {
            most = share;
            best = Some(reading);
        }
    }
    best.map(Cow::into_owned)
}

fn paged(bytes: &[u8], page: &str) -> String {
    let page: Vec<char> = page.chars().collect();
    let read = |byte: &u8| match byte.checked_sub(128) {
        Some(at) => page[usize::from(at)],
        None => char::from(*byte),
    };
    bytes.iter().map(read).collect()
}

/// How many of the characters beyond ASCII stand where a Western text has them. Those that may stand anywhere do not count.
#[derive(Default)]
struct Sense {
    num_sensible: u32,
    num_absurd: u32,
    /// Windows has no such characters at all.
    has_undefined: bool,
}

impl Sense {
    fn of(text: &str) -> Self {
        const SAMPLE: usize = 1 << 20;
        let mut sense = Self::default();
        let mut before = ' ';
        let mut characters = text.chars().take(SAMPLE).peekable();
        while let Some(c) = characters.next() {
            let after = characters.peek().copied().unwrap_or(' ');
            sense.has_undefined |= matches!(c, '\u{80}'..='\u{9f}');
            if !c.is_ascii() && !may_stand_anywhere(c) {
                match is_sensible(before, c, after) {
                    true => sense.num_sensible += 1,
                    false => sense.num_absurd += 1,
                }
            }
            before = c;
        }
        sense
    }

    fn is_absurd(&self) -> bool {
        const MIN_ABSURD: u32 = 3;
        self.has_undefined || (self.num_absurd >= MIN_ABSURD && self.num_absurd > self.num_sensible)
    }

    fn share(&self) -> f64 {
        let num_all = self.num_sensible + self.num_absurd;
        match num_all {
            0 => 1.0,
            num_all => f64::from(self.num_sensible) / f64::from(num_all),
        }
    }
}

/// Marks that join words or parts of one, and quotation marks, before which blanks are often forgotten.
fn may_stand_anywhere(c: char) -> bool {
    matches!(
        c,
        '’' | '‘' | '–' | '—' | '·' | '…' | '“' | '”' | '„' | '\u{ad}' | '\u{a0}'
    )
}

fn is_sensible(before: char, c: char, after: char) -> bool {
    let is_inside = before.is_alphabetic() && after.is_alphabetic();
    match c {
        // Of a frame, which only DOS has.
        '\u{2500}'..='\u{259f}' => !is_inside && !before.is_alphanumeric(),
        _ if c.is_uppercase() => {
            !(before.is_lowercase() || before.is_alphabetic() && after.is_lowercase())
        }
        // Letters that no text has many of, and that others are read as.
        'ª' | 'º' => true,
        'ƒ' | 'µ' | 'ı' | 'þ' | 'ð' => !is_inside && !before.is_alphabetic(),
        _ if c.is_alphabetic() => matches!(c, '\u{c0}'..='\u{24f}' | '\u{fb01}' | '\u{fb02}'),
        '«' | '¿' | '¡' => !before.is_alphanumeric(),
        '»' => !after.is_alphanumeric(),
        '€' | '£' | '§' | '°' | '½' | '¼' | '©' | '®' | '™' | '±' | '×' | '²' | '³' | '•' | '†' => {
            !is_inside
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use encoding_rs::{WINDOWS_1250, WINDOWS_1252};

    use super::*;

    const GERMAN: &str =
        "Müller wohnt in der größeren Straße über dem Café. Ärger gibt es für fünf Öfen.";
    const FRENCH: &str = "Le château près de la forêt où l'hôtelier a été reçu à Genève, ça va.";

    fn in_page(text: &str, page: &str) -> Vec<u8> {
        let at = |c: char| page.chars().position(|it| it == c).expect("in the page");
        text.chars()
            .map(|c| {
                if c.is_ascii() {
                    c as u8
                } else {
                    at(c) as u8 + 128
                }
            })
            .collect()
    }

    fn in_mac(text: &str) -> Vec<u8> {
        MACINTOSH.encode(text).0.into_owned()
    }

    fn as_windows(bytes: &[u8]) -> Option<String> {
        corrected(bytes, &WINDOWS_1252.decode_without_bom_handling(bytes).0)
    }

    #[test]
    fn pages_have_a_character_for_each_byte() {
        assert_eq!((CP850.chars().count(), CP437.chars().count()), (128, 128));
    }

    #[test]
    fn dos_and_old_mac_texts_are_read_as_they_were_written() {
        for text in [
            GERMAN,
            FRENCH,
            "Müller größer Straße",
            "Señor Muñoz llegó el miércoles, también el sábado y después",
        ] {
            assert_eq!(as_windows(&in_page(text, CP850)).as_deref(), Some(text));
            assert_eq!(as_windows(&in_mac(text)).as_deref(), Some(text));
        }
        for text in [GERMAN, FRENCH] {
            assert_eq!(as_windows(&in_page(text, CP437)).as_deref(), Some(text));
        }
        let text = "L’hôtelier a reçu l’œuvre à Genève, près du château.";
        assert_eq!(as_windows(&in_mac(text)).as_deref(), Some(text));
        let framed = "┌────┐\n│ Tür │\n└────┘";
        assert_eq!(as_windows(&in_page(framed, CP437)).as_deref(), Some(framed));
    }

    #[test]
    fn texts_of_windows_stay_as_they_are() {
        for text in [
            GERMAN,
            FRENCH,
            "Der Müller zahlte 5 € für “Schönes” Öl – später. Straße, naïve café, œuvre…",
            "L’hôtelier a reçu l’œuvre. «Très bien», dit-il. 20 °C, § 5, ½ Liter, ©2020",
            "STRAßE ÄÖÜ ÉCOLE",
            "“word”and„other‚",
            "x²+y³ = µm, 5 £",
            "plain",
        ] {
            let (bytes, ..) = WINDOWS_1252.encode(text);
            assert_eq!(as_windows(&bytes), None, "{text}");
        }
        let czech = "Žluťoučký kůň úpěl ďábelské ódy. Šest švestek, čtyři řeky.";
        let (bytes, ..) = WINDOWS_1250.encode(czech);
        let guessed = WINDOWS_1250.decode_without_bom_handling(&bytes).0;
        assert_eq!(corrected(&bytes, &guessed), None);
        // What makes sense in none of them is left to the guess.
        assert_eq!(
            as_windows(b"\x81\x8d\x8f\xfe\xb5\xa9\xd0 a\xb3b\xb9c"),
            None
        );
    }
}
