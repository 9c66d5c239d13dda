//! Sampling with perf_event_open(2): which addresses this thread touches, or where it spends its time.
//!
//! The structures mirror `include/uapi/linux/perf_event.h`.

pub mod registers;

use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::map::os_page_size;
use crate::{Errno, Result};

#[repr(C)]
#[derive(Default)]
struct Attr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clock_id: i32,
}

/// The first OS page of the mapped buffer; only the fields that are used.
#[repr(C)]
struct Control {
    before: [u8; 1024],
    data_head: AtomicU64,
    data_tail: AtomicU64,
    data_offset: u64,
    data_size: u64,
}

/// What is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Type of the event source (`/sys/bus/event_source/devices/*/type`).
    pub kind: u32,
    /// The event.
    pub config: u64,
    /// Its first extra word (load latency threshold on Intel).
    pub config1: u64,
    /// A sample every so many events.
    pub period: u64,
    /// How exact the sampled instruction must be: 0 (may skid) to 3.
    pub precise: u8,
    /// Leave the kernel and the hypervisor out. IBS before Linux 6.15 cannot.
    pub user_only: bool,
}

impl Event {
    /// The software timer: works everywhere, gives instruction addresses only.
    pub const fn cpu_clock(period_ns: u64) -> Self {
        Self { kind: 1, config: 0, config1: 0, period: period_ns, precise: 0, user_only: true }
    }
}

/// One sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Instruction.
    pub instruction: u64,
    /// Thread.
    pub thread: u32,
    /// Data address; 0 where the event has none.
    pub address: u64,
}

/// An open event with the buffer that its records come through.
#[derive(Debug)]
struct Ring {
    fd: OwnedFd,
    buffer: NonNull<u8>,
    len: usize,
}

// SAFETY: the buffer belongs to this value alone; its address means the same in every thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Opens an event of the calling thread, on one CPU or on any, with `data_pages` OS pages of records, a power of two.
    fn open(attr: &Attr, cpu: Option<u32>, data_pages: usize) -> Result<Self> {
        const CLOEXEC: u64 = 8;
        let cpu = cpu.and_then(|cpu| i32::try_from(cpu).ok()).unwrap_or(-1);
        // SAFETY: the kernel reads `attr.size` bytes of `attr`; pid 0 is this thread, CPU -1 is any, no group.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const *attr, 0, cpu, -1, CLOEXEC) };
        let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: a new descriptor that nobody else knows.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // One OS page of control before the data.
        let len = os_page_size() * (data_pages + 1);
        const PROT: i32 = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let buffer = unsafe { libc::mmap(std::ptr::null_mut(), len, PROT, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if buffer == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let buffer = NonNull::new(buffer.cast()).ok_or(Errno::EFAULT)?;
        Ok(Self { fd, buffer, len })
    }

    fn stop(&self) -> Result<()> {
        const DISABLE: libc::Ioctl = libc::_IO(b'$' as u32, 1);
        // SAFETY: takes no argument.
        Errno::result(unsafe { libc::ioctl(self.fd.as_raw_fd(), DISABLE, 0) }).map(drop)
    }

    /// Hands every waiting record to `each`: its type and its 8-byte words, the header first. Does not allocate.
    fn drain(&mut self, mut each: impl FnMut(u32, &dyn Fn(u64) -> u64)) {
        let control = self.buffer.cast::<Control>();
        // SAFETY: the mapping starts with a perf_event_mmap_page, of which Control is a prefix; it lives as long as
        // self, and the kernel changes data_head only atomically.
        let control = unsafe { control.as_ref() };
        // Acquire: pairs with the kernel's barrier between writing records and publishing data_head.
        let head = control.data_head.load(Ordering::Acquire);
        // Relaxed: only we write data_tail.
        let mut tail = control.data_tail.load(Ordering::Relaxed);
        let (offset, size) = (control.data_offset as usize, control.data_size as usize);
        while tail < head && size > 0 {
            let word = |index: u64| {
                let at = offset + ((tail + index * 8) as usize) % size;
                // SAFETY: `at` is 8-aligned and inside the data area, which the kernel does not write before
                // data_tail has passed it.
                unsafe { self.buffer.add(at).cast::<u64>().read_volatile() }
            };
            let header = word(0);
            let length = header >> 48;
            if length == 0 {
                break;
            }
            each(header as u32, &word);
            tail += length;
        }
        // Release: the kernel may overwrite what we have read only after this.
        control.data_tail.store(tail, Ordering::Release);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: our own mapping, to which no reference is left.
        unsafe { libc::munmap(self.buffer.as_ptr().cast(), self.len) };
    }
}

/// The type of a record that is a sample.
const RECORD_SAMPLE: u32 = 9;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HYPERVISOR: u64 = 1 << 6;

/// An open sampler of the calling thread.
#[derive(Debug)]
pub struct Sampler(Ring);

impl Sampler {
    /// Starts to sample the calling thread.
    ///
    /// # Errors
    /// `ENOENT` or `EOPNOTSUPP` where the machine has no such event; `EACCES` or `EPERM` if
    /// `kernel.perf_event_paranoid` forbids it (above 2) and `CAP_PERFMON` is missing.
    pub fn open(event: Event) -> Result<Self> {
        const IP_TID_ADDR: u64 = 1 | 2 | 8;
        let exclude = if event.user_only { EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR } else { 0 };
        let attr = Attr {
            kind: event.kind,
            size: size_of::<Attr>() as u32,
            config: event.config,
            config1: event.config1,
            sample_period: event.period,
            sample_type: IP_TID_ADDR,
            flags: exclude | u64::from(event.precise & 3) << 15,
            ..Attr::default()
        };
        Ring::open(&attr, None, 8).map(Self)
    }

    /// Stops sampling; what is in the buffer stays.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn stop(&self) -> Result<()> {
        self.0.stop()
    }

    /// Hands every waiting sample to `each`, and returns how many there were. Does not allocate.
    pub fn drain(&mut self, mut each: impl FnMut(Sample)) -> usize {
        let mut count = 0;
        self.0.drain(|kind, word| {
            if kind == RECORD_SAMPLE {
                count += 1;
                each(Sample { instruction: word(1), thread: (word(2) >> 32) as u32, address: word(3) });
            }
        });
        count
    }
}

const _: () = assert!(size_of::<Attr>() == 96);
const _: () = assert!(offset_of!(Control, data_head) == 1024 && offset_of!(Control, data_size) == 1048);
