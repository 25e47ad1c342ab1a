//! What is said at start: what is served, where it runs, and which models only show what the program does.

use std::io::Write;
use std::net::SocketAddr;

use super::App;
use super::load::{full_path, gib};
use crate::http;
use crate::hub::{ChosenModel, ModelKind};
use crate::rag::models::ModelStatus;

impl App {
    /// Says what is served, where it runs, what it takes, and which address to open.
    pub fn print_banner(&self, out: &mut impl Write, address: SocketAddr) -> std::io::Result<()> {
        writeln!(out, "Inglenook {}", env!("CARGO_PKG_VERSION"))?;
        for model in self.workspace.models.loaded() {
            let (kind, details) = (model.kind.name(), details(&model));
            writeln!(out, "  {kind} model: {} ({details})", model.id)?;
            let source = self.sources.iter().find(|(name, _)| *name == model.id);
            if let Some((_, source)) = source {
                writeln!(out, "    {source}")?;
            }
        }
        writeln!(out, "  device: {}", self.device.description())?;
        if let Some(memory) = crate::device::machine_memory() {
            let (available, total) = (gib(memory.available_bytes), gib(memory.total_bytes));
            writeln!(out, "  memory: {available} of {total} free")?;
        }
        writeln!(out, "  data: {}", self.settings.data_dir.display())?;
        if !http::ui::is_built() {
            writeln!(
                out,
                "  note: the browser app is missing, because this was built without Node"
            )?;
        }
        for notice in self.notices.iter().chain(&self.stale_notices) {
            writeln!(out, "  note: {notice}")?;
        }
        writeln!(out, "Open http://{address}")
    }
}

/// What to say of models that only show what the program does.
pub(super) fn demonstration_notice(models: &[(ModelKind, String)]) -> Option<String> {
    let names: Vec<&str> = models.iter().map(|(_, name)| name.as_str()).collect();
    let pulls = models.iter().map(|(kind, _)| match kind {
        ModelKind::Embedding => "inglenook models pull bge-small-en-v1.5 (finds passages)",
        ModelKind::Chat => "inglenook models pull qwen3-1.7b (writes answers)",
        ModelKind::Rerank => "inglenook models pull bge-reranker-base (orders passages)",
    });
    let pulls = pulls.collect::<Vec<_>>().join(" and: ");
    let names = names.join(" and ");
    match models.len() {
        0 => None,
        1 => Some(format!(
            "{names} is a small demonstration model; replace it with: {pulls}, then restart"
        )),
        _ => Some(format!(
            "{names} are small demonstration models; replace them with: {pulls}, then restart"
        )),
    }
}

pub(super) fn source(model: &ChosenModel) -> String {
    match model {
        ChosenModel::Found(found) => format!("from {}", full_path(&found.path)),
        ChosenModel::Bundled(_) => "comes with the program".into(),
    }
}

/// What the banner says of a loaded model.
fn details(model: &ModelStatus) -> String {
    let weights = gib(model.weights_bytes);
    let context = model.context_length;
    match model.cache_tokens {
        Some(tokens) => {
            let cache = gib(model.cache_bytes);
            format!("{weights} weights, {cache} cache for {tokens} tokens, context {context}")
        }
        None => format!("{weights} weights, reads {context} tokens"),
    }
}
