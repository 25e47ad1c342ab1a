//! Bytes to clean text: finds the encoding, unifies line ends, drops control characters. Never fails and never
//! panics: what cannot be decoded becomes U+FFFD.

use std::borrow::Cow;

use chardetng::EncodingDetector;
use encoding_rs::{
    Encoding, ISO_2022_JP, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1250, WINDOWS_1252, WINDOWS_1254,
    WINDOWS_1257,
};

use super::old_encodings;

/// Decodes text of any usual encoding and cleans it.
pub fn decode(bytes: &[u8]) -> String {
    decode_as(bytes, None)
}

/// As `decode`, believing that the encoding is `declared` unless the bytes say otherwise.
pub fn decode_as(bytes: &[u8], declared: Option<&'static Encoding>) -> String {
    clean(&decoded(bytes, declared))
}

/// As `decode_as`, with control characters and line ends as they are.
pub fn decoded<'b>(bytes: &'b [u8], declared: Option<&'static Encoding>) -> Cow<'b, str> {
    if let Some(encoding) = encoding_of(bytes, declared) {
        return encoding.decode_with_bom_removal(bytes).0;
    }
    let mut detector = EncodingDetector::new();
    detector.feed(bytes, true);
    let guessed = detector.guess(None, true);
    let (text, _) = guessed.decode_without_bom_handling(bytes);
    let is_latin = [WINDOWS_1250, WINDOWS_1252, WINDOWS_1254, WINDOWS_1257].contains(&guessed);
    let corrected = is_latin.then(|| old_encodings::corrected(bytes, &text));
    corrected.flatten().map_or(text, Cow::Owned)
}

/// As marked UTF-8, which every reader believes: what the sender said stands above what the text says of itself and what
/// can be guessed, and below a byte order mark (WHATWG, HTML, "determining the character encoding").
pub fn sent_as(encoding: &'static Encoding, bytes: Vec<u8>) -> Vec<u8> {
    const UTF_8_MARK: &[u8] = b"\xef\xbb\xbf";
    if Encoding::for_bom(&bytes).is_some() {
        return bytes;
    }
    let (text, _) = encoding.decode_without_bom_handling(&bytes);
    [UTF_8_MARK, text.as_bytes()].concat()
}

/// Whether the bytes are no text in any encoding: too many control characters, and not UTF-16.
pub fn is_binary(bytes: &[u8]) -> bool {
    const SAMPLE: usize = 64 << 10;
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    let is_marked = Encoding::for_bom(sample).is_some();
    !is_marked && has_many_controls(sample) && unmarked_utf16(sample).is_none()
}

fn has_many_controls(bytes: &[u8]) -> bool {
    const MAX_CONTROL_PERCENT: usize = 2;
    let is_control = |byte: &&u8| matches!(**byte, 0..=8 | 14..=26 | 28..=31 | 127);
    let num_control = bytes.iter().filter(is_control).count();
    num_control * 100 > bytes.len() * MAX_CONTROL_PERCENT
}

/// The encoding that the bytes prove, or that is declared and fits.
fn encoding_of(bytes: &[u8], declared: Option<&'static Encoding>) -> Option<&'static Encoding> {
    if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        return Some(encoding);
    }
    if is_iso_2022_jp(bytes) {
        return Some(ISO_2022_JP);
    }
    if is_nearly_utf8(bytes) {
        return Some(UTF_8);
    }
    unmarked_utf16(bytes).or_else(|| {
        declared.filter(|encoding| {
            let decoded = encoding.decode_without_bom_handling_and_without_replacement(bytes);
            decoded.is_some()
        })
    })
}

/// Japanese as mails have it: ASCII bytes only, between which escapes change what they mean.
fn is_iso_2022_jp(bytes: &[u8]) -> bool {
    let is_escaped = bytes
        .windows(3)
        .any(|it| matches!(it, b"\x1b$B" | b"\x1b$@"));
    is_escaped
        && ISO_2022_JP
            .decode_without_bom_handling_and_without_replacement(bytes)
            .is_some()
}

/// Valid UTF-8, or UTF-8 with a few damaged characters: a wrong byte should not turn the rest into mojibake.
fn is_nearly_utf8(bytes: &[u8]) -> bool {
    let (mut num_invalid, mut num_valid) = (0usize, 0usize);
    for chunk in bytes.utf8_chunks() {
        num_invalid += usize::from(!chunk.invalid().is_empty());
        num_valid += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
    }
    // NULs are valid UTF-8, but text with many of them is UTF-16.
    let num_nul = bytes.iter().take(4096).filter(|byte| **byte == 0).count();
    num_invalid * 20 <= num_valid && num_nul * 5 <= bytes.len().min(4096)
}

/// UTF-16 without a mark, known by the zero byte in most Latin letters, spaces and line ends.
fn unmarked_utf16(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = &bytes[..bytes.len().min(4096) & !1];
    let num_pairs = sample.len() / 2;
    if num_pairs < 4 {
        return None;
    }
    let nul_at = |offset: usize| {
        sample
            .iter()
            .skip(offset)
            .step_by(2)
            .filter(|byte| **byte == 0)
            .count()
    };
    let (even, odd) = (nul_at(0), nul_at(1));
    let (most, few) = (num_pairs * 2 / 5, num_pairs / 20);
    if odd > most && even <= few {
        Some(UTF_16LE)
    } else if even > most && odd <= few {
        Some(UTF_16BE)
    } else if has_many_controls(sample) {
        let encodings = [UTF_16LE, UTF_16BE];
        encodings.into_iter().find(|it| is_east_asian(sample, it))
    } else {
        None
    }
}

/// Whether bytes that are no text of single bytes are Chinese, Japanese or Korean in this encoding, and nothing else.
fn is_east_asian(sample: &[u8], encoding: &'static Encoding) -> bool {
    let Some(text) = encoding.decode_without_bom_handling_and_without_replacement(sample) else {
        return false;
    };
    // Syllables and marks, which no text of these languages is without.
    let is_frequent = |c: char| matches!(c, '\u{3000}'..='\u{30ff}' | '\u{ac00}'..='\u{d7a3}' | '\u{ff01}'..='\u{ff60}');
    let is_usual = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{4e00}'..='\u{9fff}');
    let num_frequent = text.chars().filter(|c| is_frequent(*c)).count();
    text.chars().all(|c| is_frequent(c) || is_usual(c)) && num_frequent * 20 >= text.chars().count()
}

/// One kind of line end, no control characters, no byte order marks inside.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push('\n');
            }
            '\n' | '\t' => out.push(c),
            '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\u{feff}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_encoding_gives_the_same_text() {
        let text = "Grüße aus Köln, schöne Straße über Brücken. Ärger mit Umlauten: äöüß.";
        let utf16 =
            |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        assert_eq!(decode(text.as_bytes()), text);
        assert_eq!(decode(&[b"\xef\xbb\xbf", text.as_bytes()].concat()), text);
        assert_eq!(
            decode(&[&b"\xff\xfe"[..], &utf16(u16::to_le_bytes)].concat()),
            text
        );
        assert_eq!(
            decode(&[&b"\xfe\xff"[..], &utf16(u16::to_be_bytes)].concat()),
            text
        );
        assert_eq!(decode(&utf16(u16::to_le_bytes)), text);
        assert_eq!(decode(&utf16(u16::to_be_bytes)), text);
        assert_eq!(decode(&encoding_rs::WINDOWS_1252.encode(text).0), text);
        let japanese = "渡し船は九時に出ます。 The ferry.";
        assert_eq!(decode(&ISO_2022_JP.encode(japanese).0), japanese);
    }

    #[test]
    fn the_sender_is_believed_before_the_text_and_after_its_mark() {
        let page = "<meta charset=utf-8><p>Füße";
        let sent = |bytes: &[u8]| decode(&sent_as(encoding_rs::WINDOWS_1251, bytes.to_vec()));
        assert_eq!(sent(&encoding_rs::WINDOWS_1251.encode("мир").0), "мир");
        assert_eq!(sent(page.as_bytes()), "<meta charset=utf-8><p>FГјГџe");
        assert_eq!(sent(&[b"\xef\xbb\xbf", page.as_bytes()].concat()), page);
        let utf8 = decode(&sent_as(UTF_8, b"a\xffb".to_vec()));
        assert_eq!(utf8, "a\u{fffd}b");
    }

    #[test]
    fn texts_of_dos_and_the_old_mac_are_told_from_those_of_windows() {
        assert_eq!(
            decode(b"M\x81ller gr\x94\xe1er Stra\xe1e\r\n"),
            "Müller größer Straße\n"
        );
        let french = "L’hôtelier a reçu l’œuvre à Genève, près du château.";
        assert_eq!(decode(&encoding_rs::MACINTOSH.encode(french).0), french);
        for text in [
            "Der Müller zahlte 5 € für “Schönes” Öl – später. Straße, naïve café, œuvre…",
            "Le contrat prévoit une pénalité de 3 % par mois à compter du 1er février.",
        ] {
            assert_eq!(decode(&encoding_rs::WINDOWS_1252.encode(text).0), text);
        }
        let greek = "Η σύμβαση προβλέπει ποινή τριών τοις εκατό για κάθε μήνα.";
        assert_eq!(decode(&encoding_rs::WINDOWS_1253.encode(greek).0), greek);
        let russian = "Договор предусматривает неустойку за каждый месяц.";
        assert_eq!(decode(&encoding_rs::KOI8_R.encode(russian).0), russian);
        assert_eq!(
            decode(&encoding_rs::WINDOWS_1251.encode(russian).0),
            russian
        );
    }

    #[test]
    fn east_asian_texts_in_unmarked_utf16_are_read() {
        for text in [
            "四半期の売上は千二百万円です。これは試験です。",
            "合同规定逾期每月支付百分之三的违约金。北京市朝阳区。",
            "계약서에는 연체 한 달마다 3퍼센트의 위약금이 규정되어 있습니다.",
        ] {
            for unit in [u16::to_le_bytes, u16::to_be_bytes] {
                let bytes: Vec<u8> = text.encode_utf16().flat_map(unit).collect();
                assert!(!is_binary(&bytes), "{text}");
                assert_eq!(decode(&bytes), text);
            }
            for encoding in [
                encoding_rs::GB18030,
                encoding_rs::SHIFT_JIS,
                encoding_rs::EUC_KR,
            ] {
                let (bytes, _, has_unmappable) = encoding.encode(text);
                if !has_unmappable {
                    assert_eq!(unmarked_utf16(&bytes), None, "{text}");
                }
            }
        }
    }

    #[test]
    fn line_ends_are_unified_and_controls_dropped() {
        assert_eq!(
            decode(b"a\r\nb\rc\x0cd\x0be\0f\x07\tg"),
            "a\nb\nc\nd\nef\tg"
        );
    }

    #[test]
    fn a_damaged_character_does_not_change_the_encoding() {
        let mut bytes = "Füße ".repeat(30).into_bytes();
        bytes[61] = 0xff;
        let text = decode(&bytes);
        assert!(text.contains('\u{fffd}') && text.contains("Füße"), "{text}");
    }

    #[test]
    fn text_is_told_from_binary() {
        assert!(!is_binary("Привет, мир".as_bytes()));
        assert!(!is_binary(b"\x1b[31mred\x1b[0m log line"));
        assert!(!is_binary(b"t\0e\0x\0t\0 \0a\0s\0 \0U\0"));
        let mixed = (0..4096u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 13) as u8);
        assert!(is_binary(&mixed.collect::<Vec<u8>>()));
        assert!(is_binary(&[0, 1, 2, 3, 200, 201, 0, 0, 0]));
    }
}
