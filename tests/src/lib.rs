//! What the tests that cross the rooms share: real programs and small C programs, run under the preload in several
//! [setups](Setup), each [watched](Run) so that a hang becomes a report with backtraces instead of a stuck test run.
//!
//! Environment: `TIERMEM_PRELOAD` is the library to test (default: the release build, made when missing or stale);
//! `TIERMEM_TEST_SCALE` multiplies the counts and the time of the tests (`cargo xtask test --long` sets it to 10);
//! `TIERMEM_TEST_PATIENCE` multiplies the time a program gets before it counts as hung; `TIERMEM_TEST_FORKS`,
//! `TIERMEM_TEST_THREADS` and `TIERMEM_TEST_ROWS` set the heavy counts.

// UNSAFETY: the suite maps at addresses that it owns, forks, and loads from extents.
#[expect(unsafe_code, reason = "the suite maps, forks and loads from extents as an allocator does")]
pub mod conformance;
mod preload;
mod process;
mod programs;
pub mod resp;
mod run;
mod setup;
pub mod smaps;
mod tools;

pub use preload::{preload, static_program, tierctl};
pub use programs::{Program, c_program, c_program_with, cpp_program, shared_library};
pub use run::{Finished, Run, Running};
pub use setup::{Setup, SlowFile, Tiering};
pub use tools::{
    count, count_once, find, remembered, repeated, run_as_nobody, scale, scaled, scratch, skip, wait_until,
};

/// One test per setup: `in_every_setup!(storm, fork_storm, 5)` makes `storm::one_tier`, `storm::two_tiers`, … that each
/// call `fork_storm(&tiering, 5)`.
#[macro_export]
macro_rules! in_every_setup {
    ($name:ident, $body:ident $(, $more:expr)*) => {
        $crate::in_setups!(
            [one_tier OneTier, two_tiers TwoTiers, tight Tight, interleaved Interleaved] $name, $body $(, $more)*
        );
    };
}

/// As [`in_every_setup!`], for the setups that are named.
#[macro_export]
macro_rules! in_setups {
    ([$($test:ident $setup:ident),+] $name:ident, $body:ident $(, $more:expr)*) => {
        $crate::in_setups!(@each [$($test $setup),+] $name, $body, ($($more),*));
    };
    (@each [$($test:ident $setup:ident),+] $name:ident, $body:ident, $more:tt) => {
        mod $name {
            $($crate::in_setups!(@one $test $setup, $body, $more);)+
        }
    };
    (@one $test:ident $setup:ident, $body:ident, ($($more:expr),*)) => {
        #[test]
        fn $test() {
            super::$body(&$crate::Setup::$setup.prepare() $(, $more)*);
        }
    };
}
