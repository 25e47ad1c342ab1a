//! Vector stores, file batches, files that expire and uploads in parts, through real sockets.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use common::{PATIENCE, Reply, Setup, TestServer, models};
use inglenook::llm::testing::{Script, write_scripted_gguf};
use inglenook::store::try_worker_lock;
use rusqlite::Connection;
use serde_json::{Value, json};

const DAY: i64 = 86_400;

/// A multipart body of fields (name, filename, content) and its content type.
fn form(fields: &[(&str, Option<&str>, &[u8])]) -> (Vec<u8>, &'static str) {
    let mut body = Vec::new();
    for (name, filename, content) in fields {
        let filename = filename.map_or(String::new(), |name| format!("; {name}"));
        body.extend_from_slice(
            format!("--edge\r\ncontent-disposition: form-data; name=\"{name}\"{filename}\r\n\r\n")
                .as_bytes(),
        );
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--edge--\r\n");
    (body, "multipart/form-data; boundary=edge")
}

fn post_form(server: &TestServer, path: &str, fields: &[(&str, Option<&str>, &[u8])]) -> Reply {
    let (body, media_type) = form(fields);
    server.post_bytes(path, &body, media_type)
}

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_string()
}

fn upload(server: &TestServer, filename: &str, content: &str) -> String {
    id(&server.upload(filename, content.as_bytes()).ok())
}

fn create_store(server: &TestServer, body: Value) -> String {
    id(&server.post("/v1/vector_stores", body).ok())
}

/// Changes what is stored beside the running server, as the passing of time would.
fn execute(dir: &Path, sql: &str) {
    let connection = Connection::open(dir.join("inglenook.db")).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
}

fn count(dir: &Path, table: &str) -> i64 {
    let connection = Connection::open(dir.join("inglenook.db")).unwrap();
    let sql = format!("SELECT count(*) FROM {table}");
    connection.query_row(&sql, [], |row| row.get(0)).unwrap()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn counts(in_progress: u64, completed: u64, failed: u64, cancelled: u64) -> Value {
    json!({
        "in_progress": in_progress, "completed": completed, "failed": failed, "cancelled": cancelled,
        "total": in_progress + completed + failed + cancelled,
    })
}

fn ids(list: &Value) -> Vec<String> {
    let data = list["data"].as_array().unwrap();
    let ids: Vec<String> = data.iter().map(id).collect();
    assert_eq!(list["object"], "list");
    assert_eq!(list["first_id"], ids.first().cloned().unwrap_or_default());
    assert_eq!(list["last_id"], ids.last().cloned().unwrap_or_default());
    ids
}

#[test]
fn a_batch_outlives_a_kill_and_cancels_what_is_not_ingested() {
    let dir = tempfile::tempdir().unwrap();
    // Who holds the lock ingests; while it is held here, nothing is.
    let lock = try_worker_lock(dir.path()).unwrap().unwrap();
    let server = Setup::default().in_dir(dir.path()).start();
    let store = create_store(&server, json!({}));
    let files: Vec<String> = (0..3)
        .map(|at| {
            upload(
                &server,
                &format!("{at}.txt"),
                &format!("The mill number {at} grinds."),
            )
        })
        .collect();
    let batches = format!("/v1/vector_stores/{store}/file_batches");
    let chunking = json!({
        "type": "static",
        "static": { "max_chunk_size_tokens": 120, "chunk_overlap_tokens": 20 },
    });
    let body = json!({ "files": [
        { "file_id": files[0], "attributes": { "mill": 0 }, "chunking_strategy": chunking },
        { "file_id": files[1] },
        { "file_id": files[2], "attributes": { "mill": 2.5, "is_wind": true } },
    ]});
    let made = server.post(&batches, body).ok();
    assert_eq!(made["object"], "vector_store.files_batch");
    assert_eq!(made["vector_store_id"], store.as_str());
    assert_eq!(made["status"], "in_progress");
    assert_eq!(made["file_counts"], counts(3, 0, 0, 0));
    let batch = format!("{batches}/{}", id(&made));
    server.kill();

    let server = Setup::default().in_dir(dir.path()).start();
    assert_eq!(server.get(&batch).ok(), made);
    let listed = |query: &str| server.get(&format!("{batch}/files{query}")).ok();
    let newest_first: Vec<String> = files.iter().rev().cloned().collect();
    assert_eq!(ids(&listed("")), newest_first);
    assert_eq!(ids(&listed("?order=asc&limit=2")), files[..2]);
    assert_eq!(listed("?order=asc&limit=2")["has_more"], true);
    assert_eq!(
        ids(&listed(&format!("?order=asc&after={}", files[1]))),
        files[2..]
    );
    assert_eq!(
        ids(&listed(&format!("?order=asc&before={}", files[1]))),
        files[..1]
    );
    assert_eq!(ids(&listed("?filter=in_progress")).len(), 3);
    assert_eq!(ids(&listed("?filter=completed")), [""; 0]);
    let oldest = &listed("?order=asc&limit=1")["data"][0];
    assert_eq!(oldest["attributes"], json!({ "mill": 0 }));
    // No larger than the tiny embedder's window allows, and shown as it is.
    let shown = &oldest["chunking_strategy"]["static"];
    assert!(shown["max_chunk_size_tokens"].as_u64().unwrap() <= 120);
    server.get(&format!("{batch}/files?filter=done")).error(400);

    let cancelled = server.post(&format!("{batch}/cancel"), json!({})).ok();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["file_counts"], counts(0, 0, 0, 3));
    assert_eq!(ids(&listed("?filter=cancelled")).len(), 3);
    drop(lock);
    // A cancelled file may be attached anew; the batch stays cancelled.
    let attach = json!({ "file_id": files[1] });
    server
        .post(&format!("/v1/vector_stores/{store}/files"), attach)
        .ok();
    assert_eq!(server.wait_for(&store, &files[1])["status"], "completed");
    let batch = server.get(&batch).ok();
    assert_eq!(batch["status"], "cancelled");
    assert_eq!(batch["file_counts"], counts(0, 1, 0, 2));
}

#[test]
fn whoever_polls_is_told_when_to_ask_again() {
    let dir = tempfile::tempdir().unwrap();
    let lock = try_worker_lock(dir.path()).unwrap().unwrap();
    let server = Setup::default().in_dir(dir.path()).start();
    let store = create_store(&server, json!({}));
    let file = upload(&server, "a.txt", "The mill grinds.");
    let body = json!({ "file_ids": [file] });
    let path = format!("/v1/vector_stores/{store}/file_batches");
    let batch = format!("{path}/{}", id(&server.post(&path, body).ok()));
    let document = format!("/v1/vector_stores/{store}/files/{file}");
    let poll = |path: &str| {
        let reply = server.get(path);
        let header = reply.header("openai-poll-after-ms");
        header.map(|value| value.parse::<u32>().unwrap())
    };
    assert!(poll(&batch).is_some() && poll(&document).is_some());
    drop(lock);
    server.wait_for(&store, &file);
    assert_eq!((poll(&batch), poll(&document)), (None, None));
}

#[test]
fn a_batch_ends_with_an_error_for_every_file_that_failed() {
    let server = Setup::default().start();
    let store = create_store(&server, json!({ "name": "mixed" }));
    let good = upload(&server, "good.txt", "The mill grinds at dawn.");
    let blank = upload(&server, "blank.txt", " \n ");
    let binary = id(&server
        .upload("mill.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01")
        .ok());
    let broken = upload(&server, "broken.pdf", "%PDF-1.7\nnothing more");
    let path = format!("/v1/vector_stores/{store}/file_batches");
    let body = json!({
        "file_ids": [good, blank, binary, broken, good],
        "attributes": { "year": 2024 },
        "chunking_strategy": { "type": "auto" },
    });
    let batch = id(&server.post(&path, body).ok());
    for (file, status, code) in [
        (&good, "completed", Value::Null),
        (&blank, "failed", json!("invalid_file")),
        (&binary, "failed", json!("unsupported_file")),
        (&broken, "failed", json!("invalid_file")),
    ] {
        let document = server.wait_for(&store, file);
        assert_eq!(document["status"], status, "{document}");
        assert_eq!(document["last_error"]["code"], code, "{document}");
        assert_eq!(document["attributes"], json!({ "year": 2024 }));
        assert_eq!(document["last_error"].is_null(), code.is_null());
    }
    let ended = server.get(&format!("{path}/{batch}")).ok();
    assert_eq!(ended["status"], "completed");
    assert_eq!(ended["file_counts"], counts(0, 1, 3, 0));
    let unchanged = server.post(&format!("{path}/{batch}/cancel"), json!({}));
    assert_eq!(unchanged.ok(), ended);

    let only_blank = server.post(&path, json!({ "file_ids": [blank] })).ok();
    server.wait_for(&store, &blank);
    let failed = server.get(&format!("{path}/{}", id(&only_blank))).ok();
    assert_eq!(failed["status"], "failed");
    // A deleted file leaves its batches.
    server.delete(&format!("/v1/files/{good}")).ok();
    let without = server.get(&format!("{path}/{batch}")).ok();
    assert_eq!(without["file_counts"], counts(0, 0, 3, 0));
}

#[test]
fn a_batch_is_refused_as_a_whole() {
    let server = Setup::default().start();
    let store = create_store(&server, json!({}));
    let other = create_store(&server, json!({}));
    let file = upload(&server, "a.txt", "The mill grinds.");
    let path = format!("/v1/vector_stores/{store}/file_batches");
    let many: Vec<&str> = vec![&file; 2001];
    for (body, status, param) in [
        (json!({}), 400, json!("file_ids")),
        (json!({ "file_ids": [] }), 400, json!("file_ids")),
        (json!({ "files": [] }), 400, json!("files")),
        (json!({ "file_ids": many }), 400, json!("file_ids")),
        (
            json!({ "file_ids": [file], "files": [{ "file_id": file }] }),
            400,
            json!("files"),
        ),
        (
            json!({ "files": [{ "file_id": file }, {}] }),
            400,
            json!("files[1].file_id"),
        ),
        (
            json!({ "files": [{ "file_id": file }, { "file_id": file, "attributes": { "a": [] } }] }),
            400,
            json!("files[1]"),
        ),
        (json!({ "file_ids": [file, "file-none"] }), 404, Value::Null),
    ] {
        let error = server.post(&path, body).error(status);
        assert_eq!(error["param"], param, "{error}");
    }
    let list = server.get(&format!("/v1/vector_stores/{store}/files")).ok();
    assert_eq!(ids(&list), [""; 0]);
    let batch = id(&server.post(&path, json!({ "file_ids": [file] })).ok());
    server
        .get(&format!("/v1/vector_stores/{other}/file_batches/{batch}"))
        .error(404);
    let none = "/v1/vector_stores/vs_none/file_batches";
    server.post(none, json!({ "file_ids": [file] })).error(404);
}

#[test]
fn a_vector_store_is_made_changed_and_checked() {
    let server = Setup::default().start();
    let path = "/v1/vector_stores";
    let bare = server.post(path, json!({})).ok();
    assert_eq!(bare["name"], "");
    assert_eq!(bare["metadata"], json!({}));
    assert_eq!(bare["file_counts"], counts(0, 0, 0, 0));
    assert_eq!(
        (&bare["usage_bytes"], &bare["status"]),
        (&json!(0), &json!("completed"))
    );
    assert!(bare["expires_at"].is_null() && bare.get("expires_after").is_none());
    assert!(bare["last_active_at"].is_i64() && bare["created_at"].is_i64());

    let file = upload(&server, "a.txt", "The mill grinds.");
    let full = json!({
        "name": "Mills", "metadata": { "team": "millers" }, "file_ids": [file],
        "expires_after": { "anchor": "last_active_at", "days": 7 },
    });
    let made = server.post(path, full).ok();
    assert_eq!(made["file_counts"]["total"], 1);
    assert_eq!(
        made["expires_after"],
        json!({ "anchor": "last_active_at", "days": 7 })
    );
    let last_active_at = made["last_active_at"].as_i64().unwrap();
    assert_eq!(made["expires_at"], last_active_at + 7 * DAY);
    server.wait_for(&id(&made), &file);

    let one = format!("{path}/{}", id(&made));
    let renamed = server.post(&one, json!({ "name": "Old mills" })).ok();
    assert_eq!(renamed["name"], "Old mills");
    assert_eq!(renamed["metadata"], json!({ "team": "millers" }));
    assert_eq!(renamed["expires_after"]["days"], 7);
    let body = json!({ "name": null, "metadata": null, "expires_after": null });
    let emptied = server.post(&one, body).ok();
    assert_eq!(
        (&emptied["name"], &emptied["metadata"]),
        (&json!(""), &json!({}))
    );
    assert!(emptied["expires_at"].is_null() && emptied.get("expires_after").is_none());

    let seventeen: serde_json::Map<String, Value> =
        (0..17).map(|at| (format!("k{at}"), json!("v"))).collect();
    let long_key = "k".repeat(65);
    for (metadata, param) in [
        (json!(seventeen), "metadata".to_string()),
        (json!({ long_key.as_str(): "v" }), "metadata".to_string()),
        (json!({ "k": "v".repeat(513) }), "metadata.k".to_string()),
        (json!({ "k": 1 }), "metadata.k".to_string()),
    ] {
        let body = json!({ "metadata": metadata });
        assert_eq!(server.post(path, body.clone()).error(400)["param"], param);
        assert_eq!(server.post(&one, body).error(400)["param"], param);
    }
    for expires_after in [
        json!({ "anchor": "created_at", "days": 7 }),
        json!({ "anchor": "last_active_at", "days": 0 }),
        json!({ "anchor": "last_active_at", "days": 366 }),
        json!({ "anchor": "last_active_at" }),
        json!(7),
    ] {
        let body = json!({ "expires_after": expires_after });
        for path in [path, &one] {
            let error = server.post(path, body.clone()).error(400);
            let param = error["param"].as_str().unwrap();
            assert!(param.starts_with("expires_after"), "{error}");
        }
    }
    // Whoever asks for the default vector store always gets one.
    let default = format!("{path}/{}", server.collection());
    let body = json!({ "expires_after": { "anchor": "last_active_at", "days": 7 } });
    assert_eq!(
        server.post(&default, body).error(400)["param"],
        "expires_after"
    );
    let many: Vec<&str> = vec![&file; 501];
    let error = server.post(path, json!({ "file_ids": many })).error(400);
    assert_eq!(error["param"], "file_ids");
    let before = ids(&server.get(path).ok()).len();
    let body = json!({ "file_ids": [file, "file-none"] });
    server.post(path, body).error(404);
    assert_eq!(ids(&server.get(path).ok()).len(), before);
}

#[test]
fn the_sizes_of_chunks_are_checked_and_told() {
    let server = Setup::default().start();
    let store = create_store(&server, json!({}));
    let path = format!("/v1/vector_stores/{store}/files");
    let file = upload(&server, "a.txt", "The mill grinds.");
    let fixed = |max: i64, overlap: i64| {
        json!({
            "type": "static",
            "static": { "max_chunk_size_tokens": max, "chunk_overlap_tokens": overlap },
        })
    };
    for wrong in [
        fixed(99, 0),
        fixed(4097, 0),
        fixed(-1, 0),
        fixed(101, 51),
        fixed(200, -1),
        json!({ "type": "static" }),
        json!({ "type": "magic" }),
        json!({}),
    ] {
        let body = json!({ "file_id": file, "chunking_strategy": wrong });
        let error = server.post(&path, body).error(400);
        let param = error["param"].as_str().unwrap();
        assert!(param.starts_with("chunking_strategy"), "{error}");
        let body = json!({ "file_ids": [file], "chunking_strategy": wrong });
        server.post("/v1/vector_stores", body).error(400);
    }
    let body = json!({ "file_id": file, "chunking_strategy": fixed(100, 20) });
    let strategy = &server.post(&path, body).ok()["chunking_strategy"];
    assert_eq!(strategy["type"], "static");
    let used = strategy["static"]["max_chunk_size_tokens"].as_u64();
    assert!((1..=100).contains(&used.unwrap()), "{strategy}");
}

#[test]
fn an_expired_vector_store_takes_and_finds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::default().in_dir(dir.path()).start();
    let expires_after = json!({ "anchor": "last_active_at", "days": 1 });
    let store = create_store(&server, json!({ "expires_after": expires_after }));
    let (file, _) = server.ingest(&store, "a.txt", b"The mill grinds at dawn.");
    let one = format!("/v1/vector_stores/{store}");
    let age = |seconds: i64| {
        let sql = "UPDATE vector_stores SET last_active_at = unixepoch()";
        execute(
            dir.path(),
            &format!("{sql} - {seconds} WHERE id = '{store}'"),
        );
    };
    // Searching is a use, and puts it off.
    age(DAY - 600);
    let query = json!({ "query": "mill" });
    let found = server.post(&format!("{one}/search"), query.clone()).ok();
    assert_eq!(found["data"][0]["file_id"], file.as_str());
    let used = server.get(&one).ok();
    let idle = used["expires_at"].as_i64().unwrap() - used["last_active_at"].as_i64().unwrap();
    assert_eq!(idle, DAY);
    let now = used["last_active_at"].as_i64().unwrap();
    assert!(now - used["created_at"].as_i64().unwrap() < 600, "{used}");

    age(DAY);
    let expired = server.get(&one).ok();
    assert_eq!(expired["status"], "expired");
    assert_eq!(expired["file_counts"], counts(0, 0, 0, 0));
    let tool = json!({ "type": "file_search", "vector_store_ids": [store] });
    for (path, body) in [
        (format!("{one}/search"), query),
        (format!("{one}/files"), json!({ "file_id": file })),
        (format!("{one}/file_batches"), json!({ "file_ids": [file] })),
        (one.clone(), json!({ "expires_after": null })),
        (
            "/v1/responses".to_string(),
            json!({ "input": "mill", "tools": [tool] }),
        ),
    ] {
        let error = server.post(&path, body).error(400);
        assert_eq!(error["code"], "vector_store_expired", "{path}: {error}");
    }
    let renamed = server.post(&one, json!({ "name": "gone" })).ok();
    assert_eq!(
        (&renamed["status"], &renamed["name"]),
        (&json!("expired"), &json!("gone"))
    );
    server.kill();

    let server = Setup::default().in_dir(dir.path()).start();
    wait_until("its documents are deleted", || {
        count(dir.path(), "chunks") == 0
    });
    assert_eq!(count(dir.path(), "documents"), 0);
    assert_eq!(server.get(&one).ok()["status"], "expired");
    // The file itself is its owner's.
    server.get(&format!("/v1/files/{file}")).ok();
    server.delete(&one).ok();
    server.get(&one).error(404);
}

#[test]
fn an_expired_file_is_gone_with_its_documents() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::default().in_dir(dir.path()).start();
    let content: &[u8] = b"The mill grinds at dawn.";
    let name = Some("filename*=UTF-8''M%C3%BChle.txt");
    let fields = |anchor: &'static [u8], seconds: &'static [u8]| {
        vec![
            ("expires_after[anchor]", None, anchor),
            ("expires_after[seconds]", None, seconds),
            ("purpose", None, b"assistants".as_slice()),
            ("file", name, content),
        ]
    };
    for (fields, param) in [
        (fields(b"created_at", b"3599"), "expires_after.seconds"),
        (fields(b"created_at", b"2592001"), "expires_after.seconds"),
        (fields(b"created_at", b"soon"), "expires_after[seconds]"),
        (fields(b"last_active_at", b"3600"), "expires_after.anchor"),
        (fields(b"", b"3600")[1..].to_vec(), "expires_after[anchor]"),
        (vec![("file", name, content)], "purpose"),
        (vec![("purpose", None, b"assistants".as_slice())], "file"),
        (
            vec![
                ("purpose", None, b"fun".as_slice()),
                ("file", name, content),
            ],
            "purpose",
        ),
        (
            vec![
                ("purpose", None, b"assistants".as_slice()),
                ("file", name, b""),
            ],
            "file",
        ),
        (
            vec![
                ("purpose", None, b"assistants".as_slice()),
                ("file", None, content),
            ],
            "file",
        ),
    ] {
        let error = post_form(&server, "/v1/files", &fields).error(400);
        assert_eq!(error["param"], param, "{error}");
    }
    let made = post_form(&server, "/v1/files", &fields(b"created_at", b"3600")).ok();
    assert_eq!(made["filename"], "Mühle.txt");
    assert_eq!(
        made["expires_at"],
        made["created_at"].as_i64().unwrap() + 3600
    );
    let kept = server.upload("kept.txt", content).ok();
    assert!(kept.get("expires_at").is_none(), "{kept}");

    let (file, store) = (id(&made), create_store(&server, json!({})));
    let attach = json!({ "file_id": file });
    server
        .post(&format!("/v1/vector_stores/{store}/files"), attach.clone())
        .ok();
    assert_eq!(server.wait_for(&store, &file)["status"], "completed");
    let sql = format!("UPDATE files SET expires_at = unixepoch() WHERE id = '{file}'");
    execute(dir.path(), &sql);
    let one = format!("/v1/files/{file}");
    server.get(&one).error(404);
    server.get(&format!("{one}/content")).error(404);
    server.delete(&one).error(404);
    assert_eq!(ids(&server.get("/v1/files").ok()), [id(&kept)]);
    let in_store = format!("/v1/vector_stores/{store}/files");
    server.post(&in_store, attach).error(404);
    server.get(&format!("{in_store}/{file}")).error(404);
    assert_eq!(ids(&server.get(&in_store).ok()), [""; 0]);
    let search = json!({ "query": "mill" });
    let found = server.post(&format!("/v1/vector_stores/{store}/search"), search);
    assert_eq!(found.ok()["data"], json!([]));
    server.kill();
    let _server = Setup::default().in_dir(dir.path()).start();
    wait_until("the file is deleted", || count(dir.path(), "files") == 1);
    assert_eq!(
        (count(dir.path(), "documents"), count(dir.path(), "chunks")),
        (0, 0)
    );
}

#[test]
fn files_are_listed_by_page_and_purpose() {
    let server = Setup::default().start();
    let files: Vec<String> = (0..4)
        .map(|at| upload(&server, &format!("{at}.txt"), "x"))
        .collect();
    let batch: &[(&str, Option<&str>, &[u8])] = &[
        ("purpose", None, b"batch"),
        ("file", Some("filename=\"b.jsonl\""), b"{}"),
    ];
    let other = id(&post_form(&server, "/v1/files", batch).ok());
    let listed = |query: &str| ids(&server.get(&format!("/v1/files?{query}")).ok());
    assert_eq!(listed("purpose=batch"), [other.as_str()]);
    assert_eq!(listed("purpose=assistants&order=asc"), files);
    assert_eq!(
        listed(&format!("order=asc&limit=2&after={}", files[0])),
        files[1..3]
    );
    let first = server.get("/v1/files?limit=2").ok();
    assert_eq!(ids(&first), [other.as_str(), files[3].as_str()]);
    assert_eq!(first["has_more"], true);
    for query in ["limit=0", "limit=10001", "limit=x", "order=up"] {
        server.get(&format!("/v1/files?{query}")).error(400);
    }
}

#[test]
fn every_filter_finds_what_it_says() {
    let server = Setup::default().start();
    let store = create_store(&server, json!({}));
    let attributes = [
        ("a", json!({ "year": 2020, "lang": "en", "is_draft": true })),
        ("b", json!({ "year": 2021.5, "lang": "de" })),
        (
            "c",
            json!({ "year": 2022, "lang": "fr", "is_draft": false }),
        ),
        ("d", json!({})),
    ];
    for (name, attributes) in &attributes {
        let file = upload(
            &server,
            &format!("{name}.txt"),
            &format!("The mill {name} grinds."),
        );
        let body = json!({ "file_id": file, "attributes": attributes });
        server
            .post(&format!("/v1/vector_stores/{store}/files"), body)
            .ok();
        server.wait_for(&store, &file);
    }
    let search = |body: Value| server.post(&format!("/v1/vector_stores/{store}/search"), body);
    let compare =
        |op: &str, key: &str, value: Value| json!({ "type": op, "key": key, "value": value });
    for (filter, expected) in [
        (Value::Null, "abcd"),
        (compare("eq", "lang", json!("en")), "a"),
        (compare("eq", "year", json!(2020.0)), "a"),
        (compare("eq", "year", json!("2020")), ""),
        (compare("eq", "is_draft", json!(false)), "c"),
        (compare("ne", "lang", json!("en")), "bcd"),
        (compare("gt", "year", json!(2020)), "bc"),
        (compare("gte", "year", json!(2021.5)), "bc"),
        (compare("lt", "year", json!(2021.5)), "a"),
        (compare("lte", "year", json!(2022)), "abc"),
        (compare("in", "lang", json!(["en", "fr", 3])), "ac"),
        (compare("in", "lang", json!([])), ""),
        (compare("nin", "lang", json!(["en", "fr"])), "bd"),
        (
            json!({ "type": "and", "filters": [
                compare("gt", "year", json!(2020)),
                { "type": "or", "filters": [
                    compare("eq", "lang", json!("fr")), compare("eq", "lang", json!("en")),
                ]},
            ]}),
            "c",
        ),
    ] {
        let body = json!({ "query": "mill", "filters": filter, "max_num_results": 50 });
        let found = search(body).ok();
        let data = found["data"].as_array().unwrap().iter();
        let names: BTreeSet<&str> = data.map(|it| it["filename"].as_str().unwrap()).collect();
        let expected: Vec<String> = expected.chars().map(|name| format!("{name}.txt")).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), expected, "{filter}");
    }
    for filter in [
        json!("x"),
        json!({}),
        compare("like", "lang", json!("en")),
        compare("eq", "lang", Value::Null),
        compare("eq", "lang", json!(["en"])),
        compare("in", "lang", json!("en")),
        json!({ "type": "eq", "value": "en" }),
        json!({ "type": "and", "filters": [] }),
        json!({ "type": "or", "filters": [{ "type": "eq" }] }),
    ] {
        let error = search(json!({ "query": "mill", "filters": filter })).error(400);
        let param = error["param"].as_str().unwrap();
        assert!(param.starts_with("filters"), "{filter}: {error}");
    }
}

#[test]
fn a_question_is_rewritten_where_a_model_writes() {
    let question = "Who is it that keeps the lighthouse, and since when?";
    let searched = |setup: Setup, query: Value, rewrites: bool| {
        let server = setup.start();
        let store = create_store(&server, json!({}));
        let body = json!({ "query": query, "rewrite_query": rewrites });
        let found = server.post(&format!("/v1/vector_stores/{store}/search"), body);
        found.ok()["search_query"].clone()
    };
    let writing = |name: &str, script: &Script| {
        let path = models().scripted.with_file_name(format!("{name}.gguf"));
        write_scripted_gguf(&path, script).unwrap();
        Setup {
            chat_model: Some(path),
            ..Setup::default()
        }
    };
    let script = Script::once("\"lighthouse keeper since\"").cut_every(4);
    let rewriting = || writing("rewriting", &script);
    let both = json!([question, "mill"]);
    assert_eq!(
        searched(rewriting(), both, true),
        json!(["lighthouse keeper since", "mill"])
    );
    assert_eq!(
        searched(rewriting(), json!(question), false),
        json!([question])
    );
    // One that comes to no end, or says nothing, is not listened to; the demonstration model is not asked.
    let nothing = writing("says-nothing", &Script::once(" "));
    let nobody = Setup {
        chat_model: None,
        ..Setup::default()
    };
    for setup in [Setup::endless(), nothing, nobody] {
        assert_eq!(searched(setup, json!(question), true), json!([question]));
    }
}

#[test]
fn a_search_is_checked_and_says_what_it_searched_for() {
    let server = Setup::default().start();
    let store = create_store(&server, json!({}));
    for name in ["north", "south", "west"] {
        let content = format!("The mill in the {name} grinds.");
        server.ingest(&store, &format!("{name}.txt"), content.as_bytes());
    }
    let search = |body: Value| server.post(&format!("/v1/vector_stores/{store}/search"), body);
    let found = search(json!({
        "query": ["mill", "north"], "max_num_results": 2, "rewrite_query": true,
        "ranking_options": { "ranker": "auto", "score_threshold": 0.0 },
    }))
    .ok();
    assert_eq!(found["object"], "vector_store.search_results.page");
    // Key words stay as they are.
    assert_eq!(found["search_query"], json!(["mill", "north"]));
    assert_eq!(
        (&found["has_more"], &found["next_page"]),
        (&json!(false), &Value::Null)
    );
    let data = found["data"].as_array().unwrap();
    assert_eq!(data.len(), 2);
    assert_eq!(data[0]["filename"], "north.txt");
    for result in data {
        assert!((0.0..=1.0).contains(&result["score"].as_f64().unwrap()));
        assert_eq!(result["content"][0]["type"], "text");
    }
    let one = search(json!({ "query": "north mill" })).ok();
    assert_eq!(one["search_query"], json!(["north mill"]));
    let long = "weather ".repeat(2000) + "mill";
    let shortened = search(json!({ "query": long })).ok();
    let searched = shortened["search_query"][0].as_str().unwrap();
    assert!(
        searched.len() < long.len() && searched.ends_with("mill"),
        "{searched}"
    );
    for (field, value) in [
        ("query", json!("")),
        ("query", json!([])),
        ("query", json!(["a", " "])),
        ("query", json!(vec!["a"; 33])),
        ("query", json!(7)),
        ("max_num_results", json!(0)),
        ("max_num_results", json!(51)),
        ("ranking_options", json!({ "ranker": "best" })),
        ("ranking_options", json!({ "score_threshold": 1.5 })),
        ("ranking_options", json!({ "score_threshold": -0.5 })),
    ] {
        let mut body = json!({ "query": "mill" });
        body[field] = value;
        let error = search(body).error(400);
        assert!(
            error["param"].as_str().unwrap().starts_with(field),
            "{error}"
        );
    }
}

#[test]
fn attributes_of_a_file_are_replaced() {
    let server = Setup::default().start();
    let store = create_store(&server, json!({}));
    let (file, _) = server.ingest(&store, "a.txt", b"The mill grinds.");
    let path = format!("/v1/vector_stores/{store}/files/{file}");
    let update = |attributes: Value| server.post(&path, json!({ "attributes": attributes }));
    let attributes = json!({ "year": 2024, "lang": "en", "is_draft": false });
    assert_eq!(update(attributes.clone()).ok()["attributes"], attributes);
    assert_eq!(server.get(&path).ok()["attributes"], attributes);
    assert_eq!(
        update(json!({ "year": 1 })).ok()["attributes"],
        json!({ "year": 1 })
    );
    assert_eq!(update(Value::Null).ok()["attributes"], json!({}));
    assert_eq!(
        server.post(&path, json!({})).error(400)["param"],
        "attributes"
    );
    for wrong in [
        json!({ "a": null }),
        json!({ "a": [1] }),
        json!({ "a": "x".repeat(513) }),
        json!({ "k".repeat(65): 1 }),
        json!(
            (0..17)
                .map(|at| (at.to_string(), at))
                .collect::<std::collections::BTreeMap<_, _>>()
        ),
    ] {
        update(wrong).error(400);
    }
}

#[test]
fn an_upload_in_parts_becomes_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::default().in_dir(dir.path()).start();
    // Parts that do not end where stored segments do.
    let content: Vec<u8> = (0..3_000_000_u32)
        .map(|at| (at.wrapping_mul(at) >> 7) as u8)
        .collect();
    let (first, second) = content.split_at(1_700_000);
    let create = json!({
        "filename": "large.bin", "purpose": "assistants", "bytes": content.len(),
        "mime_type": "application/x-large",
        "expires_after": { "anchor": "created_at", "seconds": 7200 },
    });
    let made = server.post("/v1/uploads", create).ok();
    assert_eq!(
        (&made["object"], &made["status"]),
        (&json!("upload"), &json!("pending"))
    );
    assert_eq!(made["bytes"], content.len());
    assert_eq!(
        made["expires_at"],
        made["created_at"].as_i64().unwrap() + 3600
    );
    assert!(made["file"].is_null());
    let path = format!("/v1/uploads/{}", id(&made));
    let add = |content: &[u8]| {
        let fields = [("data", Some("filename=\"upload\""), content)];
        post_form(&server, &format!("{path}/parts"), &fields)
    };
    let last = add(second).ok();
    assert_eq!(last["object"], "upload.part");
    assert_eq!(last["upload_id"], made["id"]);
    let (first, last) = (id(&add(first).ok()), id(&last));
    server.kill();

    let server = Setup::default().in_dir(dir.path()).start();
    let complete = |body: Value| server.post(&format!("{path}/complete"), body);
    for (body, param) in [
        (json!({}), "part_ids"),
        (json!({ "part_ids": [] }), "part_ids"),
        (json!({ "part_ids": [first] }), "part_ids"),
        (json!({ "part_ids": [first, first] }), "part_ids"),
        (json!({ "part_ids": [first, "part_none"] }), "part_ids"),
        (json!({ "part_ids": [first, last], "md5": "00" }), "md5"),
    ] {
        assert_eq!(complete(body).error(400)["param"], param);
    }
    assert_eq!(count(dir.path(), "files"), 0);
    let done = complete(json!({ "part_ids": [first, last] })).ok();
    assert_eq!(done["status"], "completed");
    let file = &done["file"];
    assert_eq!(
        (&file["object"], &file["bytes"]),
        (&json!("file"), &made["bytes"])
    );
    assert_eq!(file["filename"], "large.bin");
    assert_eq!(
        file["expires_at"],
        file["created_at"].as_i64().unwrap() + 7200
    );
    let one = format!("/v1/files/{}", id(file));
    assert_eq!(server.get(&one).ok(), *file);
    let download = server.get(&format!("{one}/content"));
    let length = content.len().to_string();
    assert_eq!(download.header("content-length"), Some(length.as_str()));
    assert!(download.body == content);
    // A client that missed the answer may ask again; there is nothing more to add or to take back.
    assert_eq!(complete(json!({ "part_ids": [first, last] })).ok(), done);
    let fields = [("data", Some("filename=\"upload\""), b"x".as_slice())];
    post_form(&server, &format!("{path}/parts"), &fields).error(400);
    server.post(&format!("{path}/cancel"), json!({})).error(400);
    assert_eq!(
        (
            count(dir.path(), "upload_parts"),
            count(dir.path(), "upload_segments")
        ),
        (0, 0)
    );
    assert_eq!(
        std::fs::read_dir(dir.path().join("uploads"))
            .unwrap()
            .flatten()
            .map(|folder| std::fs::read_dir(folder.path()).unwrap().count())
            .sum::<usize>(),
        0
    );
}

#[test]
fn cancelled_and_expired_uploads_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::default().in_dir(dir.path()).start();
    let body = json!({
        "filename": "a.txt", "purpose": "assistants", "bytes": 10, "mime_type": "text/plain",
    });
    let create = || {
        format!(
            "/v1/uploads/{}",
            id(&server.post("/v1/uploads", body.clone()).ok())
        )
    };
    let add = |path: &str, content: &[u8]| {
        let fields = [("data", Some("filename=\"upload\""), content)];
        post_form(&server, &format!("{path}/parts"), &fields)
    };
    let cancelled = create();
    let part = id(&add(&cancelled, b"0123456789").ok());
    let reply = server.post(&format!("{cancelled}/cancel"), json!({})).ok();
    assert_eq!(reply["status"], "cancelled");
    assert_eq!(
        (
            count(dir.path(), "upload_parts"),
            count(dir.path(), "upload_segments")
        ),
        (0, 0)
    );
    let complete = json!({ "part_ids": [part] });
    server
        .post(&format!("{cancelled}/complete"), complete.clone())
        .error(400);
    add(&cancelled, b"x").error(400);

    let bounded = create();
    assert_eq!(add(&bounded, b"").error(400)["param"], "data");
    let fields = [("other", None, b"x".as_slice())];
    let error = post_form(&server, &format!("{bounded}/parts"), &fields).error(400);
    assert_eq!(error["param"], "data");
    add(&bounded, &[0; 10]).ok();
    add(&bounded, &[0; 10]).ok();
    assert_eq!(add(&bounded, b"x").error(400)["param"], "data");

    execute(dir.path(), "UPDATE uploads SET expires_at = unixepoch()");
    add(&bounded, b"x").error(404);
    server
        .post(&format!("{bounded}/complete"), complete)
        .error(404);
    server
        .post(&format!("{bounded}/cancel"), json!({}))
        .error(404);
    for (field, value) in [
        ("bytes", json!(0)),
        ("bytes", json!(-1)),
        ("bytes", Value::Null),
        ("filename", json!("")),
        ("purpose", json!("fun")),
        ("mime_type", Value::Null),
    ] {
        let mut body = body.clone();
        body[field] = value;
        assert_eq!(server.post("/v1/uploads", body).error(400)["param"], field);
    }
    let mut huge = body.clone();
    huge["bytes"] = json!(1_u64 << 40);
    assert_eq!(
        server.post("/v1/uploads", huge).error(413)["param"],
        "bytes"
    );
    server.kill();
    let _server = Setup::default().in_dir(dir.path()).start();
    wait_until("the uploads are deleted", || {
        count(dir.path(), "uploads") == 0
    });
    assert_eq!(
        (
            count(dir.path(), "upload_parts"),
            count(dir.path(), "upload_segments")
        ),
        (0, 0)
    );
}
