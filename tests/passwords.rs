//! Encrypted PDFs: opened silently where the empty password does, else with the one that comes with the file, which is
//! shown nowhere and kept no longer than it is needed.

mod common;

use std::io::{Cursor, Write};

use common::{Setup, TestServer, program};
use inglenook::test_data;
use serde_json::{Value, json};

fn attached(server: &TestServer, collection: &str, file_id: &str, password: Option<&str>) -> Value {
    let path = format!("/v1/vector_stores/{collection}/files");
    let mut body = json!({ "file_id": file_id });
    if let Some(password) = password {
        body["password"] = password.into();
    }
    let shown = server.post(&path, body).ok().to_string();
    assert!(password.is_none_or(|it| !shown.contains(it)), "{shown}");
    server.wait_for(collection, file_id)
}

#[test]
fn an_encrypted_pdf_is_read_with_its_password_only() {
    let Some(folder) = test_data::require("docs/pdf_encrypted") else {
        return;
    };
    let server = Setup::default().start();
    let collection = server.collection();
    let upload = |name: &str| {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let file = server.upload(name, &bytes).ok();
        file["id"].as_str().unwrap().to_owned()
    };
    let open = upload("r6-empty-password.pdf");
    assert_eq!(
        attached(&server, &collection, &open, None)["status"],
        "completed"
    );
    for (name, password) in [
        ("libreoffice-writer-password.pdf", "openpassword"),
        ("r3-user-password.pdf", "asdfzxcv"),
    ] {
        let file = upload(name);
        let locked = attached(&server, &collection, &file, None);
        let message = locked["last_error"]["message"].as_str().unwrap();
        assert!(message.contains("needs a password"), "{name}: {message}");
        let wrong = attached(&server, &collection, &file, Some("tset-wrong"));
        let message = wrong["last_error"]["message"].as_str().unwrap();
        assert!(message.contains("does not open"), "{name}: {message}");
        let read = attached(&server, &collection, &file, Some(password));
        assert_eq!(read["status"], "completed", "{name}: {read}");
        assert!(!read.to_string().contains(password), "{read}");
    }
    // Whoever has the same file need not know its password.
    let again = upload("r3-user-password.pdf");
    let locked = attached(&server, &collection, &again, None);
    assert_eq!(locked["status"], "failed", "{locked}");
}

#[test]
fn members_of_an_archive_are_read_with_its_password() {
    let Some(pdf) = test_data::require("docs/pdf_encrypted/r3-user-password.pdf") else {
        return;
    };
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, bytes) in [
        ("a.txt", b"In the open".to_vec()),
        ("b.pdf", std::fs::read(pdf).unwrap()),
    ] {
        writer.start_file(name, options).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    let zip = writer.finish().unwrap().into_inner();
    let server = Setup::default().start();
    let collection = server.collection();
    let file = server.upload("all.zip", &zip).ok();
    let file = file["id"].as_str().unwrap();
    let warning = |read: &Value| read["warnings"][0]["message"].to_string();
    let locked = attached(&server, &collection, file, None);
    assert_eq!(locked["status"], "completed", "{locked}");
    assert!(warning(&locked).contains("attach"), "{locked}");
    let wrong = attached(&server, &collection, file, Some("tset-wrong"));
    assert!(warning(&wrong).contains("does not open"), "{wrong}");
    let read = attached(&server, &collection, file, Some("asdfzxcv"));
    assert_eq!(read["warnings"], json!([]), "{read}");
}

#[test]
fn the_command_line_takes_a_password() {
    let Some(file) = test_data::require("docs/pdf_encrypted/r3-user-password.pdf") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let ingest = |password: &[&str]| {
        program(dir.path())
            .arg("--embedding-model")
            .arg(&common::models().embedder)
            .arg("ingest")
            .args(password)
            .arg(&file)
            .output()
            .unwrap()
    };
    let locked = ingest(&[]);
    assert!(!locked.status.success());
    let said = String::from_utf8_lossy(&locked.stderr);
    assert!(said.contains("--password"), "{said}");
    let read = ingest(&["--password", "asdfzxcv"]);
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
    let shown = program(dir.path())
        .arg("--embedding-model")
        .arg(&common::models().embedder)
        .args(["chunks", "--password", "asdfzxcv"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&shown.stdout);
    assert!(said.contains("=== 1 passages"), "{shown:?}");
}
