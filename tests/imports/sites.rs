//! Sites: which pages come, in which order, and what is said of the others.

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::server::{Reply, Site};
use crate::{documents, expected, found, import, importing, outcomes};

fn boost() -> PathBuf {
    let data = std::env::var("INGLENOOK_TEST_DATA").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let site = data.join("docs/html_site_boost_regex");
    assert!(
        site.is_dir(),
        "the test data is missing: {}",
        site.display()
    );
    site
}

/// The pages below `/doc/` that links lead to, breadth first, found with nothing but their text. Some are not there.
fn breadth_first(root: &std::path::Path, is_allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut order = vec!["index.html".to_owned()];
    let mut queue = VecDeque::from(order.clone());
    while let Some(page) = queue.pop_front() {
        let Ok(html) = std::fs::read(root.join(&page)) else {
            continue;
        };
        let html = String::from_utf8_lossy(&html).into_owned();
        for anchor in html.split("<a ").skip(1) {
            let tag = anchor.split('>').next().unwrap();
            let Some((_, rest)) = tag.split_once("href=\"") else {
                continue;
            };
            let target = rest.split('"').next().unwrap().split('#').next().unwrap();
            if target.is_empty() || target.contains(':') {
                continue;
            }
            let mut parts = vec!["doc"];
            parts.extend(page.split('/'));
            parts.pop();
            for part in target.split('/') {
                match part {
                    // Above the root there is only the root.
                    ".." => drop(parts.pop()),
                    part => parts.push(part),
                }
            }
            if parts.first() != Some(&"doc") {
                continue;
            }
            let path = parts[1..].join("/");
            if is_allowed(&path) && !order.contains(&path) {
                order.push(path.clone());
                queue.push_back(path);
            }
        }
    }
    order
}

#[test]
fn a_site_is_read_breadth_first_every_page_once_and_again_only_where_it_has_changed() {
    let root = boost();
    let is_allowed = |path: &str| !path.starts_with("boost_regex/background/performance/");
    let order = breadth_first(&root, is_allowed);
    assert!(order.len() > 45, "{order:?}");
    let has_changed = Arc::new(AtomicBool::new(false));
    let site = Site::start({
        let (root, has_changed) = (root.clone(), Arc::clone(&has_changed));
        move |request| {
            if request.path == "/robots.txt" {
                let rules = "User-agent: *\nDisallow: /doc/boost_regex/background/performance/\n";
                return Reply::bytes("text/plain", rules);
            }
            let Some(path) = request.path.strip_prefix("/doc/") else {
                return Reply::html("<a href='/doc/index.html'>outside of the prefix</a>");
            };
            match std::fs::read(root.join(path)) {
                Ok(bytes)
                    if path == "boost_regex/intro.html" && has_changed.load(Ordering::SeqCst) =>
                {
                    let new = [bytes, b"<p>A new paragraph.</p>".to_vec()].concat();
                    Reply::bytes("text/html", new).tagged(request, "\"2\"")
                }
                Ok(bytes) => Reply::bytes("text/html", bytes).tagged(request, "\"1\""),
                Err(_) => Reply::status(404),
            }
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&site], "");
    let request =
        json!({ "site": site.url("/doc/index.html"), "attributes": { "project": "regex" } });
    let first = import(&server, request.clone());
    assert_eq!(first["status"], "completed", "{first}");
    assert_eq!(first["prefix"], site.url("/doc/"));
    let asked: Vec<String> = order.iter().map(|path| format!("/doc/{path}")).collect();
    assert_eq!(site.paths(), asked);
    let outcomes = outcomes(&first);
    let is_there = |path: &&String| root.join(path.trim_start_matches("/doc/")).is_file();
    let num_there = asked.iter().filter(is_there).count();
    assert!((45..asked.len()).contains(&num_there), "{num_there}");
    for path in &asked {
        let expected = if is_there(&path) {
            "imported"
        } else {
            "failed status"
        };
        assert_eq!(outcomes[path], expected, "{path}");
    }
    assert_eq!(outcomes["/index.html"], "skipped off_prefix");
    let refused = outcomes
        .iter()
        .filter(|(_, outcome)| *outcome == "skipped robots");
    let refused: Vec<&String> = refused.map(|(path, _)| path).collect();
    assert!(refused.len() >= 5, "{refused:?}");
    assert!(
        refused
            .iter()
            .all(|path| path.starts_with("/doc/boost_regex/background/performance/"))
    );
    let counts = &first["counts"];
    assert_eq!(counts["imported"], num_there);
    assert_eq!(counts["failed"], asked.len() - num_there);
    let page = first["pages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|page| page["url"] == site.url("/doc/index.html"));
    let file = page.unwrap()["file_id"].as_str().unwrap();
    assert_eq!(page.unwrap()["title"], "Boost.Regex 7.0.1");
    let original = server.get(&format!("/v1/files/{file}/content"));
    assert_eq!(
        original.body,
        std::fs::read(root.join("index.html")).unwrap()
    );
    let document = server
        .get(&format!(
            "/v1/vector_stores/{}/files/{file}",
            server.collection()
        ))
        .ok();
    assert_eq!(
        document["attributes"]["source_url"],
        site.url("/doc/index.html")
    );
    assert_eq!(document["attributes"]["title"], "Boost.Regex 7.0.1");
    assert_eq!(document["attributes"]["project"], "regex");

    has_changed.store(true, Ordering::SeqCst);
    site.forget_requests();
    let second = import(&server, request);
    assert_eq!(site.paths(), asked);
    let is_conditional = |path: &str| {
        let requests = site.requests();
        let request = requests
            .iter()
            .find(|request| request.path == path)
            .unwrap();
        request.headers.contains_key("if-none-match")
    };
    assert!(
        asked
            .iter()
            .filter(is_there)
            .all(|path| is_conditional(path))
    );
    assert_eq!(second["counts"]["imported"], 1, "{}", second["counts"]);
    assert_eq!(second["counts"]["unchanged"], num_there - 1);
}

#[test]
fn every_page_comes_once_whatever_it_is_called_and_what_is_no_document_is_left() {
    let site = Site::start(|request| match request.path.as_str() {
        "/robots.txt" => Reply::status(404),
        "/" => Reply::html(
            "<title>Start</title>Start page. <a href='/a#x'>a</a> <a href='/a?utm_source=y'>a</a> \
             <a href='/print?of=a'>print</a> <a href='/copy'>copy</a> <a href='/old'>old</a> <a href='/hidden'>h</a> \
             <a href='/quiet'>q</a> <a href='/pic.png'>p</a> <a href='/data'>d</a> <a href='/notes.txt'>n</a> \
             <a href='/never' rel='nofollow'>n</a> <a href='http://elsewhere.example/'>e</a>",
        ),
        "/a" => Reply::html("<p>Text of a.</p><a href='/'>back</a>"),
        "/print?of=a" => Reply::html("<link rel='canonical' href='/a'><p>Text of a, to print.</p>"),
        "/copy" => Reply::html("<p>Text of a.</p><a href='/'>back</a>"),
        "/old" => Reply::redirect("/a"),
        "/hidden" => Reply::html(
            "<meta name='robots' content='noindex'><p>Hidden.</p><a href='/behind'>b</a>",
        ),
        "/behind" => Reply::html("<p>Behind the hidden page.</p>"),
        "/quiet" => {
            Reply::html("<p>Quiet.</p><a href='/unheard'>u</a>").header("x-robots-tag", "nofollow")
        }
        "/data" => Reply::bytes("application/octet-stream", b"\x00\x01".to_vec()),
        "/notes.txt" => Reply::bytes("text/plain", "Plain notes."),
        _ => Reply::status(404),
    });
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&site], "");
    let import = import(&server, json!({ "site": site.url("/") }));
    assert_eq!(
        outcomes(&import),
        expected(&[
            ("/", "imported"),
            ("/a", "imported"),
            ("/print?of=a", "skipped duplicate"),
            ("/copy", "skipped duplicate"),
            ("/old", "skipped duplicate"),
            ("/hidden", "skipped noindex"),
            ("/behind", "imported"),
            ("/quiet", "imported"),
            ("/pic.png", "skipped type"),
            ("/data", "skipped type"),
            ("/notes.txt", "imported"),
        ])
    );
    assert!(!site.paths().iter().any(|path| path == "/pic.png"));
    let agents = site
        .requests()
        .into_iter()
        .map(|request| request.headers["user-agent"].clone());
    let expected = concat!("inglenook/", env!("CARGO_PKG_VERSION"));
    assert!(agents.into_iter().all(|agent| agent == expected));
}

#[test]
fn sitemaps_named_by_robots_or_by_hand_lead_to_pages_that_no_link_does() {
    let site = Site::start(|request| {
        let host = &request.headers["host"];
        match request.path.as_str() {
            "/robots.txt" => Reply::bytes(
                "text/plain",
                format!("User-agent: *\nDisallow: /docs/no\nSitemap: http://{host}/index.xml\n"),
            ),
            "/index.xml" => Reply::bytes(
                "application/xml",
                format!(
                    "<sitemapindex><sitemap><loc>http://{host}/pages.xml.gz</loc></sitemap></sitemapindex>"
                ),
            ),
            "/pages.xml.gz" => {
                let urls = ["/docs/b", "/docs/no", "/other/c"]
                    .map(|path| format!("<url><loc>http://{host}{path}</loc></url>"));
                let xml = format!("<urlset>{}</urlset>", urls.concat());
                let mut packed =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packed.write_all(xml.as_bytes()).unwrap();
                Reply::bytes("application/gzip", packed.finish().unwrap())
            }
            "/list.txt" => Reply::bytes("text/plain", format!("http://{host}/docs/d\n")),
            "/docs/" => Reply::html("<p>Start.</p><a href='a'>a</a>"),
            path => Reply::html(format!("<p>Page {path}.</p>")),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&site], "");
    let found = import(&server, json!({ "site": site.url("/docs/") }));
    assert_eq!(
        outcomes(&found),
        expected(&[
            ("/docs/", "imported"),
            ("/docs/a", "imported"),
            ("/docs/b", "imported"),
            ("/docs/no", "skipped robots"),
        ])
    );
    let given = import(
        &server,
        json!({ "site": site.url("/docs/"), "sitemap": site.url("/list.txt") }),
    );
    assert_eq!(outcomes(&given)["/docs/d"], "imported");
    let missing = import(
        &server,
        json!({ "site": site.url("/docs/"), "sitemap": "http://10.0.0.1/s.xml" }),
    );
    assert_eq!(missing["status"], "failed");
    assert!(
        missing["error"].as_str().unwrap().contains("10.0.0.1"),
        "{missing}"
    );
}

#[test]
fn a_changed_page_replaces_its_document_and_one_that_is_gone_stays_until_it_is_to_be_removed() {
    let is_new = Arc::new(AtomicBool::new(false));
    let site = Site::start({
        let is_new = Arc::clone(&is_new);
        move |request| match (request.path.as_str(), is_new.load(Ordering::SeqCst)) {
            ("/", false) => Reply::html("<p>Start.</p><a href='/tide'>t</a><a href='/lamp'>l</a>"),
            ("/", true) => Reply::html("<p>Start.</p><a href='/tide'>t</a>"),
            ("/tide", false) => Reply::html("<p>The tide turns at seven.</p>"),
            ("/tide", true) => Reply::html("<p>The tide turns at nine.</p>"),
            ("/lamp", false) => Reply::html("<p>The lamp is lit by Maren.</p>"),
            _ => Reply::status(404),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&site], "");
    let request = json!({ "site": site.url("/") });
    import(&server, request.clone());
    assert_eq!(documents(&server, "source_url").len(), 3);
    assert_eq!(found(&server, "tide turns"), ["The tide turns at seven."]);

    is_new.store(true, Ordering::SeqCst);
    let second = import(&server, request);
    assert_eq!(
        outcomes(&second),
        expected(&[
            ("/", "imported"),
            ("/tide", "imported"),
            ("/lamp", "gone status")
        ])
    );
    let now = documents(&server, "source_url");
    assert_eq!(now.len(), 3, "{now:?}");
    assert_eq!(found(&server, "tide turns"), ["The tide turns at nine."]);
    assert_eq!(found(&server, "lamp lit"), ["The lamp is lit by Maren."]);
    let files = server.get("/v1/files?limit=100").ok();
    assert_eq!(files["data"].as_array().unwrap().len(), 3, "{files}");

    let third = import(
        &server,
        json!({ "site": site.url("/"), "remove_missing": true }),
    );
    assert_eq!(outcomes(&third)["/lamp"], "removed status");
    assert_eq!(third["counts"]["unchanged"], 2);
    assert!(found(&server, "lamp lit").is_empty());
    assert_eq!(documents(&server, "source_url").len(), 2);
}

#[test]
fn a_page_is_read_in_the_encoding_that_its_server_names() {
    let cyrillic = |label: &str, text: &str| {
        let page = format!("<meta charset={label}><title>т</title><p>{text}</p>");
        encoding_rs::WINDOWS_1251.encode(&page).0.into_owned()
    };
    let wrong = cyrillic("iso-8859-1", "Паромная переправа закрыта.");
    let other = cyrillic("koi8-r", "Маяк построен из гранита.");
    let short = encoding_rs::ISO_8859_2.encode("Łódź: półka").0.into_owned();
    let site = Site::start(move |request| match request.path.as_str() {
        "/" => {
            Reply::html("<p>Start.</p><a href='/a'>a</a><a href='/b'>b</a><a href='/c.txt'>c</a>")
        }
        "/a" => Reply::bytes("text/html; charset=windows-1251", wrong.clone()),
        "/b" => Reply::bytes("text/html;Charset=\"Windows-1251\"", other.clone()),
        "/c.txt" => Reply::bytes("text/plain; charset=ISO-8859-2", short.clone()),
        _ => Reply::status(404),
    });
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&site], "");
    import(&server, json!({ "site": site.url("/") }));
    documents(&server, "source_url");
    for (word, text) in [
        ("переправа", "Паромная переправа закрыта."),
        ("гранита", "Маяк построен из гранита."),
        ("półka", "Łódź: półka"),
    ] {
        let texts = found(&server, word);
        assert!(
            texts.iter().any(|it| it.contains(text)),
            "{word}: {texts:?}"
        );
    }
}
