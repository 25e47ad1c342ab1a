//! Watched folders: real files, real moves, real kills.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{PATIENCE, TestServer};
use crate::{documents, found, serving};

fn watching(dir: &Path, folder: &Path) -> TestServer {
    serving(
        dir,
        &format!(
            "watch = [{:?}]\nwatch_interval = 1\n",
            folder.to_str().unwrap()
        ),
    )
}

/// The first watched folder, once `done` holds.
fn wait_for(server: &TestServer, what: &str, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let folder = server.get("/api/watch").ok()["folders"][0].clone();
        if done(&folder) {
            return folder;
        }
        assert!(Instant::now() < deadline, "{what}: {folder}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for so many searchable documents, and that nothing is under way.
fn wait_for_documents(server: &TestServer, count: u64) -> Value {
    wait_for(server, "searchable documents", |folder| {
        folder["num_searchable"] == count
            && folder["num_in_progress"] == 0
            && folder["num_waiting"] == 0
    })
}

#[test]
fn files_come_change_and_go_with_their_folder() {
    let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = folder.path();
    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("tide.txt"), "The tide turns at seven.").unwrap();
    fs::write(
        root.join("sub/lamp.md"),
        "# Lamp\n\nThe lamp is lit by Maren.",
    )
    .unwrap();
    fs::write(root.join("~$tide.docx"), "not a document").unwrap();
    fs::write(root.join(".secret.txt"), "hidden").unwrap();
    let server = watching(dir.path(), root);
    let status = wait_for_documents(&server, 2);
    assert_eq!(
        (&status["num_files"], &status["num_taken"]),
        (&2.into(), &2.into()),
        "{status}"
    );
    assert_eq!(status["notice"], Value::Null);
    let known = documents(&server, "source_path");
    assert_eq!(
        known.keys().collect::<Vec<_>>(),
        ["sub/lamp.md", "tide.txt"]
    );
    assert_eq!(found(&server, "tide turns"), ["The tide turns at seven."]);

    fs::write(root.join("tide.txt"), "The tide turns at nine now.").unwrap();
    wait_for(&server, "the change", |folder| folder["num_taken"] == 3);
    wait_for_documents(&server, 2);
    documents(&server, "source_path");
    assert_eq!(
        found(&server, "tide turns"),
        ["The tide turns at nine now."]
    );
    assert_eq!(
        server.get("/v1/files").ok()["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    fs::remove_file(root.join("sub/lamp.md")).unwrap();
    wait_for(&server, "the removal", |folder| folder["num_removed"] == 1);
    assert!(found(&server, "lamp lit").is_empty());
    assert_eq!(documents(&server, "source_path").len(), 1);
}

#[test]
fn an_upload_replaces_uploads_and_nothing_that_is_followed() {
    let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = folder.path();
    for (name, text) in [
        ("a", "The tide turns at one."),
        ("b", "The tide turns at two."),
    ] {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("x.txt"), text).unwrap();
    }
    let server = watching(dir.path(), root);
    wait_for_documents(&server, 2);
    let files = format!("/v1/vector_stores/{}/files", server.collection());
    for (text, is_unchanged) in [
        ("The tide turns at one.", false),
        ("The tide turns at four.", false),
        ("The tide turns at four.", true),
    ] {
        let file = server.upload("x.txt", text.as_bytes()).ok();
        let body = json!({ "file_id": file["id"], "if_exists": "replace" });
        let attached = server.post(&files, body).ok();
        assert_eq!(attached["is_unchanged"], is_unchanged, "{attached}");
        let id = attached["id"].as_str().unwrap();
        server.wait_for(&server.collection(), id);
    }
    let mut texts = found(&server, "tide turns");
    texts.sort();
    assert_eq!(
        texts,
        [
            "The tide turns at four.",
            "The tide turns at one.",
            "The tide turns at two."
        ]
    );
}

#[test]
fn a_folder_that_is_empty_or_away_deletes_nothing() {
    let (dir, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = parent.path().join("share");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("tide.txt"), "The tide turns at seven.").unwrap();
    let server = watching(dir.path(), &root);
    wait_for_documents(&server, 1);

    fs::rename(&root, parent.path().join("elsewhere")).unwrap();
    let away = wait_for(&server, "a notice", |folder| folder["notice"].is_string());
    assert!(
        away["notice"].as_str().unwrap().contains("cannot be read"),
        "{away}"
    );
    // An unmounted share leaves an empty folder behind.
    fs::create_dir(&root).unwrap();
    let scans = |folder: &Value| {
        folder["notice"]
            .as_str()
            .is_some_and(|it| it.contains("is empty"))
    };
    let empty = wait_for(&server, "another notice", scans);
    let seen_at = empty["last_scan_at"].as_i64().unwrap();
    wait_for(&server, "two more looks", |folder| {
        folder["last_scan_at"].as_i64().unwrap() >= seen_at + 3
    });
    assert_eq!(found(&server, "tide turns"), ["The tide turns at seven."]);

    fs::remove_dir(&root).unwrap();
    fs::rename(parent.path().join("elsewhere"), &root).unwrap();
    let back = wait_for(&server, "the end of the notice", |folder| {
        folder["notice"].is_null()
    });
    assert_eq!(
        (&back["num_searchable"], &back["num_taken"]),
        (&1.into(), &1.into()),
        "{back}"
    );
}

#[test]
fn what_happened_while_the_program_was_killed_is_caught_up_with() {
    let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = folder.path();
    for name in ["stays", "changes", "goes"] {
        fs::write(
            root.join(format!("{name}.txt")),
            format!("This file {name}."),
        )
        .unwrap();
    }
    let server = watching(dir.path(), root);
    wait_for_documents(&server, 3);
    let before = documents(&server, "source_path");
    server.kill();
    fs::write(root.join("changes.txt"), "This file has changed meanwhile.").unwrap();
    fs::remove_file(root.join("goes.txt")).unwrap();
    fs::write(root.join("new.txt"), "This file is new.").unwrap();

    let server = watching(dir.path(), root);
    let status = wait_for(&server, "the changes", |folder| {
        folder["num_taken"] == 2 && folder["num_removed"] == 1
    });
    assert_eq!(status["notice"], Value::Null);
    wait_for_documents(&server, 3);
    let after = documents(&server, "source_path");
    assert_eq!(
        after.keys().collect::<Vec<_>>(),
        ["changes.txt", "new.txt", "stays.txt"]
    );
    assert_eq!(after["stays.txt"]["id"], before["stays.txt"]["id"]);
    assert_ne!(after["changes.txt"]["id"], before["changes.txt"]["id"]);
}

#[test]
fn what_somebody_deleted_does_not_come_back_and_what_cannot_be_read_is_told() {
    let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = folder.path();
    fs::write(root.join("tide.txt"), "The tide turns at seven.").unwrap();
    fs::write(root.join("lamp.txt"), "The lamp is lit by Maren.").unwrap();
    fs::write(root.join("broken.pdf"), "%PDF-1.4 and nothing else").unwrap();
    let settings = format!(
        "watch_interval = 1\nwatch = [{{ path = {:?}, vector_store = \"Harbour\" }}]\n",
        root.to_str().unwrap()
    );
    let server = serving(dir.path(), &settings);
    let status = wait_for_documents(&server, 2);
    assert_eq!(status["errors"][0]["path"], "broken.pdf", "{status}");
    let store = status["vector_store_id"].as_str().unwrap();
    assert_ne!(store, server.collection());
    assert_eq!(
        server.get(&format!("/v1/vector_stores/{store}")).ok()["name"],
        "Harbour"
    );
    let list = server.get(&format!("/v1/vector_stores/{store}/files")).ok();
    let is_lamp = |it: &&Value| it["attributes"]["source_path"] == "lamp.txt";
    let lamp = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(is_lamp)
        .unwrap();
    server
        .delete(&format!("/v1/files/{}", lamp["id"].as_str().unwrap()))
        .ok();
    let seen_at = wait_for_documents(&server, 1)["last_scan_at"]
        .as_i64()
        .unwrap();
    let later = wait_for(&server, "three more looks", |folder| {
        folder["last_scan_at"].as_i64().unwrap() >= seen_at + 3
    });
    assert_eq!(
        (&later["num_searchable"], &later["num_taken"]),
        (&1.into(), &3.into()),
        "{later}"
    );
}
