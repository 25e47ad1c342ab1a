//! What is to be done after a look at a folder. Pure: it is told what lies there and what was taken from there.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::scan::{Scan, Version};

/// What earlier looks have seen, and no document tells.
#[derive(Debug, Default)]
pub struct Memory {
    /// Files that were new or different at the last look.
    waiting: HashMap<String, Version>,
    /// Documents whose file was not there at the last look.
    missing: HashSet<String>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Files to be taken.
    pub take: Vec<(String, Version)>,
    /// Documents whose files are gone.
    pub remove: Vec<String>,
    /// Files that are still being written, or so they look.
    pub num_waiting: usize,
}

impl Memory {
    /// `known` is the version of every document that came from the folder. A file is taken when two looks find it the
    /// same, and its document goes when two looks do not find it: programs write files piece by piece, and save by
    /// removing the old one first.
    pub fn compare(&mut self, scan: &Scan, known: &BTreeMap<String, String>) -> Changes {
        let mut changes = Changes::default();
        let waited = std::mem::take(&mut self.waiting);
        for (path, version) in &scan.files {
            if known.get(path) == Some(&version.text()) || version.num_bytes == 0 {
                continue;
            }
            if waited.get(path) == Some(version) {
                changes.take.push((path.clone(), *version));
            } else {
                changes.num_waiting += 1;
            }
            // Also what is taken: if that fails, it need not wait again.
            self.waiting.insert(path.clone(), *version);
        }
        let was_missing = std::mem::take(&mut self.missing);
        for path in known.keys() {
            let is_unknown = scan.unreadable.iter().any(|(below, _)| {
                let rest = path.strip_prefix(below.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            if scan.files.contains_key(path) || is_unknown {
                continue;
            }
            if was_missing.contains(path) {
                changes.remove.push(path.clone());
            } else {
                self.missing.insert(path.clone());
            }
        }
        changes
    }

    /// Nothing is known after a look that failed.
    pub fn forget_missing(&mut self) {
        self.missing.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(num_bytes: u64) -> Version {
        Version {
            num_bytes,
            modified: 7,
        }
    }

    fn scan(files: &[(&str, u64)]) -> Scan {
        let files = files
            .iter()
            .map(|(path, size)| (path.to_string(), version(*size)));
        Scan {
            files: files.collect(),
            unreadable: Vec::new(),
        }
    }

    fn known(files: &[(&str, u64)]) -> BTreeMap<String, String> {
        let text = |(path, size): &(&str, u64)| (path.to_string(), version(*size).text());
        files.iter().map(text).collect()
    }

    #[test]
    fn a_file_is_taken_when_it_has_stood_still() {
        let mut memory = Memory::default();
        assert_eq!(
            memory.compare(&scan(&[("a", 1)]), &known(&[])).num_waiting,
            1
        );
        assert_eq!(
            memory.compare(&scan(&[("a", 2)]), &known(&[])).num_waiting,
            1
        );
        let changes = memory.compare(&scan(&[("a", 2), ("empty", 0)]), &known(&[]));
        assert_eq!(changes.take, [("a".to_owned(), version(2))]);
        let changes = memory.compare(&scan(&[("a", 2)]), &known(&[("a", 2)]));
        assert_eq!(changes, Changes::default());
    }

    #[test]
    fn a_document_goes_when_its_file_is_missing_twice_in_a_row() {
        let mut memory = Memory::default();
        let known = known(&[("a", 1), ("b/c", 1)]);
        assert_eq!(
            memory.compare(&scan(&[("b/c", 1)]), &known),
            Changes::default()
        );
        assert_eq!(
            memory.compare(&scan(&[("a", 1), ("b/c", 1)]), &known),
            Changes::default()
        );
        assert_eq!(
            memory.compare(&scan(&[("b/c", 1)]), &known),
            Changes::default()
        );
        memory.forget_missing();
        assert_eq!(
            memory.compare(&scan(&[("b/c", 1)]), &known),
            Changes::default()
        );
        assert_eq!(memory.compare(&scan(&[("b/c", 1)]), &known).remove, ["a"]);
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_gone() {
        let mut memory = Memory::default();
        let known = known(&[("b/c", 1), ("bb", 1)]);
        let mut unreadable = scan(&[]);
        unreadable
            .unreadable
            .push(("b".into(), "permission denied".into()));
        memory.compare(&unreadable, &known);
        assert_eq!(memory.compare(&unreadable, &known).remove, ["bb"]);
    }
}
