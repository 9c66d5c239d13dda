//! The three words that every thread has: the view it allocates from now, the key with which it frees, and its heap.
//!
//! `thread_local!` in a shared library goes through `__tls_get_addr`, a call. These words are in static TLS
//! instead (the initial-exec model), two instructions away; a program that loads the library late with `dlopen` needs
//! 24 bytes of the loader's surplus for them, of which it keeps more than a kilobyte. They start out pointing to
//! heaps that are always empty, so that the fast path needs no check for null.

use super::{EMPTY_HEAP, EMPTY_VIEW, ENDED_HEAP, Heap, View};

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(feature = "dynamic-tls")))]
mod words {
    use super::{EMPTY_HEAP, EMPTY_VIEW};
    use std::arch::{asm, global_asm};

    global_asm!(
        ".pushsection .tdata.tiermem_thread,\"awT\",@progbits",
        ".p2align 4",
        ".hidden tiermem_thread_0_1",
        ".globl tiermem_thread_0_1",
        ".type tiermem_thread_0_1, @object",
        ".size tiermem_thread_0_1, 24",
        "tiermem_thread_0_1:",
        ".quad {view}",
        ".quad {heap}",
        ".quad {heap}",
        ".popsection",
        view = sym EMPTY_VIEW,
        heap = sym EMPTY_HEAP,
    );

    /// Reads the thread's word at byte `N`.
    #[inline(always)]
    pub fn get<const N: usize>() -> usize {
        let value: usize;
        // SAFETY: the symbol is defined above, in the thread's static TLS block, and is 24 bytes long.
        unsafe {
            asm!(
                "mov {v}, qword ptr [rip + tiermem_thread_0_1@GOTTPOFF]",
                "mov {v}, qword ptr fs:[{v} + {n}]",
                v = out(reg) value,
                n = const N,
                options(nostack, preserves_flags, readonly, pure),
            );
        }
        value
    }

    /// Writes the thread's word at byte `N`.
    #[inline]
    pub fn set<const N: usize>(value: usize) {
        // SAFETY: as for `get`; the words are this thread's own.
        unsafe {
            asm!(
                "mov {t}, qword ptr [rip + tiermem_thread_0_1@GOTTPOFF]",
                "mov qword ptr fs:[{t} + {n}], {v}",
                t = out(reg) _,
                v = in(reg) value,
                n = const N,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(feature = "dynamic-tls"))))]
mod words {
    use super::{EMPTY_HEAP, EMPTY_VIEW};
    use std::cell::Cell;

    thread_local! {
        static WORDS: [Cell<usize>; 3] = const { [Cell::new(0), Cell::new(0), Cell::new(0)] };
    }

    pub fn get<const N: usize>() -> usize {
        match WORDS.with(|words| words[N / 8].get()) {
            0 if N == 0 => (&raw const EMPTY_VIEW).expose_provenance(),
            0 => (&raw const EMPTY_HEAP).expose_provenance(),
            value => value,
        }
    }

    pub fn set<const N: usize>(value: usize) {
        WORDS.with(|words| words[N / 8].set(value));
    }
}

/// The view that this thread allocates from now.
#[inline(always)]
pub fn current() -> &'static View {
    // SAFETY: the word always holds the address of a view; those live for ever.
    unsafe { &*std::ptr::with_exposed_provenance(words::get::<0>()) }
}

/// What the owner of a span is compared with: the thread's heap if it may free to its own spans without looking, else
/// something that owns no span.
#[inline(always)]
pub fn key() -> *mut Heap {
    std::ptr::with_exposed_provenance_mut(words::get::<8>())
}

/// This thread's heap, or the address of [`EMPTY_HEAP`] or [`ENDED_HEAP`].
#[inline(always)]
pub fn heap() -> *mut Heap {
    std::ptr::with_exposed_provenance_mut(words::get::<16>())
}

/// This thread's heap, if it has one.
#[inline]
pub fn attached() -> Option<&'static Heap> {
    let heap = heap();
    let none = std::ptr::eq(heap, &raw const EMPTY_HEAP) || std::ptr::eq(heap, &raw const ENDED_HEAP);
    // SAFETY: the word always holds the address of a heap; those live for ever. A thread's own heap is used by this
    // thread alone.
    (!none).then(|| unsafe { &*heap })
}

/// Whether the thread is ending: its heap has been taken away.
pub fn is_ending() -> bool {
    std::ptr::eq(heap(), &raw const ENDED_HEAP)
}

/// Makes the thread allocate from `view`.
pub fn set_current(view: &'static View) {
    words::set::<0>(std::ptr::from_ref(view).expose_provenance());
}

/// Gives the thread a heap.
pub fn set_heap(heap: &'static Heap) {
    let heap = std::ptr::from_ref(heap).expose_provenance();
    words::set::<8>(heap);
    words::set::<16>(heap);
}

/// Has every free of this thread take the slow path, where the heap is known all the same.
pub fn close_key() {
    words::set::<8>((&raw const EMPTY_HEAP).expose_provenance());
}

/// This thread's heap, or a heap that owns no span and has nothing to give.
#[inline(always)]
pub fn heap_or_empty() -> &'static Heap {
    // SAFETY: the word always holds the address of a heap; those live for ever.
    unsafe { &*heap() }
}

/// Takes the thread's heap away, for good.
pub fn end() {
    words::set::<8>((&raw const ENDED_HEAP).expose_provenance());
    words::set::<16>((&raw const ENDED_HEAP).expose_provenance());
    words::set::<0>((&raw const EMPTY_VIEW).expose_provenance());
}
