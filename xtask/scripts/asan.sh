#!/bin/sh
# Runs the allocator's tests under AddressSanitizer. A script, because cargo keeps RUSTC_BOOTSTRAP from the cargo that it
# starts itself. Exits with 77, and says why, where the sanitizer cannot run.
set -eu
cd "$(dirname "$0")/../.."
sanitizer=asan sanitizer_name=AddressSanitizer
. xtask/scripts/sanitizer.sh

# Negative control: a planted read past the end of a table and of a stack array must be seen.
planted=$(mktemp -d)
trap 'rm -rf "$planted"' EXIT
cat >"$planted/planted.rs" <<'RUST'
static TABLE: [u8; 60] = [7; 60];
fn main() {
    let local = [1u8; 24];
    let at = std::hint::black_box(std::env::args().count());
    let byte = match at {
        1 => unsafe { *TABLE.as_ptr().add(59 + at) },
        _ => unsafe { *std::hint::black_box(&local).as_ptr().add(22 + at) },
    };
    println!("{byte}");
}
RUST
RUSTC_BOOTSTRAP=1 rustc --edition 2024 -Zsanitizer=address --target "$host" -o "$planted/planted" "$planted/planted.rs"
for case in "global-buffer-overflow" "stack-buffer-overflow two"; do
    # shellcheck disable=SC2086
    set -- "$1" $case
    if "$planted/planted" ${3+"$3"} >"$planted/said" 2>&1 || ! grep -q "AddressSanitizer: $2" "$planted/said"; then
        echo "asan: the planted $2 was not seen"
        cat "$planted/said"
        exit 1
    fi
done

# It watches the allocator's own tables, stacks and what the tests take from the system's allocator. The arena is opaque
# to it: an overrun from one of our blocks into the next is not seen.
# A bus error stays a bus error, as tests of poisoned memory want it.
# A target given by name keeps the sanitizer out of build scripts and procedural macros.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS="detect_leaks=0:handle_sigbus=0" \
    CARGO_TARGET_DIR="$1" cargo test --package tiermem --target "$host" --lib --tests -- --show-output
