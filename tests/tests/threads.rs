//! Threads that come and go, and signals that interrupt them.

use tiermem_tests::{Tiering, c_program, count, cpp_program, in_every_setup, in_setups, repeated, scaled};

/// Short threads by the hundred thousand; what the process holds stays bounded (the program checks it).
fn thread_churn(tiering: &Tiering, threads: u64) {
    let Some(program) = c_program("thread_churn") else { return };
    let threads = count("THREADS", threads).to_string();
    program.under(tiering).args([&threads, "16"]).limit(400).finish().succeeded_quietly();
}
in_setups!([one_tier OneTier] churn_200_000, thread_churn, 200_000);
in_setups!([two_tiers TwoTiers, tight Tight, interleaved Interleaved] churn_40_000, thread_churn, 40_000);

fn producers_and_consumers(tiering: &Tiering) {
    let Some(program) = c_program("pipeline") else { return };
    program.under(tiering).args([&scaled(4000), "3"]).limit(120).finish().succeeded_quietly();
}
in_every_setup!(pipeline, producers_and_consumers);

fn signal_storm(tiering: &Tiering) {
    let Some(program) = c_program("signals") else { return };
    program.under(tiering).arg(scaled(3000)).limit(60).finish().succeeded_quietly();
}
in_every_setup!(signals, signal_storm);

/// Handlers that allocate, of faults and while the thread waits; and threads with the smallest stack.
fn faults(tiering: &Tiering, part: &str, rounds: u64) {
    let Some(program) = c_program("faults") else { return };
    program.under(tiering).args([part, &scaled(rounds)]).limit(120).finish().succeeded_quietly();
}
in_every_setup!(stack_overflow_handler_allocates, faults, "overflow", 100);
in_every_setup!(fault_handler_allocates, faults, "fault", 1000);
in_every_setup!(handler_of_a_waiting_thread_allocates, faults, "waiting", 1000);
in_every_setup!(smallest_stacks, faults, "small_stacks", 50);

/// Every way in which a program can end while its threads allocate: the right exit code, and no hang.
fn endings(tiering: &Tiering) {
    let Some(program) = c_program("endings") else { return };
    program.under(tiering).args(["all", &scaled(15)]).limit(200).finish().succeeded_quietly();
}
in_every_setup!(endings_while_others_allocate, endings);

fn ends(tiering: &Tiering, part: &str) {
    let Some(program) = c_program("thread_ends") else { return };
    repeated(|| drop(program.under(tiering).arg(part).limit(120).finish().succeeded_quietly()));
}
in_every_setup!(exit_while_others_free, ends, "race");
in_every_setup!(key_destructors_allocate, ends, "destructors");
in_every_setup!(cancelled_threads, ends, "cancelled");
in_every_setup!(quick_exit, ends, "quick");

fn ends_with_handlers(tiering: &Tiering, part: &str) {
    let Some(program) = c_program("thread_ends") else { return };
    let finished = program.under(tiering).arg(part).limit(60).finish().succeeded_quietly();
    assert_eq!(finished.text(), "handler ran\nbuffered output\n");
}
in_every_setup!(exit_handlers, ends_with_handlers, "exit_handlers");
in_every_setup!(exit_while_others_allocate, ends_with_handlers, "exit_while_running");
in_every_setup!(main_leaves_first, ends_with_handlers, "main_leaves");

fn static_destructors(tiering: &Tiering) {
    let Some(program) = cpp_program("static_destructors") else { return };
    program.under(tiering).limit(60).finish().succeeded_quietly();
}
in_every_setup!(cpp_destructors, static_destructors);
