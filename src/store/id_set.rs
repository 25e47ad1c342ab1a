//! Ids as bits: those of documents and rows are given out in a row, and looking one up is one step inside a search's inner
//! loop that cannot fail or panic.

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct IdSet {
    words: Vec<u64>,
}

impl IdSet {
    pub(super) fn contains(&self, id: i64) -> bool {
        self.words
            .get((id as u64 / 64) as usize)
            .is_some_and(|word| word >> (id as u64 % 64) & 1 == 1)
    }

    pub(super) fn insert(&mut self, id: i64) {
        let word = (id as u64 / 64) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (id as u64 % 64);
    }

    pub(super) fn remove(&mut self, id: i64) {
        if let Some(word) = self.words.get_mut((id as u64 / 64) as usize) {
            *word &= !(1 << (id as u64 % 64));
        }
    }

    /// As `words` gave them.
    pub(super) fn from_words(words: Vec<u64>) -> Self {
        Self { words }
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    pub(super) fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = i64> {
        self.words.iter().zip(0..).flat_map(|(word, i): (_, i64)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| i * 64 + bit)
        })
    }
}

impl FromIterator<i64> for IdSet {
    fn from_iter<I: IntoIterator<Item = i64>>(ids: I) -> Self {
        let mut set = Self::default();
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_put_in_and_not_taken_out() {
        let mut set: IdSet = [1, 63, 64, 1000].into_iter().collect();
        set.remove(63);
        set.remove(5000);
        assert_eq!(set.iter().collect::<Vec<i64>>(), [1, 64, 1000]);
        assert_eq!(set.len(), 3);
        assert!(set.contains(64) && !set.contains(63) && !set.contains(5000));
    }
}
