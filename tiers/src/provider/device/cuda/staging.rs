//! Copies of more than a few OS pages, through pinned memory.
//!
//! A device's copy engines reach only host memory that is pinned. For other memory the driver stages each copy in a pinned
//! buffer of its own, and for one thread at a time: sixteen threads together got 11 of the 55 GB/s of an H100's PCIe 5.0
//! x16, and get 33 this way (docs/measurements.md). Here each copy that is under way has its own stream and its own pair of pinned buffers, and the CPU fills or empties
//! one while the device works on the other.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Condvar, Mutex, PoisonError};

use super::{Cuda, DevicePointer, Event, Stream};
use crate::Error;

/// Copies below this go to the driver as they are: up to 64 KiB it copies into its command buffer, and starting a staged copy
/// and waiting for it takes some 10 µs.
pub(super) const WORTHWHILE: usize = 256 << 10;

/// One pinned buffer. The driver serves one call at a time, so pieces must be large where many threads copy: with 128 KiB
/// sixteen threads reached 14 to 20 GB/s on an H100, with 512 KiB 25, with 1 MiB 33.
const PIECE: usize = 1 << 20;

/// Copies that run at once; more wait. Eight CPUs saturate a PCIe 5.0 x16 link, and pinned memory is a burden on the host.
const LANES: usize = 8;

/// Without timing, which would make recording them slow.
const EVENT_DISABLE_TIMING: u32 = 2;
/// Runs beside the default stream instead of waiting for it.
const STREAM_NON_BLOCKING: u32 = 1;

/// The lanes of one device. Each is made when it is first needed, and all are kept until [`Staging::close`].
#[derive(Default)]
pub(super) struct Staging {
    lanes: Mutex<Lanes>,
    returned: Condvar,
}

#[derive(Default)]
struct Lanes {
    idle: Vec<Lane>,
    made: usize,
    /// The host would not pin memory for even one lane.
    refused: bool,
}

struct Lane {
    stream: Stream,
    halves: [Half; 2],
}

/// A pinned buffer of [`PIECE`] bytes, and the event after the last transfer from or to it.
struct Half {
    pinned: *mut u8,
    transferred: Event,
}

// SAFETY: handles and buffers that belong to whoever holds the lane; the driver takes them from any thread.
unsafe impl Send for Lane {}

/// A lane in use; goes back when this is dropped.
struct Taken<'a> {
    staging: &'a Staging,
    lane: Option<Lane>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.staging.lanes.lock().unwrap_or_else(PoisonError::into_inner).idle.push(lane);
            self.staging.returned.notify_one();
        }
    }
}

impl Staging {
    /// Whether copies have to do without, because the host would not pin memory.
    pub(super) fn is_refused(&self) -> bool {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).refused
    }

    /// A lane, at once or when another copy has ended; `None` if the host pins no memory.
    fn take(&self, cuda: &Cuda) -> Option<Taken<'_>> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = loop {
            if let Some(lane) = lanes.idle.pop() {
                break lane;
            }
            if lanes.refused {
                return None;
            }
            if lanes.made < LANES {
                match Lane::make(cuda) {
                    Ok(lane) => {
                        lanes.made += 1;
                        break lane;
                    }
                    Err(_) if lanes.made == 0 => {
                        lanes.refused = true;
                        return None;
                    }
                    // No more than there are, then.
                    Err(_) => {}
                }
            }
            lanes = self.returned.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        };
        Some(Taken { staging: self, lane: Some(lane) })
    }

    /// Copies to the device; `None` if it has to be done without staging. The device's context is current.
    ///
    /// # Safety
    /// `from.len()` bytes at `to` are an allocation's of the current context.
    pub(super) unsafe fn copy_in(&self, cuda: &Cuda, to: DevicePointer, from: &[u8]) -> Option<Result<(), Error>> {
        let taken = self.take(cuda)?;
        let lane = taken.lane.as_ref()?;
        let copy = || {
            for (number, piece) in from.chunks(PIECE).enumerate() {
                let half = &lane.halves[number % 2];
                if number >= 2 {
                    half.wait(cuda)?;
                }
                // SAFETY: the piece is no longer than the buffer, whose last transfer has ended.
                unsafe { ptr::copy_nonoverlapping(piece.as_ptr(), half.pinned, piece.len()) };
                let at = to + (number * PIECE) as u64;
                let source = half.pinned.cast_const().cast::<c_void>();
                // SAFETY: the device's range is the caller's promise; the buffer stays as it is until the event.
                unsafe { call!(cuda, cuMemcpyHtoDAsync_v2(at, source, piece.len(), lane.stream)) }?;
                half.record(cuda, lane.stream)?;
            }
            Ok(())
        };
        Some(lane.finish(cuda, copy()))
    }

    /// Copies from the device; `None` if it has to be done without staging. The device's context is current.
    ///
    /// # Safety
    /// As [`Staging::copy_in`].
    pub(super) unsafe fn copy_out(
        &self,
        cuda: &Cuda,
        from: DevicePointer,
        into: &mut [u8],
    ) -> Option<Result<(), Error>> {
        let taken = self.take(cuda)?;
        let lane = taken.lane.as_ref()?;
        let len = into.len();
        let fetch = |number: usize| {
            let half = &lane.halves[number % 2];
            let start = number * PIECE;
            if start >= len {
                return Ok(());
            }
            let (at, bytes) = (from + start as u64, PIECE.min(len - start));
            // SAFETY: the device's range is the caller's promise; nobody looks at the buffer until the event.
            unsafe { call!(cuda, cuMemcpyDtoHAsync_v2(half.pinned.cast::<c_void>(), at, bytes, lane.stream)) }?;
            half.record(cuda, lane.stream)
        };
        let mut copy = || {
            fetch(0)?;
            fetch(1)?;
            for (number, piece) in into.chunks_mut(PIECE).enumerate() {
                let half = &lane.halves[number % 2];
                half.wait(cuda)?;
                // SAFETY: the buffer holds this piece: its transfer has ended, and the next into it starts below.
                unsafe { ptr::copy_nonoverlapping(half.pinned, piece.as_mut_ptr(), piece.len()) };
                fetch(number + 2)?;
            }
            Ok(())
        };
        Some(lane.finish(cuda, copy()))
    }

    /// Gives everything back. The device's context is current, and no copy is under way.
    pub(super) fn close(&self, cuda: &Cuda) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        for lane in std::mem::take(&mut lanes.idle) {
            lane.unmake(cuda);
        }
        lanes.made = 0;
    }
}

impl Lane {
    fn make(cuda: &Cuda) -> Result<Self, Error> {
        let mut lane = Self { stream: ptr::null_mut(), halves: [Half::NONE, Half::NONE] };
        match lane.fill(cuda) {
            Ok(()) => Ok(lane),
            Err(error) => {
                lane.unmake(cuda);
                Err(error)
            }
        }
    }

    fn fill(&mut self, cuda: &Cuda) -> Result<(), Error> {
        // SAFETY: all are valid places for the answers.
        unsafe {
            call!(cuda, cuStreamCreate(&raw mut self.stream, STREAM_NON_BLOCKING))?;
            for half in &mut self.halves {
                call!(cuda, cuEventCreate(&raw mut half.transferred, EVENT_DISABLE_TIMING))?;
                let mut pinned: *mut c_void = ptr::null_mut();
                call!(cuda, cuMemHostAlloc(&raw mut pinned, PIECE, 0))?;
                half.pinned = pinned.cast();
            }
        }
        Ok(())
    }

    /// What is under way still uses the buffers, so its end is awaited whatever happened; the first failure is reported.
    fn finish(&self, cuda: &Cuda, result: Result<(), Error>) -> Result<(), Error> {
        // SAFETY: the stream is this lane's.
        let ended = unsafe { call!(cuda, cuStreamSynchronize(self.stream)) };
        result.and(ended)
    }

    /// Gives back what there is of it. A failure can only mean that the context is gone, and with it all of this.
    fn unmake(self, cuda: &Cuda) {
        // SAFETY: all are this lane's, and nothing is under way.
        unsafe {
            for half in &self.halves {
                if !half.pinned.is_null() {
                    let _ = call!(cuda, cuMemFreeHost(half.pinned.cast()));
                }
                if !half.transferred.is_null() {
                    let _ = call!(cuda, cuEventDestroy_v2(half.transferred));
                }
            }
            if !self.stream.is_null() {
                let _ = call!(cuda, cuStreamDestroy_v2(self.stream));
            }
        }
    }
}

impl Half {
    const NONE: Self = Self { pinned: ptr::null_mut(), transferred: ptr::null_mut() };

    fn record(&self, cuda: &Cuda, stream: Stream) -> Result<(), Error> {
        // SAFETY: both are of the same lane.
        unsafe { call!(cuda, cuEventRecord(self.transferred, stream)) }
    }

    fn wait(&self, cuda: &Cuda) -> Result<(), Error> {
        // SAFETY: the event is this lane's.
        unsafe { call!(cuda, cuEventSynchronize(self.transferred)) }
    }
}
