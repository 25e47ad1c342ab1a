use super::*;

fn terms(text: &str, code: &str) -> Vec<String> {
    let terms = Terms::of(text, &[], Language::from_code(code));
    terms.frequencies.into_keys().collect()
}

#[test]
fn terms_are_counted_and_headings_count_half() {
    let found = Terms::of(
        "A pump and two pumps",
        &["Pumps".to_owned()],
        Language::ENGLISH,
    );
    assert_eq!(found.frequencies["pump"], 2.5);
    assert_eq!(found.num_words, 6);
    assert_eq!(num_words("A pump and two pumps", &["Pumps".to_owned()]), 6);
}

#[test]
fn words_lose_the_endings_of_their_language() {
    for (code, forms) in [
        ("eng", ["connection", "connected"]),
        ("deu", ["Häuser", "Haus"]),
        ("fra", ["maritimes", "maritime"]),
        ("spa", ["canciones", "canción"]),
        ("rus", ["насосами", "насос"]),
        ("swe", ["pojkarna", "pojke"]),
    ] {
        let [one, other] = forms.map(|form| read(form, Language::from_code(code)).0);
        assert_eq!(one, other, "{code}");
    }
}

#[test]
fn a_word_typed_without_its_marks_is_the_word() {
    let stored = terms("información", "spa");
    let asked = wanted("informacion", &[Language::from_code("spa")], 9);
    let WantedTerm::Exact(term) = &asked[0].terms[0] else {
        panic!("{asked:?}");
    };
    assert!(stored.contains(term), "{stored:?} {term}");
}

#[test]
fn a_word_of_another_script_is_read_in_its_own_language() {
    assert_eq!(terms("compilers", "rus"), ["compil"]);
    assert_eq!(terms("насосами", "eng"), ["насос"]);
    assert_eq!(terms("zamki", "pol"), ["zamki"]);
}

#[test]
fn runs_are_groups_and_short_questions_their_beginnings() {
    assert_eq!(terms("東京都", "jpn"), ["京都", "東京", "都"]);
    let exact = |text: &str| WantedTerm::Exact(text.to_owned());
    let asked = |text: &str| -> Vec<WantedTerm> {
        let asked = wanted(text, &[Language::ENGLISH], 9);
        asked.into_iter().flat_map(|it| it.terms).collect()
    };
    assert_eq!(asked("東京都"), [exact("東京"), exact("京都")]);
    assert_eq!(asked("東京"), [exact("東京")]);
    assert_eq!(asked("京"), [WantedTerm::Beginning("京".to_owned())]);
}

#[test]
fn a_question_has_each_word_once_in_every_language_of_the_texts() {
    let languages = ["eng", "deu"].map(Language::from_code);
    let asked = wanted("Pumpen pumpen information", &languages, 9);
    assert_eq!(asked.len(), 2);
    let exact = |text: &str| WantedTerm::Exact(text.to_owned());
    assert_eq!(asked[0].terms, [exact("pump"), exact("pumpen")]);
    assert_eq!(asked[1].terms, [exact("inform"), exact("information")]);
    assert_eq!(wanted("a b c d e", &languages, 3).len(), 3);
}

#[test]
fn forms_of_letters_are_the_plain_ones() {
    assert_eq!(terms("ＡＢＣ ﬁre", "eng"), ["abc", "fire"]);
    assert_eq!(
        terms("x".repeat(9000).as_str(), "eng")[0].len(),
        MAX_TERM_BYTES
    );
}
