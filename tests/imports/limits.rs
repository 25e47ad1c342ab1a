//! What is refused, and what ends: private addresses, loops, bombs, slow and failing servers, endless sites.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::server::{Reply, Site};
use crate::{expected, import, importing, outcomes, serving};

#[test]
fn nothing_is_fetched_unless_the_owner_allows_it() {
    let site = Site::with_pages(&[("/", "<p>Hello.</p>")]);
    let dir = tempfile::tempdir().unwrap();
    let server = serving(dir.path(), "");
    let error = server
        .post("/api/imports", json!({ "url": site.url("/") }))
        .error(403);
    assert!(
        error["message"].as_str().unwrap().contains("web_import"),
        "{error}"
    );
    assert!(site.requests().is_empty());
}

#[test]
fn addresses_that_are_not_the_webs_are_refused_before_anything_is_sent() {
    let public = Site::start(|_| Reply::status(404));
    let private = Site::with_pages(&[("/", "<p>Secret.</p>")]);
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&public], "");
    for (url, message) in [
        ("ftp://example.org/", "only http and https"),
        ("http://me:secret@example.org/", "user name or password"),
        ("http://example.org:22/", "web_import_hosts"),
        ("http://127.0.0.1/", "private address 127.0.0.1"),
        ("http://2130706433/", "private address 127.0.0.1"),
        ("http://[::ffff:10.0.0.1]/", "private address"),
        (
            "http://169.254.169.254/latest/meta-data/",
            "private address",
        ),
        ("not a url", "cannot be fetched"),
        (&private.url("/"), &format!("add {} to", private.host())),
    ] {
        let error = server
            .post("/api/imports", json!({ "url": url }))
            .error(400);
        assert_eq!(error["param"], "url");
        assert!(
            error["message"].as_str().unwrap().contains(message),
            "{url}: {error}"
        );
    }
    for request in [
        json!({}),
        json!({ "url": public.url("/"), "arxiv": "1706.03762" }),
        json!({ "url": public.url("/"), "prefix": public.url("/") }),
        json!({ "site": public.url("/a/"), "prefix": public.url("/b/") }),
        json!({ "site": public.url("/"), "max_pages": 0 }),
        json!({ "url": public.url("/"), "vector_store_id": "vs_none" }),
    ] {
        let status = server.post("/api/imports", request.clone()).status;
        assert!(matches!(status, 400 | 404), "{request}: {status}");
    }
    assert!(private.requests().is_empty() && public.requests().is_empty());
}

#[test]
fn a_redirect_or_a_name_that_leads_to_a_private_address_is_refused() {
    let private = Site::with_pages(&[("/", "<p>Secret.</p>")]);
    let by_number = private.url("/");
    let by_name = format!("http://localhost:{}/", private.port());
    let public = Site::start(move |request| match request.path.as_str() {
        "/number" => Reply::redirect(by_number.as_str()),
        "/name" => Reply::redirect(by_name.as_str()),
        "/file" => Reply::redirect("file:///etc/passwd"),
        "/loop" => Reply::redirect("/loop"),
        _ => Reply::status(404),
    });
    let dir = tempfile::tempdir().unwrap();
    // The name is allowed at another port only, so it is looked up, and found to be private.
    let server = importing(dir.path(), &[&public], "");
    for (path, reason, message) in [
        ("/number", "private_address", private.host().as_str()),
        ("/name", "port", "localhost"),
        ("/file", "url", "only http and https"),
        ("/loop", "redirects", "more than 5 redirects"),
    ] {
        let import = import(&server, json!({ "url": public.url(path) }));
        assert_eq!(import["status"], "failed", "{import}");
        assert_eq!(import["pages"][0]["reason"], reason, "{import}");
        let shown = import["pages"][0]["message"].as_str().unwrap();
        assert!(shown.contains(message), "{shown}");
        assert!(
            import["error"].as_str().unwrap().contains(message),
            "{import}"
        );
    }
    assert!(private.requests().is_empty());
    let loops = public
        .paths()
        .iter()
        .filter(|path| *path == "/loop")
        .count();
    assert_eq!(loops, 6);
}

#[test]
fn what_does_not_come_in_time_or_is_too_large_has_failed() {
    let site = Site::start(|request| match request.path.as_str() {
        "/hangs" => Reply {
            hangs: true,
            ..Reply::html("<p>Beginning")
        },
        "/bomb" => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let zeros = vec![b' '; 1 << 20];
            (0..64).for_each(|_| packed.write_all(&zeros).unwrap());
            Reply::bytes("text/html", packed.finish().unwrap()).header("content-encoding", "gzip")
        }
        _ => Reply::bytes("text/html", vec![b' '; (1 << 20) + 1]),
    });
    let dir = tempfile::tempdir().unwrap();
    let settings = "web_import_timeout = 1\nmax_upload_mb = 1";
    let server = importing(dir.path(), &[&site], settings);
    for (path, reason, num_requests) in [
        ("/hangs", "timeout", 3),
        ("/bomb", "too_large", 1),
        ("/large", "too_large", 1),
    ] {
        site.forget_requests();
        let import = import(&server, json!({ "url": site.url(path) }));
        assert_eq!(
            outcomes(&import)[path],
            format!("failed {reason}"),
            "{import}"
        );
        assert_eq!(site.requests().len(), num_requests, "{path}");
    }
}

#[test]
fn failures_that_may_pass_are_tried_again_and_others_are_not() {
    let (num_busy, num_broken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let site = Site::start(move |request| match request.path.as_str() {
        "/robots.txt" => Reply::status(404),
        "/" => Reply::html(
            "<a href='/busy'>b</a><a href='/broken'>b</a><a href='/missing'>m</a><a href='/down'>d</a> Start.",
        ),
        "/busy" if num_busy.fetch_add(1, Ordering::SeqCst) == 0 => {
            Reply::status(429).header("retry-after", "1")
        }
        "/broken" if num_broken.fetch_add(1, Ordering::SeqCst) < 2 => Reply::status(500),
        "/busy" | "/broken" => Reply::html(format!("<p>Here is {}.</p>", request.path)),
        "/down" => Reply::status(503).header("retry-after", "86400"),
        _ => Reply::status(404),
    });
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&site], "");
    let import = import(&server, json!({ "site": site.url("/") }));
    assert_eq!(
        outcomes(&import),
        expected(&[
            ("/", "imported"),
            ("/busy", "imported"),
            ("/broken", "imported"),
            ("/missing", "failed status"),
            ("/down", "failed status"),
        ])
    );
    assert_eq!(import["status"], "completed");
    let count = |path: &str| site.paths().iter().filter(|it| *it == path).count();
    assert_eq!(
        (
            count("/busy"),
            count("/broken"),
            count("/missing"),
            count("/down")
        ),
        (2, 3, 1, 1)
    );
}

#[test]
fn an_endless_site_ends_at_the_limits() {
    let site = Site::start(|request| {
        let month = request
            .path
            .rsplit('=')
            .next()
            .unwrap()
            .parse::<u32>()
            .unwrap_or(0);
        match request.path.as_str() {
            "/robots.txt" => Reply::status(404),
            _ => Reply::html(format!(
                "<p>Month {month}.</p><a href='/calendar?month={}'>next</a>",
                month + 1
            )),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&site], "");
    let import_it = |limits: serde_json::Value| {
        let mut request = json!({ "site": site.url("/calendar?month=0") });
        request
            .as_object_mut()
            .unwrap()
            .extend(limits.as_object().unwrap().clone());
        site.forget_requests();
        import(&server, request)
    };
    let by_pages = import_it(json!({ "max_pages": 12, "max_depth": 100 }));
    assert_eq!(by_pages["status"], "completed");
    assert_eq!(site.paths().len(), 12);
    assert_eq!(outcomes(&by_pages)["/calendar?month=12"], "skipped limit");
    let by_depth = import_it(json!({ "max_depth": 3 }));
    assert_eq!(outcomes(&by_depth)["/calendar?month=4"], "skipped limit");
    assert_eq!(outcomes(&by_depth)["/calendar?month=3"], "unchanged");
}

#[test]
fn a_site_whose_rules_cannot_be_read_is_left_alone() {
    let site = Site::start(|request| match request.path.as_str() {
        "/robots.txt" => Reply::status(503),
        _ => Reply::html("<p>Hello.</p>"),
    });
    let dir = tempfile::tempdir().unwrap();
    let server = importing(dir.path(), &[&site], "");
    let import = import(&server, json!({ "site": site.url("/") }));
    assert_eq!(import["status"], "failed");
    assert!(
        import["error"].as_str().unwrap().contains("robots.txt"),
        "{import}"
    );
    assert!(site.paths().is_empty());
}
