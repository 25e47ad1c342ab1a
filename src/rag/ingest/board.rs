//! Where it is seen how far all running jobs are. The board makes the estimates and keeps all of it in the store, twice a
//! second and in one write: a write for each page would cost more than many pages.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::estimate::{Advance, Throughput};
use crate::store::{Job, Progress, Store};

/// How often progress is kept.
const PERIOD: Duration = Duration::from_millis(500);
/// Jobs that begin between two looks; a further one waits to begin.
const CAPACITY: usize = 64;

/// Where a job tells how far it is; it leaves the board when this is dropped.
pub type Place = watch::Sender<Advance>;

/// Gives out places.
#[derive(Clone)]
pub struct Places(mpsc::Sender<Ongoing>);

impl Places {
    pub async fn take(&self, job: &Job) -> Place {
        let (place, advance) = watch::channel(Advance::default());
        let ongoing = Ongoing {
            job: job.clone(),
            advance,
            num_counted: 0,
        };
        // A board that has gone does not matter to the job.
        let _ = self.0.send(ongoing).await;
        place
    }
}

struct Ongoing {
    job: Job,
    advance: watch::Receiver<Advance>,
    /// Bytes that the throughput knows of.
    num_counted: usize,
}

/// Starts a board, which ends when nobody can take a place any more.
pub fn start(store: Store) -> Places {
    let (sender, taken) = mpsc::channel(CAPACITY);
    let board = Board {
        store,
        ongoing: Vec::new(),
        throughput: Throughput::default(),
    };
    tokio::spawn(board.run(taken));
    Places(sender)
}

struct Board {
    store: Store,
    ongoing: Vec<Ongoing>,
    throughput: Throughput,
}

impl Board {
    async fn run(mut self, mut taken: mpsc::Receiver<Ongoing>) {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ongoing = taken.recv() => match ongoing {
                    Some(ongoing) => self.ongoing.push(ongoing),
                    None => return,
                },
                _ = tick.tick() => self.look(Instant::now()).await,
            }
        }
    }

    async fn look(&mut self, now: Instant) {
        self.measure(now);
        let mut notes = Vec::new();
        self.ongoing
            .retain_mut(|it| match it.advance.has_changed() {
                // How it ended, the job itself has stored.
                Err(_) => false,
                Ok(has_changed) => {
                    if has_changed {
                        let advance = it.advance.borrow_and_update();
                        notes.push((it.job.clone(), progress(&advance, &self.throughput, now)));
                    }
                    true
                }
            });
        if notes.is_empty() {
            return;
        }
        if let Err(error) = self.store.note_progress(notes).await {
            tracing::warn!(%error, "the progress of ingestion cannot be kept");
        }
    }

    fn measure(&mut self, now: Instant) {
        let mut num_bytes = 0;
        let mut is_embedding = false;
        for ongoing in &mut self.ongoing {
            let advance = ongoing.advance.borrow();
            num_bytes += advance.bytes_embedded - ongoing.num_counted;
            is_embedding |= advance.chunks_done < advance.chunks_total;
            ongoing.num_counted = advance.bytes_embedded;
        }
        match is_embedding || num_bytes > 0 {
            true => self.throughput.add(num_bytes, now),
            false => self.throughput.pause(),
        }
    }
}

fn progress(advance: &Advance, throughput: &Throughput, now: Instant) -> Progress {
    Progress {
        pages_read: advance.pages_read,
        pages_total: advance.pages_total,
        chunks_done: advance.chunks_done,
        chunks_total: advance.chunks_total,
        seconds_left: advance.seconds_left(throughput, now),
    }
}
