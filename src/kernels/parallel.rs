//! Spreads work over the threads that candle computes with, so that its kernels and ours never compete for the cores.
//! What is computed must never depend on which thread does it or on how the work is cut.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Calls `work` with 0, 1 and so on, on several threads, each call from begin to end on one of them. `stop` is asked before
/// every call but the first; once it says so, no further one is begun. Returns how many there were.
pub fn for_each_until(
    num_items: usize,
    stop: impl Fn() -> bool + Sync,
    work: impl Fn(usize) + Sync,
) -> usize {
    let next = AtomicUsize::new(0);
    for_each_range(num_items.min(num_threads()), |range| {
        let mut is_first = range.start == 0;
        while std::mem::take(&mut is_first) || !stop() {
            let item = next.fetch_add(1, Ordering::Relaxed);
            if item >= num_items {
                break;
            }
            work(item);
        }
    });
    next.into_inner().min(num_items)
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
    fn what_is_done_until_it_is_told_to_stop_is_a_beginning() {
        for (stop_after, num_items) in [(0, 9), (5, 100), (200, 100), (1, 0)] {
            let done = Mutex::new(Vec::new());
            let num_done = for_each_until(
                num_items,
                || done.lock().unwrap().len() >= stop_after,
                |item| done.lock().unwrap().push(item),
            );
            let mut done = done.into_inner().unwrap();
            done.sort_unstable();
            assert!(done.iter().copied().eq(0..num_done));
            assert!(num_done >= stop_after.clamp(1, 100).min(num_items));
            assert!(stop_after > num_items || num_done <= stop_after.max(1) + num_threads());
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
