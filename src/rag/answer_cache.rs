//! Answers that were given before, so that the same question within the same permissions is answered at once. In memory,
//! bounded, and never shared between users. A key holds everything that an answer depends on, the version of what can be
//! found included, so that nothing has to be thrown away when documents change: it is not asked for again.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::rag::answer::{About, AnswerError, AnswerEvent, still_holds};
use crate::rag::reply::ReplyEvent;
use crate::rag::retrieve::Retrieved;
use crate::store::Store;

/// Bytes of all answers, of one, and their number.
const MAX_BYTES: usize = 32 << 20;
const MAX_ANSWER_BYTES: usize = 1 << 20;
const MAX_ANSWERS: usize = 4096;

/// Everything that an answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnswerKey([u8; 32]);

impl AnswerKey {
    /// Of all that `parts` shows of itself.
    pub fn of(parts: &impl Debug) -> Self {
        Self(Sha256::digest(format!("{parts:?}")).into())
    }
}

/// A question as it is compared with others: blanks make no difference.
pub fn normalised(question: &str) -> String {
    question.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An answer with all that it was given with.
#[derive(Debug, Clone, Default)]
pub struct KeptAnswer {
    pub about: About,
    pub events: Vec<AnswerEvent>,
    /// What was searched for, and what was found.
    pub found: Option<(String, Retrieved)>,
}

impl KeptAnswer {
    fn num_bytes(&self) -> usize {
        let events = self.events.iter().map(|event| match event {
            AnswerEvent::Reply(ReplyEvent::Text { text, .. } | ReplyEvent::Reasoning(text)) => {
                text.len()
            }
            AnswerEvent::Citation(citation) => citation.quote.len() + citation.filename.len(),
            AnswerEvent::Reply(_) | AnswerEvent::Progress(_) => 0,
        });
        let passages = self.found.iter().flat_map(|(_, found)| &found.passages);
        let texts = passages.map(|passage| passage.chunk.text.len() + EVENT_BYTES);
        events.map(|bytes| bytes + EVENT_BYTES).sum::<usize>() + texts.sum::<usize>()
    }
}

/// About what an event takes besides its text.
const EVENT_BYTES: usize = 200;

/// The answers of one process. Clones share them.
#[derive(Clone)]
pub struct AnswerCache {
    answers: Arc<Mutex<Answers>>,
    lifetime: Duration,
}

#[derive(Default)]
struct Answers {
    by_key: HashMap<AnswerKey, Entry>,
    num_bytes: usize,
    /// Counts uses, to tell which was used last.
    clock: u64,
}

struct Entry {
    kept: Arc<KeptAnswer>,
    num_bytes: usize,
    expires_at: Instant,
    last_use: u64,
}

impl AnswerCache {
    /// Keeps answers for so long; not at all where that is 0.
    pub fn new(lifetime: Duration) -> Self {
        Self {
            answers: Arc::default(),
            lifetime,
        }
    }

    pub fn is_on(&self) -> bool {
        !self.lifetime.is_zero()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Answers) -> T) -> T {
        act(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer of this key, if all that it cites is still said where it says so.
    pub async fn get(
        &self,
        store: &Store,
        key: &AnswerKey,
    ) -> Result<Option<Arc<KeptAnswer>>, AnswerError> {
        let Some(kept) = self.with(|answers| answers.get(key, Instant::now())) else {
            return Ok(None);
        };
        for event in &kept.events {
            if let AnswerEvent::Citation(citation) = event
                && !still_holds(store, citation).await?
            {
                self.with(|answers| answers.remove(key));
                return Ok(None);
            }
        }
        Ok(Some(kept))
    }

    fn put(&self, key: AnswerKey, kept: KeptAnswer) {
        let now = Instant::now();
        let expires_at = now + self.lifetime;
        self.with(|answers| answers.put(key, kept, now, expires_at));
    }
}

impl Answers {
    fn get(&mut self, key: &AnswerKey, now: Instant) -> Option<Arc<KeptAnswer>> {
        self.clock += 1;
        let entry = self.by_key.get_mut(key)?;
        if entry.expires_at <= now {
            self.remove(key);
            return None;
        }
        entry.last_use = self.clock;
        Some(Arc::clone(&entry.kept))
    }

    fn put(&mut self, key: AnswerKey, kept: KeptAnswer, now: Instant, expires_at: Instant) {
        let num_bytes = kept.num_bytes();
        if num_bytes > MAX_ANSWER_BYTES {
            return;
        }
        self.remove(&key);
        self.clock += 1;
        let entry = Entry {
            kept: Arc::new(kept),
            num_bytes,
            expires_at,
            last_use: self.clock,
        };
        self.by_key.insert(key, entry);
        self.num_bytes += num_bytes;
        if self.is_too_much() {
            let expired = self.by_key.iter().filter(|(_, it)| it.expires_at <= now);
            let expired: Vec<AnswerKey> = expired.map(|(key, _)| *key).collect();
            expired.iter().for_each(|key| self.remove(key));
        }
        while self.is_too_much() {
            let oldest = self.by_key.iter().min_by_key(|(_, entry)| entry.last_use);
            let oldest = oldest.map(|(key, _)| *key);
            oldest.iter().for_each(|key| self.remove(key));
        }
    }

    fn is_too_much(&self) -> bool {
        self.num_bytes > MAX_BYTES || self.by_key.len() > MAX_ANSWERS
    }

    fn remove(&mut self, key: &AnswerKey) {
        if let Some(entry) = self.by_key.remove(key) {
            self.num_bytes -= entry.num_bytes;
        }
    }
}

/// Takes note of an answer as it is given, and keeps it when it has come to its end.
pub struct Recording {
    cache: AnswerCache,
    key: AnswerKey,
    kept: KeptAnswer,
}

impl Recording {
    pub fn new(cache: &AnswerCache, key: AnswerKey, found: Option<(String, Retrieved)>) -> Self {
        Self {
            cache: cache.clone(),
            key,
            kept: KeptAnswer {
                found,
                ..KeptAnswer::default()
            },
        }
    }

    pub fn add(&mut self, event: &AnswerEvent, about: &About) {
        let is_last = matches!(event, AnswerEvent::Reply(ReplyEvent::Finished { .. }));
        // Nobody waits for what has been done already.
        if !matches!(event, AnswerEvent::Progress(_)) {
            self.kept.events.push(event.clone());
        }
        if is_last {
            let mut kept = std::mem::take(&mut self.kept);
            // What nothing vouches for may come out better the next time.
            if about.is_uncited {
                return;
            }
            kept.about = about.clone();
            self.cache.put(self.key, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> KeptAnswer {
        let event = ReplyEvent::Text {
            text: text.into(),
            tokens: Vec::new(),
        };
        KeptAnswer {
            events: vec![AnswerEvent::Reply(event)],
            ..KeptAnswer::default()
        }
    }

    fn keys(num: usize) -> Vec<AnswerKey> {
        (0..num).map(|number| AnswerKey::of(&number)).collect()
    }

    #[test]
    fn what_has_not_been_used_for_longest_goes_when_there_is_too_much() {
        let mut answers = Answers::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let large = "x".repeat(MAX_ANSWER_BYTES - 1000);
        let num = MAX_BYTES / large.len();
        let keys = keys(num + 1);
        for key in &keys[..num] {
            answers.put(*key, said(&large), now, later);
        }
        assert!(answers.get(&keys[0], now).is_some());
        answers.put(keys[num], said(&large), now, later);
        assert!(answers.num_bytes <= MAX_BYTES);
        assert!(answers.get(&keys[0], now).is_some());
        assert!(answers.get(&keys[1], now).is_none());
        answers.put(keys[1], said(&"x".repeat(MAX_ANSWER_BYTES)), now, later);
        assert!(answers.get(&keys[1], now).is_none());
        for key in &keys {
            answers.remove(key);
        }
        assert_eq!((answers.num_bytes, answers.by_key.len()), (0, 0));
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let mut answers = Answers::default();
        let now = Instant::now();
        for key in keys(MAX_ANSWERS + 3) {
            answers.put(key, said("short"), now, now + Duration::from_secs(1));
        }
        assert_eq!(answers.by_key.len(), MAX_ANSWERS);
    }

    #[test]
    fn an_answer_has_its_time() {
        let mut answers = Answers::default();
        let now = Instant::now();
        let end = now + Duration::from_secs(5);
        let key = AnswerKey::of(&"x");
        answers.put(key, said("x"), now, end);
        assert!(answers.get(&key, end - Duration::from_millis(1)).is_some());
        assert!(answers.get(&key, end).is_none());
        assert!(answers.get(&key, now).is_none());
    }

    #[test]
    fn blanks_make_no_other_question() {
        assert_eq!(normalised(" Who\n is  it? "), "Who is it?");
        assert_ne!(AnswerKey::of(&("a", "bc")), AnswerKey::of(&("ab", "c")));
    }
}
