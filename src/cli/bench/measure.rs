//! What the benchmark counts: when each token of a stream came, and the spread of such times.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use tokio::sync::watch;

use crate::engine::{Engine, GenerationRequest, TokenEvent};

/// When a request was sent and when each of its tokens came.
#[derive(Debug, Clone)]
pub struct Timeline {
    pub sent: Instant,
    pub tokens: Vec<Instant>,
}

impl Timeline {
    pub fn first(&self) -> Instant {
        *self.tokens.first().unwrap_or(&self.sent)
    }

    pub fn last(&self) -> Instant {
        *self.tokens.last().unwrap_or(&self.sent)
    }

    pub fn time_to_first(&self) -> Duration {
        self.first() - self.sent
    }

    /// The waits between tokens that ended within `from..to`.
    pub fn gaps(&self, from: Instant, to: Instant) -> impl Iterator<Item = Duration> {
        let pairs = self.tokens.windows(2);
        let within = pairs.filter(move |pair| (from..to).contains(&pair[1]));
        within.map(|pair| pair[1] - pair[0])
    }

    /// The waits between all tokens.
    pub fn all_gaps(&self) -> impl Iterator<Item = Duration> {
        self.tokens.windows(2).map(|pair| pair[1] - pair[0])
    }
}

/// Sends `prompt` and waits for `num_tokens` tokens; the model cannot end it before.
pub async fn run(engine: Engine, prompt: Vec<u32>, num_tokens: usize) -> anyhow::Result<Timeline> {
    let (_never, stopped) = watch::channel(false);
    run_until(engine, prompt, num_tokens, stopped).await
}

/// The same, cancelled when `stopped` says so.
pub async fn run_until(
    engine: Engine,
    prompt: Vec<u32>,
    num_tokens: usize,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<Timeline> {
    let sent = Instant::now();
    let mut stream = engine.submit(GenerationRequest::greedy(prompt, num_tokens))?;
    let mut tokens = Vec::new();
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            Ok(_) = stopped.wait_for(|stopped| *stopped) => None,
        };
        match event.transpose()? {
            Some(TokenEvent::Token(_)) => tokens.push(Instant::now()),
            Some(TokenEvent::Finished { .. }) | None => break,
        }
    }
    Ok(Timeline { sent, tokens })
}

/// Tokens that nobody sent before, so that no cache has them; the same for the same seed.
pub fn random_prompt(vocab_size: usize, num_tokens: usize, random: &mut ChaCha8Rng) -> Vec<u32> {
    let token = |_| random.random_range(0..vocab_size as u32);
    (0..num_tokens).map(token).collect()
}

pub fn seeded(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// When requests arrive that know nothing of each other, `rate` a second: the waits between them are exponential.
pub fn poisson_arrivals(rate: f64, num_requests: usize, random: &mut ChaCha8Rng) -> Vec<Duration> {
    let mut at = 0.0;
    let arrival = |_| {
        // Never 0, whose logarithm has no end.
        let uniform: f64 = 1.0 - random.random_range(0.0..1.0);
        at -= uniform.ln() / rate;
        Duration::from_secs_f64(at)
    };
    (0..num_requests).map(arrival).collect()
}

/// The spread of some times, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Spread {
    /// By nearest rank: each number is a time that was measured. `None` without any.
    pub fn of(times: impl Iterator<Item = Duration>) -> Option<Self> {
        let mut times: Vec<Duration> = times.collect();
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times[rank.saturating_sub(1).min(last)].as_secs_f64() * 1e3
        };
        Some(Self {
            p50_ms: at(50),
            p95_ms: at(95),
            p99_ms: at(99),
            max_ms: at(100),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = |all: &[u64]| Spread::of(all.iter().map(|ms| Duration::from_millis(*ms)));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        let expected = Spread {
            p50_ms: 50.0,
            p95_ms: 95.0,
            p99_ms: 99.0,
            max_ms: 100.0,
        };
        assert_eq!(times(&hundred), Some(expected));
        assert_eq!(times(&[7]).unwrap().p50_ms, 7.0);
        assert_eq!(times(&[1, 9]).unwrap().p95_ms, 9.0);
        assert_eq!(times(&[]), None);
    }

    #[test]
    fn arrivals_come_at_the_rate_and_as_irregularly_as_chance() {
        let arrivals = poisson_arrivals(4.0, 4000, &mut seeded(1));
        assert_eq!(arrivals, poisson_arrivals(4.0, 4000, &mut seeded(1)));
        let seconds: Vec<f64> = arrivals.iter().map(Duration::as_secs_f64).collect();
        assert!((seconds[3999] / 1000.0 - 1.0).abs() < 0.05);
        // Exponential waits: their mean and their standard deviation are the same.
        let waits: Vec<f64> = seconds.windows(2).map(|two| two[1] - two[0]).collect();
        let mean = waits.iter().sum::<f64>() / waits.len() as f64;
        let variance = waits.iter().map(|wait| (wait - mean).powi(2)).sum::<f64>();
        let deviation = (variance / waits.len() as f64).sqrt();
        assert!((deviation / mean - 1.0).abs() < 0.1, "{deviation} {mean}");
    }

    #[test]
    fn only_the_waits_within_a_time_are_counted() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let timeline = Timeline {
            sent: start,
            tokens: vec![at(10), at(20), at(50), at(60)],
        };
        assert_eq!(timeline.time_to_first(), Duration::from_millis(10));
        let gaps: Vec<u128> = timeline
            .gaps(at(15), at(60))
            .map(|it| it.as_millis())
            .collect();
        assert_eq!(gaps, [10, 30]);
        assert_eq!(timeline.all_gaps().count(), 3);
    }
}
