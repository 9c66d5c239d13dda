#!/bin/bash
# measure.sh [SCALE [ROUNDS [PROGRAM…]]]: what instrumentation slows each program down by, as a table in Markdown.
#
# Ratios to the plain program's, of the time that passes and of CPU time (user and system), each the best of ROUNDS by turns, so
# that other work on the machine weighs on all alike; what tierctl itself takes to write the report is in them. The time that
# passes means something only where two processors are idle. TIERCTL names another tierctl.
set -euo pipefail
cd "$(dirname "$0")"
scale=${1:-20}
rounds=${2:-3}
shift $(($# < 2 ? $# : 2))
names=("$@")
((${#names[@]})) || names=(chase hashmap words threads json btree gups sort triad bfs matmul)

target=$(realpath -m "${CARGO_TARGET_DIR:-../../../target}")
if [ -z "${TIERCTL:-}" ]; then
    for package in tiermem-instrument tierctl; do
        (cd ../../.. && cargo build --quiet --release --target-dir "$target" --package $package)
    done
fi
tierctl=$(realpath "${TIERCTL:-$target/release/tierctl}")
export CARGO_TARGET_DIR=$target/instrumented-programs
cargo build --quiet --release
"$tierctl" instrument -- cargo build --quiet --release 2>/dev/null
plain=$CARGO_TARGET_DIR/release/instrumented-programs
instrumented=$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/release/instrumented-programs
machine=(--topology one-expander --tier cxl0)

# Seconds that pass, and CPU seconds, of a command.
TIMEFORMAT='%R %U %S'
seconds() {
    { time "$@" >/dev/null 2>&1; } 2>&1 | awk '{ print $1, $2 + $3 }'
}
# The least of each.
least() {
    awk -v a="$1" -v b="$2" 'BEGIN { split(a, x, " "); split(b, y, " "); print x[1] < y[1] ? x[1] : y[1], x[2] < y[2] ? x[2] : y[2] }'
}

echo '| program | plain, s | dormant | counted | CPU time, dormant | counted | accesses | past the first level |'
echo '|---|---|---|---|---|---|---|---|'
ratios=()
for name in "${names[@]}"; do
    best=('1e9 1e9' '1e9 1e9' '1e9 1e9')
    for ((round = 0; round < rounds; round++)); do
        best[0]=$(least "${best[0]}" "$(seconds "$plain" "$name" "$scale")")
        best[1]=$(least "${best[1]}" "$(seconds "$instrumented" "$name" "$scale")")
        best[2]=$(least "${best[2]}" "$(seconds "$tierctl" instrument "${machine[@]}" -- "$instrumented" "$name" "$scale")")
    done
    counts=$("$tierctl" instrument "${machine[@]}" -- "$instrumented" "$name" "$scale" 2>&1 | awk '
        / loads, / { accesses = $1 + $3 }
        /^THREAD/ { threads = 1; next }
        !NF { threads = 0 }
        threads { first += $(NF - 3); all += $(NF - 3) + $(NF - 2) + $(NF - 1) + $NF }
        END { printf "%.0f M | %.0f %%", accesses / 1e6, all ? 100 * (all - first) / all : 0 }')
    row=$(awk -v p="${best[0]}" -v d="${best[1]}" -v c="${best[2]}" 'BEGIN {
        split(p, plain, " "); split(d, dormant, " "); split(c, counted, " ")
        printf "%.2f | %.1f× | **%.1f×** | %.1f× | %.1f×", plain[1], dormant[1] / plain[1], counted[1] / plain[1], dormant[2] / plain[2], counted[2] / plain[2]
    }')
    ratios+=("$(awk -v p="${best[0]}" -v c="${best[2]}" 'BEGIN { split(p, x, " "); split(c, y, " "); print y[1] / x[1], y[2] / x[2] }')")
    echo "| $name | $row | $counts |"
done
echo
for column in 1 2; do
    printf '%s\n' "${ratios[@]}" | awk -v column=$column '{ print $column }' | sort -n | awk -v column=$column '{ all[NR] = $1; n += $1 <= 8 }
        END { printf "%s: median of %d %.1f×; %d at most 8×\n", column == 1 ? "time" : "CPU time", NR, all[int((NR + 1) / 2)], n }'
done
