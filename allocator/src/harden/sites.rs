//! Who allocated and who freed a block: return addresses, kept once each in a table, so that 16 bits beside a block name
//! one.

use tiermem_sys::sync::atomic::{AtomicUsize, Ordering};

use super::tail::MIXER;

/// Addresses that can be told apart. A program with more allocation sites has some that are not named.
const SITES: usize = 1 << 14;

/// How far from its place an address is looked for.
const PROBES: usize = 8;

/// Entry 0 stays 0: the caller is not known. Others are written once.
static TABLE: [AtomicUsize; SITES] = [const { AtomicUsize::new(0) }; SITES];

const fn place(caller: usize) -> usize {
    ((caller as u64).wrapping_mul(MIXER) >> (64 - SITES.trailing_zeros())) as usize
}

/// The number of a return address; 0 for 0, and where the table is full.
pub fn number(caller: usize) -> u16 {
    known(caller).unwrap_or_else(|| enter(caller))
}

/// As [`number`], where the address is at its place; `None` says nothing.
#[inline(always)]
pub fn known(caller: usize) -> Option<u16> {
    let at = place(caller);
    // Relaxed: entries are single words; whoever sees an old 0 goes on to `enter`.
    if TABLE[at].load(Ordering::Relaxed) == caller { Some(at as u16) } else { None }
}

#[cold]
#[inline(never)]
fn enter(caller: usize) -> u16 {
    let start = place(caller);
    for at in (0..PROBES).map(|step| (start + step) % SITES).filter(|&at| at != 0) {
        // Relaxed: nothing hangs on the entry but its own value.
        match TABLE[at].compare_exchange(0, caller, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return at as u16,
            Err(there) if there == caller => return at as u16,
            Err(_) => {}
        }
    }
    0
}

/// The return address of a number; 0 if it is not known.
pub fn address(number: u16) -> usize {
    TABLE[usize::from(number) % SITES].load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_number_for_good() {
        assert_eq!((number(0), address(0)), (0, 0));
        let callers: Vec<usize> = (1..2000).map(|n| 0x5555_0000_0000 + n * 37).collect();
        let numbers: Vec<u16> = callers.iter().map(|&caller| number(caller)).collect();
        for (&caller, &given) in callers.iter().zip(&numbers) {
            assert_eq!(number(caller), given);
            assert!(given != 0 && address(given) == caller);
        }
    }
}
