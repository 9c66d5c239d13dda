//! Numbers for the places that allocate: return addresses, or call stacks, each with the number under which the trace defines
//! it.
//!
//! ```text
//! a slot of the table:   | key: 48 bits | number: 16 bits |   0: free
//! ```
//! The key is the return address itself, or a hash of the stack: of 65,535 stacks, two have the same with a probability of 1 in
//! 131,000, and are then one site.
//!
//! Invariant: a number's address is in `ADDRESSES` (and before it the frames behind it in `CALLERS`) before anybody but its finder
//! can know the number for good; a number that nobody needed after all is `UNUSED` there.

use std::ptr;

use tiermem_sys::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use tiermem_sys::{map, process};

use crate::sites as stacks;
use crate::sites::FRAMES;

/// Numbers that there are. A program with more places than this has the rest of them unknown.
const SITES_MAX: usize = 1 << 16;
const SLOTS: usize = 2 * SITES_MAX;
/// Slots that are looked at.
const PROBES: usize = 64;
/// No return address.
const UNUSED: u64 = 1;

static TABLE: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
/// By number, less one; 0 where it is not there yet.
static ADDRESSES: [AtomicU64; SITES_MAX] = [const { AtomicU64::new(0) }; SITES_MAX];
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The frames of a site but for the first, 0 after the last one.
type Callers = [AtomicU64; FRAMES - 1];
/// By number, less one. Null where sites are single addresses; made before the first site is entered, never changed.
static CALLERS: AtomicPtr<[Callers; SITES_MAX]> = AtomicPtr::new(ptr::null_mut());
/// Frames of a site; 0 while nobody has looked what is asked for.
static DEPTH: AtomicU32 = AtomicU32::new(0);

/// How many frames of each call stack are told: 1 to 16.
pub const FRAMES_VARIABLE: &str = "TIERMEM_TRACE_FRAMES";

/// A site's return addresses, innermost first.
pub struct Stack {
    addresses: [u64; FRAMES],
    count: usize,
}

impl Stack {
    pub fn addresses(&self) -> &[u64] {
        &self.addresses[..self.count]
    }
}

/// How many frames a site has, at most.
pub fn depth() -> u32 {
    // Relaxed: every thread that settles it comes to the same.
    match DEPTH.load(Ordering::Relaxed) {
        0 => settle_depth(),
        depth => depth,
    }
}

#[cold]
fn settle_depth() -> u32 {
    let asked = process::early_variable(FRAMES_VARIABLE.as_bytes()).unwrap_or_default();
    let mut depth = parse_depth(asked).unwrap_or_else(|| {
        process::say(b"tiermem: TIERMEM_TRACE_FRAMES is a number of 1 to 16; sites have one frame\n");
        1
    });
    if depth > 1 {
        // Of the table, only what is used takes memory.
        match map::anonymous(size_of::<[Callers; SITES_MAX]>()) {
            // Release pairs with the Acquire in `callers`. The first one counts: others may have entered sites into it.
            Ok(at) => {
                let at = at.cast::<[Callers; SITES_MAX]>().as_ptr();
                let _ = CALLERS.compare_exchange(ptr::null_mut(), at, Ordering::Release, Ordering::Relaxed);
            }
            Err(_) => depth = 1,
        }
    }
    DEPTH.store(depth, Ordering::Relaxed);
    depth
}

/// A number of frames, as the user says it; 1 where nothing is said.
pub fn parse_depth(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return Some(1);
    }
    let number: u32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (1..=FRAMES as u32).contains(&number).then_some(number)
}

fn callers(number: u32) -> Option<&'static Callers> {
    // Acquire pairs with the Release in `settle_depth`.
    // SAFETY: null or the table, zeroed at first, which lives for ever.
    let all = unsafe { CALLERS.load(Ordering::Acquire).as_ref() }?;
    all.get(number as usize - 1)
}

/// The number of the place that returns to `caller`, or of the call stack from there on; 0 for none.
pub fn number(caller: usize) -> u32 {
    match depth() {
        1 => number_of(caller as u64, caller as u64, &[]),
        depth => number_of_stack(caller, depth as usize),
    }
}

fn number_of_stack(caller: usize, depth: usize) -> u32 {
    let mut frames = [0; FRAMES];
    // The unwinder may allocate; what it does, and threads without a heap, have the first frame alone.
    let count = stacks::once_per_thread(|| Some(stacks::walk_from(caller, &mut frames[..depth]))).unwrap_or(0);
    let behind = frames.get(1..count).unwrap_or_default();
    // The multiplier of Knuth's MMIX generator; the upper bits depend on all of the lower ones.
    let mix = |hash: u64, &frame: &usize| (hash ^ frame as u64).wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(29);
    let key = if behind.is_empty() { caller as u64 } else { behind.iter().fold(caller as u64, mix) >> 16 };
    number_of(key, caller as u64, behind)
}

fn number_of(key: u64, address: u64, behind: &[usize]) -> u32 {
    if address == 0 || address >> 48 != 0 || key == 0 {
        return 0;
    }
    // The multiplier of Fibonacci hashing (Knuth, TAOCP 3, 6.4).
    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    for probe in 0..PROBES as u64 {
        let slot = &TABLE[(hash + probe) as usize % SLOTS];
        // Relaxed, here and below: the word holds all that is looked for.
        let found = slot.load(Ordering::Relaxed);
        if found >> 16 == key {
            return found as u32 & 0xffff;
        }
        if found == 0 {
            match enter(slot, key, address, behind) {
                Some(number) => return number,
                None => continue,
            }
        }
    }
    0
}

/// Gives the key a number and the slot. `None` if another key has taken the slot meanwhile.
#[cold]
fn enter(slot: &AtomicU64, key: u64, address: u64, behind: &[usize]) -> Option<u32> {
    let next = |count: u32| (count as usize + 1 < SITES_MAX).then_some(count + 1);
    let Ok(before) = COUNT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) else { return Some(0) };
    let entry = &ADDRESSES[before as usize];
    match slot.compare_exchange(0, key << 16 | u64::from(before + 1), Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {
            for (place, &frame) in callers(before + 1).into_iter().flatten().zip(behind) {
                place.store(frame as u64, Ordering::Relaxed);
            }
            // Release pairs with the Acquire in `after`.
            entry.store(address, Ordering::Release);
            Some(before + 1)
        }
        Err(other) => {
            entry.store(UNUSED, Ordering::Relaxed);
            (other >> 16 == key).then_some(other as u32 & 0xffff)
        }
    }
}

/// The sites from number `from` + 1 on, as number and frames, as far as all are known.
pub fn after(from: u32) -> impl Iterator<Item = (u32, Option<Stack>)> {
    let count = COUNT.load(Ordering::Relaxed);
    // Acquire pairs with the Release in `enter`.
    let known = (from..count).map(|at| (at + 1, ADDRESSES[at as usize].load(Ordering::Acquire)));
    known
        .take_while(|&(_, address)| address != 0)
        .map(|(number, address)| (number, (address != UNUSED).then(|| stack(number, address))))
}

fn stack(number: u32, address: u64) -> Stack {
    let mut stack = Stack { addresses: [0; FRAMES], count: 1 };
    stack.addresses[0] = address;
    for frame in callers(number).into_iter().flatten().map(|frame| frame.load(Ordering::Relaxed)) {
        if frame == 0 {
            break;
        }
        stack.addresses[stack.count] = frame;
        stack.count += 1;
    }
    stack
}

/// In a child of fork: what threads that were not copied were about to enter, nobody will.
pub fn restart_in_child() {
    let count = COUNT.load(Ordering::Relaxed) as usize;
    for entry in &ADDRESSES[..count] {
        let _ = entry.compare_exchange(0, UNUSED, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_one_number_whoever_asks() {
        let ask = || (1..=5000).map(|n| number(0x5555_0000_0000 + n * 7)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(ask)).collect();
        let answers: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        let known = after(0).filter_map(|(number, stack)| Some((number, stack?.addresses().to_vec())));
        let defined: std::collections::HashMap<_, _> = known.collect();
        for (n, number) in answers[0].iter().enumerate() {
            assert_eq!(defined[number], [0x5555_0000_0000 + (n as u64 + 1) * 7]);
        }
        assert_eq!((number(0), number(usize::MAX)), (0, 0));
    }

    #[test]
    fn depths_are_read() {
        assert_eq!([&b""[..], b"1", b"16"].map(parse_depth), [Some(1), Some(1), Some(16)]);
        assert_eq!([&b"0"[..], b"17", b"x", b"-1", b"1 "].map(parse_depth), [None; 5]);
    }
}
