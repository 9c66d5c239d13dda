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
