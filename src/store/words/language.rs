//! The languages that words are read in: how one is told, which endings its words lose, and which letters are its own.

use rust_stemmers::Algorithm;
use whatlang::{Detector, Lang};

/// Bytes of a text that are read from its beginning, its middle and its end to tell its language.
const SAMPLE_BYTES: usize = 2_000;
/// A text whose language is less sure than this is read as English, as names, numbers and code are.
const MIN_CONFIDENCE: f64 = 0.5;

/// The language of a text, as words are read in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Language(Lang);

impl Language {
    pub const ENGLISH: Self = Self(Lang::Eng);

    /// What `text` is mostly written in; English where that cannot be told.
    pub fn of(text: &str) -> Self {
        let detected = Detector::new().detect(&sample(text));
        let sure = detected.filter(|info| info.confidence() >= MIN_CONFIDENCE);
        Self(sure.map_or(Lang::Eng, |info| info.lang()))
    }

    /// By its code of ISO 639-3. An unknown one is English.
    pub fn from_code(code: &str) -> Self {
        Self(Lang::from_code(code).unwrap_or(Lang::Eng))
    }

    pub fn code(self) -> &'static str {
        self.0.code()
    }

    pub fn is_turkic(self) -> bool {
        matches!(self.0, Lang::Tur | Lang::Aze)
    }

    /// How words that are written in `script` lose their endings in a text of this language. Words of a foreign script are
    /// read in the language that most use it: a Russian text has English terms.
    pub fn stemmer(self, script: Script) -> Option<Algorithm> {
        let own = match self.0 {
            Lang::Ara => Algorithm::Arabic,
            Lang::Dan => Algorithm::Danish,
            Lang::Nld => Algorithm::Dutch,
            Lang::Eng => Algorithm::English,
            Lang::Fin => Algorithm::Finnish,
            Lang::Fra => Algorithm::French,
            Lang::Deu => Algorithm::German,
            Lang::Ell => Algorithm::Greek,
            Lang::Hun => Algorithm::Hungarian,
            Lang::Ita => Algorithm::Italian,
            Lang::Nob => Algorithm::Norwegian,
            Lang::Por => Algorithm::Portuguese,
            Lang::Ron => Algorithm::Romanian,
            Lang::Rus => Algorithm::Russian,
            Lang::Spa => Algorithm::Spanish,
            Lang::Swe => Algorithm::Swedish,
            Lang::Tam => Algorithm::Tamil,
            Lang::Tur => Algorithm::Turkish,
            _ => return foreign(script).filter(|_| self.script() != script),
        };
        match self.script() == script {
            true => Some(own),
            false => foreign(script),
        }
    }

    /// Letters with a mark that are letters of their own here, in lower case: without the mark they would be others.
    /// German has none, since its plurals set the marks (Haus, Häuser), and its stemmer takes them away.
    pub fn own_letters(self) -> &'static str {
        match self.0 {
            Lang::Spa => "ñ",
            Lang::Swe | Lang::Fin => "åäö",
            Lang::Dan | Lang::Nob => "æøå",
            Lang::Est => "õäöüšž",
            Lang::Tur => "çğıöşü",
            Lang::Aze => "çəğıöşü",
            Lang::Ron => "ăâîşţ",
            Lang::Hun => "áéíóöőúüű",
            Lang::Pol => "ąćęłńóśźż",
            Lang::Ces | Lang::Slk => "čďľňřšťžäô",
            Lang::Hrv | Lang::Slv => "čćđšž",
            Lang::Lit => "ąčęėįšųūž",
            Lang::Lav => "āčēģīķļņšūž",
            Lang::Vie => "ăâđêôơư",
            _ => "",
        }
    }

    fn script(self) -> Script {
        match self.0 {
            Lang::Rus | Lang::Ukr | Lang::Bel | Lang::Bul | Lang::Mkd | Lang::Srp => {
                Script::Cyrillic
            }
            Lang::Ell => Script::Greek,
            Lang::Ara | Lang::Pes | Lang::Urd => Script::Arabic,
            Lang::Tam => Script::Tamil,
            Lang::Cmn
            | Lang::Jpn
            | Lang::Kor
            | Lang::Tha
            | Lang::Khm
            | Lang::Mya
            | Lang::Heb
            | Lang::Yid
            | Lang::Hin
            | Lang::Ben
            | Lang::Mar
            | Lang::Nep
            | Lang::Guj
            | Lang::Pan
            | Lang::Tel
            | Lang::Kan
            | Lang::Mal
            | Lang::Ori
            | Lang::Sin
            | Lang::Amh
            | Lang::Hye
            | Lang::Kat => Script::Other,
            _ => Script::Latin,
        }
    }
}

/// Scripts that a stemmer was made for, and all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    Latin,
    Cyrillic,
    Greek,
    Arabic,
    Tamil,
    Other,
}

impl Script {
    pub fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' | '\u{C0}'..='\u{24F}' | '\u{1E00}'..='\u{1EFF}' => Self::Latin,
            '\u{370}'..='\u{3FF}' | '\u{1F00}'..='\u{1FFF}' => Self::Greek,
            '\u{400}'..='\u{52F}' => Self::Cyrillic,
            '\u{600}'..='\u{6FF}' => Self::Arabic,
            '\u{B80}'..='\u{BFF}' => Self::Tamil,
            _ => Self::Other,
        }
    }
}

fn foreign(script: Script) -> Option<Algorithm> {
    match script {
        Script::Latin => Some(Algorithm::English),
        Script::Cyrillic => Some(Algorithm::Russian),
        Script::Greek => Some(Algorithm::Greek),
        Script::Arabic => Some(Algorithm::Arabic),
        Script::Tamil => Some(Algorithm::Tamil),
        Script::Other => None,
    }
}

/// Pieces of `text` that stand for the whole: a book may begin with a page in another language.
fn sample(text: &str) -> String {
    if text.len() <= 3 * SAMPLE_BYTES {
        return text.to_owned();
    }
    let at = |mut byte: usize| {
        while !text.is_char_boundary(byte) {
            byte -= 1;
        }
        byte
    };
    let piece = |start: usize| &text[at(start)..at(start + SAMPLE_BYTES)];
    let starts = [
        0,
        text.len() / 2 - SAMPLE_BYTES / 2,
        text.len() - SAMPLE_BYTES,
    ];
    starts.map(piece).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_from_a_few_sentences() {
        let table = [
            (
                "The pump is serviced every spring, and the valves are checked by hand.",
                "eng",
            ),
            (
                "Die Pumpe wird in jedem Frühjahr gewartet, und die Ventile werden von Hand geprüft.",
                "deu",
            ),
            (
                "La pompe est révisée chaque printemps et les vannes sont contrôlées à la main.",
                "fra",
            ),
            (
                "La bomba se revisa cada primavera y las válvulas se comprueban a mano.",
                "spa",
            ),
            (
                "Насос обслуживают каждую весну, а клапаны проверяют вручную.",
                "rus",
            ),
            ("水泵每年春天都要维修，阀门由人工检查。", "cmn"),
            ("ポンプは毎年春に点検され、弁は手で確認されます。", "jpn"),
            ("펌프는 매년 봄에 점검하며 밸브는 손으로 확인합니다.", "kor"),
            ("ปั๊มน้ำได้รับการบำรุงรักษาทุกฤดูใบไม้ผลิ", "tha"),
        ];
        for (text, code) in table {
            assert_eq!(Language::of(text).code(), code, "{text}");
        }
    }

    #[test]
    fn what_is_no_sentence_is_read_as_english() {
        for text in ["", "3.14 - 2.71", "{\"x\": [1, 2]}", "!!"] {
            assert_eq!(Language::of(text), Language::ENGLISH, "{text}");
        }
    }

    #[test]
    fn a_first_page_in_another_language_does_not_decide() {
        let german = "Die Pumpe wird in jedem Frühjahr gewartet, und die Ventile geprüft. ";
        let text = format!(
            "Terms of use. {}{}",
            "All rights are reserved. ".repeat(40),
            german.repeat(400)
        );
        assert_eq!(Language::of(&text).code(), "deu");
    }
}
