//! CPUs: which ones this thread may use, and keeping it on some of them.

use std::mem;

use crate::{Errno, Result};

/// CPUs that the calling thread may run on, by number.
///
/// # Errors
/// As sched_getaffinity(2); `EINVAL` on machines with more than 1024 CPUs.
pub fn allowed() -> Result<Vec<u32>> {
    // SAFETY: a cpu_set_t is plain bits; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is valid for writes of its own size.
    let rc = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    Errno::result(rc)?;
    // SAFETY: CPU numbers below CPU_SETSIZE are inside the set.
    let is_set = |cpu: usize| unsafe { libc::CPU_ISSET(cpu, &set) };
    Ok((0..libc::CPU_SETSIZE as usize).filter(|&cpu| is_set(cpu)).filter_map(|cpu| u32::try_from(cpu).ok()).collect())
}

/// Keeps the calling thread on these CPUs.
///
/// # Errors
/// `EINVAL` if it may use none of them.
pub fn pin(cpus: &[u32]) -> Result<()> {
    // SAFETY: a cpu_set_t is plain bits; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &cpu in cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as u32) {
        // SAFETY: below CPU_SETSIZE, as just checked.
        unsafe { libc::CPU_SET(cpu as usize, &mut set) };
    }
    // SAFETY: `set` is valid for reads of its own size.
    let rc = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    Errno::result(rc).map(drop)
}

/// Asks the processor to bring what is at `at` into its nearest cache, and does not wait for it. A hint, which never fails.
#[inline(always)]
pub fn prefetch<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetching reads nothing that a program could see, and the reference is valid besides.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Which of sixteen numbers of 24 bits are `wanted`, a bit each. Their low sixteen bits stand in `low`, the others in `high`.
#[inline(always)]
pub fn equal_of_16(low: &[u16; 16], high: &[u8; 16], wanted: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            __m128i, _mm_and_si128, _mm_cmpeq_epi8, _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8,
            _mm_packs_epi16, _mm_set1_epi8, _mm_set1_epi16,
        };
        let (first, last) = low.split_at(8);
        let [first, last] = [first.as_ptr(), last.as_ptr()].map(|words| {
            // SAFETY: eight words are sixteen bytes, which may lie anywhere; each x86-64 processor has SSE2.
            unsafe { _mm_loadu_si128(words.cast::<__m128i>()) }
        });
        // SAFETY: sixteen bytes, as above.
        let high = unsafe { _mm_loadu_si128(high.as_ptr().cast::<__m128i>()) };
        // SAFETY: arithmetic, and each x86-64 processor has SSE2.
        unsafe {
            let word = _mm_set1_epi16(wanted as i16);
            let words = _mm_packs_epi16(_mm_cmpeq_epi16(first, word), _mm_cmpeq_epi16(last, word));
            let bytes = _mm_cmpeq_epi8(high, _mm_set1_epi8((wanted >> 16) as i8));
            _mm_movemask_epi8(_mm_and_si128(words, bytes)) as u32
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let equal = |at: usize| low[at] == wanted as u16 && high[at] == (wanted >> 16) as u8;
        (0..16).fold(0, |all, at| all | u32::from(equal(at)) << at)
    }
}

/// Which of sixteen words are `wanted`, a bit each.
#[inline(always)]
pub fn equal_words_of_16(words: &[u16; 16], wanted: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            __m128i, _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
        };
        let (first, last) = words.split_at(8);
        let [first, last] = [first.as_ptr(), last.as_ptr()].map(|words| {
            // SAFETY: eight words are sixteen bytes, which may lie anywhere; each x86-64 processor has SSE2.
            unsafe { _mm_loadu_si128(words.cast::<__m128i>()) }
        });
        // SAFETY: arithmetic, and each x86-64 processor has SSE2.
        unsafe {
            let word = _mm_set1_epi16(wanted as i16);
            _mm_movemask_epi8(_mm_packs_epi16(_mm_cmpeq_epi16(first, word), _mm_cmpeq_epi16(last, word))) as u32
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        (0..16).fold(0, |all, at| all | u32::from(words[at] == wanted) << at)
    }
}

/// The signature of the hypervisor that this machine runs under (`KVMKVMKVM`, `VMwareVMware` …); `None` on bare metal
/// and on processors other than x86-64.
pub fn hypervisor() -> Option<String> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::__cpuid;
        // Leaf 1, ECX bit 31: always 0 on real processors, set by hypervisors.
        if __cpuid(1).ecx >> 31 == 0 {
            return None;
        }
        let leaf = __cpuid(0x4000_0000);
        let bytes: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx].iter().flat_map(|word| word.to_le_bytes()).collect();
        let signature = String::from_utf8_lossy(&bytes);
        Some(signature.trim_matches(|c: char| !c.is_ascii_graphic()).to_owned())
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_are_found_and_no_others() {
        let numbers: [u32; 16] = std::array::from_fn(|at| [0, 0x12_3456, 0x13_3456, 0x12_3457, 0xff_ffff][at % 5]);
        let (low, high) = (numbers.map(|number| number as u16), numbers.map(|number| (number >> 16) as u8));
        for wanted in [0, 0x12_3456, 0x13_3456, 0x12_3457, 0xff_ffff, 0x00_3456] {
            let expected = (0..16).fold(0, |all, at| all | u32::from(numbers[at] == wanted) << at);
            assert_eq!(equal_of_16(&low, &high, wanted), expected, "{wanted:x}");
            let expected = (0..16).fold(0, |all, at| all | u32::from(low[at] == wanted as u16) << at);
            assert_eq!(equal_words_of_16(&low, wanted as u16), expected, "{wanted:x}");
        }
    }

    #[test]
    fn a_pinned_thread_may_use_that_cpu_only() {
        std::thread::spawn(|| {
            let first = allowed().unwrap()[0];
            pin(&[first]).unwrap();
            assert_eq!(allowed().unwrap(), [first]);
            assert_eq!(pin(&[]), Err(Errno::EINVAL));
        })
        .join()
        .unwrap();
    }
}
