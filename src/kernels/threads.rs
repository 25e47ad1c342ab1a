//! Sets how many threads compute. Must run before any other thread exists.

/// Lets candle and rayon compute on `num_threads` threads; 0 leaves the choice to them, one a core. Both read their
/// number from the environment when they first compute, and offer no other way.
///
/// # Panics
/// When the process already runs more than one thread.
pub fn limit(num_threads: usize) {
    if num_threads == 0 {
        return;
    }
    assert!(is_single_threaded(), "the number of threads must be set before any thread is started");
    let value = num_threads.to_string();
    // SAFETY: no other thread exists that could read the environment at the same time.
    unsafe {
        std::env::set_var("RAYON_NUM_THREADS", &value);
        std::env::set_var("CANDLE_NUM_THREADS", &value);
    }
}

/// Where the system does not tell, the caller's word is taken.
fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").map_or(true, |threads| threads.count() == 1)
}
