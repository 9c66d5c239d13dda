//! The tests of the tests: each deliberately broken malloc must be noticed by the program that is there to notice it.

use std::path::Path;

use tiermem_tests::{Finished, Run, c_program, shared_library};

/// How a fault may show.
#[derive(Clone, Copy)]
enum Shows {
    /// The program itself found it and said so.
    Said(&'static str),
    /// The program did not survive it, or said something.
    Failed,
}

fn run(fault: &str, program: &str, args: &[&str]) -> Option<Finished> {
    let flags = [format!("-DFAULT_{fault}"), "-Wno-unused-function".to_owned()];
    let library = shared_library("broken_malloc", &[&flags[0], &flags[1]])?;
    let program = c_program(program)?;
    Some(Run::new(program.path()).preloading(&library).args(args).limit(60).finish())
}

#[track_caller]
fn caught(fault: &str, program: &str, args: &[&str], shows: Shows) {
    let Some(finished) = run(fault, program, args) else { return };
    assert!(!finished.status.success(), "{program} did not notice the fault {fault}: {}", finished.describe());
    if let Shows::Said(text) = shows {
        assert!(finished.stderr.contains(text), "{program} failed for another reason: {}", finished.describe());
    }
}

#[test]
fn control_of_the_controls() {
    for (program, args) in [("model", ["4", "20000"]), ("contract", ["all", ""]), ("fork_storm", ["50", ""])] {
        if let Some(finished) = run("NONE", program, &args) {
            finished.succeeded();
        }
    }
}

#[test]
fn overlapping_blocks() {
    caught("OVERLAP", "model", &["4", "100000"], Shows::Said("differs at"));
}

#[test]
fn misaligned_blocks() {
    caught("MISALIGNED", "contract", &["every_size_is_aligned"], Shows::Said("aligned(blocks[size], needed)"));
}

#[test]
fn realloc_that_forgets() {
    caught("REALLOC", "contract", &["realloc_keeps_contents"], Shows::Said("lost byte"));
    caught("REALLOC", "model", &["4", "100000"], Shows::Said("after realloc"));
}

#[test]
fn calloc_that_does_not_clear() {
    caught("CALLOC", "contract", &["calloc_is_zero"], Shows::Said("is dirty at"));
}

#[test]
fn calloc_that_overflows() {
    caught("CALLOC_OVERFLOW", "contract", &["overflow"], Shows::Said("calloc("));
}

#[test]
fn free_that_changes_errno() {
    caught("ERRNO", "contract", &["errno_is_kept"], Shows::Said("changed errno"));
}

#[test]
fn usable_size_that_lies() {
    caught("USABLE", "contract", &["usable_size"], Shows::Failed);
}

#[test]
fn abort_instead_of_null() {
    caught("ABORTS", "address_limit", &["200"], Shows::Failed);
}

#[test]
fn crash_in_fork_children() {
    caught("FORK_CRASH", "fork_storm", &["10"], Shows::Said("killed by signal"));
}

#[test]
fn shared_memory_after_fork() {
    caught("FORK_SHARED", "fork_snapshot", &["4", "8"], Shows::Said("differs at"));
}

#[test]
fn interrupted_system_calls() {
    caught("SIGNAL", "signals", &["3000"], Shows::Said("malloc("));
}

#[test]
fn leak_with_every_thread() {
    caught("THREAD_LEAK", "thread_churn", &["40000", "16"], Shows::Said("resident memory grew"));
}

#[test]
fn blocks_freed_elsewhere_are_lost() {
    caught("REMOTE_FREE", "pipeline", &["1000", "2"], Shows::Said("do not come back"));
}

#[test]
fn crash_in_threads_that_outlive_exit() {
    caught("EXIT_CRASH", "endings", &["all", "20"], Shows::Said("signal"));
}

#[test]
fn end_of_memory_by_abort() {
    let Some(library) = shared_library("broken_malloc", &["-DFAULT_ABORTS", "-Wno-unused-function"]) else { return };
    let Some(program) = c_program("memory_limit") else { return };
    let run = Run::new("sh").args(["-c", "ulimit -v 300000; exec \"$0\" 10"]).arg(program.path());
    let finished = run.preloading(&library).limit(60).finish();
    assert!(!finished.status.success(), "an abort at the limit was not noticed: {}", finished.describe());
}

/// The threads of every other cycle leave 8 KiB each.
#[test]
fn leak_with_every_loaded_library() {
    let Some(library) = shared_library("tls_library", &[]) else { return };
    caught("THREAD_LEAK", "load_cycles", &["12000", &library.to_string_lossy()], Shows::Said("resident memory grew"));
}

#[test]
fn overlapping_blocks_in_signal_handlers() {
    caught("OVERLAP", "faults", &["fault", "2000"], Shows::Said("a block changed"));
}

/// Sizes that shift where nothing is used again: far over the bound of 1.5 that `growth.rs` asserts.
#[test]
fn memory_that_is_never_used_again() {
    let Some(finished) = run("NEVER_REUSES", "shifting", &["16", "0", "0"]) else { return };
    let text = finished.succeeded().text();
    let last: Vec<f64> = text.lines().last().expect("phases").split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(last[2] > 3.0 * last[1], "{text}");
}

/// A lock held at the fork hangs the child; the watchdog must end it and say where it hangs.
#[test]
fn lock_held_at_fork_is_reported_as_a_hang() {
    let Some(library) = shared_library("broken_malloc", &["-DFAULT_FORK_LOCK", "-Wno-unused-function"]) else { return };
    for program in ["fork_storm", "atfork"] {
        hangs_in_a_child(program, &library);
    }
}

fn hangs_in_a_child(program: &str, library: &Path) {
    let Some(program) = c_program(program) else { return };
    let run = Run::new(program.path()).preloading(library).arg("100000").limit(8);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.finish()));
    let report = *panic.expect_err("a malloc that hangs was not noticed").downcast::<String>().expect("a text");
    assert!(report.contains("it hangs after"), "{report}");
    let processes = report.split_once("== process ").map_or("", |(_, processes)| processes);
    assert!(processes.contains("-- thread "), "the report does not say where it hangs: {report}");
}
