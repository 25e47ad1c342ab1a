//! The documents of scopes that are searched again and again. Reading all ids of a large scope takes longer than the
//! search in it, so a result is kept with the position in the log of changes at which it was read. It is used only while
//! that log, read in the search's own snapshot, says that it holds; else just the changed documents are asked for anew.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rusqlite::{OptionalExtension, Row, Transaction};

use super::error::Result;
use super::id_set::IdSet;
use super::json::Json;
use super::scope::AllowedDocuments;
use super::vector_index::Position;
use super::words::Language;

/// Scopes that are kept; the least recently used goes first. Each takes a bit a document.
const MAX_SCOPES: usize = 32;
/// More changed documents than this, and all are asked for anew.
const MAX_CHANGED: u32 = 1_000;
/// So many documents are looked up one by one; more are sooner found by reading all that there are.
const MAX_LOOKED_UP: usize = 5_000;

/// The documents of a scope, which do not change.
pub(super) struct ScopeDocuments {
    pub ids: IdSet,
    /// Asked for by the first search for words.
    texts: OnceLock<ScopeTexts>,
}

/// What searching the documents of a scope for words needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScopeTexts {
    /// Each once.
    pub languages: Vec<Language>,
    pub num_chunks: i64,
}

impl ScopeDocuments {
    fn of(ids: IdSet) -> Self {
        Self {
            ids,
            texts: OnceLock::new(),
        }
    }

    /// In a snapshot in which these are the documents of the scope.
    pub(super) fn texts(&self, tx: &Transaction) -> Result<&ScopeTexts> {
        if let Some(texts) = self.texts.get() {
            return Ok(texts);
        }
        let texts = self.read_texts(tx)?;
        Ok(self.texts.get_or_init(|| texts))
    }

    fn read_texts(&self, tx: &Transaction) -> Result<ScopeTexts> {
        let mut texts = ScopeTexts {
            languages: Vec::new(),
            num_chunks: 0,
        };
        let mut last: Option<Option<String>> = None;
        let mut add = |row: &Row| -> rusqlite::Result<()> {
            let code = row.get_ref(1)?.as_str_or_null()?;
            texts.num_chunks += row.get::<_, i64>(2)?;
            if last.as_ref().is_none_or(|last| last.as_deref() != code) {
                let language = code.map_or(Language::ENGLISH, Language::from_code);
                if !texts.languages.contains(&language) {
                    texts.languages.push(language);
                }
                last = Some(code.map(str::to_owned));
            }
            Ok(())
        };
        let sql = "SELECT id, language, num_chunks FROM documents";
        if self.ids.len() <= MAX_LOOKED_UP {
            let mut statement = tx.prepare_cached(&format!("{sql} WHERE id = ?"))?;
            for id in self.ids.iter() {
                let mut rows = statement.query([id])?;
                if let Some(row) = rows.next()? {
                    add(row)?;
                }
            }
        } else {
            let mut statement = tx.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if self.ids.contains(row.get(0)?) {
                    add(row)?;
                }
            }
        }
        Ok(texts)
    }
}

#[derive(Default)]
pub(super) struct ScopeCache {
    /// Most recently used last.
    scopes: Mutex<Vec<(AllowedDocuments, Kept)>>,
}

#[derive(Clone)]
struct Kept {
    documents: Arc<ScopeDocuments>,
    position: Position,
    /// When the next file or vector store expires, in seconds since 1970: the result holds before that.
    holds_until: Option<i64>,
}

impl ScopeCache {
    /// The documents that may be seen in the transaction's snapshot.
    pub(super) fn documents(
        &self,
        tx: &Transaction,
        scope: &AllowedDocuments,
    ) -> Result<Arc<ScopeDocuments>> {
        let position = newest_position(tx)?;
        let now: i64 = tx
            .prepare_cached("SELECT unixepoch()")?
            .query_row([], |row| row.get(0))?;
        let kept = self.take(scope);
        let fresh = match &kept {
            Some(kept) => brought_up_to_date(tx, scope, kept, position, now)?,
            None => None,
        };
        let fresh = match fresh {
            Some(fresh) => fresh,
            None => Kept {
                // Before the ids: should the clock pass it meanwhile, the result is asked for anew once more than needed.
                holds_until: next_expiry(tx)?,
                documents: Arc::new(ScopeDocuments::of(scope.ids(tx)?.into_iter().collect())),
                position,
            },
        };
        let documents = Arc::clone(&fresh.documents);
        // A search in an older snapshot must not push out what a newer one found.
        let newest = kept
            .filter(|kept| kept.position.seq > fresh.position.seq)
            .unwrap_or(fresh);
        self.keep(scope, newest);
        Ok(documents)
    }

    fn take(&self, scope: &AllowedDocuments) -> Option<Kept> {
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let found = scopes.iter().find(|(kept, _)| kept == scope);
        found.map(|(_, kept)| kept.clone())
    }

    fn keep(&self, scope: &AllowedDocuments, kept: Kept) {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.retain(|(other, _)| other != scope);
        if scopes.len() == MAX_SCOPES {
            scopes.remove(0);
        }
        scopes.push((scope.clone(), kept));
    }
}

/// What was kept as it is at `position`; `None` when that cannot be told.
fn brought_up_to_date(
    tx: &Transaction,
    scope: &AllowedDocuments,
    kept: &Kept,
    position: Position,
    now: i64,
) -> Result<Option<Kept>> {
    if kept.holds_until.is_some_and(|until| now >= until) {
        return Ok(None);
    }
    if kept.position == position {
        return Ok(Some(kept.clone()));
    }
    let Some(changed) = changed_since(tx, kept.position)? else {
        return Ok(None);
    };
    let mut documents = kept.documents.ids.clone();
    changed.iter().for_each(|id| documents.remove(*id));
    let again = scope.ids_among(tx, Json(changed))?;
    again.into_iter().for_each(|id| documents.insert(id));
    // A file that was added or given another date may expire before all others.
    Ok(Some(Kept {
        holds_until: next_expiry(tx)?,
        documents: Arc::new(ScopeDocuments::of(documents)),
        position,
    }))
}

/// The documents that changed after `position`; `None` when the log does not tell, or tells of too many.
fn changed_since(tx: &Transaction, position: Position) -> Result<Option<Vec<i64>>> {
    // The change at the position itself comes first, by which the log is known to reach back to it.
    let mut statement = tx.prepare_cached(
        "SELECT seq, nonce, document_id FROM scope_changes WHERE seq >= ? ORDER BY seq LIMIT ?",
    )?;
    let mut rows = statement.query((position.seq, MAX_CHANGED + 2))?;
    let Some(first) = rows.next()? else {
        return Ok(None);
    };
    if (first.get::<_, i64>(0)?, first.get::<_, i64>(1)?) != (position.seq, position.nonce) {
        return Ok(None);
    }
    let mut changed = Vec::new();
    while let Some(row) = rows.next()? {
        match row.get::<_, Option<i64>>(2)? {
            Some(id) if changed.len() < MAX_CHANGED as usize => changed.push(id),
            _ => return Ok(None),
        }
    }
    Ok(Some(changed))
}

fn newest_position(tx: &Transaction) -> Result<Position> {
    let sql = "SELECT seq, nonce FROM scope_changes ORDER BY seq DESC LIMIT 1";
    let newest = tx.prepare_cached(sql)?.query_row([], |row| {
        Ok(Position {
            seq: row.get(0)?,
            nonce: row.get(1)?,
        })
    });
    Ok(newest.optional()?.unwrap_or_default())
}

fn next_expiry(tx: &Transaction) -> Result<Option<i64>> {
    let sql = "SELECT min(expires_at) FROM (
                   SELECT min(expires_at) AS expires_at FROM files WHERE expires_at > unixepoch()
                   UNION ALL SELECT min(expires_at) FROM vector_stores WHERE expires_at > unixepoch())";
    Ok(tx.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}
