//! Every real document is ingested or refused with a reason, and the server goes on.

mod common;

use std::path::PathBuf;

use common::Setup;
use inglenook::test_data;
use serde_json::json;

#[test]
fn every_document_is_ingested_or_refused_with_a_reason() {
    let Some(docs) = test_data::require("docs") else {
        return;
    };
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![docs];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // Long books are cut elsewhere; here each file matters, not its length.
            let size = path.metadata().unwrap().len();
            match path.is_dir() {
                true => folders.push(path),
                false if size > 0 && size < 2_000_000 => files.push(path),
                false => {}
            }
        }
    }
    let server = Setup::default().start();
    let collection = server.collection();
    let attach = format!("/v1/vector_stores/{collection}/files");
    let mut ids = Vec::new();
    for path in &files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let file = server.upload(&name, &std::fs::read(path).unwrap()).ok();
        let id = file["id"].as_str().unwrap().to_string();
        server.post(&attach, json!({ "file_id": id })).ok();
        ids.push((name, id));
    }
    let mut num_completed = 0;
    for (name, id) in &ids {
        let document = server.wait_for(&collection, id);
        if document["status"] == "completed" {
            num_completed += 1;
            assert!(
                document["num_chunks"].as_u64().unwrap() > 0,
                "{name}: {document}"
            );
        } else {
            let reason = document["last_error"]["message"]
                .as_str()
                .unwrap_or_default();
            assert!(!reason.is_empty(), "{name}: {document}");
            println!("refused {name}: {reason}");
        }
    }
    println!("{num_completed} of {} documents ingested", ids.len());
    assert!(num_completed * 2 > ids.len());
    assert_eq!(server.get("/health").ok()["status"], "ok");
}
