//! Chooses the processor that models run on, once, and says aloud which and why. A GPU that was asked for by name is
//! used or refused; it must never become the CPU silently.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

/// What the user asked for: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first NVIDIA GPU when there is a usable one, else the CPU.
    #[default]
    Auto,
    Cpu,
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
            "cuda" => Ok(Self::Cuda(0)),
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
        "device cuda:{index} was asked for, but this program was built without CUDA; \
         build it with --features cuda or choose cpu"
    )]
    BuiltWithoutCuda { index: usize },
    #[error(
        "device cuda:{index} cannot be used: {reason}; check the driver with nvidia-smi, choose another index or cpu"
    )]
    CudaUnusable { index: usize, reason: String },
}

/// The processor that models run on.
#[derive(Debug, Clone)]
pub struct ComputeDevice {
    device: Device,
    name: String,
    description: String,
}

impl ComputeDevice {
    /// Turns the choice into a device that is known to work.
    pub fn select(choice: DeviceChoice) -> Result<Self, DeviceError> {
        match choice {
            DeviceChoice::Cpu => Ok(Self::cpu("because it was asked for")),
            DeviceChoice::Cuda(index) => Ok(Self::cuda(
                open_cuda(index)?,
                index,
                "because it was asked for",
            )),
            DeviceChoice::Auto => Ok(match open_cuda(0) {
                Ok(device) => Self::cuda(device, 0, "because it is usable"),
                Err(DeviceError::BuiltWithoutCuda { .. }) => {
                    Self::cpu("because this program was built without CUDA")
                }
                Err(error) => Self::cpu(&format!("because {error}")),
            }),
        }
    }

    fn cpu(reason: &str) -> Self {
        let num_threads = candle_core::utils::get_num_threads();
        Self {
            device: Device::Cpu,
            name: format!("CPU, {num_threads} threads"),
            description: format!("running on the CPU with {num_threads} threads {reason}"),
        }
    }

    fn cuda(device: Device, index: usize, reason: &str) -> Self {
        Self {
            device,
            name: format!("CUDA device {index}"),
            description: format!("running on CUDA device {index} {reason}"),
        }
    }

    pub fn candle(&self) -> &Device {
        &self.device
    }

    pub fn is_cpu(&self) -> bool {
        self.device.is_cpu()
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

#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> Result<Device, DeviceError> {
    let unusable = |reason: String| DeviceError::CudaUnusable { index, reason };
    // The CUDA bindings panic when the driver's library is absent.
    std::panic::catch_unwind(|| Device::new_cuda(index))
        .map_err(|_| unusable("the NVIDIA driver is not installed".to_owned()))?
        .map_err(|error| unusable(error.to_string()))
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(index: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::BuiltWithoutCuda { index })
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
            DeviceChoice::Cuda(0),
            DeviceChoice::Cuda(3),
        ] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
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
        assert_eq!(error, DeviceError::BuiltWithoutCuda { index: 1 });
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
