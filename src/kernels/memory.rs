//! Memory straight from the system for what is large and stays: weights and caches. It goes back when it is dropped,
//! whatever the allocator keeps.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use half::{bf16, f16};
use memmap2::MmapMut;

/// Numbers without padding for which every pattern of bits is a value.
///
/// # Safety
/// The type must be such a number, with an alignment of at most a page.
pub unsafe trait Plain: Copy {}

// SAFETY: they are.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for i8 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for f16 {}
// SAFETY: as above.
unsafe impl Plain for bf16 {}

/// An array that is all zeros at first; pages of it that nobody has written to take no memory.
#[derive(Debug)]
pub struct Zeroed<T> {
    memory: MmapMut,
    len: usize,
    numbers: PhantomData<T>,
}

impl<T: Plain> Zeroed<T> {
    /// Fails when the system gives no memory. Large pages, where the system has them, spare the processor looking up
    /// where every 4 KiB lie.
    pub fn new(len: usize) -> std::io::Result<Self> {
        let num_bytes = len.checked_mul(size_of::<T>());
        let num_bytes = num_bytes.ok_or(std::io::ErrorKind::OutOfMemory)?;
        // A map has at least one byte.
        let memory = MmapMut::map_anon(num_bytes.max(1))?;
        #[cfg(target_os = "linux")]
        if let Err(error) = memory.advise(memmap2::Advice::HugePage) {
            // It is only advice.
            tracing::debug!(%error, "memory is in small pages");
        }
        Ok(Self {
            memory,
            len,
            numbers: PhantomData,
        })
    }
}

impl<T: Plain> Deref for Zeroed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the map is that long, begins with a page, and holds values of `T` whatever was written.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Zeroed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and nobody else has the map.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), self.len) }
    }
}

/// Has free memory returned to the system by a thread of the allocator, whichever thread held it: most of ours wait for a long
/// time after they have done a lot.
pub fn return_unused() {
    #[cfg(target_os = "linux")]
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::debug!(%error, "free memory goes back only when more is asked for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_zeros_until_written_to_and_as_long_as_asked() {
        for len in [0, 1, 3_000_000] {
            let mut numbers = Zeroed::<f32>::new(len).unwrap();
            assert_eq!(numbers.len(), len);
            assert!(numbers.iter().all(|number| *number == 0.0));
            numbers.fill(1.5);
            assert!(numbers.iter().all(|number| *number == 1.5));
        }
    }

    #[test]
    fn what_the_system_does_not_have_is_an_error() {
        assert!(Zeroed::<f32>::new(usize::MAX).is_err());
        assert!(Zeroed::<f32>::new(usize::MAX / 8).is_err());
    }
}
