//! Copies to and from memory whose loads or stores may raise SIGBUS: poisoned memory, a file that became shorter, a
//! device that went away. The copy stops there and says so; the process goes on.
//!
//! How: the copy loop is a routine of its own in assembly. The first guarded copy installs a SIGBUS handler; if a
//! signal's program counter lies inside the routine, the handler moves it to the routine's exit and leaves the reason
//! in a register. Nothing is saved beforehand, so a copy without a fault costs nothing extra. Any other SIGBUS goes to
//! the handler that was there before, except the kernel's word that memory has broken whose owner has
//! [asked to hear of it](on_broken_memory).
//!
//! Why not process_vm_readv(2), which gives EFAULT for such memory: it touches the memory in kernel mode, where a machine
//! check on a load is not always survivable. It is the second choice here, for when the program has put a handler of its
//! own in place of this one, and on architectures without the routine.

mod handler;

use std::ptr::NonNull;

use crate::{Errno, Result};

pub use handler::{Broken, Heard, on_broken_memory, pretend_broken};

/// A guarded copy that did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Bytes copied before the fault; at least this many, and the faulty byte is within the next 16.
    pub copied: usize,
    /// Whether the hardware reported an uncorrectable memory error (`BUS_MCEERR_*`). Otherwise the memory is not there:
    /// the file became shorter, its space ran out, or the device is gone.
    pub hardware: bool,
}

/// Copies `into.len()` bytes from `from`.
///
/// # Errors
/// Where it stopped, and why.
///
/// # Safety
/// `from .. from + into.len()` is mapped readable, though loads from it may raise SIGBUS.
pub unsafe fn read(from: NonNull<u8>, into: &mut [u8]) -> std::result::Result<(), Fault> {
    // SAFETY: `into` is writable for its length; the caller vouches for `from`.
    unsafe { copy(into.as_mut_ptr(), from.as_ptr(), into.len(), Faulty::Source) }
}

/// Copies `from` to `into`.
///
/// # Errors
/// Where it stopped, and why.
///
/// # Safety
/// `into .. into + from.len()` is mapped writable, though stores to it may raise SIGBUS; the caller may write there.
pub unsafe fn write(into: NonNull<u8>, from: &[u8]) -> std::result::Result<(), Fault> {
    // SAFETY: `from` is readable for its length; the caller vouches for `into`.
    unsafe { copy(into.as_ptr(), from.as_ptr(), from.len(), Faulty::Destination) }
}

/// The side that may fault.
#[derive(Clone, Copy)]
enum Faulty {
    Source,
    Destination,
}

unsafe fn copy(to: *mut u8, from: *const u8, len: usize, faulty: Faulty) -> std::result::Result<(), Fault> {
    if routine::AVAILABLE && handler::is_in_place() {
        // SAFETY: the caller vouches for both ranges; the handler is in place for those that fault.
        let outcome = unsafe { routine::copy(to, from, len) };
        return match outcome.left {
            0 => Ok(()),
            left => Err(Fault { copied: len - left, hardware: handler::is_hardware_error(outcome.code) }),
        };
    }
    // SAFETY: the caller vouches for both ranges.
    match unsafe { through_kernel(to, from, len, faulty) } {
        Ok(copied) if copied == len => Ok(()),
        Ok(copied) => Err(Fault { copied, hardware: false }),
        Err(Errno::EFAULT) => Err(Fault { copied: 0, hardware: false }),
        Err(_) => {
            // SAFETY: the caller vouches for both ranges. The kernel refuses to copy, so this is as safe as a load.
            unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
            Ok(())
        }
    }
}

/// Copies within this process by process_vm_readv(2) or process_vm_writev(2); gives the bytes copied.
unsafe fn through_kernel(to: *mut u8, from: *const u8, len: usize, faulty: Faulty) -> Result<usize> {
    let pid = crate::process::id().cast_signed();
    let source = libc::iovec { iov_base: from.cast_mut().cast(), iov_len: len };
    let target = libc::iovec { iov_base: to.cast(), iov_len: len };
    let copied = match faulty {
        // SAFETY: the caller vouches for both ranges.
        Faulty::Source => unsafe { libc::process_vm_readv(pid, &raw const target, 1, &raw const source, 1, 0) },
        // SAFETY: as above.
        Faulty::Destination => unsafe { libc::process_vm_writev(pid, &raw const source, 1, &raw const target, 1, 0) },
    };
    Errno::result(copied).map(isize::unsigned_abs)
}

/// What the routine hands back: two registers.
#[repr(C)]
#[derive(Clone, Copy)]
struct Outcome {
    /// Bytes not copied.
    left: usize,
    /// `si_code` of the signal, if bytes are left.
    code: usize,
}

#[cfg(target_arch = "x86_64")]
mod routine {
    use super::Outcome;

    pub(super) const AVAILABLE: bool = true;

    // System V: rdi = to, rsi = from, rdx = len; the answer is rax (left) and rdx (code). `rep movsb` keeps the
    // number of bytes left in rcx, also when it faults in the middle.
    std::arch::global_asm!(
        ".pushsection .text.tiermem_guarded_copy,\"ax\",@progbits",
        ".p2align 4",
        ".hidden tiermem_guarded_copy",
        ".globl tiermem_guarded_copy",
        ".type tiermem_guarded_copy,@function",
        "tiermem_guarded_copy:",
        "mov rcx, rdx",
        "xor edx, edx",
        ".hidden tiermem_guarded_copy_load",
        ".globl tiermem_guarded_copy_load",
        "tiermem_guarded_copy_load:",
        "rep movsb",
        ".hidden tiermem_guarded_copy_exit",
        ".globl tiermem_guarded_copy_exit",
        "tiermem_guarded_copy_exit:",
        "mov rax, rcx",
        "ret",
        ".size tiermem_guarded_copy, . - tiermem_guarded_copy",
        ".popsection",
    );

    unsafe extern "C" {
        #[link_name = "tiermem_guarded_copy"]
        pub(super) fn copy(to: *mut u8, from: *const u8, len: usize) -> Outcome;
        #[link_name = "tiermem_guarded_copy_load"]
        fn load();
        #[link_name = "tiermem_guarded_copy_exit"]
        fn exit();
    }

    /// If the interrupted program counter lies in the routine, lets it go on at the exit.
    pub(super) fn recover(context: &mut libc::ucontext_t, code: i32) -> bool {
        let registers = &mut context.uc_mcontext.gregs;
        let counter = registers[libc::REG_RIP as usize].cast_unsigned() as usize;
        let inside = (load as *const () as usize..exit as *const () as usize).contains(&counter);
        if inside {
            registers[libc::REG_RIP as usize] = (exit as *const () as usize as u64).cast_signed();
            registers[libc::REG_RDX as usize] = i64::from(code);
        }
        inside
    }
}

#[cfg(target_arch = "aarch64")]
mod routine {
    use super::Outcome;

    pub(super) const AVAILABLE: bool = true;

    // AAPCS64: x0 = to, x1 = from, x2 = len; the answer is x0 (left) and x1 (code). x2 counts down after each store.
    std::arch::global_asm!(
        ".pushsection .text.tiermem_guarded_copy,\"ax\",@progbits",
        ".p2align 4",
        ".hidden tiermem_guarded_copy",
        ".globl tiermem_guarded_copy",
        ".type tiermem_guarded_copy,@function",
        "tiermem_guarded_copy:",
        ".hidden tiermem_guarded_copy_load",
        ".globl tiermem_guarded_copy_load",
        "tiermem_guarded_copy_load:",
        "cmp x2, #16",
        "b.lo 2f",
        "1: ldp x3, x4, [x1], #16",
        "stp x3, x4, [x0], #16",
        "sub x2, x2, #16",
        "cmp x2, #16",
        "b.hs 1b",
        "2: cbz x2, 4f",
        "3: ldrb w3, [x1], #1",
        "strb w3, [x0], #1",
        "sub x2, x2, #1",
        "cbnz x2, 3b",
        "4: mov x1, xzr",
        ".hidden tiermem_guarded_copy_exit",
        ".globl tiermem_guarded_copy_exit",
        "tiermem_guarded_copy_exit:",
        "mov x0, x2",
        "ret",
        ".size tiermem_guarded_copy, . - tiermem_guarded_copy",
        ".popsection",
    );

    unsafe extern "C" {
        #[link_name = "tiermem_guarded_copy"]
        pub(super) fn copy(to: *mut u8, from: *const u8, len: usize) -> Outcome;
        #[link_name = "tiermem_guarded_copy_load"]
        fn load();
        #[link_name = "tiermem_guarded_copy_exit"]
        fn exit();
    }

    /// If the interrupted program counter lies in the routine, lets it go on at the exit.
    pub(super) fn recover(context: &mut libc::ucontext_t, code: i32) -> bool {
        let machine = &mut context.uc_mcontext;
        let inside = (load as *const () as u64..exit as *const () as u64).contains(&machine.pc);
        if inside {
            machine.pc = exit as *const () as u64;
            machine.regs[1] = u64::from(code.cast_unsigned());
        }
        inside
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod routine {
    use super::Outcome;

    pub(super) const AVAILABLE: bool = false;

    pub(super) unsafe fn copy(_to: *mut u8, _from: *const u8, len: usize) -> Outcome {
        Outcome { left: len, code: 0 }
    }

    pub(super) fn recover(_context: &mut libc::ucontext_t, _code: i32) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{file, map};
    use std::os::fd::AsFd;

    const OS_PAGE: usize = 4096;

    /// Two OS pages of which the second lies behind the end of the file.
    fn cut_file() -> NonNull<u8> {
        let fd = file::memory_file(c"tiermem-test").unwrap();
        file::set_size(fd.as_fd(), 2 * OS_PAGE as u64).unwrap();
        let at = map::file_shared(2 * OS_PAGE, fd.as_fd(), 0).unwrap();
        // SAFETY: our own mapping.
        unsafe { at.as_ptr().write_bytes(7, OS_PAGE) };
        file::set_size(fd.as_fd(), OS_PAGE as u64).unwrap();
        at
    }

    #[test]
    fn a_cut_file_is_an_error_and_not_the_end() {
        if map::os_page_size() != OS_PAGE {
            eprintln!("SKIP a_cut_file_is_an_error_and_not_the_end: written for 4 KiB OS pages");
            return;
        }
        let at = cut_file();
        let mut into = vec![0u8; 2 * OS_PAGE];
        // SAFETY: two mapped OS pages.
        let fault = unsafe { read(at, &mut into) }.unwrap_err();
        assert!(!fault.hardware);
        assert!(fault.copied <= OS_PAGE && fault.copied + 16 > OS_PAGE, "{fault:?}");
        assert!(into[..fault.copied].iter().all(|&b| b == 7));
        // SAFETY: as above.
        let fault = unsafe { write(at, &into) }.unwrap_err();
        assert!(fault.copied <= OS_PAGE && fault.copied + 16 > OS_PAGE, "{fault:?}");
        // SAFETY: the first OS page is there.
        assert_eq!(unsafe { read(at, &mut into[..OS_PAGE]) }, Ok(()));
    }

    #[test]
    fn the_kernel_path_gives_the_same_answer() {
        let at = cut_file();
        let mut into = vec![0u8; 2 * OS_PAGE];
        // SAFETY: both ranges are mapped.
        match unsafe { through_kernel(into.as_mut_ptr(), at.as_ptr(), into.len(), Faulty::Source) } {
            Ok(copied) => assert_eq!(copied, OS_PAGE),
            Err(Errno::EPERM | Errno::ENOSYS) => eprintln!("SKIP the_kernel_path_gives_the_same_answer: forbidden"),
            Err(errno) => assert_eq!(errno, Errno::EFAULT),
        }
    }

    #[test]
    fn copies_are_exact_at_all_lengths() {
        let source: Vec<u8> = (0..300).map(|i| (i % 251) as u8).collect();
        for len in 0..source.len() {
            let mut into = vec![0u8; len];
            // SAFETY: plain vectors.
            unsafe { read(NonNull::from(&source[0]), &mut into) }.unwrap();
            assert_eq!(into, source[..len]);
        }
    }
}
