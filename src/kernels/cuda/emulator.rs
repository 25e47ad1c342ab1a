//! Compiles the kernels for the CPU, with the system's C++ compiler, and launches them.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::launch::{Argument, Launch};

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
                "-O2",
                "-fPIC",
                "-shared",
                "-fno-strict-aliasing",
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
