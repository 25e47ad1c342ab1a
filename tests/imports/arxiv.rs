//! Papers of arXiv, from a server that answers as arXiv's does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::server::{Reply, Site};
use crate::{documents, import, importing};

const ENTRY: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <title type="html">ArXiv Query: search_query=&amp;id_list=hep-th/9901001v2</title>
  <id>http://arxiv.org/api/x</id>
  <entry>
    <id>http://arxiv.org/abs/hep-th/9901001v2</id>
    <updated>1999-02-03T10:00:00Z</updated>
    <published>1999-01-01T18:00:00Z</published>
    <title>Lighthouses &amp;
      their keepers</title>
    <summary>  We count lamps.
    </summary>
    <author><name>Maren Holt</name></author>
    <author><name>Jo K&#246;nig</name><arxiv:affiliation xmlns:arxiv="a">Pier 1</arxiv:affiliation></author>
    <category term="hep-th" scheme="http://arxiv.org/schemas/atom"/>
    <category term="math.GT" scheme="http://arxiv.org/schemas/atom"/>
  </entry>
</feed>"#;

/// A PDF of one page that says `text`.
fn pdf(text: &str) -> Vec<u8> {
    let stream = format!("BT /F1 24 Tf 72 700 Td ({text}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R \
         /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!(
            "<< /Length {} >>\nstream\n{stream}\nendstream",
            stream.len()
        ),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
            .to_owned(),
    ];
    let mut out = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    for (at, object) in objects.iter().enumerate() {
        offsets.push(out.len());
        out.extend(format!("{} 0 obj\n{object}\nendobj\n", at + 1).into_bytes());
    }
    let start = out.len();
    out.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).into_bytes());
    for offset in offsets {
        out.extend(format!("{offset:010} 00000 n \n").into_bytes());
    }
    let trailer = format!(
        "trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n",
        objects.len() + 1
    );
    out.extend(trailer.into_bytes());
    out
}

#[test]
fn a_paper_comes_with_what_arxiv_knows_of_it() {
    let is_missing = Arc::new(AtomicBool::new(false));
    let arxiv = Site::start({
        let is_missing = Arc::clone(&is_missing);
        move |request| match request.path.as_str() {
            "/api/query?id_list=hep-th/9901001v2&max_results=1" => {
                Reply::bytes("application/atom+xml", ENTRY)
            }
            "/api/query?id_list=1706.99999&max_results=1" => {
                Reply::bytes("application/atom+xml", "<feed></feed>")
            }
            "/pdf/hep-th/9901001v2" if is_missing.load(Ordering::SeqCst) => {
                Reply::html("<p>No PDF.</p>")
            }
            "/pdf/hep-th/9901001v2" => {
                Reply::bytes("application/pdf", pdf("Every lighthouse has one keeper."))
                    .tagged(request, "\"p\"")
            }
            _ => Reply::status(404),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let settings = format!("arxiv_endpoint = {:?}", arxiv.url(""));
    let server = importing(dir.path(), &[&arxiv], &settings);
    let done = import(
        &server,
        json!({ "arxiv": "https://arxiv.org/abs/hep-th/9901001v2" }),
    );
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(
        (&done["kind"], &done["source"]),
        (&json!("arxiv"), &json!("arXiv:hep-th/9901001v2"))
    );
    assert_eq!(done["pages"][0]["title"], "Lighthouses & their keepers");
    let documents = documents(&server, "arxiv_id");
    let document = &documents["hep-th/9901001v2"];
    assert_eq!(document["status"], "completed", "{document}");
    for (name, value) in [
        ("source_url", "http://arxiv.org/abs/hep-th/9901001v2"),
        ("title", "Lighthouses & their keepers"),
        ("authors", "Maren Holt, Jo König"),
        ("abstract", "We count lamps."),
        ("categories", "hep-th math.GT"),
        ("published", "1999-01-01"),
        ("updated", "1999-02-03"),
    ] {
        assert_eq!(document["attributes"][name], value, "{name}");
    }
    let file = server
        .get(&format!("/v1/files/{}", document["id"].as_str().unwrap()))
        .ok();
    assert_eq!(file["filename"], "arXiv_hep-th_9901001v2.pdf");
    assert_eq!(
        crate::found(&server, "lighthouse keeper"),
        ["Every lighthouse has one keeper."]
    );

    let again = import(&server, json!({ "arxiv": "hep-th/9901001v2" }));
    assert_eq!(again["counts"]["unchanged"], 1, "{again}");
    is_missing.store(true, Ordering::SeqCst);
    let html = import(&server, json!({ "arxiv": "hep-th/9901001v2" }));
    assert!(
        html["error"]
            .as_str()
            .unwrap()
            .contains("where the PDF should be"),
        "{html}"
    );
    let unknown = import(&server, json!({ "arxiv": "arXiv:1706.99999" }));
    assert!(
        unknown["error"].as_str().unwrap().contains("no paper"),
        "{unknown}"
    );
    let error = server
        .post("/api/imports", json!({ "arxiv": "1706.x" }))
        .error(400);
    assert_eq!(error["param"], "arxiv");
    assert!(
        error["message"].as_str().unwrap().contains("1706.03762v7"),
        "{error}"
    );
}
