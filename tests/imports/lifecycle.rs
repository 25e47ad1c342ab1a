//! An import's life: its events, its end by a client, a kill, the command line.

use std::process::Stdio;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::{PATIENCE, models, program};
use crate::server::{Reply, Site};
use crate::{documents, ended, expected, import, importing, outcomes, serving};

/// Pages in a row, of which one waits for leave to come.
fn row_of_pages(held: &'static str) -> (Site, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (asked, was_asked) = mpsc::channel();
    let (leave, may_go) = mpsc::channel::<()>();
    let channels = Mutex::new((asked, may_go));
    let site = Site::start(move |request| {
        let page = request.path.trim_start_matches('/').parse::<u32>();
        match page {
            Ok(page) => {
                if request.path == held {
                    let channels = channels.lock().unwrap();
                    let _ = channels.0.send(());
                    let _ = channels.1.recv_timeout(PATIENCE);
                }
                Reply::html(format!(
                    "<p>Page number {page}.</p><a href='/{}'>next</a>",
                    page + 1
                ))
            }
            Err(_) => Reply::status(404),
        }
    });
    (site, was_asked, leave)
}

#[test]
fn a_killed_import_goes_on_with_the_page_that_it_was_at() {
    let (site, was_asked, leave) = row_of_pages("/4");
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&site], "");
    let created = server
        .post(
            "/api/imports",
            json!({ "site": site.url("/1"), "max_pages": 8 }),
        )
        .ok();
    let id = created["id"].as_str().unwrap();
    was_asked.recv_timeout(PATIENCE).unwrap();
    let before = server.get(&format!("/api/imports/{id}")).ok();
    assert_eq!(before["status"], "running");
    assert_eq!(before["counts"]["imported"], 3, "{before}");
    server.kill();
    leave.send(()).unwrap();
    leave.send(()).unwrap();

    let server = importing(dir.path(), &[&site], "");
    let import = ended(&server, id);
    assert_eq!(import["status"], "completed", "{import}");
    assert_eq!(import["counts"]["imported"], 8);
    let paths = site.paths();
    let count = |path: &str| paths.iter().filter(|it| *it == path).count();
    for page in 1..=8 {
        let path = format!("/{page}");
        assert_eq!(count(&path), 1 + usize::from(page == 4), "{paths:?}");
    }
    assert_eq!(documents(&server, "source_url").len(), 8);
}

#[test]
fn an_import_is_cancelled_while_a_page_is_on_its_way_and_then_forgotten() {
    let (site, was_asked, leave) = row_of_pages("/2");
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&site], "");
    let created = server
        .post("/api/imports", json!({ "site": site.url("/1") }))
        .ok();
    let path = format!("/api/imports/{}", created["id"].as_str().unwrap());
    was_asked.recv_timeout(PATIENCE).unwrap();
    let cancelled = server.delete(&path).ok();
    assert_eq!(
        (&cancelled["status"], &cancelled["deleted"]),
        (&json!("cancelled"), &json!(false))
    );
    leave.send(()).unwrap();
    let events = server.get(&format!("{path}/events")).events();
    assert_eq!(events.last().unwrap()["status"], "cancelled");
    assert_eq!(documents(&server, "source_url").len(), 1);
    assert_eq!(outcomes(&server.get(&path).ok())["/2"], "queued");
    assert_eq!(
        server.get("/api/imports").ok()["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(server.delete(&path).ok()["deleted"], true);
    server.get(&path).error(404);
    assert_eq!(documents(&server, "source_url").len(), 1);
}

#[test]
fn events_follow_an_import_to_its_end() {
    let (site, was_asked, leave) = row_of_pages("/2");
    let dir = tempfile::tempdir().unwrap();
    let server = Arc::new(importing(dir.path(), &[&site], ""));
    let created = server
        .post(
            "/api/imports",
            json!({ "site": site.url("/1"), "max_pages": 3 }),
        )
        .ok();
    was_asked.recv_timeout(PATIENCE).unwrap();
    let path = format!("/api/imports/{}/events", created["id"].as_str().unwrap());
    let reader = std::thread::spawn({
        let server = Arc::clone(&server);
        move || server.get(&path)
    });
    leave.send(()).unwrap();
    let reply = reader.join().unwrap();
    let text = String::from_utf8(reply.body.clone()).unwrap();
    assert!(text.contains("event: import.completed\n"), "{text}");
    let events = reply.events();
    assert_eq!(events.last().unwrap()["counts"]["imported"], 3);
    assert!(events.iter().all(|event| event["object"] == "import"));
}

#[test]
fn pages_are_shown_in_parts() {
    let (site, _, _) = row_of_pages("/none");
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&site], "");
    let whole = import(&server, json!({ "site": site.url("/1"), "max_pages": 5 }));
    let path = format!("/api/imports/{}", whole["id"].as_str().unwrap());
    let mut pages = Vec::new();
    let mut after = json!(0);
    while !after.is_null() {
        let part = server.get(&format!("{path}?limit=2&after={after}")).ok();
        pages.extend(part["pages"].as_array().unwrap().clone());
        after = part["next_after"].clone();
    }
    let mut shown = whole["pages"].as_array().unwrap().clone();
    // How far the reading of their documents is may have changed meanwhile.
    for page in pages.iter_mut().chain(shown.iter_mut()) {
        page["document_status"] = json!(null);
    }
    assert_eq!(pages, shown);
}

#[test]
fn the_command_line_imports_without_the_setting_as_it_is_the_owner_who_types() {
    let site = Site::with_pages(&[(
        "/guide",
        "<title>Guide</title><p>The lamp is lit by Maren.</p>",
    )]);
    let dir = tempfile::tempdir().unwrap();
    let settings = format!(
        "web_import_hosts = [{:?}]\nweb_import_delay = 0.0\n",
        site.host()
    );
    std::fs::write(dir.path().join("inglenook.toml"), &settings).unwrap();
    let run = |args: &[&str]| {
        let mut command = program(dir.path());
        command
            .args(["--chat-model", "none", "--embedding-model"])
            .arg(&models().embedder);
        let output = command
            .arg("import")
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (is_success, out, err) = run(&[&site.url("/guide")]);
    assert!(is_success && out.contains("1 passages"), "{out}{err}");
    let (is_success, out, err) = run(&["--site", &site.url("/guide"), "--max-pages", "200"]);
    assert!(is_success && out.contains("unchanged"), "{out}{err}");
    let (is_success, _, err) = run(&[&site.url("/none")]);
    assert!(!is_success && err.contains("status 404"), "{err}");
    let (is_success, _, err) = run(&["--arxiv", "nonsense"]);
    assert!(!is_success && err.contains("1706.03762v7"), "{err}");
    let server = serving(dir.path(), "");
    assert_eq!(
        documents(&server, "title").keys().collect::<Vec<_>>(),
        ["Guide"]
    );
}

#[test]
fn requests_to_one_host_keep_their_distance() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let site = Site::start({
        let times = Arc::clone(&times);
        move |request| {
            times.lock().unwrap().push(Instant::now());
            match request.path.as_str() {
                "/robots.txt" => Reply::bytes("text/plain", "User-agent: *\nCrawl-delay: 0.4"),
                "/" => Reply::html("<p>Start.</p><a href='/a'>a</a><a href='/b'>b</a>"),
                path => Reply::html(format!("<p>Page {path}.</p>")),
            }
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&site], "");
    let import = import(&server, json!({ "site": site.url("/") }));
    assert_eq!(
        outcomes(&import),
        expected(&[("/", "imported"), ("/a", "imported"), ("/b", "imported")])
    );
    let times = times.lock().unwrap();
    let gaps = times.windows(2).skip(1).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().count() == 2 && gaps.clone().all(|gap| gap >= Duration::from_millis(400)));
}
