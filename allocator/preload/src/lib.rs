//! `libtiermem.so`: tiermem behind the C library's allocation functions and C++'s operators, for `LD_PRELOAD`, and
//! the `tm_` functions of `tiermem.h`.
//!
//! Inside this library Rust's own allocations come back to [`malloc`](c_malloc) here: the allocator proper never
//! makes any, only start-up does, and by then allocation works.

// UNSAFETY: the functions of this library are the C ABI's, raw pointers and all.
#![expect(unsafe_code, reason = "the C ABI deals in raw pointers")]

mod c_api;
mod c_malloc;
mod c_stats;
mod cxx;
mod ending;
mod life;
