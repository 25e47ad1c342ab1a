//! Compiles the kernels for the CPU, with the system's C++ compiler, and launches them.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::launch::{Argument, Launch};
use super::memory::Memory;

pub mod gpu;

type LaunchFunction =
    unsafe extern "C" fn(*const c_char, *const c_uint, c_uint, *mut *mut c_void) -> c_int;

pub struct Emulator {
    /// For one launch at a time.
    library: Mutex<libloading::Library>,
    _dir: tempfile::TempDir,
}

impl Emulator {
    /// The one that all tests share: the memory of a block is static.
    pub fn shared() -> &'static Self {
        static EMULATOR: OnceLock<Emulator> = OnceLock::new();
        EMULATOR.get_or_init(Self::new)
    }

    fn new() -> Self {
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels/cuda/emulator/kernels.cpp");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kernels.so");
        let compiled = Command::new("c++")
            .args([
                "-std=c++17",
                "-O1",
                "-fPIC",
                "-shared",
                "-fno-strict-aliasing",
                // Its longjmp refuses to go to another fiber's stack.
                "-U_FORTIFY_SOURCE",
                "-w",
            ])
            .arg(&source)
            .arg("-o")
            .arg(&file)
            .output()
            .expect("a C++ compiler is installed, as the dependencies need one too");
        assert!(
            compiled.status.success(),
            "{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        // SAFETY: it is what was just compiled, and has no initialisers but those of its own vectors.
        let library = unsafe { libloading::Library::new(&file) }.unwrap();
        Self {
            library: library.into(),
            _dir: dir,
        }
    }
}

impl Launch for Emulator {
    type Error = std::convert::Infallible;

    unsafe fn launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        num_threads: u32,
        arguments: &[Argument],
    ) -> Result<(), Self::Error> {
        let name = CString::new(kernel).unwrap();
        let mut arguments = arguments.to_vec();
        let mut pointers: Vec<*mut c_void> = arguments
            .iter_mut()
            .map(|argument| match argument {
                Argument::Address(address) => std::ptr::from_mut(address).cast(),
                Argument::Int(number) => std::ptr::from_mut(number).cast(),
                Argument::Float(number) => std::ptr::from_mut(number).cast(),
            })
            .collect();
        let library = self.library.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the function has this type, and the caller promises that the arguments are the kernel's.
        let is_known = unsafe {
            let launch = library.get::<LaunchFunction>(b"launch").unwrap();
            launch(
                name.as_ptr(),
                grid.as_ptr(),
                num_threads,
                pointers.as_mut_ptr(),
            )
        };
        assert_eq!(is_known, 1, "there is no kernel {kernel}");
        Ok(())
    }
}

/// Memory that begins at a multiple of sixteen bytes, as a GPU's does. At first it is full of numbers that are none.
impl Memory for Emulator {
    type Buffer = Vec<u128>;

    fn room(&self, num_bytes: usize) -> Result<Self::Buffer, Self::Error> {
        Ok(vec![u128::MAX; num_bytes.div_ceil(size_of::<u128>())])
    }

    fn write(
        &self,
        buffer: &mut Self::Buffer,
        first: usize,
        bytes: &[u8],
    ) -> Result<(), Self::Error> {
        assert!(first + bytes.len() <= size_of_val(buffer.as_slice()));
        // SAFETY: the bytes fit, and every pattern of bits is a number.
        unsafe {
            let to = buffer.as_mut_ptr().cast::<u8>().add(first);
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Ok(())
    }

    fn read(
        &self,
        buffer: &Self::Buffer,
        first: usize,
        bytes: &mut [u8],
    ) -> Result<(), Self::Error> {
        // Kernels have written it unseen by the compiler.
        let buffer = std::hint::black_box(buffer);
        assert!(first + bytes.len() <= size_of_val(buffer.as_slice()));
        // SAFETY: there are as many bytes, and every pattern of bits is a byte.
        unsafe {
            let from = buffer.as_ptr().cast::<u8>().add(first);
            bytes
                .as_mut_ptr()
                .copy_from_nonoverlapping(from, bytes.len());
        }
        Ok(())
    }

    fn address(&self, buffer: &Self::Buffer) -> u64 {
        buffer.as_ptr() as u64
    }
}
