//! What the strong mode adds to a block: a filling while it is free, and a place in its span that nobody can foretell.

use tiermem_sys::sync::atomic::{AtomicU64, Ordering};

use super::tail::{MIXER, ROOM};
use super::{ZERO, flags, key, report, secret};
use crate::span::{Block, Span};

/// Most blocks that are linked in random order at a time: a carving of the smallest class.
const SHUFFLED_MAX: usize = 256;

/// Bytes at the start of a free block that are not filled: the link, and what the seal said before.
const START: usize = 16;

/// Bytes of a guard.
const GUARD: usize = size_of::<u32>();

/// What fills free blocks, a word at a time: unlikely as a pointer and as a length. Zeroes, if that is asked for.
fn filling() -> u64 {
    if flags() & ZERO != 0 { 0 } else { secret().wrapping_mul(MIXER) | 0xf1 << 56 | 1 }
}

/// Fills a free block up to its seal.
pub fn fill(at: *mut u8, block_size: usize) {
    let words = at.cast::<u64>();
    let filling = filling();
    for i in 0..(block_size - ROOM) / 8 {
        // SAFETY: inside the block, which nobody uses.
        unsafe { words.add(i).write(filling) };
    }
}

/// Fills the two words that a free block uses, before it is handed out; the second one of 16 bytes is the seal, at which who frees
/// the next block may be looking.
#[inline]
pub fn fill_start(at: *mut u8, block_size: usize) {
    for i in 0..(block_size - ROOM).min(START) / 8 {
        // SAFETY: the block is the caller's.
        unsafe { at.cast::<u64>().add(i).write(filling()) };
    }
}

/// Since when a block is free.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// It is in quarantine: no list links it.
    Quarantined,
    /// It is or was on a list: its first word is a link.
    Listed,
}

/// Reports a write to a free block.
pub fn check_fill(span: &Span, at: *mut u8, since: Since) {
    if let Some(offset) = written_at(span, at, since) {
        report::written_after_free(span, at, offset);
    }
}

/// Where a free block was written to.
pub fn written_at(span: &Span, at: *mut u8, since: Since) -> Option<usize> {
    let (words, filling, size) = (at.cast::<u64>(), filling(), span.block_size());
    // SAFETY: inside the block; others may write there, which is what is looked for.
    let word = |i: usize| unsafe { words.add(i).read_volatile() };
    let first = if since == Since::Listed { START / 8 } else { 0 };
    let wrong = |&i: &usize| i != 1 && word(i) != filling;
    if let Some(i) = (first..(size - ROOM) / 8).find(wrong) {
        return Some(i * 8);
    }
    // What the seal said before, if the block was ever in use.
    let epitaph_is_whole = size <= START || word(1) == filling || key(at.addr()).read_epitaph(word(1)).is_some();
    (!epitaph_is_whole).then_some(8)
}

/// Whether all that follows the guard, up to the seal, is still filled.
pub fn is_slack_whole(at: *mut u8, block_size: usize, slack: usize) -> bool {
    // SAFETY: inside the block.
    slack < ROOM + GUARD || unsafe { is_filled(at, block_size - slack + GUARD, block_size - ROOM) }
}

/// Fills bytes `from .. to` of the block at `at`.
///
/// # Safety
/// They are the caller's.
pub unsafe fn fill_bytes(at: *mut u8, from: usize, to: usize) {
    let filling = filling().to_ne_bytes();
    for i in from..to {
        // SAFETY: passed on to the caller.
        unsafe { at.add(i).write(filling[i % 8]) };
    }
}

/// Whether bytes `from .. to` of the block at `at` are filled.
///
/// # Safety
/// They may be read.
pub unsafe fn is_filled(at: *mut u8, from: usize, to: usize) -> bool {
    let filling = filling().to_ne_bytes();
    // SAFETY: passed on to the caller.
    (from..to).all(|i| unsafe { at.add(i).read_volatile() } == filling[i % 8])
}

/// Links the `count` blocks from `first` on, before `rest`, in random order.
pub fn relink(span: &Span, first: usize, count: usize, rest: *mut Block) {
    let mut order = [0usize; SHUFFLED_MAX];
    let size = span.block_size();
    let mut rest = rest;
    // By pieces, where there are more than the table holds.
    for piece in (0..count).step_by(SHUFFLED_MAX) {
        let order = &mut order[..(count - piece).min(SHUFFLED_MAX)];
        for (i, address) in order.iter_mut().enumerate() {
            *address = first + (piece + i) * size;
        }
        for i in (1..order.len()).rev() {
            order.swap(i, (random() % (i as u64 + 1)) as usize);
        }
        // SAFETY: these blocks have just been carved, and the caller owns the span.
        unsafe { span.relink_front(order, rest) };
        rest = span.head();
    }
}

/// The next number of a sequence that nobody outside can foretell easily: splitmix64 (Steele et al., OOPSLA 2014) over the
/// secret.
fn random() -> u64 {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    // Relaxed: each caller gets another number, in whatever order.
    let n = COUNTER.fetch_add(MIXER, Ordering::Relaxed).wrapping_add(secret());
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}
