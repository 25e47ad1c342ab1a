//! Puts the documents of a set into a data folder of their own, by the product's own path, and finds those that are there
//! already. Goes on where an earlier run ended.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::question_set::{CorpusContent, CorpusDocument, GoldText};
use super::text::located;
use crate::rag::chunk::CHUNKER_VERSION;
use crate::rag::ingest::EXTRACTOR_VERSION;
use crate::store::{
    AttributeValue, Attributes, Chunking, Content, Document, DocumentStatus, ListOptions, NewFile,
    Order, Result, Store, StoreError,
};

/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(100);
const NAME: &str = "name";
const PAGE: usize = 1000;

/// Documents that can be searched.
#[derive(Debug, Clone)]
pub struct Documents {
    pub vector_store_ids: Vec<String>,
    /// The name of each document, by the id of its file.
    pub names: HashMap<String, String>,
    pub num_passages: u64,
    /// Names of documents that could not be ingested, with the reason.
    pub failed: Vec<(String, String)>,
}

/// How far the ingestion of a corpus is, in documents.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub num_done: usize,
    pub num_all: usize,
}

/// What tells one ingestion from another: the documents, how they are cut and embedded, and what reads and cuts them.
pub fn fingerprint(
    corpus: &[CorpusDocument],
    chunking: Chunking,
    embedding_model: Option<&str>,
) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(format!("{chunking:?} {embedding_model:?}").as_bytes());
    add(format!("{EXTRACTOR_VERSION} {CHUNKER_VERSION}").as_bytes());
    add(env!("CARGO_PKG_VERSION").as_bytes());
    for document in corpus {
        add(document.name.as_bytes());
        match &document.content {
            CorpusContent::Text(text) => add(text.as_bytes()),
            CorpusContent::File(path) => add(&std::fs::read(path)?),
        }
    }
    let digits = hash.finalize();
    Ok(digits[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Chunks of at most `max_tokens`, each repeating up to `overlap_tokens` of the one before.
pub fn chunking(max_tokens: u32, overlap_tokens: u32) -> Chunking {
    Chunking {
        max_tokens,
        overlap_tokens,
    }
}

/// Adds what is missing of `corpus` to `store`, and waits until all of it can be searched. Somebody must be ingesting.
pub async fn ingest(
    store: &Store,
    corpus: &[CorpusDocument],
    chunking: Chunking,
    mut progress: impl FnMut(Progress),
) -> Result<Documents> {
    let collection = store.default_vector_store().await?.id;
    let before = listed(store, &collection).await?;
    let known: HashSet<String> = before.iter().filter_map(name_of).collect();
    let num_all = corpus.len();
    progress(Progress {
        num_done: known.len(),
        num_all,
    });
    for document in corpus.iter().filter(|it| !known.contains(&it.name)) {
        let new = NewFile {
            filename: document.filename.clone(),
            purpose: "assistants".into(),
            media_type: mime_guess::from_path(&document.filename)
                .first_or_octet_stream()
                .to_string(),
            expires_after_seconds: None,
        };
        let content = match &document.content {
            CorpusContent::Text(text) => Content::Bytes(text.clone().into_bytes()),
            CorpusContent::File(path) => Content::Path(path.clone()),
        };
        let file = store.create_file(new, content).await?;
        let name = AttributeValue::String(document.name.clone());
        let attributes = Attributes::from([(NAME.to_owned(), name)]);
        store
            .attach(&collection, &file.id, attributes, chunking)
            .await?;
    }
    loop {
        let counts = store.vector_store(&collection).await?.file_counts;
        progress(Progress {
            num_done: (counts.total - counts.in_progress) as usize,
            num_all,
        });
        if counts.in_progress == 0 {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    let mut documents = Documents {
        vector_store_ids: vec![collection.clone()],
        names: HashMap::new(),
        num_passages: 0,
        failed: Vec::new(),
    };
    for document in listed(store, &collection).await? {
        let name = name_of(&document).unwrap_or_default();
        documents.num_passages += u64::from(document.num_chunks);
        if let Some(error) = &document.last_error {
            documents.failed.push((name.clone(), error.message.clone()));
        }
        documents.names.insert(document.file_id, name);
    }
    Ok(documents)
}

/// The documents that are stored in these vector stores; their names are those of their files.
pub async fn stored(store: &Store, vector_store_ids: Vec<String>) -> Result<Documents> {
    let mut documents = Documents {
        vector_store_ids,
        names: HashMap::new(),
        num_passages: 0,
        failed: Vec::new(),
    };
    for id in &documents.vector_store_ids {
        for document in listed(store, id).await? {
            if document.status != DocumentStatus::Completed {
                continue;
            }
            documents.num_passages += u64::from(document.num_chunks);
            let file = store.file(&document.file_id).await?;
            documents.names.insert(document.file_id, file.filename);
        }
    }
    Ok(documents)
}

/// All documents of a vector store, oldest first.
pub async fn listed(store: &Store, vector_store_id: &str) -> Result<Vec<Document>> {
    let mut all: Vec<Document> = Vec::new();
    loop {
        let list = ListOptions {
            limit: PAGE,
            order: Order::Asc,
            after: all.last().map(|it| it.file_id.clone()),
            before: None,
        };
        let page = store.list_documents(vector_store_id, None, list).await?;
        all.extend(page.items);
        if !page.has_more {
            return Ok(all);
        }
    }
}

fn name_of(document: &Document) -> Option<String> {
    match document.attributes.get(NAME)? {
        AttributeValue::String(name) => Some(name.clone()),
        _ => None,
    }
}

/// Where gold texts stand in the extracted text of documents. Texts are read once.
pub struct GoldFinder<'a> {
    store: &'a Store,
    files: HashMap<&'a str, Vec<&'a str>>,
    texts: HashMap<String, Option<String>>,
}

impl<'a> GoldFinder<'a> {
    pub fn new(store: &'a Store, documents: &'a Documents) -> Self {
        let mut files: HashMap<&str, Vec<&str>> = HashMap::new();
        for (file, name) in &documents.names {
            files.entry(name.as_str()).or_default().push(file.as_str());
        }
        // The newest of several files of one name may not be the one that is meant, but the choice is always the same.
        files.values_mut().for_each(|ids| ids.sort_unstable());
        Self {
            store,
            files,
            texts: HashMap::new(),
        }
    }

    /// Whether there is a document of this name.
    pub fn knows(&self, document: &str) -> bool {
        self.files.contains_key(document)
    }

    /// Bytes of the document's text; `None` where it does not say that.
    pub async fn find(&mut self, gold: &GoldText) -> Result<Option<std::ops::Range<usize>>> {
        for file in self.files.get(gold.document.as_str()).into_iter().flatten() {
            if !self.texts.contains_key(*file) {
                let text = match self.store.extraction(file).await {
                    Ok(found) => found.map(|it| it.text),
                    Err(StoreError::NotFound { .. }) => None,
                    Err(error) => return Err(error),
                };
                self.texts.insert(file.to_string(), text);
            }
            if let Some(Some(text)) = self.texts.get(*file)
                && let Some(span) = located(text, &gold.text, gold.start)
            {
                return Ok(Some(span));
            }
        }
        Ok(None)
    }
}
