//! OpenCL through the ICD loader (`libOpenCL.so.1`), loaded at run time.
//!
//! Signatures and constants are those of the OpenCL 1.2 specification and of the extension `cl_khr_pci_bus_info`.

mod device;

use std::ffi::{OsStr, c_void};
use std::ptr;
use std::sync::OnceLock;

use libloading::Library;

use crate::provider::device::loader::{Absent, Expected, load, symbol_table};
use crate::provider::device::{DeviceClass, DeviceFound, Location, Runtime};
use crate::{Bytes, Error, ErrorKind};

pub(super) use device::OpenClDevice;

pub(super) const CPU_NOTICE: &str = "an OpenCL device that is a CPU: its memory is host memory, not an accelerator's";

const HINT: &str = "OpenCL's loader libOpenCL.so.1 could not be loaded; Debian has it in ocl-icd-libopencl1";
const NO_PLATFORM: &str = "OpenCL's loader finds no platform; install the device's driver, or pocl-opencl-icd";

type Status = i32;
/// Platforms, devices, contexts, queues and buffers are all opaque pointers.
type Handle = *mut c_void;
type NotifyFn = Option<unsafe extern "C" fn(*const i8, *const c_void, usize, *mut c_void)>;

const SUCCESS: Status = 0;
const DEVICE_NOT_FOUND: Status = -1;
const PLATFORM_NOT_FOUND_KHR: Status = -1001;
const TRUE: u32 = 1;
const MEM_READ_WRITE: u64 = 1;
const DEVICE_TYPE_ALL: u64 = 0xffff_ffff;
const PLATFORM_NAME: u32 = 0x0902;
const DEVICE_TYPE: u32 = 0x1000;
const DEVICE_GLOBAL_MEM_SIZE: u32 = 0x101f;
const DEVICE_NAME: u32 = 0x102b;
const DRIVER_VERSION: u32 = 0x102d;
const DEVICE_PCI_BUS_INFO_KHR: u32 = 0x410f;

symbol_table! {
    /// The part of OpenCL 1.2 that a memory tier needs.
    struct Icd {
        fn clGetPlatformIDs(u32, *mut Handle, *mut u32) -> Status;
        fn clGetPlatformInfo(Handle, u32, usize, *mut c_void, *mut usize) -> Status;
        fn clGetDeviceIDs(Handle, u64, u32, *mut Handle, *mut u32) -> Status;
        fn clGetDeviceInfo(Handle, u32, usize, *mut c_void, *mut usize) -> Status;
        fn clCreateContext(*const isize, u32, *const Handle, NotifyFn, *mut c_void, *mut Status) -> Handle;
        fn clReleaseContext(Handle) -> Status;
        fn clCreateCommandQueue(Handle, Handle, u64, *mut Status) -> Handle;
        fn clReleaseCommandQueue(Handle) -> Status;
        fn clCreateBuffer(Handle, u64, usize, *mut c_void, *mut Status) -> Handle;
        fn clReleaseMemObject(Handle) -> Status;
        fn clEnqueueReadBuffer(
            Handle, Handle, u32, usize, usize, *mut c_void, u32, *const Handle, *mut Handle,
        ) -> Status;
        fn clEnqueueWriteBuffer(
            Handle, Handle, u32, usize, usize, *const c_void, u32, *const Handle, *mut Handle,
        ) -> Status;
        fn clEnqueueFillBuffer(
            Handle, Handle, *const c_void, usize, usize, usize, u32, *const Handle, *mut Handle,
        ) -> Status;
        fn clFinish(Handle) -> Status;
    }
}

/// The loaded ICD loader and what it found. Never unloaded: the platforms behind it keep threads.
pub(super) struct OpenCl {
    icd: Icd,
    platforms: Vec<Platform>,
    _library: Library,
}

struct Platform {
    handle: Handle,
    /// In the platform's order.
    devices: Result<Vec<Handle>, Error>,
}

// SAFETY: OpenCL's handles are opaque, and all functions used here may be called from any thread (specification, A.2).
unsafe impl Send for Platform {}
// SAFETY: as above.
unsafe impl Sync for Platform {}

impl OpenCl {
    /// The machine's OpenCL, loaded on first use.
    ///
    /// All devices are asked for here, once and by one thread. PoCL 3.1 starts its devices when they are first asked
    /// for, and meanwhile shows half-started ones to other threads, which crash in `clGetDeviceInfo`.
    pub(super) fn get() -> Result<&'static Self, Absent> {
        static OPENCL: OnceLock<Result<OpenCl, Absent>> = OnceLock::new();
        OPENCL.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, Absent> {
        let name = OsStr::new(Runtime::OpenCl.library());
        // SAFETY: the dynamic linker finds the ICD loader like any other system library.
        let library = unsafe { load(name, Expected::Driver, HINT)? };
        // SAFETY: the signatures are the specification's; the library lives in the same value as the table.
        let icd = unsafe { Icd::resolve(&library)? };
        let mut opencl = Self { icd, platforms: Vec::new(), _library: library };
        match opencl.find_platforms() {
            Ok(platforms) => {
                opencl.platforms = platforms;
                Ok(opencl)
            }
            Err(error) => {
                // Not unloaded even so: what its initialisers left may still run.
                std::mem::forget(opencl);
                Err(error.into())
            }
        }
    }

    /// The platforms, in the loader's order; none is an error, because no device can be had then.
    fn find_platforms(&self) -> Result<Vec<Platform>, Error> {
        let platforms = list(|room, into, count| {
            // SAFETY: `into` has `room` places (or is null with none) and `count` is a valid place.
            unsafe { (self.icd.clGetPlatformIDs)(room, into, count) }
        });
        match platforms {
            Ok(found) if !found.is_empty() => {
                Ok(found.into_iter().map(|handle| Platform { handle, devices: self.find_devices(handle) }).collect())
            }
            Ok(_) | Err(PLATFORM_NOT_FOUND_KHR) => Err(Error::new(ErrorKind::Unsupported { reason: NO_PLATFORM })),
            Err(status) => Err(failure("clGetPlatformIDs", status)),
        }
    }

    fn find_devices(&self, platform: Handle) -> Result<Vec<Handle>, Error> {
        let devices = list(|room, into, count| {
            // SAFETY: the platform is the loader's; `into` has `room` places (or is null with none).
            unsafe { (self.icd.clGetDeviceIDs)(platform, DEVICE_TYPE_ALL, room, into, count) }
        });
        match devices {
            Err(DEVICE_NOT_FOUND) => Ok(Vec::new()),
            other => other.map_err(|status| failure("clGetDeviceIDs", status)),
        }
    }

    /// All devices of all platforms; those that cannot be described are named in `problems` with the reason.
    pub(super) fn devices(&self, problems: &mut Vec<String>) -> Vec<DeviceFound> {
        let mut all = Vec::new();
        for (platform, Platform { handle, devices }) in (0..).zip(&self.platforms) {
            if let Err(why) = devices {
                problems.push(format!("opencl:{platform}: {why}"));
            }
            for (device, &found) in (0..).zip(devices.iter().flatten()) {
                let location = Location::OpenCl { platform, device };
                match self.describe(location, *handle, found) {
                    Ok(found) => all.push(found),
                    Err(why) => problems.push(format!("{location}: {why}")),
                }
            }
        }
        all
    }

    fn find(&self, platform: u32, device: u32) -> Result<Handle, Error> {
        let missing = Error::new(ErrorKind::NotFound);
        let platform = self.platforms.get(platform as usize).ok_or(missing)?;
        platform.devices.as_ref().map_err(|&why| why)?.get(device as usize).copied().ok_or(missing)
    }

    fn describe(&self, location: Location, platform: Handle, device: Handle) -> Result<DeviceFound, Error> {
        let platform = text(|room, into, len| {
            // SAFETY: `into` has `room` bytes (or is null with none) and `len` is a valid place.
            unsafe { (self.icd.clGetPlatformInfo)(platform, PLATFORM_NAME, room, into, len) }
        })?;
        let version = self.device_text(device, DRIVER_VERSION)?;
        let pci = self.device_value::<[u32; 4]>(device, DEVICE_PCI_BUS_INFO_KHR);
        Ok(DeviceFound {
            location,
            class: self.class(device)?,
            name: self.device_text(device, DEVICE_NAME)?,
            memory: self.memory(device)?,
            driver: format!("{platform} {version}"),
            // Devices without the extension have no such answer.
            pci: pci
                .ok()
                .map(|[domain, bus, device, function]| format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}")),
            double: false,
        })
    }

    fn memory(&self, device: Handle) -> Result<Bytes, Error> {
        self.device_value::<u64>(device, DEVICE_GLOBAL_MEM_SIZE).map(Bytes)
    }

    fn class(&self, device: Handle) -> Result<DeviceClass, Error> {
        let bits = self.device_value::<u64>(device, DEVICE_TYPE)?;
        // CL_DEVICE_TYPE_CPU is 1 << 1, _GPU 1 << 2, _ACCELERATOR 1 << 3, _CUSTOM 1 << 4.
        Ok(match bits {
            _ if bits & (1 << 1) != 0 => DeviceClass::Cpu,
            _ if bits & (1 << 2) != 0 => DeviceClass::Gpu,
            _ => DeviceClass::Accelerator,
        })
    }

    fn device_text(&self, device: Handle, what: u32) -> Result<String, Error> {
        text(|room, into, len| {
            // SAFETY: `into` has `room` bytes (or is null with none) and `len` is a valid place.
            unsafe { (self.icd.clGetDeviceInfo)(device, what, room, into, len) }
        })
    }

    /// A figure of a device; `T` is an integer or an array of integers, of the size that the specification gives.
    fn device_value<T: Copy + Default>(&self, device: Handle, what: u32) -> Result<T, Error> {
        let mut value = T::default();
        let mut written = 0;
        let (room, into) = (size_of::<T>(), (&raw mut value).cast());
        // SAFETY: `into` has `room` bytes, for which any bit pattern will do.
        let status = unsafe { (self.icd.clGetDeviceInfo)(device, what, room, into, &raw mut written) };
        match status {
            SUCCESS if written == room => Ok(value),
            SUCCESS => Err(Error::new(ErrorKind::Runtime { call: "clGetDeviceInfo", status: "an answer of odd size" })),
            _ => Err(failure("clGetDeviceInfo", status)),
        }
    }
}

/// Asks for a list in OpenCL's two steps: how many, then all of them.
fn list(mut ask: impl FnMut(u32, *mut Handle, *mut u32) -> Status) -> Result<Vec<Handle>, Status> {
    let mut count = 0;
    match ask(0, ptr::null_mut(), &raw mut count) {
        SUCCESS => {}
        status => return Err(status),
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut handles = vec![ptr::null_mut(); count as usize];
    match ask(count, handles.as_mut_ptr(), &raw mut count) {
        SUCCESS => {
            // Fewer may have come back, if a device went away in between.
            handles.truncate(count as usize);
            Ok(handles)
        }
        status => Err(status),
    }
}

/// Asks for a string in OpenCL's two steps: how long, then all of it.
fn text(mut ask: impl FnMut(usize, *mut c_void, *mut usize) -> Status) -> Result<String, Error> {
    let mut len = 0;
    let mut bytes = Vec::new();
    let mut status = ask(0, ptr::null_mut(), &raw mut len);
    if status == SUCCESS {
        bytes.resize(len, 0_u8);
        status = ask(len, bytes.as_mut_ptr().cast(), ptr::null_mut());
    }
    if status != SUCCESS {
        return Err(failure("clGetDeviceInfo", status));
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').trim().to_owned())
}

/// The specification's name for a status that the calls used here may return.
const fn name(status: Status) -> &'static str {
    match status {
        -1 => "CL_DEVICE_NOT_FOUND",
        -2 => "CL_DEVICE_NOT_AVAILABLE",
        -4 => "CL_MEM_OBJECT_ALLOCATION_FAILURE",
        -5 => "CL_OUT_OF_RESOURCES",
        -6 => "CL_OUT_OF_HOST_MEMORY",
        -14 => "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST",
        -30 => "CL_INVALID_VALUE",
        -32 => "CL_INVALID_PLATFORM",
        -33 => "CL_INVALID_DEVICE",
        -34 => "CL_INVALID_CONTEXT",
        -36 => "CL_INVALID_COMMAND_QUEUE",
        -38 => "CL_INVALID_MEM_OBJECT",
        -59 => "CL_INVALID_OPERATION",
        -61 => "CL_INVALID_BUFFER_SIZE",
        -1001 => "CL_PLATFORM_NOT_FOUND_KHR",
        _ => "a status that OpenCL 1.2 does not name",
    }
}

fn failure(call: &'static str, status: Status) -> Error {
    Error::new(match status {
        // The device, or with it our context or queue, is gone.
        -2 | -34 | -36 => ErrorKind::Gone,
        _ => ErrorKind::Runtime { call, status: name(status) },
    })
}

/// What a failed allocation of `len` bytes means. `CL_INVALID_BUFFER_SIZE` is a size beyond the device's limit for
/// one buffer: there is no room for it in one piece.
fn allocation_failure(call: &'static str, status: Status, len: usize) -> Error {
    match status {
        -4 | -5 | -6 | -61 => Error::new(ErrorKind::Full { wanted: Bytes(len as u64) }),
        _ => failure(call, status),
    }
}

fn check(call: &'static str, status: Status) -> Result<(), Error> {
    if status == SUCCESS { Ok(()) } else { Err(failure(call, status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_the_kinds_that_callers_match_on() {
        let wanted = Bytes::mib(2);
        for status in [-4, -5, -6, -61] {
            assert_eq!(allocation_failure("", status, 2 << 20).kind(), ErrorKind::Full { wanted }, "{status}");
        }
        for status in [-2, -34, -36] {
            assert_eq!(failure("", status).kind(), ErrorKind::Gone, "{status}");
        }
        // Running out of resources while copying is no statement about room.
        let copy = failure("clEnqueueReadBuffer", -5).to_string();
        assert_eq!(copy, "clEnqueueReadBuffer failed: CL_OUT_OF_RESOURCES");
    }

    #[test]
    fn lists_and_texts_survive_odd_answers() {
        assert_eq!(list(|_, _, _| -1001), Err(PLATFORM_NOT_FOUND_KHR));
        assert_eq!(list(|_, _, _| SUCCESS), Ok(Vec::new()));
        assert_eq!(text(|_, _, _| SUCCESS).unwrap(), "");
        assert!(text(|_, _, _| -30).unwrap_err().to_string().contains("CL_INVALID_VALUE"));
    }
}
