//! `instrumented-programs NAME [SCALE]`: programs of the kinds that the emulator is asked about, each a few seconds of work at
//! scale 100. Prints a checksum, so that an instrumented run can be compared with a plain one.

mod kernels;
mod random;
mod structures;
mod text;

use std::process::ExitCode;

type Program = fn(usize) -> u64;

/// What can be run.
const PROGRAMS: [(&str, Program); 11] = [
    ("chase", kernels::chase),
    ("triad", kernels::triad),
    ("gups", kernels::gups),
    ("matmul", kernels::matmul),
    ("btree", structures::btree),
    ("hashmap", structures::hashmap),
    ("bfs", structures::bfs),
    ("sort", structures::sort),
    ("threads", structures::threads),
    ("json", text::json),
    ("words", text::words),
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    let scale = words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
    let Some((_, program)) = PROGRAMS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<&str> = PROGRAMS.iter().map(|(name, _)| *name).collect();
        eprintln!("usage: instrumented-programs {} [SCALE]", names.join("|"));
        return ExitCode::from(2);
    };
    println!("{name} {scale}: {:016x} (built with {})", program(scale), env!("BUILD_SUM"));
    ExitCode::SUCCESS
}
