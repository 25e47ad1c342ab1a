//! Questions by rules, from English sentences of plain shapes: what something is, how much, when, by whom, how many, within
//! what time. A sentence that is not plain gives none; better few questions than odd ones.

use std::ops::Range;

use super::Draft;
use crate::rag::sentence::{content_words, sentences};

/// Characters of a sentence that is worth reading.
const LENGTHS: std::ops::RangeInclusive<usize> = 20..=320;
const MAX_SUBJECT_WORDS: usize = 8;
const MAX_ANSWER_WORDS: usize = 24;

const BE: &[&str] = &["is", "are", "was", "were"];
const MODALS: &[&str] = &["must", "should", "shall", "can", "may", "will"];
/// What a subject begins with when it is in lower case inside a question.
const DETERMINERS: &[&str] = &[
    "a", "an", "all", "any", "both", "each", "every", "her", "his", "its", "most", "my", "no",
    "our", "some", "the", "their", "your",
];
/// Words that make a subject unclear without what stands before it, or that are none.
const UNCLEAR: &[&str] = &[
    "although", "and", "as", "because", "but", "he", "her", "here", "his", "how", "however", "i",
    "if", "it", "its", "one", "or", "our", "she", "since", "so", "such", "that", "their", "there",
    "these", "they", "this", "those", "thus", "we", "what", "when", "where", "which", "while",
    "who", "why", "you", "your",
];
const PARTICIPLES: &[&str] = &[
    "begun",
    "born",
    "bought",
    "broken",
    "brought",
    "built",
    "chosen",
    "done",
    "drawn",
    "driven",
    "eaten",
    "fed",
    "forbidden",
    "fought",
    "found",
    "frozen",
    "given",
    "held",
    "hidden",
    "hit",
    "kept",
    "known",
    "laid",
    "led",
    "lost",
    "made",
    "met",
    "paid",
    "put",
    "read",
    "run",
    "seen",
    "sent",
    "set",
    "shown",
    "shut",
    "sold",
    "spent",
    "spoken",
    "sung",
    "taken",
    "taught",
    "thought",
    "thrown",
    "told",
    "torn",
    "understood",
    "won",
    "worn",
    "written",
];
const NUMBERS: &[&str] = &[
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "twenty", "thirty", "forty", "fifty", "sixty", "hundred",
];
const MONTHS: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const SMALL: &[&str] = &[
    "after", "and", "as", "at", "because", "before", "but", "by", "during", "for", "from", "if",
    "in", "into", "of", "on", "or", "per", "since", "than", "that", "through", "to", "until",
    "when", "where", "which", "while", "who", "with", "within",
];

/// All questions that the rules find in a passage.
pub(super) fn drafts(passage: &str) -> Vec<Draft> {
    let mut found = Vec::new();
    for span in sentences(passage) {
        let sentence = &passage[span.clone()];
        // Headings, rows of tables and questions are not sentences that say something.
        if !LENGTHS.contains(&sentence.chars().count()) || !sentence.ends_with(['.', '!']) {
            continue;
        }
        let words = words(sentence);
        for mut draft in of_sentence(sentence, &words) {
            draft.answer = span.start + draft.answer.start..span.start + draft.answer.end;
            found.push(draft);
        }
    }
    found
}

/// What the passage says first under its heading.
pub(super) fn from_heading(heading_path: &[String], passage: &str) -> Option<Draft> {
    let heading = heading_path.last()?.trim().trim_end_matches([':', '.']);
    let is_clear = content_words(heading).count() >= 2 && heading.chars().count() <= 80;
    let says_something = |span: &Range<usize>| {
        let sentence = &passage[span.clone()];
        sentence.ends_with('.') && LENGTHS.contains(&sentence.chars().count())
    };
    let answer = sentences(passage).into_iter().find(says_something)?;
    is_clear.then(|| Draft {
        text: format!("What is said under \u{201c}{heading}\u{201d}?"),
        answer,
        kind: "heading",
    })
}

/// What sentences of the passage are about, as it stands inside a question.
pub(super) fn subjects(passage: &str) -> Vec<String> {
    let mut found = Vec::new();
    for span in sentences(passage) {
        let sentence = &passage[span];
        let words = words(sentence);
        let verb = words.iter().position(|word| BE.contains(&word.bare));
        if let Some(subject) = verb.and_then(|verb| subject(sentence, &words, verb)) {
            found.push(subject);
        }
    }
    found
}

/// A word of a sentence, with the marks around it.
struct Word<'a> {
    whole: &'a str,
    /// Without marks.
    bare: &'a str,
    /// Bytes of the bare word.
    span: Range<usize>,
}

impl Word<'_> {
    fn lower(&self) -> String {
        self.bare.to_lowercase()
    }

    fn is_in(&self, list: &[&str]) -> bool {
        list.contains(&self.lower().as_str())
    }

    /// Whether a mark behind it ends a part of the sentence.
    fn ends_part(&self) -> bool {
        self.whole.ends_with([',', ';', ':', '.', '!', ')']) && !self.bare.is_empty()
    }

    fn is_number(&self) -> bool {
        let digits = self.bare.trim_start_matches(['$', '€', '£']);
        digits.starts_with(|c: char| c.is_ascii_digit()) || self.is_in(NUMBERS)
    }

    fn is_year(&self) -> bool {
        self.bare.len() == 4
            && self
                .bare
                .parse()
                .is_ok_and(|year: u32| (1000..=2100).contains(&year))
    }
}

fn words(sentence: &str) -> Vec<Word<'_>> {
    let is_mark = |c: char| !c.is_alphanumeric() && !matches!(c, '$' | '€' | '£' | '%' | '°');
    sentence
        .split_whitespace()
        .map(|whole| {
            let bare = whole.trim_matches(is_mark);
            let start = bare.as_ptr() as usize - sentence.as_ptr() as usize;
            Word {
                whole,
                bare,
                span: start..start + bare.len(),
            }
        })
        .collect()
}

fn of_sentence(sentence: &str, words: &[Word]) -> Vec<Draft> {
    let mut drafts = Vec::new();
    let verb = words.iter().position(|word| {
        word.is_in(BE) || word.is_in(MODALS) || word.is_in(&["has", "have", "had"])
    });
    let Some(verb) = verb else {
        return drafts;
    };
    let Some(subject) = subject(sentence, words, verb) else {
        return drafts;
    };
    let rest = &words[verb + 1..];
    let said = words[verb].bare;
    let mut add = |text: String, answer: Option<Range<usize>>, kind| {
        drafts.extend(answer.map(|answer| Draft { text, answer, kind }));
    };
    if words[verb].is_in(BE) {
        let Some(first) = rest.first() else {
            return drafts;
        };
        if first.is_number() && !first.is_year() {
            add(format!("What {said} {subject}?"), quantity(rest), "number");
        } else if first.is_in(&["a", "an", "the"]) && rest.len() >= 4 {
            add(format!("What {said} {subject}?"), part(rest), "definition");
        } else if first.is_in(&["called", "named"]) && rest.len() >= 2 {
            add(
                format!("What {said} {subject} called?"),
                part(&rest[1..]),
                "name",
            );
        } else if is_participle(first) {
            passive(sentence, said, &subject, rest, &mut add);
        }
    } else if words[verb].is_in(MODALS) {
        let within = rest.iter().position(|word| word.is_in(&["within"]));
        if let Some(within) = within.filter(|at| (1..=14).contains(at)) {
            let does = text_of(sentence, &rest[..within]);
            let answer = quantity(&rest[within + 1..]);
            add(
                format!("Within what time {said} {subject} {does}?"),
                answer,
                "time",
            );
        }
    } else if let [number, thing, ..] = rest
        && number.is_number()
        && !number.ends_part()
        && thing.lower().ends_with('s')
        && !thing.is_in(SMALL)
    {
        let does = match said {
            "has" => "does",
            "had" => "did",
            _ => "do",
        };
        let text = format!("How many {} {does} {subject} have?", thing.bare);
        add(text, Some(number.span.clone()), "count");
    }
    drafts
}

/// "was built in 1897 by the navy": when, and by whom.
fn passive(
    sentence: &str,
    said: &str,
    subject: &str,
    rest: &[Word],
    add: &mut impl FnMut(String, Option<Range<usize>>, &'static str),
) {
    let clause = rest
        .iter()
        .position(|word| word.ends_part())
        .map_or(rest.len(), |end| end + 1);
    let clause = &rest[..clause];
    for (at, word) in clause.iter().enumerate().skip(1) {
        let does = || text_of(sentence, &clause[..at]);
        let next = &clause[at + 1..];
        if word.is_in(&["in", "on", "since"])
            && let Some(date) = date(next)
        {
            add(
                format!("When {said} {subject} {}?", does()),
                Some(date),
                "date",
            );
            return;
        }
        if word.is_in(&["by"])
            && next
                .first()
                .is_some_and(|it| !it.is_number() && !it.bare.ends_with("ing"))
        {
            add(
                format!("By whom or what {said} {subject} {}?", does()),
                part(next),
                "agent",
            );
            return;
        }
    }
}

/// The words before the verb, if they say by themselves what the sentence is about.
fn subject(sentence: &str, words: &[Word], verb: usize) -> Option<String> {
    let subject = words.get(..verb)?;
    let first = subject.first()?;
    let is_plain = subject
        .iter()
        .all(|word| !word.is_in(UNCLEAR) && word.whole.len() <= word.bare.len() + 2);
    let is_whole = subject
        .iter()
        .all(|word| !word.ends_part() && !word.bare.is_empty());
    let starts = first.whole.chars().next().is_some_and(char::is_uppercase);
    let is_long = subject.len() > MAX_SUBJECT_WORDS;
    if !is_plain || !is_whole || !starts || is_long {
        return None;
    }
    let text = text_of(sentence, subject);
    content_words(&text).next()?;
    Some(match first.is_in(DETERMINERS) {
        true => format!("{}{}", first.lower(), &text[first.bare.len()..]),
        false => text,
    })
}

fn is_participle(word: &Word) -> bool {
    let lower = word.lower();
    (lower.ends_with("ed") && lower.len() > 4) || PARTICIPLES.contains(&lower.as_str())
}

/// The words up to the end of the clause, if they are not too many.
fn part(words: &[Word]) -> Option<Range<usize>> {
    let end = words.iter().position(|word| word.ends_part())?;
    let (first, last) = (words.first()?, words.get(end)?);
    (end < MAX_ANSWER_WORDS && first.span.start < last.span.end)
        .then_some(first.span.start..last.span.end)
}

/// A number with what it counts.
fn quantity(words: &[Word]) -> Option<Range<usize>> {
    let first = words.first().filter(|word| word.is_number())?;
    let mut last = first;
    for word in words.iter().skip(1).take(2) {
        if last.ends_part() || word.is_in(SMALL) || word.bare.is_empty() {
            break;
        }
        last = word;
    }
    Some(first.span.start..last.span.end)
}

/// "1897", "May 1897", "3 May 1897" or "May 3, 1897".
fn date(words: &[Word]) -> Option<Range<usize>> {
    let num_words = words
        .iter()
        .take(3)
        .position(|word| word.is_year())
        .map(|at| at + 1)?;
    let before = &words[..num_words - 1];
    let is_part =
        |word: &Word| word.is_in(MONTHS) || word.bare.parse().is_ok_and(|day: u32| day <= 31);
    before
        .iter()
        .all(is_part)
        .then(|| words[0].span.start..words[num_words - 1].span.end)
}

/// Words as they stand, on one line, without marks at the end.
fn text_of(sentence: &str, words: &[Word]) -> String {
    let (Some(first), Some(last)) = (words.first(), words.last()) else {
        return String::new();
    };
    let text = &sentence[first.span.start..last.span.end];
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(passage: &str) -> Vec<(String, &str)> {
        let drafts = drafts(passage);
        let shown = drafts.into_iter();
        shown.map(|it| (it.text, &passage[it.answer])).collect()
    }

    fn one(passage: &str) -> (String, String) {
        let all = asked(passage);
        assert_eq!(all.len(), 1, "{all:?}");
        (all[0].0.clone(), all[0].1.to_owned())
    }

    #[test]
    fn plain_sentences_give_questions_with_their_answers() {
        for (sentence, question, answer) in [
            (
                "The daily allowance is 42 euros.",
                "What is the daily allowance?",
                "42 euros",
            ),
            (
                "Basalt is a dark rock that comes from lava.",
                "What is Basalt?",
                "a dark rock that comes from lava",
            ),
            (
                "The lighthouse was built in 1897 by the navy.",
                "When was the lighthouse built?",
                "1897",
            ),
            (
                "The tower was opened on 3 May 1897.",
                "When was the tower opened?",
                "3 May 1897",
            ),
            (
                "Trips abroad are approved by the department head.",
                "By whom or what are Trips abroad approved?",
                "the department head",
            ),
            (
                "The office dog is called Bruno.",
                "What is the office dog called?",
                "Bruno",
            ),
            (
                "The company has 12 branches in Norway.",
                "How many branches does the company have?",
                "12",
            ),
            (
                "All receipts must be handed in within 14 days of the trip.",
                "Within what time must all receipts be handed in?",
                "14 days",
            ),
        ] {
            assert_eq!(one(sentence), (question.to_owned(), answer.to_owned()));
        }
    }

    #[test]
    fn sentences_that_lean_on_others_give_none() {
        for sentence in [
            "It is a dark rock that comes from lava.",
            "However, the rock is a dark one, as was said.",
            "What the dog likes is a tennis ball.",
            "This tower was built in 1897.",
            "Is the dog a good one?",
            "Opening hours",
        ] {
            assert_eq!(asked(sentence), [], "{sentence}");
        }
    }

    #[test]
    fn answers_are_spans_of_the_passage() {
        let passage = "Travel policy\n\nÜber alles. The daily\nallowance is 42 euros. More.";
        assert_eq!(
            asked(passage),
            [("What is the daily allowance?".to_owned(), "42 euros")]
        );
    }

    #[test]
    fn a_heading_asks_for_what_stands_under_it() {
        let path = ["Guide".to_owned(), "Travel expenses".to_owned()];
        let passage = "Travel expenses\n\nReceipts are kept for seven years.";
        let draft = from_heading(&path, passage).unwrap();
        assert_eq!(
            draft.text,
            "What is said under \u{201c}Travel expenses\u{201d}?"
        );
        assert_eq!(&passage[draft.answer], "Receipts are kept for seven years.");
        assert_eq!(from_heading(&path[..1], passage), None);
    }

    #[test]
    fn subjects_can_be_asked_about() {
        assert_eq!(
            subjects("The office dog is called Bruno. It is old."),
            ["the office dog"]
        );
    }
}
