//! Who asked for a block: the return addresses on the stack.
//!
//! Instrumented code keeps frame pointers, and so does Rust's standard library; so the stack is a list, each frame
//! pointer leading to its caller's. Code without them ends the list early or leads it astray, but never out of the
//! stack.

use std::ops::Range;
use std::ptr::with_exposed_provenance;

/// Return addresses that tell one site from another.
pub const DEPTH: usize = 8;

/// Return addresses, innermost first; zero behind the last one.
pub type Frames = [u64; DEPTH];

/// Where a thread's stack lies.
#[derive(Clone, Debug)]
pub struct Bounds(Range<usize>);

impl Bounds {
    pub fn of_this_thread() -> Self {
        Self(tiermem_sys::thread::stack().unwrap_or(0..0))
    }

    /// The callers of a function that was called from `caller` with this frame pointer.
    pub fn walk(&self, caller: usize, mut frame: usize) -> Frames {
        let mut frames = [0; DEPTH];
        frames[0] = caller as u64;
        // A frame is two words, and the caller's lies further up.
        let mut least = self.0.start;
        for slot in &mut frames[1..] {
            let inside = frame > least && frame < self.0.end.saturating_sub(16) && frame.is_multiple_of(8);
            if !inside {
                break;
            }
            let words = with_exposed_provenance::<usize>(frame);
            // SAFETY: two words in the thread's own stack, above what is in use now.
            let (up, back) = unsafe { (words.read(), words.add(1).read()) };
            if back == 0 {
                break;
            }
            *slot = back as u64;
            least = frame;
            frame = up;
        }
        frames
    }
}

/// Sites that the thread asked from lately, with their numbers.
#[derive(Debug)]
pub struct SiteCache(Box<[(u64, u32); SITES]>);

const SITES: usize = 256;

impl Default for SiteCache {
    fn default() -> Self {
        Self(Box::new([(0, 0); SITES]))
    }
}

/// A number that tells sites apart; never 0.
pub fn hash(frames: &Frames) -> u64 {
    // The multiplier of Fibonacci hashing (Knuth, TAOCP 3, 6.4): 2^64 over the golden ratio.
    let mixed = frames.iter().fold(0_u64, |h, frame| (h ^ frame).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    mixed | 1
}

impl SiteCache {
    /// The number of a site; `ask` knows it if it is not here.
    pub fn number(&mut self, frames: &Frames, ask: impl FnOnce() -> u32) -> u32 {
        let hash = hash(frames);
        let slot = &mut self.0[(hash >> 32) as usize % SITES];
        if slot.0 != hash {
            *slot = (hash, ask());
        }
        slot.1
    }
}
