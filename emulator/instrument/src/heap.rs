//! The malloc family, `mmap` and `munmap`: what blocks there are, and who asked for them.

use std::arch::naked_asm;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use tiermem_emulator::instrumented::record;

use crate::buffer::push;
use crate::real::{__libc_calloc, __libc_free, __libc_malloc, __libc_memalign, __libc_realloc, Real};
use crate::state::{self, Quiet, is_quiet};
use crate::thread::Thread;
use crate::{engine, memory, strings};

const EINVAL: c_int = 22;
const ENOMEM: c_int = 12;

/// The program has a new block, which `caller` asked for under this frame pointer.
pub fn begins(at: *mut c_void, size: usize, caller: usize, frame: usize) -> *mut c_void {
    if !at.is_null() && !is_quiet() {
        let (record, value) = record::allocated(at.addr() as u64, size as u64, site(caller, frame));
        push(record, value);
    }
    at
}

/// The number of a site.
fn site(caller: usize, frame: usize) -> u32 {
    if state::is_captive() {
        return record::SITE_MAX;
    }
    let _quiet = Quiet::new();
    if Thread::current().is_none() {
        engine::begin_thread();
    }
    let Some(mut thread) = Thread::current() else { return 0 };
    // SAFETY: the calling thread's own, which nobody else changes while it is quiet.
    let thread = unsafe { thread.as_mut() };
    let frames = thread.stack.walk(caller, frame);
    thread.sites.number(&frames, || engine::site(&frames))
}

/// The program's block is about to end.
fn ends(at: *mut c_void) {
    if !at.is_null() {
        push(record::freed(at.addr() as u64), 0);
    }
}

/// Defines C functions that pass on, behind their own arguments, the caller's address and frame pointer.
macro_rules! with_caller {
    ($($name:ident => $body:ident, $caller:literal, $frame:literal;)*) => {$(
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            naked_asm!(
                concat!("mov ", $caller, ", qword ptr [rsp]"),
                concat!("mov ", $frame, ", rbp"),
                "jmp {body}",
                body = sym $body,
            )
        }
    )*};
}

with_caller! {
    malloc => malloc_by, "rsi", "rdx";
    calloc => calloc_by, "rdx", "rcx";
    realloc => realloc_by, "rdx", "rcx";
    reallocarray => reallocarray_by, "rcx", "r8";
    memalign => memalign_by, "rdx", "rcx";
    aligned_alloc => memalign_by, "rdx", "rcx";
    posix_memalign => posix_memalign_by, "rcx", "r8";
    valloc => valloc_by, "rsi", "rdx";
    strdup => strdup_by, "rsi", "rdx";
    strndup => strndup_by, "rdx", "rcx";
}

unsafe extern "C" fn malloc_by(size: usize, caller: usize, frame: usize) -> *mut c_void {
    // SAFETY: any size may be asked for.
    begins(unsafe { __libc_malloc(size) }, size, caller, frame)
}

/// What the C library asks for when it makes a thread that is not the program's: more than it ever takes from a heap (its
/// `M_MMAP_THRESHOLD` ends at 32 MiB), so that the program's blocks lie where they would without that thread.
const NOT_FROM_THE_HEAP: usize = 33 << 20;

unsafe extern "C" fn calloc_by(count: usize, size: usize, caller: usize, frame: usize) -> *mut c_void {
    let count = if state::is_starting() { count.max(NOT_FROM_THE_HEAP) } else { count };
    // SAFETY: any size may be asked for.
    begins(unsafe { __libc_calloc(count, size) }, count.saturating_mul(size), caller, frame)
}

/// # Safety
/// As realloc(3).
unsafe extern "C" fn realloc_by(at: *mut c_void, size: usize, caller: usize, frame: usize) -> *mut c_void {
    // The old block ends before another thread can get its place.
    ends(at);
    // SAFETY: passed on to the caller.
    let new = unsafe { __libc_realloc(at, size) };
    if new.is_null() && size > 0 {
        // It stays where it was; its size is not known here.
        // SAFETY: a live block.
        let size = unsafe { malloc_usable_size(at) };
        begins(at, size, caller, frame);
    }
    begins(new, size, caller, frame)
}

unsafe extern "C" {
    fn malloc_usable_size(at: *mut c_void) -> usize;
}

/// # Safety
/// As reallocarray(3).
unsafe extern "C" fn reallocarray_by(
    at: *mut c_void,
    count: usize,
    size: usize,
    caller: usize,
    frame: usize,
) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: passed on to the caller.
        Some(bytes) => unsafe { realloc_by(at, bytes, caller, frame) },
        None => {
            tiermem_sys::Errno::set_raw(ENOMEM);
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn memalign_by(align: usize, size: usize, caller: usize, frame: usize) -> *mut c_void {
    // SAFETY: the C library checks the alignment.
    begins(unsafe { __libc_memalign(align, size) }, size, caller, frame)
}

/// # Safety
/// As posix_memalign(3).
unsafe extern "C" fn posix_memalign_by(
    into: *mut *mut c_void,
    align: usize,
    size: usize,
    caller: usize,
    frame: usize,
) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<usize>()) {
        return EINVAL;
    }
    // SAFETY: a power of two.
    let at = begins(unsafe { __libc_memalign(align, size) }, size, caller, frame);
    if at.is_null() {
        return ENOMEM;
    }
    // SAFETY: passed on to the caller.
    unsafe { into.write(at) };
    0
}

unsafe extern "C" fn valloc_by(size: usize, caller: usize, frame: usize) -> *mut c_void {
    // SAFETY: a power of two.
    begins(unsafe { __libc_memalign(tiermem_sys::map::os_page_size(), size) }, size, caller, frame)
}

/// # Safety
/// As strdup(3).
unsafe extern "C" fn strdup_by(text: *const c_char, caller: usize, frame: usize) -> *mut c_char {
    // SAFETY: passed on to the caller.
    let bytes = unsafe { strings::len(text) };
    // SAFETY: as many bytes can be read, the last one a zero.
    unsafe { copy_of(text, bytes, bytes, caller, frame) }
}

/// # Safety
/// As strndup(3).
unsafe extern "C" fn strndup_by(text: *const c_char, max: usize, caller: usize, frame: usize) -> *mut c_char {
    // SAFETY: passed on to the caller.
    let read = unsafe { strings::len_max(text, max) };
    // SAFETY: passed on to the caller.
    let copied = unsafe { strings::len_before_end(text, max) };
    // SAFETY: as many bytes can be read.
    unsafe { copy_of(text, read, copied + 1, caller, frame) }
}

/// A block with the first `bytes - 1` bytes of a text and a zero, of which `read` are looked at.
///
/// # Safety
/// That many can be read.
unsafe fn copy_of(text: *const c_char, read: usize, bytes: usize, caller: usize, frame: usize) -> *mut c_char {
    // SAFETY: any size may be asked for.
    let block: *mut c_char = begins(unsafe { __libc_malloc(bytes) }, bytes, caller, frame).cast();
    if !block.is_null() {
        memory::reads(text, read);
        memory::writes(block, bytes);
        let _quiet = Quiet::new();
        // SAFETY: passed on to the caller; the block is new.
        unsafe { block.copy_from_nonoverlapping(text, bytes - 1) };
        // SAFETY: the block's last byte.
        unsafe { block.add(bytes - 1).write(0) };
    }
    block
}

/// # Safety
/// As free(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn free(at: *mut c_void) {
    ends(at);
    // SAFETY: passed on to the caller.
    unsafe { __libc_free(at) };
}

static UNMAP: Real<unsafe extern "C" fn(*mut c_void, usize) -> c_int> = Real::new(c"munmap");

/// # Safety
/// As munmap(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(at: *mut c_void, len: usize) -> c_int {
    if !is_quiet() && state::position() != 0 {
        engine::with(|engine, _| engine.unmap(at.addr() as u64, len as u64));
    }
    // SAFETY: passed on to the caller.
    unsafe { UNMAP.get()(at, len) }
}
