use super::*;

#[test]
fn a_draft_that_gives_its_answer_away_is_not_sound() {
    let passage = "The daily allowance is 42 euros.";
    let draft = |text: &str, answer: Range<usize>| Draft {
        text: text.into(),
        answer,
        kind: "number",
    };
    assert!(is_sound(
        &draft("What is the daily allowance?", 23..31),
        passage
    ));
    assert!(!is_sound(
        &draft("Is the daily allowance 42 euros?", 23..31),
        passage
    ));
    assert!(!is_sound(
        &draft("What is the daily allowance?", 23..900),
        passage
    ));
    assert!(!is_sound(&draft("What is it?", 23..31), passage));
    assert!(!is_sound(&draft("The daily allowance", 23..31), passage));
}

#[test]
fn what_stands_around_an_answer_is_shown() {
    let text = "One two. The daily\nallowance is 42 euros. Three.";
    let start = text.find("42").unwrap();
    assert_eq!(
        around(text, &(start..start + 8)),
        "One two. The daily allowance is 42 euros. Three."
    );
}
