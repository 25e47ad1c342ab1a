//! A GPU as what runs our kernels, on the device's own stream, as candle's operations are.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, Error, Result};
use cudarc::driver::{CudaFunction, CudaSlice, DevicePtr, LaunchConfig, PushKernelArg};

use super::launch::{Argument, Launch};
use super::memory::Memory;

/// The kernels, compiled when the program was built: what the names of a module's kernels begin with, its name, its text.
/// Products are a module for each type of weights, so that a start compiles only what its model needs for the GPU at hand.
const MODULES: [(&[&str], &str, &str); 15] = [
    (
        &["rotate_", "attend_", "merge_"],
        "attention",
        include_str!(concat!(env!("OUT_DIR"), "/attention.ptx")),
    ),
    (
        &["halve_", "norm_", "add_normed_", "gather_", "copy_"],
        "elementwise",
        include_str!(concat!(env!("OUT_DIR"), "/elementwise.ptx")),
    ),
    (
        &["add_slices"],
        "matrix",
        include_str!(concat!(env!("OUT_DIR"), "/matrix.ptx")),
    ),
    (
        &["multiply_few_Q4_0", "multiply_many_Q4_0"],
        "Q4_0",
        include_str!(concat!(env!("OUT_DIR"), "/Q4_0.ptx")),
    ),
    (
        &["multiply_few_Q4_1", "multiply_many_Q4_1"],
        "Q4_1",
        include_str!(concat!(env!("OUT_DIR"), "/Q4_1.ptx")),
    ),
    (
        &["multiply_few_Q5_0", "multiply_many_Q5_0"],
        "Q5_0",
        include_str!(concat!(env!("OUT_DIR"), "/Q5_0.ptx")),
    ),
    (
        &["multiply_few_Q5_1", "multiply_many_Q5_1"],
        "Q5_1",
        include_str!(concat!(env!("OUT_DIR"), "/Q5_1.ptx")),
    ),
    (
        &["multiply_few_Q8_0", "multiply_many_Q8_0"],
        "Q8_0",
        include_str!(concat!(env!("OUT_DIR"), "/Q8_0.ptx")),
    ),
    (
        &["multiply_few_Q2_K", "multiply_many_Q2_K"],
        "Q2_K",
        include_str!(concat!(env!("OUT_DIR"), "/Q2_K.ptx")),
    ),
    (
        &["multiply_few_Q3_K", "multiply_many_Q3_K"],
        "Q3_K",
        include_str!(concat!(env!("OUT_DIR"), "/Q3_K.ptx")),
    ),
    (
        &["multiply_few_Q4_K", "multiply_many_Q4_K"],
        "Q4_K",
        include_str!(concat!(env!("OUT_DIR"), "/Q4_K.ptx")),
    ),
    (
        &["multiply_few_Q5_K", "multiply_many_Q5_K"],
        "Q5_K",
        include_str!(concat!(env!("OUT_DIR"), "/Q5_K.ptx")),
    ),
    (
        &["multiply_few_Q6_K", "multiply_many_Q6_K"],
        "Q6_K",
        include_str!(concat!(env!("OUT_DIR"), "/Q6_K.ptx")),
    ),
    (
        &["multiply_few_F16", "multiply_many_F16"],
        "F16",
        include_str!(concat!(env!("OUT_DIR"), "/F16.ptx")),
    ),
    (
        &["multiply_few_F32", "multiply_many_F32"],
        "F32",
        include_str!(concat!(env!("OUT_DIR"), "/F32.ptx")),
    ),
];

/// A clone is the same GPU.
#[derive(Debug, Clone)]
pub struct Gpu {
    device: CudaDevice,
    /// Those that were launched, by name.
    functions: Arc<RwLock<HashMap<String, CudaFunction>>>,
}

impl Gpu {
    pub fn new(device: &CudaDevice) -> Self {
        Self {
            device: device.clone(),
            functions: Arc::default(),
        }
    }

    pub fn device(&self) -> &CudaDevice {
        &self.device
    }

    fn function(&self, kernel: &str) -> Result<CudaFunction> {
        let functions = self
            .functions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(kernel) {
            return Ok(function.clone());
        }
        drop(functions);
        let is_of = |names: &[&str]| names.iter().any(|name| kernel.starts_with(name));
        let module = MODULES.iter().find(|(names, ..)| is_of(names));
        let Some((_, module, text)) = module else {
            candle_core::bail!("there is no kernel {kernel}");
        };
        let module = format!("inglenook-{module}");
        let function = self
            .device
            .get_or_load_custom_func(kernel, &module, text)?
            .into_cuda_function();
        let mut functions = self
            .functions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        functions.insert(kernel.to_owned(), function.clone());
        Ok(function)
    }
}

impl Launch for Gpu {
    type Error = Error;

    unsafe fn launch(
        &self,
        kernel: &str,
        [x, y, z]: [u32; 3],
        num_threads: u32,
        arguments: &[Argument],
    ) -> Result<()> {
        let function = self.function(kernel)?;
        let stream = self.device.cuda_stream();
        let mut launch = stream.launch_builder(&function);
        for argument in arguments {
            match argument {
                Argument::Address(address) => launch.arg(address),
                Argument::Int(number) => launch.arg(number),
                Argument::Float(number) => launch.arg(number),
            };
        }
        let config = LaunchConfig {
            grid_dim: (x, y, z),
            block_dim: (num_threads, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the caller's promise.
        unsafe { launch.launch(config) }.w()?;
        Ok(())
    }
}

impl Memory for Gpu {
    type Buffer = CudaSlice<u8>;

    fn room(&self, num_bytes: usize) -> Result<Self::Buffer> {
        // SAFETY: nobody reads numbers that were not written, or what comes of them means nothing.
        unsafe { self.device.alloc(num_bytes.max(1)) }
    }

    fn write(&self, buffer: &mut Self::Buffer, first: usize, bytes: &[u8]) -> Result<()> {
        let mut room = buffer.slice_mut(first..first + bytes.len());
        self.device.memcpy_htod(bytes, &mut room)
    }

    fn address(&self, buffer: &Self::Buffer) -> u64 {
        // All of it is used on the one stream, in order; the guard is for programs with several.
        let stream = self.device.cuda_stream();
        let (address, _guard) = buffer.device_ptr(&stream);
        address
    }
}
