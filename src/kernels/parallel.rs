//! Spreads work over the threads that candle computes with, so that its kernels and ours never compete for the cores.
//! What is computed must never depend on which thread does it or on how the work is cut.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;

/// How many threads compute.
pub fn num_threads() -> usize {
    candle_core::utils::get_num_threads()
}

/// Calls `work` on every item, on several threads when there are several items; returns when all is done.
pub fn for_each<T: Send>(items: Vec<T>, work: impl Fn(T) + Sync) {
    // Waking the threads up costs more than one item can gain.
    if items.len() <= 1 {
        return items.into_iter().for_each(work);
    }
    let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|i| Mutex::new(Some(i))).collect();
    execute(items.len(), |range| {
        for slot in &items[range] {
            // Every slot is taken once, by one thread: the lock is never waited for and never poisoned.
            let item = slot.lock().ok().and_then(|mut slot| slot.take());
            if let Some(item) = item {
                work(item);
            }
        }
    });
}

/// Calls `work` with ranges that together are `0..num_items`, on several threads.
pub fn for_each_range(num_items: usize, work: impl Fn(Range<usize>) + Sync) {
    match num_items {
        0 => {}
        1 => work(0..1),
        _ => execute(num_items, work),
    }
}

/// A panic of `work` goes on after the pool has returned: inside it, it would leave the pool unusable for every other
/// model.
fn execute(num_items: usize, work: impl Fn(Range<usize>) + Sync) {
    let panic: Mutex<Option<Box<dyn Any + Send>>> = Mutex::new(None);
    candle_core::utils::barrier_pool().execute_chunked(num_items, |range| {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| work(range)))
            && let Ok(mut first) = panic.lock()
        {
            first.get_or_insert(payload);
        }
    });
    if let Ok(Some(payload)) = panic.into_inner() {
        resume_unwind(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once() {
        for len in [0, 1, 2, 7, 1000] {
            let mut done = vec![0; len];
            for_each(done.iter_mut().enumerate().collect(), |(i, slot)| {
                *slot += i + 1
            });
            assert!(done.iter().enumerate().all(|(i, &n)| n == i + 1));
        }
    }

    #[test]
    fn a_panic_is_passed_on_and_leaves_the_threads_usable() {
        for _ in 0..3 {
            let outcome = catch_unwind(|| for_each_range(100, |_| panic!("on purpose")));
            let payload = outcome.unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&"on purpose"));
        }
        every_item_is_worked_on_once();
    }

    #[test]
    fn ranges_cover_every_item_once() {
        for len in [0, 1, 2, 7, 1000] {
            let done = Mutex::new(vec![0; len]);
            for_each_range(len, |range| {
                let mut done = done.lock().unwrap();
                range.for_each(|i| done[i] += 1);
            });
            assert!(done.into_inner().unwrap().iter().all(|&n| n == 1));
        }
    }
}
