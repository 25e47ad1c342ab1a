//! Finds what tests need that lies outside the project: real material, and a GPU. The product never uses it.

use std::path::PathBuf;

#[cfg(feature = "cuda")]
use crate::device::{ComputeDevice, DeviceChoice};

/// The folder with test material: `INGLENOOK_TEST_DATA`, else `../shared/data` beside the checkout.
pub fn dir() -> Option<PathBuf> {
    let dir = match std::env::var_os("INGLENOOK_TEST_DATA") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    dir.is_dir().then_some(dir)
}

/// `path` inside the test material. When it is absent, says that the calling test is skipped and returns `None`.
///
/// # Panics
/// When the material is absent and `INGLENOOK_REQUIRE_TEST_DATA=1` says that it must be there.
pub fn require(path: &str) -> Option<PathBuf> {
    let found = dir().map(|dir| dir.join(path)).filter(|path| path.exists());
    if found.is_none() {
        let must = std::env::var("INGLENOOK_REQUIRE_TEST_DATA").is_ok_and(|value| value == "1");
        assert!(
            !must,
            "test data {path:?} is absent although INGLENOOK_REQUIRE_TEST_DATA=1"
        );
        eprintln!("SKIPPED: test data {path:?} is absent");
    }
    found
}

/// The NVIDIA GPU with the most free memory. When there is none, says that the calling test is skipped and returns `None`.
///
/// # Panics
/// When there is none and `INGLENOOK_REQUIRE_GPU=1` says that there must be one.
#[cfg(feature = "cuda")]
pub fn require_gpu() -> Option<ComputeDevice> {
    match ComputeDevice::select(DeviceChoice::AnyCuda) {
        Ok(device) => Some(device.for_next_model()),
        Err(error) => {
            let must = std::env::var("INGLENOOK_REQUIRE_GPU").is_ok_and(|value| value == "1");
            assert!(!must, "{error}, although INGLENOOK_REQUIRE_GPU=1");
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}
