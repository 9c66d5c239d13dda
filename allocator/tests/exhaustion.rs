//! Out of memory is an answer, not an end.

#![expect(unsafe_code, reason = "tests use raw memory")]

mod child;

use std::process::Command;

use child::{command, finish, in_child, is_child};
use tiermem::api;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn free(at: *mut u8) {
    // SAFETY: the tests free each block once.
    unsafe { api::free(at) }
}

fn touch(at: *mut u8, size: usize) {
    // SAFETY: a block that the test holds.
    unsafe { at.write_bytes(0x3C, size) }
}

fn errno() -> Option<i32> {
    std::io::Error::last_os_error().raw_os_error()
}

/// Takes blocks of `size` bytes until there are no more.
fn take_all(size: usize) -> Vec<*mut u8> {
    let blocks = std::iter::from_fn(|| Some(api::allocate(size)).filter(|at| !at.is_null()));
    blocks.inspect(|&at| touch(at, size)).collect()
}

#[test]
fn what_cannot_be_served_is_null_and_enomem() {
    in_child("what_cannot_be_served_is_null_and_enomem", &[("TIERMEM_LIMITS", "dram=24M")], || {
        tiermem::start();
        for size in [100, 5000, 200 * KIB, MIB] {
            let mut blocks = take_all(size);
            assert_eq!(errno(), Some(tiermem::errno::ENOMEM));
            assert!(blocks.len() * size > 18 * MIB, "only {} blocks of {size} bytes in 24 MiB", blocks.len());
            assert!(api::allocate_zeroed(size, 16).is_null() && api::allocate_aligned(size, 4096).is_null());
            // A block that cannot grow stays as it is.
            let last = blocks.pop().expect("a block");
            // SAFETY: ours; the old block stays valid if the answer is null.
            assert!(unsafe { api::reallocate(last, 20 * MIB, 16) }.is_null());
            // SAFETY: still ours.
            assert_eq!(unsafe { last.add(size - 1).read() }, 0x3C);
            free(last);
            let again = api::allocate(size);
            assert!(!again.is_null(), "one was freed, so one can be had");
            free(again);
            blocks.into_iter().for_each(free);
            // What one size leaves over is for the others.
            tiermem::purge::purge_now();
        }
    });
}

#[test]
fn sizes_beyond_every_address_are_refused() {
    for size in [usize::MAX, usize::MAX - 4096, isize::MAX as usize, 1 << 60, 1 << 47] {
        assert!(api::allocate(size).is_null(), "{size:#x}");
        assert!(api::allocate_aligned(size, 1 << 30).is_null(), "{size:#x}");
        assert!(api::allocate_zeroed(size, 64).is_null(), "{size:#x}");
    }
    assert!(api::allocate_aligned(1, 1 << 63).is_null());
    let small = api::allocate(100);
    // SAFETY: ours; the old block stays valid if the answer is null.
    assert!(unsafe { api::reallocate(small, usize::MAX, 16) }.is_null());
    free(small);
}

/// Under a limit on address space (`ulimit -v`).
#[test]
fn a_limit_on_address_space_is_used_up_and_respected() {
    const NAME: &str = "a_limit_on_address_space_is_used_up_and_respected";
    if is_child(NAME) {
        for size in [60, 3000, 256 * KIB, 3 * MIB] {
            let blocks = take_all(size);
            let got = blocks.len() * size;
            // Beside the program itself, its libraries and the thread of the test.
            assert!(got > 128 * MIB, "only {} KiB of 256 MiB in blocks of {size} bytes", got >> 10);
            assert_eq!(errno(), Some(tiermem::errno::ENOMEM));
            blocks.into_iter().for_each(free);
            tiermem::purge::purge_now();
        }
        return;
    }
    let inner = command(NAME, &[]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 262144 && exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    limited.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if cfg!(target_pointer_width = "64") && std::env::var_os("ASAN_OPTIONS").is_some() {
        eprintln!("SKIP {NAME}: AddressSanitizer needs more address space than that");
        return;
    }
    let (ended_well, said) = finish(&mut limited);
    assert!(ended_well, "{said}");
}
