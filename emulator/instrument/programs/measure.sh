#!/bin/bash
# measure.sh [SCALE [ROUNDS [PROGRAM…]]]: what instrumentation slows each program down by, as a table in Markdown.
#
# Ratios of CPU time (user and system) to the plain program's, each the best of ROUNDS by turns, so that other work on the
# machine weighs on all alike; what tierctl itself takes to write the report is in it. TIERCTL names another tierctl.
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

# CPU seconds of a command.
TIMEFORMAT='%U %S'
seconds() {
    { time "$@" >/dev/null 2>&1; } 2>&1 | awk '{ print $1 + $2 }'
}
least() {
    awk -v a="$1" -v b="$2" 'BEGIN { print a < b ? a : b }'
}

echo '| program | plain, s | dormant | counted | accesses | past the first level |'
echo '|---|---|---|---|---|---|'
ratios=()
for name in "${names[@]}"; do
    best=(1e9 1e9 1e9)
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
    row=$(awk -v p="${best[0]}" -v d="${best[1]}" -v c="${best[2]}" 'BEGIN { printf "%.2f | %.1f× | %.1f×", p, d / p, c / p }')
    ratios+=("$(awk -v p="${best[0]}" -v c="${best[2]}" 'BEGIN { print c / p }')")
    echo "| $name | $row | $counts |"
done
printf '%s\n' "${ratios[@]}" | sort -n | awk '{ all[NR] = $1; n += $1 <= 8 }
    END { printf "\nmedian of %d: %.1f×; %d at most 8×\n", NR, all[int((NR + 1) / 2)], n }'
