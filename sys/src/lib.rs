//! The only room that calls the kernel or the CPU.
//!
//! One module per facility of the kernel. Functions here are thin: they check what the kernel does not, name units,
//! turn error numbers into [`Errno`], and never allocate unless they say so, because an allocator calls them.

// UNSAFETY: this room exists to hold the unsafe calls to the kernel and the CPU.
#![expect(unsafe_code, reason = "this room exists to hold the unsafe calls to the kernel and the CPU")]

pub mod cgroup;
pub mod child;
pub mod clock;
pub mod cpu;
pub mod damon;
pub mod direct_io;
pub mod file;
pub mod fs;
pub mod gate;
pub mod guarded;
pub mod kernel_log;
pub mod map;
pub mod mempolicy;
pub mod page_move;
pub mod pagemap;
pub mod perf;
pub mod process;
pub mod referenced;
pub mod signal;
pub mod stress;
pub mod symbol;
pub mod sync;
pub mod terminal;
pub mod text;
pub mod thread;
pub mod trial;
pub mod unwind;
pub mod userfault;

/// The kernel's error number.
pub use nix::errno::Errno;

/// `Ok`, or the kernel's error number.
pub type Result<T> = std::result::Result<T, Errno>;
