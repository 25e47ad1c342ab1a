//! A GPU as what runs our kernels: on the device's own stream, as candle's operations are, or on a stream apart.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, Error, Result};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode, CUstreamCaptureStatus};
use cudarc::driver::{
    CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg,
};

use super::launch::{Argument, Launch};
use super::memory::{Capture, Memory};

/// The kernels, compiled when the program was built: what the names of a module's kernels begin with, its name, its text.
/// Products are a module for each type of weights, so that a start compiles only what its model needs for the GPU at hand.
const MODULES: [(&[&str], &str, &str); 16] = [
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
        &["draw_"],
        "sampling",
        include_str!(concat!(env!("OUT_DIR"), "/sampling.ptx")),
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

const NOT_CAPTURING: CUstreamCaptureStatus = CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;

/// A clone is the same GPU and stream.
#[derive(Debug, Clone)]
pub struct Gpu {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    /// Those that were launched, by name.
    functions: Arc<RwLock<HashMap<String, CudaFunction>>>,
}

impl Gpu {
    /// On the device's stream, in order with candle's operations.
    pub fn new(device: &CudaDevice) -> Self {
        Self::on_stream(device, device.cuda_stream())
    }

    /// On a stream of its own, which is the same from every thread. Launches can be recorded on it: candle's stream is another one
    /// in each thread, and what anybody else ran on it meanwhile would be recorded too.
    pub fn with_own_stream(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream().context().new_stream().w()?;
        Ok(Self::on_stream(device, stream))
    }

    fn on_stream(device: &CudaDevice, stream: Arc<CudaStream>) -> Self {
        Self {
            device: device.clone(),
            stream,
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
        let mut launch = self.stream.launch_builder(&function);
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

/// Memory of a GPU, and where it is. Asked of the driver's wrapper, the address comes with an event to wait for, which launches
/// that are recorded must not do; here nothing has to wait, because a buffer is used on the stream that it was made for alone.
#[derive(Debug)]
pub struct GpuBuffer {
    memory: CudaSlice<u8>,
    address: u64,
}

impl Memory for Gpu {
    type Buffer = GpuBuffer;

    fn room(&self, num_bytes: usize) -> Result<Self::Buffer> {
        // SAFETY: nobody reads numbers that were not written, or what comes of them means nothing.
        let memory = unsafe { self.stream.alloc(num_bytes.max(1)) }.w()?;
        let (address, guard) = memory.device_ptr(&self.stream);
        drop(guard);
        Ok(GpuBuffer { memory, address })
    }

    fn write(&self, buffer: &mut Self::Buffer, first: usize, bytes: &[u8]) -> Result<()> {
        let mut room = buffer.memory.slice_mut(first..first + bytes.len());
        self.stream.memcpy_htod(bytes, &mut room).w()
    }

    fn read(&self, buffer: &Self::Buffer, first: usize, bytes: &mut [u8]) -> Result<()> {
        let numbers = buffer.memory.slice(first..first + bytes.len());
        self.stream.memcpy_dtoh(&numbers, bytes).w()?;
        self.stream.synchronize().w()
    }

    fn address(&self, buffer: &Self::Buffer) -> u64 {
        buffer.address
    }
}

/// Launches that were recorded on a GPU's own stream.
pub struct Graph(CudaGraph);

// SAFETY: the driver asks that a graph be used by one thread at a time, whichever it is; whoever owns it replays it.
unsafe impl Send for Graph {}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Graph")
    }
}

/// Only on a stream of its own. Between beginning and end nothing may run on this stream but launches whose functions are loaded:
/// loading one, taking or freeing memory, copying and waiting for events are errors then, of which the driver tells at the end.
/// Other threads may do all of it on other streams, which is what `THREAD_LOCAL` says.
impl Capture for Gpu {
    type Graph = Graph;

    fn capture(&self, work: impl FnOnce() -> Result<()>) -> std::result::Result<Graph, String> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let begun = self.stream.begin_capture(mode);
        begun.map_err(|error| error.to_string())?;
        let worked = work();
        // Also after an error, or the stream would go on recording.
        let mut recorded = self.stream.end_capture(CUgraphInstantiate_flags(0));
        // An error that the wrapper had kept from something else comes before the end.
        if recorded.is_err() && !matches!(self.stream.capture_status(), Ok(NOT_CAPTURING)) {
            recorded = self.stream.end_capture(CUgraphInstantiate_flags(0));
        }
        worked.map_err(|error| error.to_string())?;
        match recorded.map_err(|error| error.to_string())? {
            Some(graph) => Ok(Graph(graph)),
            None => Err("nothing was recorded".to_owned()),
        }
    }

    unsafe fn replay(&self, graph: &Graph) -> Result<()> {
        graph.0.launch().w()
    }
}
