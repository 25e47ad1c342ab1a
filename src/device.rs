//! Chooses the processor that models run on, once, and says aloud which and why. A GPU that was asked for by name is
//! used or refused; it must never become the CPU silently.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

/// What the user asked for: `auto`, `cpu`, `cuda`, which is every GPU that is usable, or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The NVIDIA GPUs when there is a usable one, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// All NVIDIA GPUs: each model is loaded onto the one with the most free memory, or shared by all where it fits onto none.
    AnyCuda,
    /// The NVIDIA GPU with this index.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::UnknownChoice {
            value: text.to_owned(),
        };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::AnyCuda),
            _ => {
                let index = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                index.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Cpu => write!(f, "cpu"),
            Self::AnyCuda => write!(f, "cuda"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// Why the device that was asked for cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("unknown device {value:?}; use auto, cpu, cuda or cuda:N")]
    UnknownChoice { value: String },
    #[error(
        "device {choice} was asked for, but this program was built without CUDA; \
         build it with --features cuda or choose cpu"
    )]
    BuiltWithoutCuda { choice: DeviceChoice },
    #[error(
        "device {choice} cannot be used: {reason}; check the driver with nvidia-smi, choose another device or cpu"
    )]
    CudaUnusable {
        choice: DeviceChoice,
        reason: String,
    },
}

/// The processors that models run on: the CPU, or one or several GPUs, of which each model has one, or some share a model.
#[derive(Debug, Clone)]
pub struct ComputeDevice {
    /// Those that a model is loaded onto, one at least.
    devices: Vec<Device>,
    /// All of them, where there are GPUs.
    gpus: Vec<Gpu>,
    name: String,
    description: String,
}

#[derive(Debug, Clone)]
struct Gpu {
    device: Device,
    index: usize,
    /// As its driver calls it, with its memory.
    name: String,
}

impl ComputeDevice {
    /// Turns the choice into a device that is known to work.
    pub fn select(choice: DeviceChoice) -> Result<Self, DeviceError> {
        match choice {
            DeviceChoice::Cpu => Ok(Self::cpu("because it was asked for")),
            DeviceChoice::Cuda(index) => {
                let gpu = cuda::open(index).map_err(|problem| problem.because(choice))?;
                Ok(Self::cuda(vec![gpu], "because it was asked for"))
            }
            DeviceChoice::AnyCuda => {
                let gpus = cuda::open_all().map_err(|problem| problem.because(choice))?;
                Ok(Self::cuda(gpus, "because cuda was asked for"))
            }
            DeviceChoice::Auto => Ok(match cuda::open_all() {
                Ok(gpus) => Self::cuda(gpus, "because there is a usable GPU"),
                Err(CudaProblem::NotBuilt) => {
                    Self::cpu("because this program was built without CUDA")
                }
                Err(CudaProblem::Unusable(reason)) => {
                    Self::cpu(&format!("because no NVIDIA GPU can be used: {reason}"))
                }
            }),
        }
    }

    fn cpu(reason: &str) -> Self {
        let num_threads = candle_core::utils::get_num_threads();
        Self {
            devices: vec![Device::Cpu],
            gpus: Vec::new(),
            name: format!("CPU, {num_threads} threads"),
            description: format!("running on the CPU with {num_threads} threads {reason}"),
        }
    }

    /// `gpus` is not empty.
    fn cuda(gpus: Vec<Gpu>, reason: &str) -> Self {
        let shown = |gpu: &Gpu| format!("cuda:{} ({})", gpu.index, gpu.name);
        let name = gpus.iter().map(shown).collect::<Vec<_>>().join(", ");
        Self {
            devices: vec![gpus.first().map_or(Device::Cpu, |gpu| gpu.device.clone())],
            description: format!("running on {name} {reason}"),
            name,
            gpus,
        }
    }

    /// The same for a model on one of its GPUs, counted from 0 among those that are used, or on all of them together. The CPU is
    /// always the CPU.
    pub fn on(&self, processor: Option<usize>) -> Self {
        let gpus = match processor {
            Some(index) => self.gpus.get(index..=index).unwrap_or_default(),
            None => &self.gpus,
        };
        let devices: Vec<Device> = gpus.iter().map(|gpu| gpu.device.clone()).collect();
        match devices.is_empty() {
            true => self.clone(),
            false => Self {
                devices,
                ..self.clone()
            },
        }
    }

    /// The same for a model on that of its GPUs which has the most free memory.
    pub fn for_next_model(&self) -> Self {
        let free_bytes = self.on(None).free_bytes_of_each();
        let roomiest = (0..free_bytes.len())
            .max_by_key(|index| (free_bytes[*index], std::cmp::Reverse(*index)));
        self.on(roomiest)
    }

    /// Memory of the processors that a model is loaded onto, all together; `None` where the system does not tell.
    pub fn memory(&self) -> Option<MachineMemory> {
        if self.is_cpu() {
            return machine_memory();
        }
        let told = self.devices.iter().filter_map(cuda::memory);
        told.reduce(|all, one| MachineMemory {
            total_bytes: all.total_bytes + one.total_bytes,
            available_bytes: all.available_bytes + one.available_bytes,
        })
    }

    /// The processors that a model is loaded onto, the first of which is [`candle`](Self::candle).
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Free bytes of each of [`devices`](Self::devices) that is a GPU; of one that does not tell, none.
    pub fn free_bytes_of_each(&self) -> Vec<u64> {
        let free = |device: &Device| cuda::memory(device).map_or(0, |it| it.available_bytes);
        let gpus = self.devices.iter().filter(|device| device.is_cuda());
        gpus.map(free).collect()
    }

    pub fn candle(&self) -> &Device {
        &self.devices[0]
    }

    pub fn is_cpu(&self) -> bool {
        self.candle().is_cpu()
    }

    /// A few words for people, such as `CPU, 2 threads`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One sentence for people: what was chosen, and why.
    pub fn description(&self) -> &str {
        &self.description
    }
}

enum CudaProblem {
    #[cfg_attr(feature = "cuda", expect(dead_code))]
    NotBuilt,
    #[cfg_attr(not(feature = "cuda"), expect(dead_code))]
    Unusable(String),
}

impl CudaProblem {
    fn because(self, choice: DeviceChoice) -> DeviceError {
        match self {
            Self::NotBuilt => DeviceError::BuiltWithoutCuda { choice },
            Self::Unusable(reason) => DeviceError::CudaUnusable { choice, reason },
        }
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use candle_core::Device;

    use super::{CudaProblem, Gpu, MachineMemory};
    use crate::kernels::cuda::driver;

    pub fn open(index: usize) -> Result<Gpu, CudaProblem> {
        let count = driver::num_devices().map_err(CudaProblem::Unusable)?;
        if index >= count {
            let reason = format!("there are {count} NVIDIA GPUs, counted from 0");
            return Err(CudaProblem::Unusable(reason));
        }
        let device = Device::new_cuda(index);
        let device = device.map_err(|error| CudaProblem::Unusable(error.to_string()))?;
        let name = driver::name(&device).map_err(CudaProblem::Unusable)?;
        Ok(Gpu {
            device,
            index,
            name,
        })
    }

    /// All that can be used; the first one's problem where none can.
    pub fn open_all() -> Result<Vec<Gpu>, CudaProblem> {
        let count = driver::num_devices().map_err(CudaProblem::Unusable)?;
        let mut usable = Vec::new();
        let mut problem = None;
        for index in 0..count {
            match open(index) {
                Ok(gpu) => usable.push(gpu),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        let none = || CudaProblem::Unusable("there is none".to_owned());
        match usable.is_empty() {
            true => Err(problem.unwrap_or_else(none)),
            false => Ok(usable),
        }
    }

    pub fn memory(device: &Device) -> Option<MachineMemory> {
        let (available_bytes, total_bytes) = driver::memory(device)?;
        Some(MachineMemory {
            total_bytes,
            available_bytes,
        })
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use candle_core::Device;

    use super::{CudaProblem, Gpu, MachineMemory};

    pub fn open(_: usize) -> Result<Gpu, CudaProblem> {
        Err(CudaProblem::NotBuilt)
    }

    pub fn open_all() -> Result<Vec<Gpu>, CudaProblem> {
        Err(CudaProblem::NotBuilt)
    }

    pub fn memory(_: &Device) -> Option<MachineMemory> {
        None
    }
}

/// Main memory of this machine, or of the container that confines this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineMemory {
    pub total_bytes: u64,
    /// What can be taken without pushing other things out.
    pub available_bytes: u64,
}

/// Reads the machine's memory; `None` where the system has no `/proc/meminfo`.
pub fn machine_memory() -> Option<MachineMemory> {
    let memory = parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let limit = read_number("/sys/fs/cgroup/memory.max");
    let used = read_number("/sys/fs/cgroup/memory.current");
    Some(confine(memory, limit, used))
}

fn parse_meminfo(text: &str) -> Option<MachineMemory> {
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(MachineMemory {
        total_bytes: bytes("MemTotal:")?,
        available_bytes: bytes("MemAvailable:")?,
    })
}

/// `None` also for the word "max", which means that there is no limit.
fn read_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn confine(memory: MachineMemory, limit: Option<u64>, used: Option<u64>) -> MachineMemory {
    let Some(limit) = limit else { return memory };
    let free = limit.saturating_sub(used.unwrap_or(0));
    MachineMemory {
        total_bytes: memory.total_bytes.min(limit),
        available_bytes: memory.available_bytes.min(free),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_shown() {
        for choice in [
            DeviceChoice::Auto,
            DeviceChoice::Cpu,
            DeviceChoice::AnyCuda,
            DeviceChoice::Cuda(0),
            DeviceChoice::Cuda(3),
        ] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
    }

    #[test]
    fn a_misspelt_choice_is_refused_with_the_right_spellings() {
        for text in ["gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", ""] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert!(error.to_string().contains("cuda:N"), "{error}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_gpu_that_was_asked_for_never_becomes_the_cpu() {
        let error = ComputeDevice::select(DeviceChoice::Cuda(1)).unwrap_err();
        let choice = DeviceChoice::Cuda(1);
        assert_eq!(error, DeviceError::BuiltWithoutCuda { choice });
    }

    /// Also where the driver is not installed, as on the machines that compile this.
    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_that_is_not_there_is_an_error_that_says_what_to_do() {
        for choice in [DeviceChoice::AnyCuda, DeviceChoice::Cuda(99)] {
            match ComputeDevice::select(choice) {
                Ok(device) => assert!(choice == DeviceChoice::AnyCuda && !device.is_cpu()),
                Err(error) => assert!(error.to_string().contains("nvidia-smi"), "{error}"),
            }
        }
    }

    #[test]
    fn the_choice_comes_with_its_reason() {
        let device = ComputeDevice::select(DeviceChoice::Cpu).unwrap();
        assert!(device.is_cpu());
        assert!(
            device.description().contains("asked for"),
            "{}",
            device.description()
        );
        let device = ComputeDevice::select(DeviceChoice::Auto).unwrap();
        assert!(
            device.description().contains("because"),
            "{}",
            device.description()
        );
    }

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text = "MemTotal:       16384 kB\nMemFree:         100 kB\nMemAvailable:    8192 kB\n";
        let memory = parse_meminfo(text).unwrap();
        assert_eq!(memory.total_bytes, 16 << 20);
        assert_eq!(memory.available_bytes, 8 << 20);
        assert_eq!(parse_meminfo("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn a_container_sees_no_more_memory_than_its_limit() {
        let memory = MachineMemory {
            total_bytes: 100,
            available_bytes: 80,
        };
        assert_eq!(confine(memory, None, Some(10)), memory);
        let confined = confine(memory, Some(50), Some(20));
        assert_eq!((confined.total_bytes, confined.available_bytes), (50, 30));
        assert_eq!(confine(memory, Some(200), Some(10)), memory);
    }
}
