//! A paper of arXiv: what is known of it, and its PDF.

use super::arxiv::{ArxivId, read_paper};
use super::ask::Answer;
use super::outcome::{failed, result_of};
use super::plan::Plan;
use super::visit::{Visitor, put_text, version_of};
use crate::fetch::{Fetched, Request, Url, Validators};
use crate::store::{
    self, Import, NewFile, NewSource, Origin, PageDocument, PageOutcome, PageResult, StoreError,
};

const MAX_API_BYTES: u64 = 4 << 20;
/// As arXiv asks of programs.
const ARXIV_DELAY: std::time::Duration = std::time::Duration::from_secs(3);

impl Visitor {
    /// A paper: what arXiv says of it, then its PDF.
    pub(super) async fn visit_paper(
        &self,
        import: &Import,
        plan: &Plan,
        pdf: &Url,
        id: &str,
    ) -> Result<PageResult, StoreError> {
        let Ok(id) = ArxivId::parse(id) else {
            return Ok(failed("url", "its id cannot be read"));
        };
        let mut api = self.options.arxiv_endpoint.clone();
        let path = format!("{}/api/query", api.path().trim_end_matches('/'));
        api.set_path(&path);
        api.set_query(Some(&format!("id_list={}&max_results=1", id.as_str())));
        let request = Request {
            validators: Validators::default(),
            max_bytes: MAX_API_BYTES,
            url: api.clone(),
        };
        let delay = match self.options.fetcher.is_allowed_host(&api) {
            true => self.options.delay,
            false => self.options.delay.max(ARXIV_DELAY),
        };
        let paper = match self.fetch(request, delay, |_| Ok(())).await {
            Ok(Fetched::Content(content)) => read_paper(&String::from_utf8_lossy(&content.bytes)),
            Ok(Fetched::NotModified) => Err("arXiv sent nothing".into()),
            Err(error) => return Ok(result_of(error)),
        };
        let paper = match paper {
            Ok(paper) => paper,
            Err(message) => return Ok(failed("arxiv", &message)),
        };
        let source = self
            .store
            .source(&import.vector_store_id, &Origin::Web, pdf.as_str())
            .await?;
        let content = match self.ask(plan, pdf, source.as_ref()).await {
            Answer::Content(content) => content,
            Answer::None(result) => return Ok(result),
            Answer::NotModified => {
                let Some(source) = source else {
                    return Ok(failed(
                        "status",
                        "arXiv says that it has not changed, but it was never here",
                    ));
                };
                return Ok(PageResult {
                    outcome: PageOutcome::Unchanged,
                    reason: None,
                    message: None,
                    title: Some(paper.title),
                    document: PageDocument::Same {
                        address: source.address.clone(),
                        version: source.version,
                    },
                    address: Some(source.address),
                    links: Vec::new(),
                    is_fetched: true,
                    num_bytes: 0,
                });
            }
        };
        let num_bytes = content.bytes.len() as u64;
        if !content.bytes.starts_with(b"%PDF") {
            let message = format!(
                "arXiv sent {:?} where the PDF should be",
                content.media_type
            );
            return Ok(PageResult {
                is_fetched: true,
                ..failed("arxiv", &message)
            });
        }
        let mut attributes = plan.request.attributes.clone();
        for (name, value) in [
            ("source_url", paper.url.as_str()),
            ("arxiv_id", id.as_str()),
            ("title", &paper.title),
            ("authors", &paper.authors.join(", ")),
            ("abstract", &paper.abstract_text),
            ("categories", &paper.categories.join(" ")),
            ("published", &paper.published),
            ("updated", &paper.updated),
        ] {
            put_text(&mut attributes, name, value);
        }
        let new = NewSource {
            origin: Origin::Web,
            address: pdf.to_string(),
            version: version_of(&content.validators),
            file: NewFile {
                filename: id.file_name(),
                purpose: "assistants".into(),
                media_type: "application/pdf".into(),
                expires_after_seconds: None,
            },
            content: store::Content::Bytes(content.bytes),
            attributes,
            chunking: self.options.chunking,
            password: None,
        };
        Ok(PageResult {
            outcome: PageOutcome::Imported,
            reason: None,
            message: None,
            address: Some(pdf.to_string()),
            title: Some(paper.title),
            document: PageDocument::Keep(Box::new(new)),
            links: Vec::new(),
            is_fetched: true,
            num_bytes,
        })
    }
}
