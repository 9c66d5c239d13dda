//! CUDA through the driver API (`libcuda.so.1`), loaded at run time.
//!
//! Signatures and status numbers are those of the CUDA Driver API reference, sections 6.3 to 6.13. Statuses are kept
//! as plain integers, because a newer driver may return one that is not listed there yet.

use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

use libloading::Library;

use crate::provider::device::loader::{Absent, Expected, load, symbol_table};
use crate::provider::device::provider::Backend;
use crate::provider::device::{DeviceClass, DeviceFound, Location, Runtime};
use crate::{Bytes, Error, ErrorKind};

pub(super) const DOUBLE_NOTICE: &str = "a test double of the CUDA driver, not hardware";

const UNPINNED_NOTICE: &str =
    "the host would not pin memory for copies: they go through the driver's own, one at a time";

const HINT: &str = "the CUDA driver's library libcuda.so.1 could not be loaded; it comes with NVIDIA's driver";

/// `CUresult`.
type Status = c_int;
/// `CUdevice`: the driver's handle of a device.
type Device = c_int;
/// `CUcontext`, opaque.
type Context = *mut c_void;
/// `CUdeviceptr`: an address on the device, never dereferenced here.
type DevicePointer = u64;
/// `CUstream`, opaque; null is the context's default stream.
type Stream = *mut c_void;
/// `CUevent`, opaque.
type Event = *mut c_void;

const SUCCESS: Status = 0;
const OUT_OF_MEMORY: Status = 2;
const NO_DEVICE: Status = 100;

symbol_table! {
    /// The part of the driver API that a memory tier needs.
    struct Driver {
        fn cuInit(c_uint) -> Status;
        fn cuDriverGetVersion(*mut c_int) -> Status;
        fn cuGetErrorName(Status, *mut *const c_char) -> Status;
        fn cuDeviceGetCount(*mut c_int) -> Status;
        fn cuDeviceGet(*mut Device, c_int) -> Status;
        fn cuDeviceGetName(*mut c_char, c_int, Device) -> Status;
        fn cuDeviceTotalMem_v2(*mut usize, Device) -> Status;
        fn cuDeviceGetPCIBusId(*mut c_char, c_int, Device) -> Status;
        fn cuDevicePrimaryCtxRetain(*mut Context, Device) -> Status;
        fn cuDevicePrimaryCtxRelease_v2(Device) -> Status;
        fn cuCtxPushCurrent_v2(Context) -> Status;
        fn cuCtxPopCurrent_v2(*mut Context) -> Status;
        fn cuMemGetInfo_v2(*mut usize, *mut usize) -> Status;
        fn cuMemAlloc_v2(*mut DevicePointer, usize) -> Status;
        fn cuMemFree_v2(DevicePointer) -> Status;
        fn cuMemsetD8_v2(DevicePointer, u8, usize) -> Status;
        fn cuMemcpyHtoD_v2(DevicePointer, *const c_void, usize) -> Status;
        fn cuMemcpyDtoH_v2(*mut c_void, DevicePointer, usize) -> Status;
        fn cuStreamSynchronize(Stream) -> Status;
        fn cuStreamCreate(*mut Stream, c_uint) -> Status;
        fn cuStreamDestroy_v2(Stream) -> Status;
        fn cuEventCreate(*mut Event, c_uint) -> Status;
        fn cuEventDestroy_v2(Event) -> Status;
        fn cuEventRecord(Event, Stream) -> Status;
        fn cuEventSynchronize(Event) -> Status;
        fn cuMemHostAlloc(*mut *mut c_void, usize, c_uint) -> Status;
        fn cuMemFreeHost(*mut c_void) -> Status;
        fn cuMemcpyHtoDAsync_v2(DevicePointer, *const c_void, usize, Stream) -> Status;
        fn cuMemcpyDtoHAsync_v2(*mut c_void, DevicePointer, usize, Stream) -> Status;
    }
}

/// Calls a driver function, which is unsafe, and turns its status into a `Result` that names the function.
macro_rules! call {
    ($cuda:expr, $function:ident($($argument:expr),* $(,)?)) => {
        $cuda.check(stringify!($function), ($cuda.driver.$function)($($argument),*))
    };
}

mod staging;
use staging::{Staging, WORTHWHILE};

/// A loaded and initialised driver. Never unloaded: drivers keep threads and exit handlers.
pub(super) struct Cuda {
    driver: Driver,
    is_double: bool,
    _library: Library,
}

impl Cuda {
    /// The machine's driver, loaded on first use.
    pub(super) fn get() -> Result<&'static Self, Absent> {
        static CUDA: OnceLock<Result<Cuda, Absent>> = OnceLock::new();
        let loaded = CUDA.get_or_init(|| {
            let name = OsStr::new(Runtime::Cuda.library());
            // SAFETY: the dynamic linker finds the vendor's driver like any other system library.
            unsafe { Self::load(name, Expected::Driver) }
        });
        loaded.as_ref().map_err(Clone::clone)
    }

    /// A test double. Each call loads one more and keeps it until the process ends.
    ///
    /// # Safety
    /// The library at `path` implements the driver's C ABI.
    pub(super) unsafe fn double(path: &Path) -> Result<&'static Self, Absent> {
        // SAFETY: passed on to the caller.
        let loaded = unsafe { Self::load(path.as_os_str(), Expected::Double)? };
        Ok(Box::leak(Box::new(loaded)))
    }

    /// # Safety
    /// The library implements the driver's C ABI.
    unsafe fn load(name: &OsStr, expected: Expected) -> Result<Self, Absent> {
        // SAFETY: passed on to the caller.
        let library = unsafe { load(name, expected, HINT)? };
        // SAFETY: the signatures are those of the API reference; the library lives in the same value as the table.
        let driver = unsafe { Driver::resolve(&library)? };
        let cuda = Self { driver, is_double: expected == Expected::Double, _library: library };
        // SAFETY: cuInit takes no pointers.
        let status = unsafe { (cuda.driver.cuInit)(0) };
        let outcome = match status {
            SUCCESS => Ok(()),
            NO_DEVICE => Err(Absent::new("the CUDA driver is installed but finds no device", cuda.name(status))),
            _ => Err(Absent::new("the CUDA driver is installed but does not start", cuda.name(status))),
        };
        if let Err(absent) = outcome {
            // Not unloaded even so: its initialisers have run and may have left exit handlers.
            std::mem::forget(cuda);
            return Err(absent);
        }
        Ok(cuda)
    }

    /// The driver's own name for a status.
    fn name(&self, status: Status) -> &'static str {
        let mut name = ptr::null();
        // SAFETY: `name` is a valid place for the answer.
        let answer = unsafe { (self.driver.cuGetErrorName)(status, &raw mut name) };
        if answer != SUCCESS || name.is_null() {
            return "a status that the driver has no name for";
        }
        // SAFETY: on success the driver points to a constant string of its own, and it is never unloaded.
        unsafe { CStr::from_ptr(name) }.to_str().unwrap_or("a status whose name is not text")
    }

    fn check(&self, call: &'static str, status: Status) -> Result<(), Error> {
        match status {
            SUCCESS => Ok(()),
            _ if is_loss(status) => Err(Error::new(ErrorKind::Gone)),
            _ => Err(Error::new(ErrorKind::Runtime { call, status: self.name(status) })),
        }
    }

    /// The driver's handle of its device number `index`.
    fn device(&self, index: u32) -> Result<Device, Error> {
        let mut count = 0;
        // SAFETY: `count` is a valid place for the answer.
        unsafe { call!(self, cuDeviceGetCount(&raw mut count)) }?;
        let index = c_int::try_from(index).ok().filter(|&i| i < count).ok_or(Error::new(ErrorKind::NotFound))?;
        let mut device = 0;
        // SAFETY: `device` is a valid place for the answer.
        unsafe { call!(self, cuDeviceGet(&raw mut device, index)) }?;
        Ok(device)
    }

    fn total(&self, device: Device) -> Result<Bytes, Error> {
        let mut bytes = 0;
        // SAFETY: `bytes` is a valid place for the answer.
        unsafe { call!(self, cuDeviceTotalMem_v2(&raw mut bytes, device)) }?;
        Ok(Bytes(bytes as u64))
    }

    /// The devices, in the driver's order; those that cannot be described are named in `problems` with the reason.
    pub(super) fn devices(&self, problems: &mut Vec<String>) -> Result<Vec<DeviceFound>, Error> {
        let mut count = 0;
        // SAFETY: `count` is a valid place for the answer.
        unsafe { call!(self, cuDeviceGetCount(&raw mut count)) }?;
        let described = (0..u32::try_from(count).unwrap_or(0)).filter_map(|index| {
            let note = |why| problems.push(format!("cuda:{index}: {why}"));
            self.describe(index).map_err(note).ok()
        });
        Ok(described.collect())
    }

    fn describe(&self, index: u32) -> Result<DeviceFound, Error> {
        let device = self.device(index)?;
        let mut version = 0;
        // SAFETY: `version` is a valid place for the answer.
        unsafe { call!(self, cuDriverGetVersion(&raw mut version)) }?;
        let name = text(|to, len| {
            // SAFETY: the driver writes at most `len` bytes to `to`.
            unsafe { call!(self, cuDeviceGetName(to, len, device)) }
        })?;
        let pci = text(|to, len| {
            // SAFETY: the driver writes at most `len` bytes to `to`.
            unsafe { call!(self, cuDeviceGetPCIBusId(to, len, device)) }
        });
        Ok(DeviceFound {
            location: Location::Cuda { device: index },
            class: DeviceClass::Gpu,
            name,
            memory: self.total(device)?,
            driver: format!("CUDA {}.{}", version / 1000, version % 1000 / 10),
            pci: pci.ok().filter(|address| !address.is_empty()).map(|address| address.to_ascii_lowercase()),
            double: self.is_double,
        })
    }
}

/// Collects a string of at most 255 bytes that a driver function writes.
fn text(write: impl FnOnce(*mut c_char, c_int) -> Result<(), Error>) -> Result<String, Error> {
    // One byte more than the driver is told of, so that there is a NUL in any case.
    let mut buffer = [0_u8; 256];
    write(buffer.as_mut_ptr().cast(), 255)?;
    Ok(CStr::from_bytes_until_nul(&buffer).map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned()))
}

/// Whether a status means that the device, the driver or our context is lost, with all that was stored there.
const fn is_loss(status: Status) -> bool {
    matches!(
        status,
        3 | 4 // NOT_INITIALIZED, DEINITIALIZED: the driver is shutting down
        | 46 // DEVICE_UNAVAILABLE
        | 100 | 101 // NO_DEVICE, INVALID_DEVICE
        | 201 | 709 // INVALID_CONTEXT, CONTEXT_IS_DESTROYED
        | 214 | 220 | 226 // ECC_UNCORRECTABLE, NVLINK_UNCORRECTABLE, CONTAINED
        | 700 | 702 | 710 | 714
            ..=719 // a kernel of the same context crashed or timed out: the context is dead
        | 802 | 805 | 806 | 807 | 810 // SYSTEM_NOT_READY; the MPS server is gone or ended us
        | 911 | 919 // EXTERNAL_DEVICE, FABRIC_NOT_READY
        | 999 // UNKNOWN: the driver says nothing can be relied on
    )
}

/// One device, through its primary context, which it shares with the CUDA runtime API in the same process.
pub(super) struct CudaDevice {
    cuda: &'static Cuda,
    device: Device,
    context: Context,
    total: Bytes,
    staging: Staging,
}

// SAFETY: a context is an opaque handle that the driver lets any thread push and pop.
unsafe impl Send for CudaDevice {}
// SAFETY: as above; the driver API is thread-safe.
unsafe impl Sync for CudaDevice {}

/// The device's context is this thread's current one until this is dropped; then whichever the program had before.
struct Current<'a>(&'a Cuda);

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let mut popped = ptr::null_mut();
        // SAFETY: `popped` is a valid place for the answer; the context was pushed when this value was made.
        // Failing can only mean that the context is gone, which the next call will report.
        let _ = unsafe { call!(self.0, cuCtxPopCurrent_v2(&raw mut popped)) };
    }
}

impl CudaDevice {
    pub(super) fn open(cuda: &'static Cuda, index: u32) -> Result<Self, Error> {
        let device = cuda.device(index)?;
        let total = cuda.total(device)?;
        let mut context = ptr::null_mut();
        // SAFETY: `context` is a valid place for the answer.
        unsafe { call!(cuda, cuDevicePrimaryCtxRetain(&raw mut context, device)) }?;
        Ok(Self { cuda, device, context, total, staging: Staging::default() })
    }

    pub(super) const fn total(&self) -> Bytes {
        self.total
    }

    pub(super) const fn is_double(&self) -> bool {
        self.cuda.is_double
    }

    fn enter(&self) -> Result<Current<'_>, Error> {
        // SAFETY: the context was retained when the device was opened and is released only with it.
        unsafe { call!(self.cuda, cuCtxPushCurrent_v2(self.context)) }?;
        Ok(Current(self.cuda))
    }

    fn zero(&self, at: DevicePointer, len: usize) -> Result<(), Error> {
        // SAFETY: `at` is a new allocation of `len` bytes of the current context.
        unsafe { call!(self.cuda, cuMemsetD8_v2(at, 0, len)) }?;
        // A memset of device memory is asynchronous; waiting here shows its failure now, to the right caller.
        // SAFETY: null is the default stream.
        unsafe { call!(self.cuda, cuStreamSynchronize(ptr::null_mut())) }
    }
}

impl Backend for CudaDevice {
    type Memory = DevicePointer;

    fn notice(&self) -> Option<&'static str> {
        self.staging.is_refused().then_some(UNPINNED_NOTICE)
    }

    fn occupied(&self) -> Option<Bytes> {
        let _current = self.enter().ok()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both are valid places for the answers.
        unsafe { call!(self.cuda, cuMemGetInfo_v2(&raw mut free, &raw mut total)) }.ok()?;
        Some(Bytes(total.saturating_sub(free) as u64))
    }

    fn allocate(&self, len: usize) -> Result<DevicePointer, Error> {
        let _current = self.enter()?;
        let mut at = 0;
        // SAFETY: `at` is a valid place for the answer.
        let status = unsafe { (self.cuda.driver.cuMemAlloc_v2)(&raw mut at, len) };
        if status == OUT_OF_MEMORY {
            return Err(Error::new(ErrorKind::Full { wanted: Bytes(len as u64) }));
        }
        self.cuda.check("cuMemAlloc_v2", status)?;
        if let Err(error) = self.zero(at, len) {
            // SAFETY: the allocation is ours and nothing else knows of it. The first failure is the one to report.
            let _ = unsafe { call!(self.cuda, cuMemFree_v2(at)) };
            return Err(error);
        }
        Ok(at)
    }

    fn free(&self, memory: DevicePointer) -> Result<(), Error> {
        let _current = self.enter()?;
        // SAFETY: the allocation is this device's, and its only holder gives it up.
        unsafe { call!(self.cuda, cuMemFree_v2(memory)) }
    }

    unsafe fn copy_out(&self, memory: &DevicePointer, offset: usize, into: &mut [u8]) -> Result<(), Error> {
        let _current = self.enter()?;
        let from = *memory + offset as u64;
        if into.len() >= WORTHWHILE {
            // SAFETY: passed on to the caller.
            if let Some(done) = unsafe { self.staging.copy_out(self.cuda, from, into) } {
                return done;
            }
        }
        // SAFETY: the caller keeps the device's range within the allocation; the host's range is `into`.
        unsafe { call!(self.cuda, cuMemcpyDtoH_v2(into.as_mut_ptr().cast(), from, into.len())) }
    }

    unsafe fn copy_in(&self, memory: &DevicePointer, offset: usize, from: &[u8]) -> Result<(), Error> {
        let _current = self.enter()?;
        let to = *memory + offset as u64;
        if from.len() >= WORTHWHILE {
            // SAFETY: passed on to the caller.
            if let Some(done) = unsafe { self.staging.copy_in(self.cuda, to, from) } {
                return done;
            }
        }
        // The driver has staged a pageable source when it returns, and orders later copies after this one.
        // SAFETY: the caller keeps the device's range within the allocation; the host's range is `from`.
        unsafe { call!(self.cuda, cuMemcpyHtoD_v2(to, from.as_ptr().cast(), from.len())) }
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        if let Ok(_current) = self.enter() {
            self.staging.close(self.cuda);
        }
        // SAFETY: retained once in `open`, released once here. There is nobody to tell of a failure.
        let _ = unsafe { call!(self.cuda, cuDevicePrimaryCtxRelease_v2(self.device)) };
    }
}
