//! What a thread has at hand, in its own storage: where its next record goes, what was counted without one, and whether it
//! works in this library.

use std::arch::{asm, global_asm};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr::{null_mut, with_exposed_provenance};

use tiermem_emulator::instrumented::filter::{Passed, STATE_BYTES, ThreadState};
use tiermem_sys::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

// Static thread-local storage, reached without a call: see "initial exec" in Drepper, "ELF Handling For Thread-Local
// Storage" (2013), 4.2. All zero is a state in which nothing is known and nothing gathered.
global_asm!(
    ".pushsection .tbss, \"awT\", @nobits",
    ".balign 64",
    ".globl tiermem_instrument_words",
    ".hidden tiermem_instrument_words",
    ".type tiermem_instrument_words, @object",
    ".size tiermem_instrument_words, {bytes}",
    "tiermem_instrument_words: .zero {bytes}",
    ".popsection",
    bytes = const STATE_BYTES,
);

/// Where the state lies, seen from the thread's own address: in this library, or in the program, whose checks need two
/// instructions less then.
pub static OFFSET: AtomicUsize = AtomicUsize::new(0);

/// Called by the program before anything else of it or of this library runs: its threads' states lie there, and it has
/// `count` checks of its own, whose addresses stand at `checks`.
#[unsafe(no_mangle)]
extern "C" fn tiermem_instrument_state(offset: usize, checks: *mut usize, count: usize) {
    // Relaxed, all: before there is another thread.
    OFFSET.store(offset, Ordering::Relaxed);
    CHECKS.store(checks, Ordering::Relaxed);
    CHECKS_LEN.store(count, Ordering::Relaxed);
}

/// The program's own checks.
static CHECKS: AtomicPtr<usize> = AtomicPtr::new(null_mut());
static CHECKS_LEN: AtomicUsize = AtomicUsize::new(0);

/// In a program that is not measured: has its checks return at once. Where the kernel does not allow that, they go on as
/// they are, for nobody.
pub fn silence_checks() {
    const RETURN: [u8; 1] = [0xc3];
    // Relaxed, both: see above.
    let (checks, count) = (CHECKS.load(Ordering::Relaxed), CHECKS_LEN.load(Ordering::Relaxed));
    if checks.is_null() {
        return;
    }
    // SAFETY: a table of the program's own that it does not change.
    let checks = unsafe { std::slice::from_raw_parts(checks, count) };
    // Written this way, code need not be writable at any time. See proc_pid_mem(5).
    let Ok(memory) = File::options().write(true).open("/proc/self/mem") else { return };
    for check in checks {
        if memory.write_all_at(&RETURN, *check as u64).is_err() {
            return;
        }
    }
}

fn thread_pointer() -> usize {
    let at: usize;
    // SAFETY: reads the thread's own address.
    unsafe { asm!("mov {at}, qword ptr fs:[0]", at = out(reg) at, options(pure, readonly, nostack)) };
    at
}

#[cold]
fn own_offset() -> usize {
    let at: usize;
    // SAFETY: reads a word of the global offset table.
    unsafe {
        asm!(
            "mov {at}, qword ptr [rip + tiermem_instrument_words@GOTTPOFF]",
            at = out(reg) at,
            options(pure, readonly, nostack),
        );
    }
    OFFSET.store(at, Ordering::Relaxed);
    at
}

/// The calling thread's. It cannot be given to another one, so it is there as long as it can be used.
#[inline]
pub fn state() -> &'static ThreadState {
    // Relaxed: see `tiermem_instrument_state`.
    let mut offset = OFFSET.load(Ordering::Relaxed);
    if offset == 0 {
        offset = own_offset();
    }
    let at = with_exposed_provenance::<ThreadState>(thread_pointer().wrapping_add(offset));
    // SAFETY: the thread's own words, made of cells: handlers, which change them too, run on this thread.
    unsafe { &*at }
}

/// Where the calling thread's next record goes; a multiple of [`BYTES`](crate::buffer::BYTES) if there is no room.
pub fn position() -> usize {
    // SAFETY: the thread's own word. Volatile, like all its uses: handlers look at it.
    unsafe { state().position.as_ptr().read_volatile() }
}

pub fn set_position(at: usize) {
    // SAFETY: as above.
    unsafe { state().position.as_ptr().write_volatile(at) };
}

/// Set in the quiet word while a handler of the program's runs that interrupted this library.
const CAPTIVE: usize = 1 << 32;

/// Set in the quiet word of all threads of a program that is not measured.
const IDLE: usize = 1 << 33;

/// Set in the quiet word while the calling thread starts the engine's.
const STARTING: usize = 1 << 34;

#[inline]
fn quiet() -> usize {
    // SAFETY: as above.
    unsafe { state().quiet.as_ptr().read_volatile() }
}

fn set_quiet(to: usize) {
    // SAFETY: as above.
    unsafe { state().quiet.as_ptr().write_volatile(to) };
}

/// Whether what the calling thread does is of no account: it works in this library, or nothing is measured.
#[inline]
pub fn is_quiet() -> bool {
    quiet() & !CAPTIVE != 0
}

/// Runs `start`, which makes a thread that is none of the program's.
pub fn starting<R>(start: impl FnOnce() -> R) -> R {
    set_quiet(quiet() | STARTING);
    let answer = start();
    set_quiet(quiet() & !STARTING);
    answer
}

/// Whether the calling thread is in [`starting`].
pub fn is_starting() -> bool {
    quiet() & STARTING != 0
}

/// Nothing is measured that the calling thread does.
pub fn go_idle() {
    set_quiet(quiet() | IDLE);
}

/// Whether a handler of the program's runs that interrupted this library, which must not be entered now.
pub fn is_captive() -> bool {
    quiet() & CAPTIVE != 0
}

/// Whether this library must not be entered now: the thread works in it, or a handler runs that interrupted it.
pub fn is_inside() -> bool {
    quiet() & !IDLE != 0
}

/// While it lives, the thread works in this library, and what it does is not the program's doing.
pub struct Quiet(());

impl Quiet {
    pub fn new() -> Self {
        // Handlers leave it as they found it.
        set_quiet(quiet() + 1);
        Self(())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        set_quiet(quiet() - 1);
    }
}

/// While it lives, the calling thread does what it does for a signal's handler, whatever it did before. It works in this library
/// meanwhile: even what compilers make of loops, `memset` and its kin, would be the program's otherwise.
pub struct Handling {
    /// Before the signal.
    quiet: usize,
    position: usize,
    passed: Passed,
}

impl Handling {
    /// The thread works in this library from here on: see [`Quiet`].
    pub fn new(_quiet: &Quiet) -> Self {
        Self { quiet: quiet() - 1, position: position(), passed: state().suspend() }
    }

    /// Whether this library was interrupted.
    pub fn is_captive(&self) -> bool {
        self.quiet & !IDLE != 0
    }

    /// Runs the program's handler, which is captive if it interrupted this library.
    pub fn run(&self, handler: impl FnOnce()) {
        set_quiet(self.quiet & IDLE | if self.is_captive() { CAPTIVE } else { 0 });
        handler();
        set_quiet(self.quiet + 1);
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        set_position(self.position);
        state().resume(&self.passed);
    }
}
