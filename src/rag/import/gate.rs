//! One request at a time for each host, and a pause between two, whoever asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

/// Hosts that are remembered before those that nobody waits for are forgotten.
const MAX_IDLE_HOSTS: usize = 256;

type Slot = Arc<tokio::sync::Mutex<Option<Instant>>>;

#[derive(Default)]
pub struct Gate {
    hosts: Mutex<HashMap<String, Slot>>,
}

/// The right to ask a host; when it is dropped, the pause begins.
pub struct Turn {
    slot: OwnedMutexGuard<Option<Instant>>,
}

impl Gate {
    /// Waits until nobody else asks this host and the last request is long enough ago.
    pub async fn turn(&self, host: &str, delay: Duration) -> Turn {
        let slot = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            if hosts.len() > MAX_IDLE_HOSTS {
                hosts.retain(|_, slot| Arc::strong_count(slot) > 1);
            }
            Arc::clone(hosts.entry(host.to_owned()).or_default())
        };
        let slot = slot.lock_owned().await;
        if let Some(last) = *slot {
            tokio::time::sleep((last + delay).saturating_duration_since(Instant::now())).await;
        }
        Turn { slot }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.slot = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_is_asked_by_one_at_a_time_and_another_is_not_held_up() {
        let gate = Gate::default();
        let delay = Duration::from_millis(30);
        let first = gate.turn("a", delay).await;
        let _other = gate.turn("b", delay).await;
        let mut second = std::pin::pin!(gate.turn("a", delay));
        let is_ready = futures_util::poll!(&mut second).is_ready();
        assert!(!is_ready);
        let freed_at = Instant::now();
        drop(first);
        second.await;
        assert!(freed_at.elapsed() >= delay);
    }
}
