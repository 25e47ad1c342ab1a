//! Questions about what the documents do speak of, for something that they say nothing about: words that stand in no
//! passage at all.

use std::collections::HashSet;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{MakeError, MakeOptions, Source, rules};
use crate::rag::Workspace;

/// What many things have, with the word that must stand nowhere.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("boiling point", "boiling"),
    ("calorie content", "calorie"),
    ("carbon footprint", "footprint"),
    ("entrance fee", "entrance"),
    ("fax number", "fax"),
    ("favourite colour", "favourite"),
    ("insurance premium", "premium"),
    ("maiden name", "maiden"),
    ("mascot", "mascot"),
    ("melting point", "melting"),
    ("nickname", "nickname"),
    ("parking fee", "parking"),
    ("passport number", "passport"),
    ("patent number", "patent"),
    ("postal address", "postal"),
    ("rainfall", "rainfall"),
    ("resale value", "resale"),
    ("serial number", "serial"),
    ("shoe size", "shoe"),
    ("tensile strength", "tensile"),
    ("ticket price", "ticket"),
    ("warranty period", "warranty"),
    ("wavelength", "wavelength"),
    ("wingspan", "wingspan"),
];
/// Passages of a document that are looked at for a subject.
const LOOKED_AT: usize = 20;

/// Questions that no passage answers, each about another subject where there are enough.
pub(super) async fn drafts(
    workspace: &Workspace,
    sources: &[Source],
    options: &MakeOptions,
    random: &mut ChaCha8Rng,
) -> Result<Vec<String>, MakeError> {
    let words = ATTRIBUTES.iter().map(|(_, word)| word.to_string());
    let counted = workspace.store.word_frequencies(words.collect()).await?;
    let mut absent: Vec<&str> = ATTRIBUTES
        .iter()
        .zip(counted.num_with_word)
        .filter(|(_, num_with)| *num_with == 0)
        .map(|((attribute, _), _)| *attribute)
        .collect();
    let mut seen = HashSet::new();
    let mut subjects: Vec<String> = sources
        .iter()
        .flat_map(|source| source.passages.iter().take(LOOKED_AT))
        .flat_map(|passage| rules::subjects(&passage.text))
        .filter(|subject| seen.insert(subject.to_lowercase()))
        .collect();
    if subjects.is_empty() {
        let stems = sources.iter().map(|source| {
            let stem = std::path::Path::new(&source.filename).file_stem();
            stem.map_or_else(
                || source.filename.clone(),
                |it| it.to_string_lossy().into_owned(),
            )
        });
        subjects = stems.filter(|stem| seen.insert(stem.clone())).collect();
    }
    absent.shuffle(random);
    subjects.shuffle(random);
    // Subjects change with every question, attributes too; after a round of both the pairs are other ones.
    let mut pairs = Vec::new();
    for round in 0..absent.len() {
        for (at, subject) in subjects.iter().enumerate() {
            pairs.push((absent[(at + round) % absent.len()], subject));
        }
    }
    let question = |(attribute, subject)| format!("What is the {attribute} of {subject}?");
    Ok(pairs
        .into_iter()
        .take(options.num_unanswerable)
        .map(question)
        .collect())
}
