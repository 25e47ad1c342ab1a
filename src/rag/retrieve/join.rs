//! Chunks of a document that stand side by side become one passage: one exact span, in which nothing is said twice.

use std::ops::Range;

use crate::store::{ChunkRecord, Store, StoreError};

/// Chunks of one passage, at most: the rest of a chapter is no passage.
const MAX_JOINED: u32 = 9;

/// Chunks that are shown as one passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Places among those that were found, the best first.
    pub members: Vec<usize>,
    /// All that are shown, in their document.
    pub ordinals: Range<u32>,
}

/// The first `limit` passages that `chunks`, best first, make with `neighbors` chunks on each side.
pub(super) fn grouped(chunks: &[ChunkRecord], neighbors: u32, limit: usize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (at, chunk) in chunks.iter().enumerate() {
        let beside = |group: &Group| is_of_same_document(&chunks[group.members[0]], chunk);
        let own = chunk.ordinal;
        let wanted = own.saturating_sub(neighbors)..own.saturating_add(neighbors + 1);
        let covers = |group: &Group| beside(group) && group.ordinals.contains(&own);
        if let Some(group) = groups.iter_mut().find(|group| covers(group)) {
            group.members.push(at);
            continue;
        }
        let joinable = groups.iter().position(|group| {
            let union = union(&group.ordinals, &wanted);
            let is_free = |other: &Group| {
                other == group || !beside(other) || !overlap(&other.ordinals, &union)
            };
            beside(group)
                && touch(&group.ordinals, &wanted)
                && union.len() <= MAX_JOINED as usize
                && groups.iter().all(is_free)
        });
        if let Some(place) = joinable {
            let group = &mut groups[place];
            group.ordinals = union(&group.ordinals, &wanted);
            group.members.push(at);
            continue;
        }
        if groups.len() == limit {
            break;
        }
        let mut ordinals = wanted;
        for other in groups.iter().filter(|group| beside(group)) {
            match other.ordinals.start > own {
                true => ordinals.end = ordinals.end.min(other.ordinals.start),
                false => ordinals.start = ordinals.start.max(other.ordinals.end),
            }
        }
        groups.push(Group {
            members: vec![at],
            ordinals,
        });
    }
    groups
}

fn is_of_same_document(a: &ChunkRecord, b: &ChunkRecord) -> bool {
    a.file_id == b.file_id && a.vector_store_id == b.vector_store_id
}

fn union(a: &Range<u32>, b: &Range<u32>) -> Range<u32> {
    a.start.min(b.start)..a.end.max(b.end)
}

fn overlap(a: &Range<u32>, b: &Range<u32>) -> bool {
    a.start < b.end && b.start < a.end
}

fn touch(a: &Range<u32>, b: &Range<u32>) -> bool {
    a.start <= b.end && b.start <= a.end
}

/// `best` with all that stands in `ordinals` of its document, and the chunks that this is made of. It keeps its id and its
/// headings. Where its document went away in the meantime it stays as it is.
pub(super) async fn joined(
    store: &Store,
    best: &ChunkRecord,
    ordinals: Range<u32>,
) -> Result<(ChunkRecord, Vec<ChunkRecord>), StoreError> {
    let alone = (best.clone(), vec![best.clone()]);
    if ordinals.len() <= 1 {
        return Ok(alone);
    }
    let parts = store
        .neighbours(&best.vector_store_id, &best.file_id, ordinals)
        .await;
    let parts = match parts {
        Ok(parts) if parts.iter().any(|part| part.id == best.id) => parts,
        Ok(_) | Err(StoreError::NotFound { .. }) => return Ok(alone),
        Err(error) => return Err(error),
    };
    let start = parts.iter().map(|part| part.span.start).min();
    let end = parts.iter().map(|part| part.span.end).max();
    let span = start.unwrap_or(best.span.start)..end.unwrap_or(best.span.end);
    let text = match store.text_span(&best.file_id, span.start, span.end).await {
        Ok(text) => text,
        Err(StoreError::NotFound { .. } | StoreError::BadSpan { .. }) => return Ok(alone),
        Err(error) => return Err(error),
    };
    let whole = ChunkRecord {
        span,
        text,
        page_first: parts
            .iter()
            .map(|part| part.page_first)
            .min()
            .unwrap_or(best.page_first),
        page_last: parts
            .iter()
            .map(|part| part.page_last)
            .max()
            .unwrap_or(best.page_last),
        num_tokens: parts.iter().map(|part| part.num_tokens).sum(),
        ..best.clone()
    };
    Ok((whole, parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Attributes;

    fn chunk(file: &str, ordinal: u32) -> ChunkRecord {
        ChunkRecord {
            id: i64::from(ordinal),
            vector_store_id: "vs".into(),
            file_id: file.into(),
            filename: file.into(),
            ordinal,
            span: 0..1,
            page_first: 1,
            page_last: 1,
            heading_path: Vec::new(),
            text: "x".into(),
            num_tokens: 1,
            attributes: Attributes::new(),
        }
    }

    fn ranges(
        found: &[(&str, u32)],
        neighbors: u32,
        limit: usize,
    ) -> Vec<(Vec<usize>, Range<u32>)> {
        let chunks: Vec<ChunkRecord> = found.iter().map(|(file, at)| chunk(file, *at)).collect();
        let groups = grouped(&chunks, neighbors, limit).into_iter();
        groups
            .map(|group| (group.members, group.ordinals))
            .collect()
    }

    #[test]
    fn what_is_found_side_by_side_is_one_passage() {
        let found = [("a", 4), ("b", 5), ("a", 5), ("a", 9), ("a", 3)];
        let expected = [(vec![0, 2, 4], 3..6), (vec![1], 5..6), (vec![3], 9..10)];
        assert_eq!(ranges(&found, 0, 9), expected);
    }

    #[test]
    fn neighbours_are_added_and_nothing_is_shown_twice() {
        assert_eq!(ranges(&[("a", 4)], 1, 9), [(vec![0], 3..6)]);
        assert_eq!(ranges(&[("a", 0)], 2, 9), [(vec![0], 0..3)]);
        assert_eq!(ranges(&[("a", 4), ("a", 7)], 1, 9), [(vec![0, 1], 3..9)]);
        // Too long for one passage: the second ends where the first begins.
        let found = [("a", 10), ("a", 4)];
        assert_eq!(ranges(&found, 4, 9), [(vec![0], 6..15), (vec![1], 0..6)]);
    }

    #[test]
    fn what_joins_a_passage_takes_no_place_of_another() {
        let found = [("a", 1), ("b", 1), ("a", 2), ("c", 1)];
        assert_eq!(ranges(&found, 0, 2), [(vec![0, 2], 1..3), (vec![1], 1..2)]);
    }
}
