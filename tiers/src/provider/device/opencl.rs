//! OpenCL through the ICD loader (`libOpenCL.so.1`), loaded at run time.
//!
//! Signatures and constants are those of the OpenCL 1.2 specification and of the extension `cl_khr_pci_bus_info`.

use std::ffi::{OsStr, c_void};
use std::ptr;
use std::sync::OnceLock;

use libloading::Library;

use crate::provider::device::loader::{Absent, Expected, load, symbol_table};
use crate::provider::device::provider::Backend;
use crate::provider::device::{DeviceClass, DeviceFound, Location, Runtime};
use crate::{Bytes, Error, ErrorKind};

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

/// The loaded ICD loader. Never unloaded: the platforms behind it keep threads.
pub(super) struct OpenCl {
    icd: Icd,
    _library: Library,
}

/// One device's handle, and its platform's.
#[derive(Clone, Copy)]
struct Found {
    platform: Handle,
    device: Handle,
    location: Location,
}

impl OpenCl {
    /// The machine's OpenCL, loaded on first use.
    pub(super) fn get() -> Result<&'static Self, Absent> {
        static OPENCL: OnceLock<Result<OpenCl, Absent>> = OnceLock::new();
        let loaded = OPENCL.get_or_init(|| {
            let name = OsStr::new(Runtime::OpenCl.library());
            // SAFETY: the dynamic linker finds the ICD loader like any other system library.
            let library = unsafe { load(name, Expected::Driver, HINT)? };
            // SAFETY: the signatures are the specification's; the library lives in the same value as the table.
            let icd = unsafe { Icd::resolve(&library)? };
            Ok(Self { icd, _library: library })
        });
        loaded.as_ref().map_err(Clone::clone)
    }

    /// The platforms, in the loader's order; none is an error, because no device can be had then.
    fn platforms(&self) -> Result<Vec<Handle>, Error> {
        let platforms = list(|room, into, count| {
            // SAFETY: `into` has `room` places (or is null with none) and `count` is a valid place.
            unsafe { (self.icd.clGetPlatformIDs)(room, into, count) }
        });
        match platforms {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) | Err(PLATFORM_NOT_FOUND_KHR) => Err(Error::new(ErrorKind::Unsupported { reason: NO_PLATFORM })),
            Err(status) => Err(failure("clGetPlatformIDs", status)),
        }
    }

    fn devices_of(&self, platform: Handle) -> Result<Vec<Handle>, Error> {
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
    pub(super) fn devices(&self, problems: &mut Vec<String>) -> Result<Vec<DeviceFound>, Error> {
        let mut all = Vec::new();
        for (platform_index, platform) in (0..).zip(self.platforms()?) {
            let devices = self.devices_of(platform).unwrap_or_else(|why| {
                problems.push(format!("opencl:{platform_index}: {why}"));
                Vec::new()
            });
            for (device_index, device) in (0..).zip(devices) {
                let location = Location::OpenCl { platform: platform_index, device: device_index };
                match self.describe(Found { platform, device, location }) {
                    Ok(found) => all.push(found),
                    Err(why) => problems.push(format!("{location}: {why}")),
                }
            }
        }
        Ok(all)
    }

    fn find(&self, platform: u32, device: u32) -> Result<Found, Error> {
        let missing = Error::new(ErrorKind::NotFound);
        let location = Location::OpenCl { platform, device };
        let platform = *self.platforms()?.get(platform as usize).ok_or(missing)?;
        let device = *self.devices_of(platform)?.get(device as usize).ok_or(missing)?;
        Ok(Found { platform, device, location })
    }

    fn describe(&self, found: Found) -> Result<DeviceFound, Error> {
        let platform = text(|room, into, len| {
            // SAFETY: `into` has `room` bytes (or is null with none) and `len` is a valid place.
            unsafe { (self.icd.clGetPlatformInfo)(found.platform, PLATFORM_NAME, room, into, len) }
        })?;
        let version = self.device_text(found.device, DRIVER_VERSION)?;
        let pci = self.device_value::<[u32; 4]>(found.device, DEVICE_PCI_BUS_INFO_KHR);
        Ok(DeviceFound {
            location: found.location,
            class: self.class(found.device)?,
            name: self.device_text(found.device, DEVICE_NAME)?,
            memory: self.memory(found.device)?,
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

/// One device with a context and an in-order queue of its own.
pub(super) struct OpenClDevice {
    opencl: &'static OpenCl,
    context: Handle,
    queue: Handle,
    total: Bytes,
    class: DeviceClass,
}

/// A buffer object.
pub(super) struct Buffer(Handle);

// SAFETY: OpenCL's objects are opaque handles, and all functions used here are thread-safe (specification, A.2).
unsafe impl Send for OpenClDevice {}
// SAFETY: as above.
unsafe impl Sync for OpenClDevice {}
// SAFETY: as above.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl OpenClDevice {
    pub(super) fn open(opencl: &'static OpenCl, platform: u32, device: u32) -> Result<Self, Error> {
        let found = opencl.find(platform, device)?;
        let (total, class) = (opencl.memory(found.device)?, opencl.class(found.device)?);
        let mut status = SUCCESS;
        // SAFETY: one device is given, no properties and no callback; `status` is a valid place.
        let context = unsafe {
            (opencl.icd.clCreateContext)(
                ptr::null(),
                1,
                &raw const found.device,
                None,
                ptr::null_mut(),
                &raw mut status,
            )
        };
        check("clCreateContext", status)?;
        // SAFETY: the device is the context's; `status` is a valid place.
        let queue = unsafe { (opencl.icd.clCreateCommandQueue)(context, found.device, 0, &raw mut status) };
        if let Err(error) = check("clCreateCommandQueue", status) {
            // SAFETY: the context is ours and nothing else refers to it.
            unsafe { (opencl.icd.clReleaseContext)(context) };
            return Err(error);
        }
        Ok(Self { opencl, context, queue, total, class })
    }

    pub(super) const fn total(&self) -> Bytes {
        self.total
    }

    pub(super) const fn class(&self) -> DeviceClass {
        self.class
    }

    /// Fills a new buffer with zeroes and waits for it, which also makes lazy runtimes really allocate.
    fn zero(&self, buffer: &Buffer, len: usize) -> Result<(), Error> {
        let zero = 0_u32;
        let pattern = (&raw const zero).cast();
        // SAFETY: the buffer has `len` bytes, a multiple of the pattern's four; the pattern is copied at once.
        let status = unsafe {
            (self.opencl.icd.clEnqueueFillBuffer)(
                self.queue,
                buffer.0,
                pattern,
                4,
                0,
                len,
                0,
                ptr::null(),
                ptr::null_mut(),
            )
        };
        if status != SUCCESS {
            return Err(allocation_failure("clEnqueueFillBuffer", status, len));
        }
        // SAFETY: the queue is ours.
        match unsafe { (self.opencl.icd.clFinish)(self.queue) } {
            SUCCESS => Ok(()),
            status => Err(allocation_failure("clFinish", status, len)),
        }
    }
}

impl Backend for OpenClDevice {
    type Memory = Buffer;

    fn occupied(&self) -> Option<Bytes> {
        // OpenCL has no such question.
        None
    }

    fn allocate(&self, len: usize) -> Result<Buffer, Error> {
        let mut status = SUCCESS;
        // SAFETY: the context is ours, there is no host pointer, and `status` is a valid place.
        let buffer = unsafe {
            (self.opencl.icd.clCreateBuffer)(self.context, MEM_READ_WRITE, len, ptr::null_mut(), &raw mut status)
        };
        if status != SUCCESS {
            return Err(allocation_failure("clCreateBuffer", status, len));
        }
        let buffer = Buffer(buffer);
        match self.zero(&buffer, len) {
            Ok(()) => Ok(buffer),
            Err(error) => {
                // The first failure is the one to report.
                let _ = self.free(buffer);
                Err(error)
            }
        }
    }

    fn free(&self, memory: Buffer) -> Result<(), Error> {
        // SAFETY: the buffer is ours, and its only holder gives it up.
        check("clReleaseMemObject", unsafe { (self.opencl.icd.clReleaseMemObject)(memory.0) })
    }

    unsafe fn copy_out(&self, memory: &Buffer, offset: usize, into: &mut [u8]) -> Result<(), Error> {
        let (to, len) = (into.as_mut_ptr().cast(), into.len());
        // SAFETY: the caller keeps the range within the buffer; the call blocks until `into` is filled.
        let status = unsafe {
            (self.opencl.icd.clEnqueueReadBuffer)(
                self.queue,
                memory.0,
                TRUE,
                offset,
                len,
                to,
                0,
                ptr::null(),
                ptr::null_mut(),
            )
        };
        check("clEnqueueReadBuffer", status)
    }

    unsafe fn copy_in(&self, memory: &mut Buffer, offset: usize, from: &[u8]) -> Result<(), Error> {
        let (at, len) = (from.as_ptr().cast(), from.len());
        // SAFETY: the caller keeps the range within the buffer; the call blocks until `from` has been read.
        let status = unsafe {
            (self.opencl.icd.clEnqueueWriteBuffer)(
                self.queue,
                memory.0,
                TRUE,
                offset,
                len,
                at,
                0,
                ptr::null(),
                ptr::null_mut(),
            )
        };
        check("clEnqueueWriteBuffer", status)
    }
}

impl Drop for OpenClDevice {
    fn drop(&mut self) {
        // SAFETY: the queue is ours and this is its last use. There is nobody to tell of a failure.
        unsafe { (self.opencl.icd.clReleaseCommandQueue)(self.queue) };
        // SAFETY: likewise the context.
        unsafe { (self.opencl.icd.clReleaseContext)(self.context) };
    }
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
