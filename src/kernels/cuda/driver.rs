//! What NVIDIA's driver says of its GPUs.

use candle_core::Device;
use cudarc::driver::{CudaContext, DriverError, sys};

/// How many GPUs the driver knows, or why none can be asked for.
pub fn num_devices() -> Result<usize, String> {
    let count = CudaContext::device_count().map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_STUB_LIBRARY => "the NVIDIA driver is not installed".to_owned(),
        sys::CUresult::CUDA_ERROR_NO_DEVICE => "the driver finds no GPU".to_owned(),
        _ => error.to_string(),
    })?;
    match usize::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("the driver finds no GPU".to_owned()),
    }
}

/// Name, compute capability and memory, such as `NVIDIA H200, sm_90, 139.8 GiB`.
pub fn name(device: &Device) -> Result<String, String> {
    let Device::Cuda(device) = device else {
        return Err("it is no GPU".to_owned());
    };
    let stream = device.cuda_stream();
    let context = stream.context();
    let described = || {
        let (major, minor) = context.compute_capability()?;
        let gib = context.total_mem()? as f64 / f64::from(1 << 30);
        Ok(format!(
            "{}, sm_{major}{minor}, {gib:.1} GiB",
            context.name()?
        ))
    };
    described().map_err(|error: DriverError| error.to_string())
}

/// Free and total bytes of a GPU. What was freed is the driver's again when a stream was waited for.
pub fn memory(device: &Device) -> Option<(u64, u64)> {
    let Device::Cuda(device) = device else {
        return None;
    };
    let stream = device.cuda_stream();
    stream.synchronize().ok()?;
    let (free, total) = stream.context().mem_get_info().ok()?;
    Some((free as u64, total as u64))
}
