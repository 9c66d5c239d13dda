//! Numbers for the places that allocate: return addresses, each with the number under which the trace defines it.
//!
//! ```text
//! a slot of the table:   | address: 48 bits | number: 16 bits |   0: free
//! ```
//! Invariant: a number's address is in `ADDRESSES` before anybody but its finder can know the number for good; a number that
//! nobody needed after all is `UNUSED` there.

use tiermem_sys::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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

/// The number of the place that returns to `address`; 0 for none.
pub fn number(address: usize) -> u32 {
    let address = address as u64;
    if address == 0 || address >> 48 != 0 {
        return 0;
    }
    // The multiplier of Fibonacci hashing (Knuth, TAOCP 3, 6.4).
    let hash = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    for probe in 0..PROBES as u64 {
        let slot = &TABLE[(hash + probe) as usize % SLOTS];
        // Relaxed, here and below: the word holds all that is looked for.
        let found = slot.load(Ordering::Relaxed);
        if found >> 16 == address {
            return found as u32 & 0xffff;
        }
        if found == 0 {
            match enter(slot, address) {
                Some(number) => return number,
                None => continue,
            }
        }
    }
    0
}

/// Gives the address a number and the slot. `None` if another address has taken the slot meanwhile.
#[cold]
fn enter(slot: &AtomicU64, address: u64) -> Option<u32> {
    let next = |count: u32| (count as usize + 1 < SITES_MAX).then_some(count + 1);
    let Ok(before) = COUNT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) else { return Some(0) };
    let entry = &ADDRESSES[before as usize];
    match slot.compare_exchange(0, address << 16 | u64::from(before + 1), Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {
            entry.store(address, Ordering::Relaxed);
            Some(before + 1)
        }
        Err(other) => {
            entry.store(UNUSED, Ordering::Relaxed);
            (other >> 16 == address).then_some(other as u32 & 0xffff)
        }
    }
}

/// The sites from number `from` + 1 on, as number and address, as far as all are known.
pub fn after(from: u32) -> impl Iterator<Item = (u32, Option<u64>)> {
    let count = COUNT.load(Ordering::Relaxed);
    let known = (from..count).map(|at| (at + 1, ADDRESSES[at as usize].load(Ordering::Relaxed)));
    known
        .take_while(|&(_, address)| address != 0)
        .map(|(number, address)| (number, (address != UNUSED).then_some(address)))
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
        let defined: std::collections::HashMap<_, _> = after(0).collect();
        for (n, number) in answers[0].iter().enumerate() {
            assert_eq!(defined[number], Some(0x5555_0000_0000 + (n as u64 + 1) * 7));
        }
        assert_eq!((number(0), number(usize::MAX)), (0, 0));
    }
}
