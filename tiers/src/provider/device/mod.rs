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

mod cuda;
mod emulated;
mod loader;
mod location;
mod opencl;
mod provider;

use std::path::Path;

pub use location::{Location, Runtime};

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
/// # Errors
/// `Unsuitable` for a `SPEC` that names no device or a size that does not fit it; `Unsupported` where the runtime is
/// missing ([`runtimes`] has the details); `NotFound` where it has no such device; others as the runtime says.
///
/// # Examples
/// ```
/// use tiermem_tiers::provider::device;
/// use tiermem_tiers::{Attribute, Attributes, Bytes, GRANULE, Provenance, Source, TierId, TierKind, TierName, TierSpec};
///
/// let capacity = Some(Attribute::new(Bytes::mib(64), Source::Configured));
/// let gpu = TierSpec {
///     name: TierName::new("gpu").unwrap(),
///     kind: TierKind::Device,
///     location: "emulated".into(),
///     attributes: Attributes { capacity, ..Attributes::default() },
/// };
/// let provider = device::open(&gpu, TierId(0))?;
/// let extent = provider.reserve(GRANULE, Provenance::Tool)?;
/// provider.write(&extent, 4096, b"hello")?;
/// let mut back = [0; 5];
/// provider.read(&extent, 4096, &mut back)?;
/// assert_eq!(&back, b"hello");
/// provider.release(extent)?;
/// # Ok::<(), tiermem_tiers::Error>(())
/// ```
pub fn open(spec: &TierSpec, id: TierId) -> Result<Box<dyn Provider>, Error> {
    open_with(spec, id, || Cuda::get().map_err(|absent| absent.error))
}

fn open_with(
    spec: &TierSpec,
    id: TierId,
    cuda: impl FnOnce() -> Result<&'static Cuda, Error>,
) -> Result<Box<dyn Provider>, Error> {
    let open = || {
        if spec.kind != TierKind::Device {
            return Err(Error::new(ErrorKind::Unsuitable { reason: "the SPEC is not of kind `device`" }));
        }
        match Location::parse(&spec.location)? {
            Location::Cuda { device } => {
                let device = CudaDevice::open(cuda()?, device)?;
                let notice = device.is_double().then_some(cuda::DOUBLE_NOTICE);
                let total = device.total();
                serve(device, total, notice, spec, id)
            }
            Location::OpenCl { platform, device } => {
                let opencl = OpenCl::get().map_err(|absent| absent.error)?;
                let device = OpenClDevice::open(opencl, platform, device)?;
                let notice = (device.class() == DeviceClass::Cpu).then_some(opencl::CPU_NOTICE);
                let total = device.total();
                serve(device, total, notice, spec, id)
            }
            Location::Emulated => {
                let size = spec.attributes.capacity.ok_or(Error::new(ErrorKind::Unsuitable {
                    reason: "an emulated device needs a size, as in `gpu=device:emulated,size=1G`",
                }))?;
                serve(Emulated, size.value, Some(emulated::NOTICE), spec, id)
            }
        }
    };
    open().map_err(|error| error.of_tier(spec.name))
}

/// Makes the provider of a device of `total` bytes.
fn serve<B: Backend + 'static>(
    device: B,
    total: Bytes,
    notice: Option<&'static str>,
    spec: &TierSpec,
    id: TierId,
) -> Result<Box<dyn Provider>, Error> {
    let unsuitable = |reason| Err(Error::new(ErrorKind::Unsuitable { reason }));
    let mut attributes = spec.attributes;
    let capacity = attributes.capacity.get_or_insert(Attribute::new(total, Source::Kernel)).value;
    if capacity > total {
        return unsuitable("`size=` is more than the device has");
    }
    if capacity < GRANULE {
        return unsuitable("a device tier needs at least 2 MiB, the size of one extent");
    }
    let tier = Tier { id, name: spec.name, kind: spec.kind, attributes };
    let is_part = spec.attributes.capacity.is_some();
    Ok(Box::new(DeviceProvider::new(device, tier, capacity, is_part, notice)))
}

/// For tests only: the CUDA back end on a test double of the driver.
///
/// A double is a shared library with the driver's C ABI that exports the symbol `tiermem_test_double`. [`open`] and
/// [`enumerate`] refuse a library with this symbol even if the dynamic linker finds it under the driver's name; the
/// functions here refuse any other. The double stays loaded until the process ends.
pub mod double {
    use super::{Cuda, Error, Path, Provider, Runtime, RuntimeStatus, TierId, TierSpec, open_with};

    /// Like [`open`](super::open) for `cuda:N`, on the double at `library`.
    ///
    /// # Errors
    /// As [`open`](super::open); `Unsupported` if the library is no double.
    ///
    /// # Safety
    /// The library implements the driver's C ABI.
    pub unsafe fn open(spec: &TierSpec, id: TierId, library: &Path) -> Result<Box<dyn Provider>, Error> {
        // SAFETY: passed on to the caller.
        open_with(spec, id, || unsafe { Cuda::double(library) }.map_err(|absent| absent.error))
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
