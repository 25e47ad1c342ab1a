//! A bar for each document that is worked on, pages first and then passages, and one for all together. Where nobody looks
//! at a terminal, there are none.

use std::collections::HashMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::store::{Document, Stage};

pub struct Bars {
    all: MultiProgress,
    documents: HashMap<i64, ProgressBar>,
    total: ProgressBar,
    style: ProgressStyle,
}

impl Bars {
    pub fn new() -> anyhow::Result<Self> {
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::new(0));
        total.set_style(ProgressStyle::with_template("{pos} of {len} documents")?);
        Ok(Self {
            all,
            documents: HashMap::new(),
            total,
            style: ProgressStyle::with_template("{prefix:30!} [{bar:30}] {pos}/{len} {msg}")?,
        })
    }

    pub fn set_total(&self, num_documents: usize) {
        self.total.set_length(num_documents as u64);
    }

    /// Shows how far a document is.
    pub fn show(&mut self, name: &str, document: &Document) {
        let (done, total, what) = match document.stage {
            Some(Stage::Reading) => {
                let progress = document.progress;
                (progress.pages_read, progress.pages_total, "pages")
            }
            Some(Stage::Embedding) => {
                let progress = document.progress;
                (progress.chunks_done, progress.chunks_total, "passages")
            }
            Some(Stage::Queued) | None => return,
        };
        if total == 0 {
            return;
        }
        let bar = self.documents.entry(document.id).or_insert_with(|| {
            // All of it before the first drawing: one of 0 in 0 looks full.
            let bar = ProgressBar::new(total.into())
                .with_style(self.style.clone())
                .with_prefix(name.to_owned())
                .with_position(done.into());
            self.all.insert_before(&self.total, bar)
        });
        bar.set_length(total.into());
        bar.set_position(done.into());
        bar.set_message(match document.progress.seconds_left {
            Some(seconds) => format!("{what}, {} left", time(seconds)),
            None => what.to_owned(),
        });
    }

    /// Takes a document's bar away.
    pub fn end(&mut self, document_id: i64) {
        if let Some(bar) = self.documents.remove(&document_id) {
            bar.finish_and_clear();
        }
        self.total.inc(1);
    }

    /// Prints without disturbing the bars.
    pub fn say(&self, print: impl FnOnce()) {
        self.all.suspend(print);
    }

    pub fn clear(&self) {
        // A terminal that has gone needs no clearing.
        let _ = self.all.clear();
    }
}

fn time(seconds: u32) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_own_size() {
        let told: Vec<String> = [5, 61, 3700].map(time).into();
        assert_eq!(told, ["5 s", "2 min", "1 h 1 min"]);
    }
}
