//! Memory of accelerators: CUDA devices, OpenCL devices, and an emulated one for machines with neither.
//!
//! The CPU cannot address it; bytes come and go by copies. Both runtimes are loaded when first asked for, so a program
//! with this feature builds and runs where there is none, and is told why.
//!
//! **Names of extents.** Each extent is one allocation of its own on the device. Its offset is a serial number scaled
//! to bytes: the sum of the lengths of all extents that this provider handed out before it. It is unique while the
//! provider lives and never used twice, so a stale name is refused instead of reaching someone else's bytes. It says
//! nothing about where on the device the bytes are, and nothing to another process.
//!
//! **Forks.** A GPU runtime does not survive a fork. In a child every method says that the tier is gone and reaches
//! no runtime; the parent notices nothing.
//!
//! **A failed device** (removed, uncorrectable error, crashed context) answers `Gone` from then on, and its health is
//! [`Failed`](crate::Health::Failed). What was stored there is lost.

mod allocation;
mod cuda;
mod emulated;
mod loader;
mod location;
mod opencl;
mod provider;

use std::path::Path;

pub use location::{Location, Runtime};

use super::{Obstacle, OpenError};
use crate::{Attribute, Bytes, Error, ErrorKind, GRANULE, Provider, Source, Tier, TierId, TierKind, TierSpec};
use cuda::{Cuda, CudaDevice};
use emulated::Emulated;
use opencl::{OpenCl, OpenClDevice};
use provider::{Backend, DeviceProvider};

/// What a device says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceClass {
    /// A graphics processor.
    Gpu,
    /// Another accelerator.
    Accelerator,
    /// The CPU itself under an OpenCL runtime such as PoCL: its "device memory" is host memory.
    Cpu,
}

impl DeviceClass {
    /// The word used in tables and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Accelerator => "accelerator",
            Self::Cpu => "cpu",
        }
    }
}

/// A device that a runtime offers. A GPU may be offered by both runtimes; `pci` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFound {
    /// Where it is, to be written after `device:` in a `SPEC`.
    pub location: Location,
    /// What it says it is.
    pub class: DeviceClass,
    /// Its name, as its maker writes it.
    pub name: String,
    /// All of its memory.
    pub memory: Bytes,
    /// The driver and its version, as the runtime tells.
    pub driver: String,
    /// Its PCI address in sysfs's form, `0000:65:00.0`, where the runtime tells.
    pub pci: Option<String>,
    /// It is a test double of a driver, never hardware. Always false unless [`double`] was asked.
    pub double: bool,
}

/// A runtime on this machine, and what it offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// Which runtime.
    pub runtime: Runtime,
    /// Why it cannot be used, in words; `None` if it can.
    pub absent: Option<String>,
    /// Its devices; empty if it is absent.
    pub devices: Vec<DeviceFound>,
    /// What it has but could not describe, one line each with the reason.
    pub problems: Vec<String>,
}

impl RuntimeStatus {
    fn ask(
        runtime: Runtime,
        devices: impl FnOnce(&mut Vec<String>) -> Result<Vec<DeviceFound>, loader::Absent>,
    ) -> Self {
        let mut problems = Vec::new();
        let (absent, devices) = match devices(&mut problems) {
            Ok(devices) => (None, devices),
            Err(why) => (Some(why.to_string()), Vec::new()),
        };
        Self { runtime, absent, devices, problems }
    }
}

/// Both runtimes, each with its devices or the reason why it has none. Loads and starts them on first use, which can
/// take a second and leaves their threads running.
pub fn runtimes() -> Vec<RuntimeStatus> {
    vec![
        RuntimeStatus::ask(Runtime::Cuda, |problems| Ok(Cuda::get()?.devices(problems)?)),
        RuntimeStatus::ask(Runtime::OpenCl, |problems| Ok(OpenCl::get()?.devices(problems))),
    ]
}

/// The devices of all runtimes. Test doubles and the emulated device are not among them.
pub fn enumerate() -> Vec<DeviceFound> {
    runtimes().into_iter().flat_map(|status| status.devices).collect()
}

/// Opens a device as a tier.
///
/// ```
/// use tiermem_tiers::{GRANULE, Provenance, TierId, provider::device};
/// let gpu = device::open(&"gpu=device:emulated,size=64M".parse().unwrap(), TierId(0)).unwrap();
/// let extent = gpu.reserve(GRANULE, Provenance::Tool)?;
/// gpu.write(&extent, 4096, b"hello")?;
/// let mut back = [0; 5];
/// gpu.read(&extent, 4096, &mut back)?;
/// assert_eq!(&back, b"hello");
/// gpu.release(extent)?;
/// # Ok::<(), tiermem_tiers::Error>(())
/// ```
///
/// # Errors
/// What stands in the way: the `SPEC` names no device, the runtime is missing or has no such device, the size does
/// not fit the device, or what the runtime says.
pub fn open(spec: &TierSpec, id: TierId) -> Result<Box<dyn Provider>, OpenError> {
    open_with(spec, id, Cuda::get)
}

fn open_with(
    spec: &TierSpec,
    id: TierId,
    cuda: impl FnOnce() -> Result<&'static Cuda, loader::Absent>,
) -> Result<Box<dyn Provider>, OpenError> {
    let absent = |why: loader::Absent| OpenError::new(spec, Obstacle::Unsupported, why.to_string());
    let failed = |why: Error| refusal(spec, why);
    if spec.kind != TierKind::Device {
        return Err(OpenError::new(spec, Obstacle::Unsuitable, "the tier is not of kind `device`"));
    }
    match Location::parse(&spec.location).map_err(failed)? {
        Location::Cuda { device } => {
            let device = CudaDevice::open(cuda().map_err(absent)?, device).map_err(failed)?;
            let notice = device.is_double().then_some(cuda::DOUBLE_NOTICE);
            let total = device.total();
            serve(device, total, notice, spec, id)
        }
        Location::OpenCl { platform, device } => {
            let device = OpenClDevice::open(OpenCl::get().map_err(absent)?, platform, device).map_err(failed)?;
            let notice = (device.class() == DeviceClass::Cpu).then_some(opencl::CPU_NOTICE);
            let total = device.total();
            serve(device, total, notice, spec, id)
        }
        Location::Emulated => {
            let advice = "an emulated device needs a size, as in `gpu=device:emulated,size=1G`";
            let size = spec.size().ok_or_else(|| OpenError::new(spec, Obstacle::BadSize, advice))?;
            serve(Emulated, size, Some(emulated::NOTICE), spec, id)
        }
    }
}

/// Says in the words of [`open`] why a runtime refuses a device.
fn refusal(spec: &TierSpec, why: Error) -> OpenError {
    match why.kind() {
        ErrorKind::NotFound => {
            OpenError::new(spec, Obstacle::Missing, "the runtime has no such device; `tierctl list` shows those it has")
        }
        ErrorKind::Unsuitable { reason } => OpenError::new(spec, Obstacle::Unsuitable, reason),
        _ => OpenError::new(spec, Obstacle::Unsupported, why.to_string()),
    }
}

/// Makes the provider of a device of `total` bytes.
fn serve<B: Backend + 'static>(
    device: B,
    total: Bytes,
    notice: Option<&'static str>,
    spec: &TierSpec,
    id: TierId,
) -> Result<Box<dyn Provider>, OpenError> {
    let mut attributes = spec.attributes;
    let capacity = attributes.capacity.get_or_insert(Attribute::new(total, Source::Kernel)).value;
    if capacity > total {
        let advice = format!("the device has {total} only: give a smaller size");
        return Err(OpenError::new(spec, Obstacle::BadSize, advice));
    }
    if capacity < GRANULE {
        return Err(OpenError::new(spec, Obstacle::BadSize, "a tier is at least one granule: give at least 2M"));
    }
    let tier = Tier { id, name: spec.name, kind: spec.kind, attributes };
    Ok(Box::new(DeviceProvider::new(device, tier, capacity, spec.size().is_some(), notice)))
}

/// For tests only: the CUDA back end on a test double of the driver.
///
/// A double is a shared library with the driver's C ABI that exports the symbol `tiermem_test_double`. [`open`] and
/// [`enumerate`] refuse a library with this symbol even if the dynamic linker finds it under the driver's name; the
/// functions here refuse any other. The double stays loaded until the process ends.
pub mod double {
    use super::{Cuda, OpenError, Path, Provider, Runtime, RuntimeStatus, TierId, TierSpec, open_with};

    /// Like [`open`](super::open) for `cuda:N`, on the double at `library`.
    ///
    /// # Errors
    /// As [`open`](super::open); also if the library is no double.
    ///
    /// # Safety
    /// The library implements the driver's C ABI.
    pub unsafe fn open(spec: &TierSpec, id: TierId, library: &Path) -> Result<Box<dyn Provider>, OpenError> {
        // SAFETY: passed on to the caller.
        open_with(spec, id, || unsafe { Cuda::double(library) })
    }

    /// Like [`runtimes`](super::runtimes), of the double at `library` alone; its devices say that they are doubles.
    ///
    /// # Safety
    /// The library implements the driver's C ABI.
    pub unsafe fn runtime(library: &Path) -> RuntimeStatus {
        // SAFETY: passed on to the caller.
        RuntimeStatus::ask(Runtime::Cuda, |problems| Ok(unsafe { Cuda::double(library)? }.devices(problems)?))
    }
}
