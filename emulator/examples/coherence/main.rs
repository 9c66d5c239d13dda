//! Which strategy of the coherence explorer finds which bug, after how many schedules.
//!
//! ```text
//! cargo run -p tiermem-emulator --example coherence                    # the table, in a minute or two
//! cargo run -p tiermem-emulator --example coherence -- ring            # what a structure is, and what can be left out
//! cargo run -p tiermem-emulator --example coherence -- ring Invalidate # the story of one bug
//! cargo run -p tiermem-emulator --example coherence -- ring Invalidate random:1f   # of one seed
//! cargo run -p tiermem-emulator --example coherence -- ring Invalidate "v1 2.5s0=1" # of one schedule
//! ```
//!
//! Not with `--release`: there a panic ends the program, and the explorer has to unwind the hosts that it crashes. The
//! explorer is optimised all the same.

mod table;
mod worked;

use std::process::ExitCode;

use tiermem_emulator::coherence::{Explorer, Report, Schedule, Seed};
use worked::{Case, cases};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let told = match words.as_slice() {
        [] => {
            table::print();
            Ok(())
        }
        [structure] => list(structure),
        [structure, step] => story(structure, step, |case| Ok(Explorer::new().check(|scenario| case.build(scenario)))),
        [structure, step, run] => story(structure, step, |case| replay(case, run)),
        _ => Err("give a structure, a step that is left out, and a seed or a schedule in quotes, or less".to_owned()),
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn list(structure: &str) -> Result<(), String> {
    let cases = of(structure)?;
    println!("{structure}: leave out one of");
    for step in cases.iter().filter_map(|case| case.left_out.as_deref()) {
        println!("    {step}");
    }
    Ok(())
}

/// All cases of a structure.
fn of(structure: &str) -> Result<Vec<Case>, String> {
    let found: Vec<Case> = cases().into_iter().filter(|case| case.structure == structure).collect();
    match found.is_empty() {
        true => Err(format!("no structure \"{structure}\": there are ring, directory and free-list")),
        false => Ok(found),
    }
}

fn story(structure: &str, step: &str, explore: impl Fn(&Case) -> Result<Report, String>) -> Result<(), String> {
    let cases = of(structure)?;
    let Some(case) = cases.iter().find(|case| case.left_out.as_deref().unwrap_or("nothing") == step) else {
        return Err(format!("{structure} has no step \"{step}\": give {structure} alone to see them, or \"nothing\""));
    };
    println!("{}", explore(case)?);
    Ok(())
}

fn replay(case: &Case, run: &str) -> Result<Report, String> {
    let explorer = Explorer::new();
    if run.starts_with("v1") {
        let schedule: Schedule = run.parse().map_err(|error| format!("{error}"))?;
        Ok(explorer.replay(&schedule, |scenario| case.build(scenario)))
    } else {
        let seed: Seed = run.parse().map_err(|error| format!("{error}"))?;
        Ok(explorer.replay_seed(seed, |scenario| case.build(scenario)))
    }
}
