//! Right programs in a hardened process: they run as ever, and nothing is reported. A false alarm is the worst that
//! hardening can do.

use tiermem_tests::{Run, Setup, Tiering, c_program, cpp_program, find};

/// What hardening promises to leave alone, in each setup in which it may go another way.
const SETUPS: [Setup; 3] = [Setup::OneTier, Setup::Tight, Setup::Interleaved];

fn in_each(mode: &str, run: impl Fn(&Tiering)) {
    for setup in SETUPS {
        run(&setup.prepare().set("TIERMEM_HARDEN", mode));
    }
}

/// A test per mode, of a C program and its arguments.
macro_rules! quiet {
    ($($name:ident: $program:literal $arguments:expr;)+) => {
        mod check { $(#[test] fn $name() { super::quiet("check", $program, &$arguments); })+ }
        mod strong { $(#[test] fn $name() { super::quiet("strong", $program, &$arguments); })+ }
    };
}

fn quiet(mode: &str, program: &str, arguments: &[&str]) {
    let Some(program) = c_program(program) else { return };
    in_each(mode, |tiering| {
        program.under(tiering).args(arguments).limit(300).finish().succeeded_quietly();
    });
}

quiet! {
    contract: "contract" ["all"];
    model: "model" ["4", "60000"];
    signals: "signals" ["1500"];
    fork_storm: "fork_storm" ["200"];
    fork_nested: "fork_ways" ["nested", "8"];
    fork_and_exec: "fork_ways" ["exec", "10"];
    spawned: "fork_ways" ["spawn", "20"];
    thread_churn: "thread_churn" ["2000"];
    // Where the seal is the second word, where the guard is a part of it, and where neither is so.
    neighbours_of_1_byte: "neighbours" ["2000000", "1"];
    neighbours_of_6_bytes: "neighbours" ["2000000", "6"];
    neighbours_of_22_bytes: "neighbours" ["2000000", "22"];
    neighbours_of_100_bytes: "neighbours" ["500000", "100"];
    exit_while_others_free: "thread_ends" ["race"];
    key_destructors_allocate: "thread_ends" ["destructors"];
    exit_handlers: "thread_ends" ["exit_handlers"];
    exit_while_others_allocate: "thread_ends" ["exit_while_running"];
    main_leaves_first: "thread_ends" ["main_leaves"];
    cancelled_threads: "thread_ends" ["cancelled"];
    quick_exit: "thread_ends" ["quick"];
}

fn operators(mode: &str) {
    let Some(program) = cpp_program("contract_cpp") else { return };
    in_each(mode, |tiering| {
        program.under(tiering).limit(120).finish().succeeded_quietly();
    });
}

#[test]
fn operators_check() {
    operators("check");
}

#[test]
fn operators_strong() {
    operators("strong");
}

/// Real programs: an interpreter with threads, a database, a compiler.
fn real_programs(mode: &str) {
    let tiering = Setup::OneTier.prepare().set("TIERMEM_HARDEN", mode);
    let python = "import threading, json, re\n\
        def work():\n    d = {str(i): [i, str(i) * 3] for i in range(20000)}\n    assert json.loads(json.dumps(d)) == d\n\
        t = [threading.Thread(target=work) for _ in range(4)]\n[x.start() for x in t]; [x.join() for x in t]\nprint('done')\n";
    if let Some(path) = find("python3") {
        let finished = Run::new(path).under(&tiering).args(["-c", python]).limit(120).finish().succeeded_quietly();
        assert_eq!(finished.text(), "done\n");
    }
    if let Some(path) = find("sqlite3") {
        let sql = "CREATE TABLE t(a, b); WITH RECURSIVE c(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM c WHERE x < 50000) \
                   INSERT INTO t SELECT x, hex(x) FROM c; CREATE INDEX i ON t(b); SELECT count(*), max(a) FROM t;";
        let finished = Run::new(path).under(&tiering).args([":memory:", sql]).limit(120).finish().succeeded_quietly();
        assert_eq!(finished.text(), "50000|50000\n");
    }
    if let Some(path) = find("cc") {
        let source = "#include <stdio.h>\n#include <string.h>\nint main(void) { printf(\"%zu\", strlen(\"ab\")); }\n";
        let arguments = ["-O2", "-xc", "-o", "/dev/null", "-"];
        Run::new(path).under(&tiering).args(arguments).input(source).limit(120).finish().succeeded_quietly();
    }
}

#[test]
fn real_programs_check() {
    real_programs("check");
}

#[test]
fn real_programs_strong() {
    real_programs("strong");
}

/// Freed memory is zeroed in every mode that is asked to, and in none that is not.
#[test]
fn freed_memory_is_zeroed() {
    let Some(program) = c_program("zero_freed") else { return };
    for mode in ["off", "check", "strong"] {
        let tiering = Setup::OneTier.prepare().set("TIERMEM_HARDEN", mode).set("TIERMEM_ZERO_FREED", "1");
        program.under(&tiering).arg("1").finish().succeeded_quietly();
    }
    program.under(&Setup::OneTier.prepare()).arg("0").finish().succeeded_quietly();
}

/// Zeroing goes with everything else.
#[test]
fn zeroing_breaks_no_promise() {
    let Some(program) = c_program("contract") else { return };
    let tiering = Setup::OneTier.prepare().set("TIERMEM_ZERO_FREED", "1");
    program.under(&tiering).arg("all").limit(300).finish().succeeded_quietly();
}
