//! Letters as a language sees them: marks are taken away, except where they make another letter.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{compose, decompose_canonical};

use super::language::Language;

/// `word` in lower case, as `language` has it.
pub fn lower(word: &str, language: Language) -> String {
    match language.is_turkic() {
        // Its i has a dot in both cases, and its other i has none.
        true => word.replace('I', "ı").replace('İ', "i").to_lowercase(),
        false => word.to_lowercase().replace("i\u{307}", "i"),
    }
}

/// `word`, which is in lower case, without the marks that make no other letter in `language`.
pub fn folded(word: &str, language: Language) -> String {
    if word.is_ascii() {
        return word.to_owned();
    }
    let own = language.own_letters();
    let mut folded = String::with_capacity(word.len());
    for c in word.nfc() {
        match c {
            _ if own.contains(c) => folded.push(c),
            // Joins words where nothing is visible, and stretches letters.
            '\u{640}' | '\u{200B}'..='\u{200D}' | '\u{FEFF}' => {}
            'ß' => folded.push_str("ss"),
            'æ' => folded.push_str("ae"),
            'œ' => folded.push_str("oe"),
            'þ' => folded.push_str("th"),
            'ø' => folded.push('o'),
            'ł' => folded.push('l'),
            'đ' | 'ð' => folded.push('d'),
            'ħ' => folded.push('h'),
            'ı' => folded.push('i'),
            'ς' => folded.push('σ'),
            // Letters of their own wherever they are used.
            'й' | 'ї' | 'ў' => folded.push(c),
            c if is_mark(c) => {}
            c => folded.push(without_marks(c, own)),
        }
    }
    folded
}

/// A letter with several marks may be another letter with one of them: Vietnamese ế is ê with a tone.
fn without_marks(c: char, own: &str) -> char {
    let (mut base, mut is_first, mut is_foldable) = ('\0', true, true);
    decompose_canonical(c, |part| {
        if is_first {
            (base, is_first) = (part, false);
        } else if !is_mark(part) {
            is_foldable = false;
        } else if let Some(letter) = compose(base, part).filter(|letter| own.contains(*letter)) {
            base = letter;
        }
    });
    match is_foldable {
        true => base,
        false => c,
    }
}

/// Marks of scripts whose letters are read without them too. Vowels of Indian scripts are marks as well, and stay.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36F}' | '\u{483}'..='\u{487}' | '\u{591}'..='\u{5BD}' | '\u{5BF}' | '\u{5C1}'..='\u{5C7}'
        | '\u{610}'..='\u{61A}' | '\u{64B}'..='\u{65F}' | '\u{670}' | '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(word: &str, code: &str) -> String {
        let language = Language::from_code(code);
        folded(&lower(word, language), language)
    }

    #[test]
    fn marks_go_unless_they_make_another_letter() {
        let table = [
            ("Café", "eng", "cafe"),
            ("cafe\u{301}", "fra", "cafe"),
            ("Año", "spa", "año"),
            ("Canción", "spa", "cancion"),
            ("Åsö", "swe", "åsö"),
            ("Åsö", "eng", "aso"),
            ("Straße", "deu", "strasse"),
            ("Łódź", "pol", "łódź"),
            ("Łódź", "eng", "lodz"),
            ("ёлкой", "rus", "елкой"),
            ("Ξένος", "ell", "ξενοσ"),
            ("IŞIK", "tur", "ışık"),
            ("İzmir", "eng", "izmir"),
            ("quyết", "vie", "quyêt"),
            ("كِتَاب", "ara", "كتاب"),
            ("हिन्दी", "hin", "हिन्दी"),
            ("パン", "jpn", "パン"),
        ];
        for (word, code, expected) in table {
            assert_eq!(read(word, code), expected, "{word} in {code}");
        }
    }
}
