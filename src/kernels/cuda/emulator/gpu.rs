//! A GPU of one test's own on the shared emulator: counts what it is asked for, and records launches as a GPU does, with the
//! same rules.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::Emulator;
use crate::kernels::cuda::launch::{Argument, Launch};
use crate::kernels::cuda::memory::{Capture, Memory};

/// A clone is the same GPU.
#[derive(Debug, Default, Clone)]
pub struct EmulatedGpu(Arc<State>);

#[derive(Debug, Default)]
struct State {
    num_rooms: AtomicUsize,
    num_room_bytes: AtomicUsize,
    num_replays: AtomicUsize,
    records_nothing: AtomicBool,
    /// Names of the kernels that were run.
    launched: Mutex<HashSet<String>>,
    /// What is being recorded.
    recording: Mutex<Option<Vec<Recorded>>>,
}

/// A launch with its arguments.
#[derive(Debug)]
pub struct Recorded {
    kernel: String,
    grid: [u32; 3],
    num_threads: u32,
    arguments: Vec<Argument>,
}

impl EmulatedGpu {
    /// How many times room was taken.
    pub fn num_rooms(&self) -> usize {
        self.0.num_rooms.load(Ordering::Relaxed)
    }

    /// Bytes of all rooms that were ever taken.
    pub fn num_room_bytes(&self) -> usize {
        self.0.num_room_bytes.load(Ordering::Relaxed)
    }

    pub fn num_replays(&self) -> usize {
        self.0.num_replays.load(Ordering::Relaxed)
    }

    /// As a driver that cannot record, or can again.
    pub fn record_nothing(&self, nothing: bool) {
        self.0.records_nothing.store(nothing, Ordering::Relaxed);
    }

    fn assert_not_recording(&self) {
        assert!(
            self.0.recording.lock().unwrap().is_none(),
            "it is recording"
        );
    }
}

impl Launch for EmulatedGpu {
    type Error = Infallible;

    unsafe fn launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        num_threads: u32,
        arguments: &[Argument],
    ) -> Result<(), Infallible> {
        let mut launched = self.0.launched.lock().unwrap();
        if let Some(recorded) = &mut *self.0.recording.lock().unwrap() {
            assert!(launched.contains(kernel), "{kernel} was not launched yet");
            recorded.push(Recorded {
                kernel: kernel.to_owned(),
                grid,
                num_threads,
                arguments: arguments.to_vec(),
            });
            return Ok(());
        }
        launched.insert(kernel.to_owned());
        // SAFETY: the caller's promise.
        unsafe { Emulator::shared().launch(kernel, grid, num_threads, arguments) }
    }
}

impl Memory for EmulatedGpu {
    type Buffer = <Emulator as Memory>::Buffer;

    fn room(&self, num_bytes: usize) -> Result<Self::Buffer, Infallible> {
        self.assert_not_recording();
        self.0.num_rooms.fetch_add(1, Ordering::Relaxed);
        self.0
            .num_room_bytes
            .fetch_add(num_bytes, Ordering::Relaxed);
        Emulator::shared().room(num_bytes)
    }

    fn write(
        &self,
        buffer: &mut Self::Buffer,
        first: usize,
        bytes: &[u8],
    ) -> Result<(), Infallible> {
        self.assert_not_recording();
        Emulator::shared().write(buffer, first, bytes)
    }

    fn read(
        &self,
        buffer: &Self::Buffer,
        first: usize,
        bytes: &mut [u8],
    ) -> Result<(), Infallible> {
        self.assert_not_recording();
        Emulator::shared().read(buffer, first, bytes)
    }

    fn address(&self, buffer: &Self::Buffer) -> u64 {
        Emulator::shared().address(buffer)
    }
}

impl Capture for EmulatedGpu {
    type Graph = Vec<Recorded>;

    fn capture(
        &self,
        work: impl FnOnce() -> Result<(), Infallible>,
    ) -> Result<Self::Graph, String> {
        self.assert_not_recording();
        *self.0.recording.lock().unwrap() = Some(Vec::new());
        let Ok(()) = work();
        let recorded = self.0.recording.lock().unwrap().take();
        match self.0.records_nothing.load(Ordering::Relaxed) {
            true => Err("it was told to record nothing".to_owned()),
            false => Ok(recorded.unwrap_or_default()),
        }
    }

    unsafe fn replay(&self, graph: &Self::Graph) -> Result<(), Infallible> {
        self.assert_not_recording();
        self.0.num_replays.fetch_add(1, Ordering::Relaxed);
        for it in graph {
            // SAFETY: the caller's promise.
            unsafe {
                Emulator::shared().launch(&it.kernel, it.grid, it.num_threads, &it.arguments)?;
            }
        }
        Ok(())
    }
}
