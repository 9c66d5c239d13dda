//! Before `main` and at exit.

use tiermem::{sites, startup};

/// Runs when the loader has loaded this library, before the program's own initialisers.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

/// Runs at exit, after the program's own finalisers.
#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = end;

extern "C" fn begin() {
    let (start, end) = own_code();
    sites::set_own_range(start, end);
    #[cfg(target_arch = "x86_64")]
    crate::ending::exec::look_up();
    startup::start();
    crate::ending::conclude_at_quick_exit();
    startup::forget_code(start, end);
}

extern "C" fn end() {
    startup::finish();
}

/// The addresses of this library.
fn own_code() -> (usize, usize) {
    unsafe extern "C" {
        // Set by the linker: the library's first byte, and the end of its code.
        static __ehdr_start: u8;
        static etext: u8;
    }
    ((&raw const __ehdr_start).addr(), (&raw const etext).addr())
}
