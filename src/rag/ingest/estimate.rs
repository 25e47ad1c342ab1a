//! How long documents still take, by what was measured so far. Pure: the time is told.

use std::time::{Duration, Instant};

/// Before that long, what was measured says little.
const LEAST: Duration = Duration::from_millis(300);
/// Time over which the pace of embedding is a mean: what lies further back counts less and less.
const MEMORY: Duration = Duration::from_secs(30);

/// How far a document is, and since when what is being done is done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Advance {
    /// Since its pages are read.
    pub reading_since: Option<Instant>,
    pub pages_read: u32,
    pub pages_total: u32,
    /// Of text, in the pages that were read.
    pub bytes_read: usize,
    /// Since its chunks are embedded, and how many had been by an earlier process.
    pub embedding_since: Option<(Instant, u32)>,
    pub chunks_done: u32,
    /// 0 until the text is cut.
    pub chunks_total: u32,
    /// Of text, by this process.
    pub bytes_embedded: usize,
}

impl Advance {
    /// `None` while nothing was measured that could tell.
    pub fn seconds_left(&self, throughput: &Throughput, now: Instant) -> Option<u32> {
        let seconds = match self.embedding_since {
            Some((since, before)) => {
                let done = self.chunks_done.saturating_sub(before);
                let left = self.chunks_total.saturating_sub(self.chunks_done);
                f64::from(left) * seconds_each(since, done, now)?
            }
            None => {
                let (read, total) = (self.pages_read, self.pages_total);
                let left = total.saturating_sub(read);
                let reading = f64::from(left) * seconds_each(self.reading_since?, read, now)?;
                let num_bytes = self.bytes_read as f64 * f64::from(total) / f64::from(read);
                reading + num_bytes / throughput.bytes_per_second()?
            }
        };
        Some(seconds.ceil().min(f64::from(u32::MAX)) as u32)
    }
}

/// Seconds for each of `done` pieces.
fn seconds_each(since: Instant, done: u32, now: Instant) -> Option<f64> {
    let elapsed = now.saturating_duration_since(since);
    (done > 0 && elapsed >= LEAST).then(|| elapsed.as_secs_f64() / f64::from(done))
}

/// How much text is embedded in a second, all documents together.
#[derive(Debug, Clone, Default)]
pub struct Throughput {
    num_bytes: f64,
    seconds: f64,
    /// Until when it was measured; `None` while nothing is embedded.
    since: Option<Instant>,
}

impl Throughput {
    /// So much was embedded since the last call; the first one after a pause only begins.
    pub fn add(&mut self, num_bytes: usize, now: Instant) {
        let Some(since) = self.since.replace(now) else {
            return;
        };
        let elapsed = now.saturating_duration_since(since).as_secs_f64();
        let kept = (-elapsed / MEMORY.as_secs_f64()).exp();
        self.seconds = self.seconds * kept + elapsed;
        self.num_bytes = self.num_bytes * kept + num_bytes as f64;
    }

    /// Nothing is embedded any more.
    pub fn pause(&mut self) {
        self.since = None;
    }

    fn bytes_per_second(&self) -> Option<f64> {
        (self.seconds >= LEAST.as_secs_f64() && self.num_bytes > 0.0)
            .then(|| self.num_bytes / self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(since: Instant, pages_read: u32, bytes_read: usize) -> Advance {
        Advance {
            reading_since: Some(since),
            pages_read,
            pages_total: 100,
            bytes_read,
            ..Advance::default()
        }
    }

    /// 50 of 200 are from an earlier process, and say nothing about this one.
    fn embedding(since: Instant, chunks_done: u32) -> Advance {
        Advance {
            embedding_since: Some((since, 50)),
            chunks_done,
            chunks_total: 200,
            ..Advance::default()
        }
    }

    fn measured(bytes_per_second: usize, start: Instant) -> Throughput {
        let mut throughput = Throughput::default();
        for second in 0..=100 {
            throughput.add(bytes_per_second, start + Duration::from_secs(second));
        }
        throughput
    }

    #[test]
    fn a_document_that_is_read_waits_for_its_pages_and_its_passages() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let known = measured(1000, start);
        // 90 pages at half a second, then ten times the 4,000 bytes so far at 1,000 a second.
        let left = |at: Advance, throughput: &Throughput| at.seconds_left(throughput, later);
        assert_eq!(left(reading(start, 10, 4000), &known), Some(85));
        assert_eq!(left(reading(start, 0, 0), &known), None);
        let unknown = Throughput::default();
        assert_eq!(left(reading(start, 10, 4000), &unknown), None);
    }

    #[test]
    fn a_document_that_is_embedded_goes_on_at_its_own_pace() {
        let start = Instant::now();
        let left = |chunks_done: u32, seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            embedding(start, chunks_done).seconds_left(&Throughput::default(), now)
        };
        assert_eq!(left(50, 10), None);
        assert_eq!(left(100, 10), Some(20));
        assert_eq!(left(200, 10), Some(0));
        assert_eq!(left(60, 0), None, "no time has passed");
    }

    #[test]
    fn the_pace_of_embedding_follows_what_happens_and_not_what_does_not() {
        let start = Instant::now();
        let mut throughput = measured(1000, start);
        throughput.pause();
        // An hour without documents.
        let later = start + Duration::from_secs(3600);
        throughput.add(0, later);
        throughput.add(1000, later + Duration::from_secs(1));
        let rate = throughput.bytes_per_second().expect("measured");
        assert!((rate - 1000.0).abs() < 1.0, "{rate}");
        for second in 2..=121 {
            throughput.add(100, later + Duration::from_secs(second));
        }
        let rate = throughput.bytes_per_second().expect("measured");
        assert!((100.0..130.0).contains(&rate), "{rate}");
    }
}
