//! Faults in programs that know nothing of them, under the preload: what each one sees.

use tiermem_tests::{Finished, Tiering, c_program};

const SIGBUS: i32 = 7;
const SIGKILL: i32 = 9;

/// What is large on the slow tier, the rest in DRAM.
const BY_SIZE: &str = "[[rule]]\nsize = \">= 1 MiB\"\ntier = \"slow\"\n";

/// Everything on the slow tier, and in DRAM what it has no room for.
const SLOW_FIRST: &str = "[placement]\nchain = [\"slow\", \"dram\"]\n";

fn tiering(policy: &str, script: &str) -> Tiering {
    let tiering = Tiering::with_slow_file("64M");
    let path = tiering.slow_file().expect("a slow file");
    let tier = format!("version = 1\n[tier.slow]\nsource = \"dax-file:{},size=64M\"\n", path.display());
    tiering.policy(&format!("{tier}{policy}")).set("TIERMEM_FAULTS", script)
}

fn run(how: &str, script: &str) -> Option<Finished> {
    Some(c_program("bad_memory")?.under(&tiering(BY_SIZE, script)).arg(how).limit(60).finish())
}

/// The tier's fourth extent goes bad after 200 ms, when all blocks are filled.
const POISON: &str = "seed=1;poison tier=slow at-ns=200000000 extent=3 offset=1048576";

#[test]
fn a_program_that_asks_is_told_and_goes_on() {
    let Some(finished) = run("guarded", POISON) else { return };
    let text = finished.succeeded_quietly().text();
    assert!(text.starts_with("1 of 6 blocks: number ") && text.ends_with(", poisoned\n"), "{text}");
}

#[test]
fn a_program_that_only_loads_ends_as_on_broken_hardware() {
    let Some(finished) = run("raw", POISON) else { return };
    assert_eq!(finished.killed_by(), Some(SIGBUS), "{}", finished.describe());
}

#[test]
fn a_program_with_a_handler_of_its_own_gets_the_signal() {
    let Some(finished) = run("handled", POISON) else { return };
    let text = finished.succeeded_quietly().text();
    assert!(text.starts_with("SIGBUS in block "), "{text}");
}

#[test]
fn a_removed_tier_is_gone_for_all_its_blocks() {
    let Some(finished) = run("guarded", "remove tier=slow at-ns=200000000 for-ns=100000000") else { return };
    let text = finished.succeeded_quietly().text();
    assert!(text.contains("gone") && !text.starts_with("0 "), "{text}");
}

#[test]
fn a_crash_is_the_end_at_once() {
    let Some(finished) = run("raw", "crash at-ns=200000000") else { return };
    assert_eq!(finished.killed_by(), Some(SIGKILL), "{}", finished.describe());
}

/// Negative control: without a script the same program finds nothing.
#[test]
fn without_a_script_nothing_happens() {
    for how in ["guarded", "raw"] {
        let Some(finished) = run(how, "") else { return };
        assert_eq!(finished.succeeded_quietly().text(), "nothing went bad\n");
    }
}

/// A program that checks everything it writes, on a tier that is full, small or both every now and then.
#[test]
fn unmodified_programs_survive_a_tier_without_room() {
    let script = "seed=5;full probability=0.3 for-ops=2;shrink probability=0.1 to=33554432 for-ops=4";
    for (program, args) in [("model", ["4", "60000"]), ("fork_storm", ["50", ""])] {
        let Some(program) = c_program(program) else { return };
        program
            .under(&tiering(SLOW_FIRST, script))
            .args(args.iter().filter(|arg| !arg.is_empty()))
            .limit(120)
            .finish()
            .succeeded_quietly();
    }
}
