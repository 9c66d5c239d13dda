//! Processes that make processes.

use std::time::Duration;

use tiermem_tests::{
    Run, Tiering, c_program, count, in_every_setup, in_setups, preload, repeated, scaled, scratch, shared_library,
    wait_until,
};

/// Forks while three threads allocate; children allocate, free what they inherited, start a thread and exit.
fn fork_storm(tiering: &Tiering, forks: u64) {
    let Some(program) = c_program("fork_storm") else { return };
    let forks = count("FORKS", forks);
    let finished = program.under(tiering).arg(forks.to_string()).limit(580).finish().succeeded_quietly();
    assert_eq!(finished.text(), format!("ok {forks}\n"));
}
in_setups!([two_tiers TwoTiers] storm_10_000, fork_storm, 10_000);
in_setups!([one_tier OneTier, tight Tight, interleaved Interleaved] storm_1_000, fork_storm, 1_000);

/// Fork handlers that allocate, while other threads hold the allocator's locks.
fn handlers_that_allocate(tiering: &Tiering) {
    let Some(program) = c_program("atfork") else { return };
    program.under(tiering).arg(scaled(500)).limit(120).finish().succeeded_quietly();
}
in_every_setup!(atfork, handlers_that_allocate);

/// As above, and a library has registered handlers before the allocator could: they run while the forking thread has all
/// locks. The first allocation in one of them waited for its own thread, for ever.
fn handlers_from_before_the_allocator(tiering: &Tiering) {
    let Some(program) = c_program("atfork") else { return };
    let Some(library) = shared_library("early_handlers", &[]) else { return };
    let both = format!("{}:{}", preload().display(), library.display());
    program.under(tiering).env("LD_PRELOAD", both).args([&scaled(300), "1"]).limit(120).finish().succeeded_quietly();
}
in_every_setup!(atfork_early, handlers_from_before_the_allocator);

/// Parent and child write afterwards, and each sees only its own writes, wherever the memory lies.
fn exact_snapshot(tiering: &Tiering) {
    let Some(program) = c_program("fork_snapshot") else { return };
    program.under(tiering).args([&scaled(10), "48"]).limit(200).finish().succeeded_quietly();
}
in_every_setup!(snapshot, exact_snapshot);

fn spawn_loop(tiering: &Tiering) {
    let Some(program) = c_program("fork_ways") else { return };
    program.under(tiering).args(["spawn", &scaled(40)]).limit(120).finish().succeeded_quietly();
}
in_every_setup!(vfork_spawn_system_popen, spawn_loop);

fn forks_inside_forks(tiering: &Tiering) {
    let Some(program) = c_program("fork_ways") else { return };
    repeated(|| drop(program.under(tiering).args(["nested", "6"]).limit(120).finish().succeeded_quietly()));
}
in_every_setup!(nested, forks_inside_forks);

fn exec_chain(tiering: &Tiering) {
    let Some(program) = c_program("fork_ways") else { return };
    program.under(tiering).args(["exec", &scaled(40)]).limit(120).finish().succeeded_quietly();
}
in_every_setup!(exec_by_a_thread, exec_chain);

/// The parent ends at once; the child, whose memory is the parent's, goes on.
fn daemonize(tiering: &Tiering) {
    let Some(program) = c_program("fork_ways") else { return };
    let folder = scratch();
    let message = folder.path().join("message");
    // Not `finish` alone: it ends with the parent and kills what is left in its process group, in which the child still is
    // until it has made a session of its own.
    let mut running = program.under(tiering).arg("daemon").arg(&message).start();
    wait_until("the end of the daemon's parent", Duration::from_secs(60), || !running.is_running());
    wait_until("the daemon's message", Duration::from_secs(60), || message.exists());
    let finished = running.finish().succeeded();
    assert_eq!(std::fs::read_to_string(&message).expect("it is there"), "daemon is well\n", "{}", finished.describe());
}
in_every_setup!(daemon, daemonize);

/// Processes that are started side by side in one setup share one tier file by its name, but never its memory.
fn processes_side_by_side(tiering: &Tiering) {
    let Some(program) = c_program("model") else { return };
    let start = || program.under(tiering).args(["2", &scaled(60_000)]).limit(120).start();
    let running: Vec<_> = (0..4).map(|_| start()).collect();
    running.into_iter().for_each(|process| drop(process.finish().succeeded_quietly()));
}
in_every_setup!(side_by_side, processes_side_by_side);

/// A pipeline of small tools, as scripts start them by the thousand.
fn shell_script(tiering: &Tiering) {
    let times = scaled(60);
    let script = format!(
        "i=0; while [ $i -lt {times} ]; do seq 1 2000 | sort -rn | sed 's/$/x/' | head -n 1 || exit 1; i=$((i+1)); done"
    );
    let finished = Run::new("sh").args(["-c", &script]).under(tiering).limit(120).finish().succeeded();
    assert_eq!(finished.text(), "2000x\n".repeat(times.parse().expect("a number")));
}
in_every_setup!(scripts, shell_script);
