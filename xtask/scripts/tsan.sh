#!/bin/sh
# Runs the allocator's tests under ThreadSanitizer. A script, because cargo keeps RUSTC_BOOTSTRAP from the cargo that it
# starts itself. Exits with 77, and says why, where the sanitizer cannot run.
#
# The standard library is not instrumented (that needs its sources): what it orders by itself, as the test harness's
# channels and contended mutexes do, looks like a race. Those reports are suppressed by name in tsan.supp, which must never
# name code of ours, and our tests use our own lock.
# Fences are not understood by the sanitizer; where they are used here, the data are atomics, which never race. loom
# checks those.
set -eu
cd "$(dirname "$0")/../.."
sanitizer=tsan sanitizer_name=ThreadSanitizer
. xtask/scripts/sanitizer.sh
flags="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer"
suppressions=$PWD/xtask/scripts/tsan.supp
if grep -q tiermem "$suppressions"; then
    echo "tsan: the list of suppressions names code of this project"
    exit 1
fi

# Negative control: two threads that change a word without an order are seen, with the suppressions in force; with a lock
# they pass.
planted=$(mktemp -d)
trap 'rm -rf "$planted"' EXIT
cat >"$planted/planted.rs" <<'RUST'
use std::sync::atomic::{AtomicBool, Ordering};
static LOCK: AtomicBool = AtomicBool::new(false);
static mut WORD: u64 = 0;
fn main() {
    let locked = std::env::args().count() > 1;
    let count = move || {
        for _ in 0..1000 {
            while locked && LOCK.swap(true, Ordering::Acquire) {}
            unsafe { (&raw mut WORD).write((&raw mut WORD).read() + 1) };
            LOCK.store(false, Ordering::Release);
        }
    };
    let threads = [std::thread::spawn(count), std::thread::spawn(count)];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    println!("{}", unsafe { (&raw const WORD).read() });
}
RUST
# shellcheck disable=SC2086
RUSTC_BOOTSTRAP=1 rustc --edition 2024 $flags --target "$host" -o "$planted/planted" "$planted/planted.rs"
export TSAN_OPTIONS="suppressions=$suppressions exitcode=66"
if ! "$planted/planted" locked >"$planted/said" 2>&1; then
    if grep -q "unexpected memory mapping\|failed to intercept\|personality" "$planted/said"; then
        echo "SKIP tsan: the sanitizer does not run on this system: $(head -n 1 "$planted/said")"
        exit 77
    fi
    echo "tsan: a program without a race was complained about"
    cat "$planted/said"
    exit 1
fi
if "$planted/planted" >"$planted/said" 2>&1 || ! grep -q "ThreadSanitizer: data race" "$planted/said"; then
    echo "tsan: the planted race was not seen"
    cat "$planted/said"
    exit 1
fi

# A target given by name keeps the sanitizer out of build scripts and procedural macros. Left out: what measures resident
# memory or limits address space, of which the sanitizer takes many times the program's, and forks with threads, which it
# does not follow.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" TIERMEM_TEST_PATIENCE=20 CARGO_TARGET_DIR="$1" \
    cargo test --package tiermem --target "$host" --lib --test control --test global --test model --test placement \
    --test reuse -- --show-output --skip fork
