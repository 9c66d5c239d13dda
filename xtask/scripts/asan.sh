#!/bin/sh
# Runs the allocator's tests under AddressSanitizer. A script, because cargo keeps RUSTC_BOOTSTRAP from the cargo that it
# starts itself. Exits with 77, and says why, where the sanitizer cannot run.
set -eu
cd "$(dirname "$0")/../.."
for name in $(env | sed -n 's/^\(CARGO_PKG_[A-Z_]*\|CARGO_MANIFEST_[A-Z]*\|CARGO_BIN_[A-Za-z_]*\|CARGO_PRIMARY_PACKAGE\)=.*/\1/p'); do
    unset "$name"
done

host=$(rustc -vV | sed -n 's/^host: //p')
case $host in
x86_64-unknown-linux-gnu | aarch64-unknown-linux-gnu) ;;
*)
    echo "SKIP asan: no AddressSanitizer for $host"
    exit 77
    ;;
esac
if ! ls "$(rustc --print target-libdir)"/librustc-*_rt.asan.a >/dev/null 2>&1; then
    echo "SKIP asan: this Rust was installed without the sanitizer's runtime"
    exit 77
fi

# A target given by name keeps the sanitizer out of build scripts and procedural macros.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS="detect_leaks=0" \
    CARGO_TARGET_DIR="$1" exec cargo test --package tiermem --target "$host" --lib --tests -- --show-output
