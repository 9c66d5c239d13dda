//! Hardening: misuse of blocks is caught and reported, at a price that a production service can pay.
//!
//! Chosen by the environment when the process makes its first heap, and never changed after that. Where it is off, it
//! costs a test on the slow paths and nothing on the fast ones: in a hardened process the threads' view leads to no span
//! and their key to no heap ([`tls`](crate::heap::tls)), so that every request comes to the slow path and from there to
//! this module, which works with the same heaps, spans and tiers. The [recorder](crate::recorder) uses the same way.
//!
//! What the modes catch and what they cost is in `docs/hardening.md`. Layout of a block: [`tail`].

mod allocate;
mod free;
mod large;
mod quarantine;
mod report;
mod resize;
mod sites;
mod strong;
mod sweep;
mod tail;
mod text;

use tiermem_sys::process;
use tiermem_sys::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::recorder::TRACE_VARIABLE;
use crate::size_class::SizeClass;

pub use allocate::{allocate, allocate_aligned, allocate_checked, check_list, prepare};
pub use free::{Claim, arrives, free_any, free_checked, free_elsewhere};
pub use quarantine::{Quarantine, drain, shrink};
pub use resize::{reallocate, usable_size};
pub use sweep::sweep;

/// The mode: `off`, `check` or `strong`; `,report` after it has the program go on after a report.
pub const HARDEN_VARIABLE: &str = "TIERMEM_HARDEN";
/// `1`: what is freed is zeroed.
pub const ZERO_VARIABLE: &str = "TIERMEM_ZERO_FREED";

/// What a process watches for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Hardening {
    /// Nothing: addresses that were never allocated are left alone when freed, and counted.
    #[default]
    Off,
    /// Double and invalid frees, writes past a block's end, and freed blocks whose ends were written to.
    Check,
    /// That, and writes to any part of a freed block; blocks are placed at random, freed ones kept back for a while, and
    /// large ones lie between inaccessible OS pages.
    Strong,
}

/// Blocks have tails. Alone it is the check mode, for which there are fast paths.
pub const TAILS: u8 = 1;
/// The strong mode.
const STRONG: u8 = 2;
/// Freed memory is zeroed.
const ZERO: u8 = 4;
/// The program goes on after a report.
const GO_ON: u8 = 8;
/// A variable has a value that means nothing.
const UNCLEAR: u8 = 16;

/// Nobody has looked at the variables yet.
const UNDECIDED: u8 = 32;
/// Requests and frees are recorded.
const RECORDED: u8 = 64;

/// What is watched for; the functions below say what that is.
pub static FLAGS: AtomicU8 = AtomicU8::new(UNDECIDED);
static SECRET: AtomicU64 = AtomicU64::new(0);

#[inline(always)]
fn flags() -> u8 {
    // Relaxed: written before the first heap is made, and the same by every thread.
    FLAGS.load(Ordering::Relaxed)
}

#[inline(always)]
fn secret() -> u64 {
    // Relaxed: as for `flags`.
    SECRET.load(Ordering::Relaxed)
}

#[inline(always)]
fn key(block: usize) -> tail::Key {
    tail::Key::new(block, secret())
}

/// Whether blocks have tails, and so every request and every free comes here.
#[inline(always)]
pub fn has_tails() -> bool {
    is_any(TAILS)
}

/// Whether one of these flags is set, once that is decided. A single test where none is.
#[inline(always)]
fn is_any(wanted: u8) -> bool {
    let now = flags();
    now & (wanted | UNDECIDED) != 0 && (now & UNDECIDED == 0 || decide() & wanted != 0)
}

/// Whether every request comes here.
#[inline(always)]
pub fn sees_requests() -> bool {
    is_any(TAILS | RECORDED)
}

/// Whether every free comes here.
#[inline(always)]
pub fn sees_frees() -> bool {
    is_any(TAILS | ZERO | RECORDED)
}

/// Whether the [recorder](crate::recorder) hears of each of them.
#[inline(always)]
pub fn is_recorded() -> bool {
    is_any(RECORDED)
}

fn is_strong() -> bool {
    flags() & STRONG != 0
}

fn goes_on() -> bool {
    flags() & GO_ON != 0
}

/// Bytes that a block holds beyond what was asked for, at least.
pub fn room() -> usize {
    if has_tails() { tail::ROOM } else { 0 }
}

/// The class for `size` bytes at a multiple of `align`, with room for the tail.
fn class_of(size: usize, align: usize) -> Option<SizeClass> {
    SizeClass::of_aligned(size.checked_add(tail::ROOM)?, align)
}

/// Settles the mode. Called before a thread gets a heap, and so before the first block.
#[inline]
pub fn begin() {
    if flags() & UNDECIDED != 0 {
        decide();
    }
}

#[cold]
#[inline(never)]
fn decide() -> u8 {
    // Relaxed throughout: threads that come here at once write the same values, each before it uses them.
    let _ = SECRET.compare_exchange(0, process::secret(), Ordering::Relaxed, Ordering::Relaxed);
    let mode = process::early_variable(HARDEN_VARIABLE.as_bytes());
    let zero = process::early_variable(ZERO_VARIABLE.as_bytes());
    let is_recorded = process::early_variable(TRACE_VARIABLE.as_bytes()).is_some_and(|file| !file.is_empty());
    let flags = read(mode, zero) | if is_recorded { RECORDED } else { 0 };
    FLAGS.store(flags, Ordering::Relaxed);
    flags
}

/// What the two variables ask for.
fn read(mode: Option<&[u8]>, zero: Option<&[u8]>) -> u8 {
    let mode = mode.unwrap_or_default();
    let (mode, more) = mode.strip_suffix(b",report").map_or((mode, 0), |mode| (mode, GO_ON));
    let mode = match mode {
        b"" | b"off" => more & UNCLEAR,
        b"check" => TAILS | more,
        b"strong" => TAILS | STRONG | more,
        _ => UNCLEAR,
    };
    let zero = match zero.unwrap_or_default() {
        b"" | b"0" => 0,
        b"1" => ZERO,
        _ => UNCLEAR,
    };
    mode | zero
}

/// What this process watches for; see `docs/hardening.md`.
///
/// ```
/// if tiermem::hardening() == tiermem::Hardening::Off {
///     eprintln!("not hardened: start with TIERMEM_HARDEN=check");
/// }
/// ```
pub fn hardening() -> Hardening {
    begin();
    match flags() & (TAILS | STRONG) {
        0 => Hardening::Off,
        TAILS => Hardening::Check,
        _ => Hardening::Strong,
    }
}

/// What is wrong with the settings, in a line. May allocate.
pub fn complaint() -> Option<String> {
    begin();
    (flags() & UNCLEAR != 0).then(|| {
        format!(
            "{HARDEN_VARIABLE} is one of off, check, strong, check,report and strong,report, and {ZERO_VARIABLE} is 0 \
             or 1; what was set otherwise is taken for off"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        assert_eq!(read(None, None), 0);
        assert_eq!(read(Some(b"off"), Some(b"0")), 0);
        assert_eq!(read(Some(b"check"), None), TAILS);
        assert_eq!(read(Some(b"check,report"), None), TAILS | GO_ON);
        assert_eq!(read(Some(b"strong"), Some(b"1")), TAILS | STRONG | ZERO);
        assert_eq!(read(None, Some(b"1")), ZERO);
        for wrong in [&b"on"[..], b"Check", b"check,", b"strong,abort", b"1"] {
            assert_eq!(read(Some(wrong), None), UNCLEAR, "{wrong:?}");
        }
        assert_eq!(read(Some(b"check"), Some(b"yes")), TAILS | UNCLEAR);
    }
}
