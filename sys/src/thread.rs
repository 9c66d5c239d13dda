//! Threads as an allocator sees them: told when one ends, and able to start one of its own.

use std::ffi::c_void;
use std::ptr;

use crate::sync::Lock;
use crate::{Errno, Result};

/// Calls a function in every armed thread when it ends.
///
/// Built on `pthread_key_create`, whose destructors run after those of `thread_local!` and C++, and run again if the
/// thread arms the hook once more meanwhile.
#[derive(Debug)]
pub struct ExitHook {
    run: extern "C" fn(),
    key: Lock<Option<libc::pthread_key_t>>,
}

extern "C" fn run_hook(argument: *mut c_void) {
    // SAFETY: `arm` stores a hook's function, which is never null.
    let run: extern "C" fn() = unsafe { std::mem::transmute(argument) };
    run();
}

impl ExitHook {
    /// A hook that runs `run`.
    pub const fn new(run: extern "C" fn()) -> Self {
        Self { run, key: Lock::new(None) }
    }

    /// Has the hook run when the calling thread ends. Does nothing more if the thread is armed already, or if the
    /// process has used up its keys. The C library may allocate meanwhile, in this thread.
    pub fn arm(&self) {
        let mut guard = self.key.lock();
        let key = match *guard {
            Some(key) => key,
            None => {
                let mut key = 0;
                // SAFETY: `key` is a valid place, `run_hook` a valid destructor for what `arm` stores.
                if unsafe { libc::pthread_key_create(&raw mut key, Some(run_hook)) } != 0 {
                    return;
                }
                *guard = Some(key);
                key
            }
        };
        drop(guard);
        // SAFETY: the key was created above and is never deleted.
        unsafe { libc::pthread_setspecific(key, self.run as *const c_void) };
    }

    /// Takes the hook's lock, to hold it across a fork.
    pub fn lock_for_fork(&self) {
        self.key.acquire();
    }

    /// Lets it go, in the parent or the child.
    ///
    /// # Safety
    /// [`ExitHook::lock_for_fork`] came before, in this thread or in the one it was copied from.
    pub unsafe fn unlock_after_fork(&self) {
        // SAFETY: passed on to the caller.
        unsafe { self.key.release() };
    }
}

extern "C" fn run_body(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn_detached` passes a function, which is never null.
    let body: extern "C" fn() = unsafe { std::mem::transmute(argument) };
    body();
    ptr::null_mut()
}

/// Starts a detached thread with a small stack and all signals blocked, so that the program's handlers never run in
/// it. The C library allocates meanwhile.
///
/// # Errors
/// `EAGAIN` where threads are limited.
pub fn spawn_detached(name: &std::ffi::CStr, body: extern "C" fn()) -> Result<()> {
    const STACK: usize = 128 << 10;
    let code = |rc: i32| if rc == 0 { Ok(()) } else { Err(Errno::from_raw(rc)) };
    // SAFETY: an all-zero attribute object and signal set are only placeholders for the two calls below to fill.
    let (mut attributes, mut all, mut before): (libc::pthread_attr_t, libc::sigset_t, libc::sigset_t) =
        unsafe { std::mem::zeroed() };
    // SAFETY: valid places.
    code(unsafe { libc::pthread_attr_init(&raw mut attributes) })?;
    // SAFETY: initialised above.
    unsafe { libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED) };
    // SAFETY: initialised above.
    unsafe { libc::pthread_attr_setstacksize(&raw mut attributes, STACK) };
    // SAFETY: a valid place.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: valid sets. The new thread inherits the mask.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    let mut thread = 0;
    // SAFETY: valid attributes, and a body that takes what is passed.
    let made = unsafe { libc::pthread_create(&raw mut thread, &raw const attributes, run_body, body as *mut c_void) };
    // SAFETY: the set that the call above filled.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    // SAFETY: initialised above, not used again.
    unsafe { libc::pthread_attr_destroy(&raw mut attributes) };
    code(made)?;
    // SAFETY: a live thread's id (see above), and a C string. A name that is too long is not set.
    unsafe { libc::pthread_setname_np(thread, name.as_ptr()) };
    Ok(())
}

/// Tells the calling thread from every other one that lives. Never 0; a child of fork has the number of the thread that it
/// was copied from.
pub fn current() -> usize {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::pthread_self() as usize }
}

/// The calling thread's id, as the kernel and debuggers count.
pub fn id() -> u32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }.unsigned_abs()
}

/// Whether a thread of this process runs or is ready to, by its [`id`]; what the system does not tell counts as no.
pub fn is_running(id: u32) -> bool {
    // proc_pid_stat(5): the number, the name in parentheses, which may have any in it, the state.
    let Ok(stat) = std::fs::read(format!("/proc/self/task/{id}/stat")) else { return false };
    let name_end = stat.iter().rposition(|byte| *byte == b')');
    name_end.is_some_and(|end| stat[end..].starts_with(b") R"))
}

/// Where the calling thread's stack lies (pthread_getattr_np(3)), first to behind the last address; `None` if the C library
/// cannot tell. That of the first thread can grow to its limit, which is where it begins here. Allocates meanwhile.
pub fn stack() -> Option<std::ops::Range<usize>> {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: this thread, and a valid place.
    if unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) } != 0 {
        return None;
    }
    let (mut start, mut len) = (ptr::null_mut(), 0);
    // SAFETY: the call above filled the attributes in; valid places.
    let got = unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut len) };
    // SAFETY: as above, and they are not used again.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    (got == 0).then(|| start.addr()..start.addr() + len)
}

/// Sleeps for about `ms` milliseconds.
pub fn sleep_ms(ms: u32) {
    let time = libc::timespec { tv_sec: (ms / 1000).into(), tv_nsec: libc::c_long::from(ms % 1000) * 1_000_000 };
    // SAFETY: a valid time; ending early does no harm.
    unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const time, ptr::null_mut()) };
}

/// Has `prepare` run before every fork in the forking thread, then `parent` and `child` after it.
///
/// # Errors
/// `ENOMEM`.
pub fn at_fork(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> Result<()> {
    // SAFETY: the functions live as long as the library that registers them; glibc drops them when it is unloaded.
    let rc = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    if rc == 0 { Ok(()) } else { Err(Errno::from_raw(rc)) }
}

/// Keeps `pthread_cancel` from ending this thread until the guard is dropped: many calls to the kernel are cancellation
/// points, and a thread that ends in one keeps whatever locks it holds.
#[derive(Debug)]
pub struct Uncancelled(i32);

unsafe extern "C" {
    fn pthread_setcancelstate(state: i32, old: *mut i32) -> i32;
}

impl Uncancelled {
    /// Asks for it.
    #[must_use]
    pub fn new() -> Self {
        const PTHREAD_CANCEL_DISABLE: i32 = 1;
        let mut before = 0;
        // SAFETY: a valid state, and a valid place for the old one.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before) };
        Self(before)
    }
}

impl Default for Uncancelled {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: the state that was in force before.
        unsafe { pthread_setcancelstate(self.0, ptr::null_mut()) };
    }
}

/// Keeps this thread's `errno` as it was: the value is put back when the guard is dropped.
#[derive(Debug)]
pub struct KeepErrno(i32);

impl KeepErrno {
    /// Remembers `errno`.
    #[must_use]
    pub fn new() -> Self {
        Self(Errno::last_raw())
    }
}

impl Default for KeepErrno {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for KeepErrno {
    fn drop(&mut self) {
        Errno::set_raw(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    #[test]
    fn a_thread_runs_or_waits() {
        let (task, stop) = (AtomicU32::new(0), AtomicBool::new(false));
        let begun = Instant::now();
        let mut seen = [false; 2];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                task.store(super::id(), Ordering::SeqCst);
                // Works for a while, and sleeps for a while.
                while !stop.load(Ordering::SeqCst) {
                    let work = Instant::now();
                    while work.elapsed() < Duration::from_millis(20) {}
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            while seen != [true; 2] && begun.elapsed() < Duration::from_secs(20) {
                match task.load(Ordering::SeqCst) {
                    0 => {}
                    id => seen[usize::from(super::is_running(id))] = true,
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            stop.store(true, Ordering::SeqCst);
        });
        assert_eq!(seen, [true; 2]);
        assert!(!super::is_running(u32::MAX), "there is no such thread");
    }
}
