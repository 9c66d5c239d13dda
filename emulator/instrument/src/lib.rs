//! `libtiermem_instrument.so`: what instrumented programs call for every load and store.
//!
//! `tierctl instrument` has the compiler put a call in front of each access of a program, and has the loader put this
//! library in front of the C library. The calls append to a buffer of the thread; a full buffer is passed to the engine's thread,
//! which brings it through `tiermem_emulator::instrumented`. At the end of the process that is a report.
//!
//! | module | what it does |
//! |---|---|
//! | [`checks`] | the functions that the compilers call, and their fast path |
//! | [`state`] | what a thread has at hand, in its own storage |
//! | [`buffer`] | where a thread gathers what it does, and what it does when that is full |
//! | [`deferred`] | what handlers gathered that interrupted this library |
//! | [`queue`] | full buffers on their way to the engine |
//! | [`helper`] | the engine's thread |
//! | [`thread`] | a thread of the program, as this library knows it |
//! | [`taking`] | what threads have passed, and whose turn it is |
//! | [`memory`] | `memcpy` and its kin |
//! | [`strings`] | `strlen` and its kin |
//! | [`fortified`] | both, as `_FORTIFY_SOURCE` has them |
//! | [`heap`] | the malloc family, `mmap` and `munmap` |
//! | [`operators`] | C++'s `new` |
//! | [`stack`] | who asked for a block |
//! | [`names`] | what the functions are called that asked for it |
//! | [`threads`] | threads: their beginning, and what they wait for |
//! | [`signals`] | handlers, which may interrupt anything |
//! | [`process`] | beginning, end and fork |
//! | [`exec`] | programs that take this one's place |
//! | [`engine`] | the one engine of the process |
//! | [`own`] | this library's own memory |
//! | [`real`] | the functions that are replaced here, where they really are |
//!
//! Inside the library no access counts: [`state::Quiet`] marks a thread that works here.

// UNSAFETY: this library stands between compiled code and the C library, with raw addresses and assembly.
#![expect(unsafe_code, reason = "this library stands between compiled code and the C library")]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
compile_error!("instrumented programs run on x86-64 with Linux and the GNU C library only");

mod buffer;
mod checks;
mod deferred;
mod engine;
mod exec;
mod fortified;
mod heap;
mod helper;
mod memory;
mod names;
mod operators;
mod own;
mod process;
mod queue;
mod real;
mod signals;
mod stack;
mod state;
mod strings;
mod taking;
mod thread;
mod threads;
