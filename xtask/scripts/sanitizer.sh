# For the scripts that run tests under a sanitizer, which source it from the root with `sanitizer` and `sanitizer_name` set:
# clears what cargo set for its own children, and ends the script with 77, saying why, where the sanitizer cannot run. Sets
# `host`.
for name in $(env | sed -n 's/^\(CARGO_PKG_[A-Z_]*\|CARGO_MANIFEST_[A-Z]*\|CARGO_BIN_[A-Za-z_]*\|CARGO_PRIMARY_PACKAGE\)=.*/\1/p'); do
    unset "$name"
done

host=$(rustc -vV | sed -n 's/^host: //p')
case $host in
x86_64-unknown-linux-gnu | aarch64-unknown-linux-gnu) ;;
*)
    echo "SKIP $sanitizer: no $sanitizer_name for $host"
    exit 77
    ;;
esac
if ! ls "$(rustc --print target-libdir)"/librustc-*_rt."$sanitizer".a >/dev/null 2>&1; then
    echo "SKIP $sanitizer: this Rust was installed without the sanitizer's runtime"
    exit 77
fi
