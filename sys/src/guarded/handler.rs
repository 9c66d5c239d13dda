//! The SIGBUS handler: it ends guarded copies that fault, and tells the owners of memory what the kernel says about it.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use super::routine;
use crate::{Errno, Result};

/// Memory that the kernel reports as broken (`BUS_MCEERR_*`): all of the aligned range of this size around the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// An address in it.
    pub address: usize,
    /// Its size, as a power of two.
    pub size_log2: u32,
}

/// What the owner of memory says when it hears that some has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is not the owner's.
    Foreign,
    /// Now it knows.
    New,
    /// It knew already.
    Known,
}

/// Has `hear` called, in the signal handler, for all memory that the kernel reports as broken from now on; it must be
/// async-signal-safe. There is one for a process: the last one counts.
///
/// What is the owner's does not end the program the first time: some memory the kernel maps again after its one signal (DAX
/// devices), and then only who was told knows. An instruction that really needs what is broken runs again, fails again, and
/// then the former action follows, be it a handler of the program's or the end of it.
pub fn on_broken_memory(hear: fn(Broken) -> Heard) {
    HEAR.store(hear as *mut (), Ordering::Release);
}

const NEVER: u32 = 0;
const RUNNING: u32 = 1;
const DONE: u32 = 2;

static INSTALLED: AtomicU32 = AtomicU32::new(NEVER);
static FAILED: AtomicBool = AtomicBool::new(false);
/// The handler before ours, as sigaction(2) gave it.
static PREVIOUS: AtomicPtr<libc::c_void> = AtomicPtr::new(ptr::null_mut());
static PREVIOUS_TAKES_INFO: AtomicBool = AtomicBool::new(false);
/// A `fn(Broken) -> Heard`, or nothing.
static HEAR: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

pub(super) fn is_hardware_error(code: usize) -> bool {
    code == libc::BUS_MCEERR_AR as usize || code == libc::BUS_MCEERR_AO as usize
}

/// Installs the handler on the first call; whether it is the one in force.
pub(super) fn is_in_place() -> bool {
    // Acquire pairs with the Release below: PREVIOUS is set before anyone copies.
    while INSTALLED.load(Ordering::Acquire) != DONE {
        // Relaxed failure: the loop looks again.
        if INSTALLED.compare_exchange(NEVER, RUNNING, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            FAILED.store(install().is_err(), Ordering::Relaxed);
            INSTALLED.store(DONE, Ordering::Release);
        }
        std::hint::spin_loop();
    }
    // Relaxed: ordered by INSTALLED.
    !FAILED.load(Ordering::Relaxed) && in_force() == Ok(on_bus_error as *const () as usize)
}

fn in_force() -> Result<usize> {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: only asks; `now` is a valid place for the answer.
    Errno::result(unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), now.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and filled it in.
    Ok(unsafe { now.assume_init() }.sa_sigaction)
}

fn install() -> Result<()> {
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: only asks; `before` is a valid place for the answer.
    Errno::result(unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), before.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and filled it in.
    let before = unsafe { before.assume_init() };
    // Relaxed: `INSTALLED` orders them for copiers, and no SIGBUS of theirs comes earlier; a foreign one that
    // comes between the two calls would see the same values.
    PREVIOUS.store(ptr::with_exposed_provenance_mut(before.sa_sigaction), Ordering::Relaxed);
    PREVIOUS_TAKES_INFO.store(before.sa_flags & libc::SA_SIGINFO != 0, Ordering::Relaxed);
    // SAFETY: plain integers and an empty mask, for which zero is a value.
    let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
    ours.sa_sigaction = on_bus_error as *const () as usize;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the handler is async-signal-safe: it reads atomics, changes registers and passes on.
    Errno::result(unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut()) }).map(drop)
}

extern "C" fn on_bus_error(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid context to a handler with SA_SIGINFO, for the time of the call.
    let frame = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    // SAFETY: as above for the information.
    let code = unsafe { (*info).si_code };
    let heard = if is_hardware_error(code as usize) {
        // SAFETY: as above; for these codes the kernel fills in what the struct names.
        hear(unsafe { &*info.cast::<BusError>() })
    } else {
        Heard::Foreign
    };
    if routine::recover(frame, code) || is_dealt_with(code, heard) {
        return;
    }
    pass_on(signal, info, context);
}

/// Whether the program can go on: nobody needs the memory yet, or whoever needs it will say so again.
fn is_dealt_with(code: i32, heard: Heard) -> bool {
    heard == Heard::New || heard == Heard::Known && code == libc::BUS_MCEERR_AO
}

/// The front of `siginfo_t` for SIGBUS.
#[repr(C)]
struct BusError {
    signal: i32,
    errno: i32,
    code: i32,
    address: usize,
    /// `si_addr_lsb`.
    size_log2: i16,
}

const _: () = assert!(size_of::<BusError>() <= size_of::<libc::siginfo_t>());

fn hear(error: &BusError) -> Heard {
    // Acquire pairs with the Release in `on_broken_memory`.
    let hear = HEAR.load(Ordering::Acquire);
    if hear.is_null() {
        return Heard::Foreign;
    }
    // SAFETY: what is stored there, if anything, is such a function.
    let hear = unsafe { std::mem::transmute::<*mut (), fn(Broken) -> Heard>(hear) };
    let size_log2 = u32::try_from(error.size_log2).unwrap_or(0).clamp(6, usize::BITS - 1);
    hear(Broken { address: error.address, size_log2 })
}

/// Sends this process the signal that the kernel sends for memory that has broken and that nobody waits for
/// (`BUS_MCEERR_AO`), so that what follows can be tried without breaking any.
///
/// # Errors
/// As rt_sigqueueinfo(2).
pub fn pretend_broken(broken: Broken) -> Result<()> {
    // SAFETY: plain integers and pointers, for which zero is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is the front of siginfo_t, as asserted above, and aligned like it.
    let error = unsafe { &mut *(&raw mut info).cast::<BusError>() };
    let size_log2 = i16::try_from(broken.size_log2).unwrap_or(0);
    *error = BusError { signal: libc::SIGBUS, errno: 0, code: libc::BUS_MCEERR_AO, address: broken.address, size_log2 };
    let (process, thread) = (crate::process::id(), crate::thread::id());
    // SAFETY: `info` is a whole siginfo_t; a process may send any code to itself.
    let sent = unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, libc::SIGBUS, &raw const info) };
    Errno::result(sent).map(drop)
}

fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // Relaxed: set before the handler was installed.
    let previous = PREVIOUS.load(Ordering::Relaxed);
    let address = previous.expose_provenance();
    // SAFETY: the kernel passes valid information to a handler with SA_SIGINFO, for the time of the call.
    let code = unsafe { (*info).si_code };
    // What a process sent, or what the kernel only tells, does not come again by itself.
    let comes_again = code > 0 && code != libc::BUS_MCEERR_AO;
    if address == libc::SIG_IGN && !comes_again {
        // As it was.
    } else if address == libc::SIG_DFL || address == libc::SIG_IGN {
        // The instruction runs again and the default action follows. (A fault cannot be ignored.)
        // SAFETY: restores the default action.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        if !comes_again {
            // SAFETY: raise has no memory preconditions; the signal waits until the handler is left.
            unsafe { libc::raise(signal) };
        }
    } else if PREVIOUS_TAKES_INFO.load(Ordering::Relaxed) {
        type WithInfo = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: sigaction gave this address as a handler that takes three arguments.
        let handler = unsafe { std::mem::transmute::<*mut libc::c_void, WithInfo>(previous) };
        handler(signal, info, context);
    } else {
        // SAFETY: sigaction gave this address as a handler that takes one argument.
        let handler = unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn(i32)>(previous) };
        handler(signal);
    }
}
