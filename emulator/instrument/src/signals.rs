//! Signal handlers, which may interrupt anything, and signals that end the process.
//!
//! The C library is given handlers of this library's instead of the program's. Ours gives the program's a buffer of its
//! own, so that what it does comes between two accesses of what it interrupted, and is not lost if that was this library.
//! Signals that would end the process at once have a handler too, which writes the report first; the program sees them
//! as it left them.

use std::arch::naked_asm;
use std::ffi::{c_int, c_void};
use std::ptr;

use tiermem_emulator::instrumented::filter;
use tiermem_sys::map;
use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use tiermem_sys::{process, signal};

use crate::buffer::{self, Buffer};
use crate::engine;
use crate::process::write_report;
use crate::real::Real;
use crate::state::{self, Handling, Quiet};
use crate::thread::Thread;

const SIGNALS: usize = 65;
const DEFAULT: usize = 0;
const IGNORE: usize = 1;
const SA_SIGINFO: c_int = 4;
const SA_RESTART: c_int = 0x1000_0000;
const SA_ONSTACK: c_int = 0x0800_0000;
const SIG_ERR: usize = usize::MAX;

/// `struct sigaction` of the GNU C library on x86-64.
#[derive(Clone, Copy)]
#[repr(C)]
struct Action {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}
const _: () = assert!(size_of::<Action>() == 152);

impl Action {
    const NONE: Self = Self { handler: DEFAULT, mask: [0; 16], flags: 0, restorer: 0 };
}

/// What the program set for a signal: its handler, and whether that wants to know more than the number.
struct Set {
    handler: AtomicUsize,
    flags: AtomicU32,
}

static SET: [Set; SIGNALS] = [const { Set { handler: AtomicUsize::new(DEFAULT), flags: AtomicU32::new(0) } }; SIGNALS];

/// Signals that end a process whose program leaves them alone, by signal(7), and can be handled.
const FATAL: [c_int; 19] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 31];

/// One thread at a time sets handlers.
static SETTING: Lock<()> = Lock::new(());

static SIGACTION: Real<unsafe extern "C" fn(c_int, *const Action, *mut Action) -> c_int> = Real::new(c"sigaction");

/// The process that this library was begun in; a child of vfork has another number and the same memory.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// A stack to report on, large enough whatever the program's is.
static REPORT_STACK: AtomicUsize = AtomicUsize::new(0);
const REPORT_STACK_LEN: usize = 512 << 10;

/// Whether this is not a child of vfork.
pub fn is_own_process() -> bool {
    // Relaxed: written before there was another process.
    PROCESS.load(Ordering::Relaxed) == process::id()
}

/// In a child of fork.
pub fn forked() {
    // Relaxed: the only thread.
    PROCESS.store(process::id(), Ordering::Relaxed);
}

/// From now on a signal that ends the process has the report written first.
pub fn report_fatal() {
    forked();
    if let Ok(stack) = map::anonymous(REPORT_STACK_LEN) {
        REPORT_STACK.store(stack.as_ptr().expose_provenance() + REPORT_STACK_LEN, Ordering::Relaxed);
    }
    for number in FATAL {
        let mut before = Action::NONE;
        // SAFETY: a valid place.
        let asked = unsafe { SIGACTION.get()(number, ptr::null(), &raw mut before) };
        if asked == 0 && before.handler == DEFAULT {
            let ending = ending();
            // SAFETY: a handler with the signature that its flags say.
            unsafe { SIGACTION.get()(number, &raw const ending, ptr::null_mut()) };
        }
    }
}

/// What the C library is given for a signal that ends the process.
fn ending() -> Action {
    Action { handler: handle as *const () as usize, flags: SA_SIGINFO | SA_ONSTACK | SA_RESTART, ..Action::NONE }
}

extern "C" fn handle(number: c_int, info: *mut c_void, context: *mut c_void) {
    let Some(set) = SET.get(number.unsigned_abs() as usize) else { return };
    // Relaxed, both: a handler and its flags are set while the signal has another one or none.
    let (handler, flags) = (set.handler.load(Ordering::Relaxed), set.flags.load(Ordering::Relaxed).cast_signed());
    match handler {
        DEFAULT => end_by(number),
        IGNORE => {}
        _ => call(handler, flags, (number, info, context)),
    }
}

/// Runs a handler of the program's with a buffer of its own.
fn call(handler: usize, flags: c_int, (number, info, context): (c_int, *mut c_void, *mut c_void)) {
    let captive = state::is_inside();
    let quiet = Quiet::new();
    // SAFETY: the calling thread's own.
    let thread = Thread::current().map(|thread| unsafe { &*thread.as_ptr() });
    if let Some(thread) = thread
        && !captive
    {
        // What it did before comes before what the handler does, and is there if the handler does not return.
        engine::take_so_far(thread);
    }
    let handling = Handling::new(&quiet);
    let buffer = thread.and_then(|thread| Buffer::of(ptr::from_ref(thread).cast_mut()));
    match buffer {
        Some(buffer) => buffer.put_in_use(),
        None => state::set_position(engine::sink().unwrap_or(0)),
    }
    handling.run(|| {
        if flags & SA_SIGINFO != 0 {
            // SAFETY: the program said that it has this signature.
            let handler: extern "C" fn(c_int, *mut c_void, *mut c_void) = unsafe { std::mem::transmute(handler) };
            handler(number, info, context);
        } else {
            // SAFETY: as above.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(number);
        }
    });
    let (Some(buffer), Some(thread)) = (buffer, thread) else { return };
    if !captive {
        engine::take(thread);
    }
    let (end, passed) = (state::position(), state::state().passed());
    drop(handling);
    if captive && thread.deferred.add(buffer, end, passed) {
        return;
    }
    if captive {
        let counted = usize::try_from(filter::number(passed.counts)).unwrap_or(usize::MAX);
        buffer::lost((end - buffer.first()) / size_of::<u64>() + counted);
    }
    // SAFETY: the position leads elsewhere again.
    unsafe { buffer.release() };
}

/// Writes the report and ends the process by the signal.
fn end_by(number: c_int) {
    if !state::is_inside() {
        // Relaxed: taken by one signal; a second one has nothing to add.
        let stack = REPORT_STACK.swap(0, Ordering::Relaxed);
        if stack != 0 {
            // SAFETY: a stack that nobody uses.
            unsafe { on_stack(stack, number) };
        }
    } else {
        process::say(b"libtiermem_instrument: a signal ended the process inside this library: no report\n");
    }
    // SAFETY: the default action, which every signal has.
    unsafe { SIGACTION.get()(number, ptr::from_ref(&Action::NONE), ptr::null_mut()) };
    // It is blocked here, and comes when the handler has returned. If it cannot be sent, the program goes on as if it had
    // not come.
    let _sent = signal::kill(process::id(), number);
}

extern "C" fn report_of_signal(number: c_int) {
    write_report(&format!("signal {number}"));
}

/// Calls [`report_of_signal`] on another stack.
#[unsafe(naked)]
unsafe extern "C" fn on_stack(top: usize, number: c_int) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, rdi",
        "mov edi, esi",
        "call {report}",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
        report = sym report_of_signal,
    )
}

/// What the program is told that it had set.
fn seen(number: usize, mut action: Action) -> Action {
    if action.handler == handle as *const () as usize {
        // Relaxed: under the lock.
        action.handler = SET[number].handler.load(Ordering::Relaxed);
        action.flags = SET[number].flags.load(Ordering::Relaxed).cast_signed();
    }
    action
}

/// # Safety
/// As sigaction(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn sigaction(number: c_int, new: *const Action, old: *mut Action) -> c_int {
    let real = SIGACTION.get();
    let index = number.unsigned_abs() as usize;
    if index >= SIGNALS || !engine::is_on() {
        // SAFETY: passed on to the caller.
        return unsafe { real(number, new, old) };
    }
    let _quiet = Quiet::new();
    let _setting = SETTING.lock();
    let mut before = Action::NONE;
    // SAFETY: null, or valid as the caller says.
    let new = unsafe { new.as_ref() };
    let given = new.map(|new| given(number, *new));
    let given = given.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: valid places, and handlers of the signature that the flags say.
    let answer = unsafe { real(number, given, &raw mut before) };
    if answer != 0 {
        return answer;
    }
    let before = seen(index, before);
    if let Some(new) = new {
        // Relaxed, both: see `handle`.
        SET[index].flags.store(new.flags.cast_unsigned(), Ordering::Relaxed);
        SET[index].handler.store(new.handler, Ordering::Relaxed);
    }
    if !old.is_null() {
        // SAFETY: passed on to the caller.
        unsafe { old.write(before) };
    }
    0
}

/// What the C library is given instead.
fn given(number: c_int, new: Action) -> Action {
    let ours = handle as *const () as usize;
    match new.handler {
        IGNORE => new,
        DEFAULT if FATAL.contains(&number) => Action { mask: new.mask, ..ending() },
        DEFAULT => new,
        // A handler that is to be used once resets what the C library has, so that the second signal ends the process.
        _ => Action { handler: ours, flags: new.flags | SA_SIGINFO, ..new },
    }
}

/// # Safety
/// As signal(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn signal(number: c_int, handler: usize) -> usize {
    let new = Action { handler, flags: SA_RESTART, ..Action::NONE };
    let mut old = Action::NONE;
    // SAFETY: valid places; the handler is the caller's.
    let answer = unsafe { sigaction(number, &raw const new, &raw mut old) };
    if answer == 0 { old.handler } else { SIG_ERR }
}
