//! One OpenCL device as a back end: buffers, and blocking copies to and from them.

use std::ptr;

use super::{Handle, MEM_READ_WRITE, OpenCl, SUCCESS, TRUE, allocation_failure, check};
use crate::provider::device::DeviceClass;
use crate::provider::device::provider::Backend;
use crate::{Bytes, Error};

/// One device with a context and an in-order queue of its own.
pub(in crate::provider::device) struct OpenClDevice {
    opencl: &'static OpenCl,
    context: Handle,
    queue: Handle,
    total: Bytes,
    class: DeviceClass,
}

/// A buffer object.
pub(in crate::provider::device) struct Buffer(Handle);

// SAFETY: OpenCL's objects are opaque handles, and all functions used here may be called from any
// thread (specification, A.2).
unsafe impl Send for OpenClDevice {}
// SAFETY: as above.
unsafe impl Sync for OpenClDevice {}
// SAFETY: as above.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl OpenClDevice {
    pub(in crate::provider::device) fn open(
        opencl: &'static OpenCl,
        platform: u32,
        device: u32,
    ) -> Result<Self, Error> {
        let device = opencl.find(platform, device)?;
        let (total, class) = (opencl.memory(device)?, opencl.class(device)?);
        let mut status = SUCCESS;
        // SAFETY: one device is given, no properties and no callback; `status` is a valid place.
        let context = unsafe {
            (opencl.icd.clCreateContext)(ptr::null(), 1, &raw const device, None, ptr::null_mut(), &raw mut status)
        };
        check("clCreateContext", status)?;
        // SAFETY: the device is the context's; `status` is a valid place.
        let queue = unsafe { (opencl.icd.clCreateCommandQueue)(context, device, 0, &raw mut status) };
        if let Err(error) = check("clCreateCommandQueue", status) {
            // SAFETY: the context is ours and nothing else refers to it.
            unsafe { (opencl.icd.clReleaseContext)(context) };
            return Err(error);
        }
        Ok(Self { opencl, context, queue, total, class })
    }

    pub(in crate::provider::device) const fn total(&self) -> Bytes {
        self.total
    }

    pub(in crate::provider::device) const fn class(&self) -> DeviceClass {
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

    unsafe fn copy_in(&self, memory: &Buffer, offset: usize, from: &[u8]) -> Result<(), Error> {
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
