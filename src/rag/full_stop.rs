//! Whether a full stop ends a sentence, or belongs to a number, an initial or an abbreviation. Decides on the words
//! around it alone, in any of the languages whose words are listed, and never guesses which one a text is in.

mod words;

use words::{
    ARTICLES_OF_ORDINALS, FIRST_WORDS, GO_ON, LAST_OR_NOT, MONTHS, REFERENCES, TIMES_OF_DAY,
};

/// `before` is the sentence up to the full stop, `after` what follows it.
pub fn ends_sentence(before: &str, after: &str) -> bool {
    let Some(next) = next_word(after) else {
        return true;
    };
    let (before_word, word) = last_word(before);
    if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) {
        return !is_ordinal(before_word, word, next);
    }
    let lower = word.to_lowercase();
    let listed = |words: &[&str]| words.binary_search(&lower.as_str()).is_ok();
    let is_measure = is_number(before_word.split_whitespace().next_back().unwrap_or(""));
    let is_dotted = is_dotted(word);
    if is_lowercase(next.word) {
        let is_listed = listed(GO_ON) || listed(REFERENCES) || listed(LAST_OR_NOT);
        // Who writes without capitals begins sentences so, too, and names as "wt-ARNO" do.
        let is_short = is_short(word) && !begins_lowercase(before);
        return !(is_listed || is_dotted || is_short || is_single(word));
    }
    if TIMES_OF_DAY.contains(&lower.as_str()) {
        return !names_time(next.word) && !is_number(next.word);
    }
    if listed(GO_ON) {
        return is_measure && matches!(lower.as_str(), "ft" | "ms" | "mt");
    }
    if is_single(word) {
        return single_ends(before_word, word, &next, is_measure);
    }
    if is_reference(next.word) && (listed(REFERENCES) || has_no_vowel(word) || is_street(&lower)) {
        return false;
    }
    if listed(LAST_OR_NOT) || is_dotted {
        return next.often_begins();
    }
    true
}

/// The word after a full stop, without what opens before it.
struct Next<'a> {
    word: &'a str,
    /// No full stop follows it.
    is_whole: bool,
    rest: &'a str,
}

impl Next<'_> {
    fn often_begins(&self) -> bool {
        self.is_whole && FIRST_WORDS.binary_search(&self.word).is_ok()
    }
}

fn next_word(after: &str) -> Option<Next<'_>> {
    let opening = |c: char| c.is_whitespace() || "([\"'„“‚‘«»¿¡".contains(c);
    let text = after.trim_start_matches(opening);
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '§'))
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (!word.is_empty()).then_some(Next {
        word,
        is_whole: !rest.starts_with('.'),
        rest,
    })
}

/// What stands before the last word of `text`, and the word: without what opens before it, with full stops in it.
fn last_word(text: &str) -> (&str, &str) {
    let separates = |c: char| c.is_whitespace() || "([\"„“‚‘«»–—/-".contains(c);
    let start = text.rfind(separates).map_or(0, |at| {
        at + text[at..].chars().next().map_or(0, char::len_utf8)
    });
    let word = &text[start..];
    // "l'art. 5", but not "it's."
    let elided = word.rfind(['\'', '’']).and_then(|at| {
        let rest = word[at..].trim_start_matches(['\'', '’']);
        (rest.chars().count() > 1).then_some(rest)
    });
    (&text[..start], elided.unwrap_or(word))
}

/// Whether the number is that of a day or floor, or numbers what follows: "14. Februar", "im 3. Stock", "3. toukokuuta".
fn is_ordinal(before: &str, number: &str, next: Next<'_>) -> bool {
    let words_before = before.trim();
    if words_before.is_empty() {
        return number.len() <= 3;
    }
    if number.len() > 2 {
        return false;
    }
    let is_day_before = |word: &str| {
        let day = word.strip_suffix('.').unwrap_or("");
        (1..=2).contains(&day.len()) && is_number(day)
    };
    let word_before = words_before.split_whitespace().next_back().unwrap_or("");
    is_lowercase(next.word)
        || is_month(&next)
        // "14. 2. 2025"
        || (is_number(next.word) && next.word.len() <= 2 && !next.is_whole)
        || (is_number(next.word) && next.word.len() == 4 && is_day_before(word_before))
        || ARTICLES_OF_ORDINALS.contains(&word_before.to_lowercase().as_str())
}

fn is_month(next: &Next<'_>) -> bool {
    let is_followed_by_year = || {
        next.rest
            .trim_start()
            .starts_with(|c: char| c.is_ascii_digit())
    };
    match next.word {
        // English words that begin sentences.
        "March" | "May" => is_followed_by_year(),
        word => MONTHS.binary_search(&word).is_ok(),
    }
}

/// After a single letter, before a word with a capital or a number.
fn single_ends(before: &str, letter: &str, next: &Next<'_>, is_measure: bool) -> bool {
    let word_before = before.split_whitespace().next_back().unwrap_or("");
    let is_pair = |word: &str| word.strip_suffix('.').is_some_and(is_single);
    if is_pair(word_before) || (is_single(next.word) && !next.is_whole) {
        return false;
    }
    if letter.chars().all(char::is_uppercase) {
        // "Plan B. The rest"; but names go on with "De" and "La".
        return next.word.len() > 2
            && !matches!(
                next.word,
                "Das"
                    | "Del"
                    | "Dem"
                    | "Den"
                    | "Der"
                    | "Des"
                    | "Die"
                    | "Gli"
                    | "Las"
                    | "Les"
                    | "Los"
            )
            && next.often_begins();
    }
    let is_vowel = letter.chars().all(is_vowel);
    match is_number(next.word) {
        true => is_vowel,
        false => is_vowel || is_measure || next.often_begins(),
    }
}

fn is_single(word: &str) -> bool {
    let mut letters = word.chars();
    letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none()
}

/// "U.S", "e.g"
fn is_dotted(word: &str) -> bool {
    word.contains('.')
        && word
            .split('.')
            .all(|part| part.is_empty() || is_single(part))
}

/// As most words are that were shortened.
fn is_short(word: &str) -> bool {
    word.chars().count() <= 4 && word.chars().all(char::is_alphabetic)
}

/// What an article, a figure or a room is numbered with: "12", "IV", "A3".
fn is_reference(word: &str) -> bool {
    let mut letters = word.chars();
    let is_code = letters.next().is_some_and(char::is_uppercase)
        && letters.next().is_some_and(|c| c.is_ascii_digit());
    let is_roman = word != "I" && word.chars().all(|c| "IVXLC".contains(c));
    word.starts_with(|c: char| c.is_ascii_digit() || c == '§') || is_code || is_roman
}

/// "Bahnhofstr. 5"
fn is_street(lower: &str) -> bool {
    lower.len() > 3 && lower.ends_with("str")
}

/// A short word that nobody can say is one that was shortened: "Pkt. 3".
fn has_no_vowel(word: &str) -> bool {
    let is_acronym = word.chars().all(char::is_uppercase);
    !is_acronym
        && (2..=4).contains(&word.chars().count())
        && !word.chars().any(is_vowel)
        && word.chars().all(char::is_alphabetic)
}

fn is_vowel(c: char) -> bool {
    "aeiouyàáâãäåæèéêëìíîïòóôõöøœùúûüýąęėěőůűаеёиоуыэюяіїє"
        .contains(c.to_lowercase().next().unwrap_or(c))
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with(|c: char| c.is_ascii_digit())
}

/// A word as "iPhone" counts as one with a capital.
fn is_lowercase(word: &str) -> bool {
    word.starts_with(char::is_lowercase) && !word.chars().nth(1).is_some_and(char::is_uppercase)
}

fn begins_lowercase(sentence: &str) -> bool {
    let mut letters = sentence.chars().filter(|c| c.is_alphabetic());
    letters.next().is_some_and(char::is_lowercase)
}

/// What follows "3 p.m.": a zone, a day, a month.
fn names_time(word: &str) -> bool {
    const ZONES: &[&str] = &[
        "Atlantic",
        "Central",
        "Eastern",
        "Mountain",
        "Pacific",
        "Greenwich",
    ];
    let is_acronym = word.len() > 1 && word.chars().all(char::is_uppercase);
    ZONES.contains(&word)
        || is_acronym
        || word.ends_with("day")
        || MONTHS.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_as_the_search_needs() {
        for list in [FIRST_WORDS, GO_ON, LAST_OR_NOT, MONTHS, REFERENCES] {
            let unsorted = list.windows(2).find(|pair| pair[0] >= pair[1]);
            assert_eq!(unsorted, None);
        }
    }

    /// A bar stands behind each full stop that ends a sentence, and nowhere else.
    const CASES: &[&str] = &[
        // German.
        "Die Abnahme der Halle erfolgte am 14. Februar 2025.| Der Rest folgt.",
        "Am 14. 2. 2025 um 9 Uhr, am 3.\nJuni und zwischen 14./15. März.",
        "Er wohnt im 3. Stock.| Der 2. Weltkrieg endete 1945.| Danach kam der Frieden.",
        "Das Haus hat 12.| Danach kommt nichts.",
        "Den Antrag genehmigt Dr. med. Anna Weber in Zimmer 5.| Der Rest folgt.",
        "Dipl.-Ing. Krause und Dr. rer. nat. Vogel prüfen die Anlage.| Danach geht es weiter.",
        "Nach Art. 12 Abs. 3 und Ziff. IV endet der Vertrag.| Diese Art.| Die andere nicht.",
        "Die Mitarbeiter erhalten z. B. einen Zuschuss, d. h. Geld, u. a. Brillen.| Mehr nicht.",
        "Äpfel, Birnen usw.| Der Rest bleibt.| Kosten für Fahrt usw. Anteilig.",
        "Siehe Nr. 7, S. 12, Pkt. 3 und Bahnhofstr. 5, Tel. 030 12.| Das gilt i. d. R. immer.",
        "Das gilt ggf. Mitarbeitern, vgl. Anlage bzw. Anhang.| Alles klar.",
        // English.
        "Payments are due under Sec. 4 no. 7 within 14 days.| The rest is due later.",
        "The meeting starts at 3 p.m. Eastern time in room No. 9.| It ends at 5 p.m.| Bring a pen.",
        "The report was signed by Dr. J. R. Smith Jr. on behalf of Acme Inc. in Boston.| Acme Inc.| The firm.",
        "A U.S. Army unit from Ft. Bragg repaired it.| He lives in the U.S.| The rest do not.",
        "The rope is 10 ft.| Every knot counts.| It ships from St. Louis.| He said no.| They left.",
        "It was modern art.| This was Plan B.| The other failed.| J. De Vries agreed.",
        "He was taller than I.| They did it.| The iron weighs 5 g.| Then it melts.| I can't.| We won't.",
        "We counted 12.| The others counted 2025.| Nobody counted 14.| March was cold, 14. March 2025 too.",
        "It costs 3.50.| iPhone sales rose.| We met him.| 30 people came.",
        "The tissue was kept in nitrogen.| tim mRNA cycled, as E. coli did (Zhao et al. 2003).| cry did not.",
        "It holds for every integer n.| It is clear, e.g. from the proof.",
        "he came late.| she left early.| it cost $0.275.| on monday it did.| It works.",
        "See Fig. 3, Fig. S1, e.g. Table 2 and Smith et al. Nature 5.| The end.",
        // French, Spanish, Italian, Portuguese.
        "Le contrat signé par M. Dupont et Mme. Roux expire le 5 mars.| Il est long.| Voir l'art. 5.",
        "El Sr. Gómez y la Sra. Ruiz firman, p. ej. el núm. 4.| Vence el 7 de abril.| No hay más.",
        "Il Sig. Rossi abita in via Roma, n. 5, ecc.| Il resto segue.",
        "O Sr. Silva e a Dra. Costa assinam, pág. 3.| O resto segue.",
        // Dutch, Danish, Swedish, Norwegian.
        "Dhr. Jansen en mevr. Bakker, resp. Voorzitter, tekenen art. 3.| De rest volgt.",
        "Mødet afholdes den 4. maj kl. 14 i Aarhus, jf. Bilag 2.| Den 3. Gang.| Det er slut.",
        "Mötet hålls t.ex. Måndag kl. 9, se s. 4.| Det är slut.| Huset jag bor i.| Sedan inget.",
        "Møtet er 17. mai f.eks. Oslo.| Vi sees.",
        // Finnish, Czech, Polish, Russian.
        "Kokous pidetään 3. toukokuuta 2026 Helsingissä, esim. Esplanadilla.| Tervetuloa.",
        "Schůze se koná 5. května 2026 v Brně, čl. 3 odst. 2, ul. Dlouhá.| Vstup volný.",
        "Spotkanie odbędzie się przy ul. Długiej, art. 5 ust. 2 pkt 3, tj. Jutro.| Koniec.",
        "Встреча 5 мая 2026 г. в Москве по адресу ул. Ленина, д. 5.| Вход свободный.",
        // Numbers of lines.
        "1. Put it on.| Then leave.",
    ];

    #[test]
    fn full_stops_end_sentences_and_nothing_else() {
        let found: Vec<String> = CASES
            .iter()
            .map(|case| marked(&case.replace('|', "")))
            .collect();
        let wrong: Vec<_> = found
            .iter()
            .zip(CASES)
            .filter(|(found, case)| found != *case)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    fn marked(text: &str) -> String {
        let mut start = 0;
        let mut found = String::new();
        for (at, c) in text.char_indices() {
            found.push(c);
            let after = &text[at + c.len_utf8()..];
            let may_end = c == '.' && after.starts_with(char::is_whitespace);
            if may_end && ends_sentence(text[start..at].trim_start(), after) {
                start = at + 1;
                found.push('|');
            }
        }
        found
    }
}
