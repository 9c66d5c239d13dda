//! What malloc, its family and the C++ operators promise, in every setup.

use tiermem_tests::{Run, Setup, Tiering, c_program, cpp_program, in_every_setup, repeated, scaled};

fn contract(tiering: &Tiering, part: &str) {
    let Some(program) = c_program("contract") else { return };
    repeated(|| drop(program.under(tiering).arg(part).limit(120).finish().succeeded_quietly()));
}

in_every_setup!(every_size_is_aligned, contract, "every_size_is_aligned");
in_every_setup!(usable_size, contract, "usable_size");
in_every_setup!(all_alignments, contract, "all_alignments");
in_every_setup!(bad_alignments, contract, "bad_alignments");
in_every_setup!(zero_sizes, contract, "zero_sizes");
in_every_setup!(impossible_sizes, contract, "impossible_sizes");
in_every_setup!(overflow, contract, "overflow");
in_every_setup!(realloc_keeps_contents, contract, "realloc_keeps_contents");
in_every_setup!(calloc_is_zero, contract, "calloc_is_zero");
in_every_setup!(errno_is_kept, contract, "errno_is_kept");
in_every_setup!(library_calls, contract, "library_calls");

fn cpp_operators(tiering: &Tiering) {
    let Some(program) = cpp_program("contract_cpp") else { return };
    repeated(|| drop(program.under(tiering).limit(60).finish().succeeded_quietly()));
}
in_every_setup!(operators, cpp_operators);

/// Random allocations by several threads that exchange blocks; no overlap, nothing lost.
fn random_model(tiering: &Tiering) {
    let Some(program) = c_program("model") else { return };
    program.under(tiering).args(["6", &scaled(120_000)]).limit(120).finish().succeeded_quietly();
}
in_every_setup!(model, random_model);

/// The program lowers its own limit on address space, after the allocator has started.
fn lowered_address_space(tiering: &Tiering) {
    let Some(program) = c_program("address_limit") else { return };
    // Blocks of 1 MiB and 200 MiB more address space: most of it must be usable, however arenas are cut.
    program.under(tiering).args(["200", "64"]).limit(120).finish().succeeded();
}
in_every_setup!(address_space_lowered, lowered_address_space);

/// The limit is there from the start, as with `ulimit -v` in a shell or a batch system.
fn little_address_space(tiering: &Tiering) {
    let Some(program) = c_program("address_limit") else { return };
    let command = "ulimit -v 1000000; exec \"$0\" 0 256";
    Run::new("sh").args(["-c", command]).arg(program.path()).under(tiering).limit(120).finish().succeeded();
}
in_every_setup!(address_space_little, little_address_space);

/// Limits that leave room for the program itself and little else: it must run or say that it cannot, never crash.
#[test]
fn hardly_any_address_space() {
    let Some(program) = c_program("contract") else { return };
    let tiering = Setup::OneTier.prepare();
    for kilobytes in [400_000, 200_000, 100_000, 50_000, 20_000] {
        let command = format!("ulimit -v {kilobytes}; exec \"$0\" overflow");
        let finished = Run::new("sh").args(["-c", &command]).arg(program.path()).under(&tiering).finish();
        assert_eq!(finished.killed_by(), None, "with {kilobytes} KiB of address space: {}", finished.describe());
    }
}
