//! What `tierctl emulate fault` and `heal` tell.

use serde::Serialize;
use tiermem_emulator::tier::Machine;
use tiermem_tiers::Bytes;

use crate::exit::Failure;
use crate::output::{Align, Output, Table};

/// The JSON of `tierctl emulate fault`.
#[derive(Serialize)]
struct Reached {
    /// The running programs that have a tier of the machine open.
    programs: Vec<Program>,
}

#[derive(Serialize)]
struct Program {
    pid: u32,
    command: String,
}

/// The JSON of `tierctl emulate heal`.
#[derive(Serialize)]
struct Healed {
    tiers: Vec<HealedTier>,
    /// As in `Reached`.
    programs: Vec<Program>,
}

#[derive(Serialize)]
struct HealedTier {
    name: String,
    /// What had been set aside and is in use again.
    bytes: u64,
}

/// The running programs that a plan reaches.
fn programs(machine: &Machine) -> Vec<Program> {
    machine.users().into_iter().map(|user| Program { pid: user.pid, command: user.command }).collect()
}

fn reached(programs: &[Program]) -> String {
    let named: Vec<String> = programs.iter().map(|program| format!("{} ({})", program.pid, program.command)).collect();
    match named.len() {
        0 => "no running program has a tier of it open".to_owned(),
        1 => format!("reaches one running program, {}", named.join("")),
        count => format!("reaches {count} running programs: {}", named.join(", ")),
    }
}

pub(super) fn show_reached(machine: &Machine, output: &Output) -> Result<(), Failure> {
    let programs = programs(machine);
    if output.is_json() {
        return output.json("tiermem-emulate-fault/1", &Reached { programs });
    }
    output.text(&format!("{}: {}\n", machine.name, reached(&programs)))
}

pub(super) fn show_healed(machine: &Machine, healed: Vec<(String, Bytes)>, output: &Output) -> Result<(), Failure> {
    let programs = programs(machine);
    if output.is_json() {
        let tiers = healed.into_iter().map(|(name, size)| HealedTier { name, bytes: size.0 });
        return output.json("tiermem-emulate-heal/1", &Healed { tiers: tiers.collect(), programs });
    }
    let mut table = Table::new(&[("TIER", Align::Left), ("TAKEN INTO USE AGAIN", Align::Right)]);
    for (name, size) in healed {
        table.row([name, size.to_string()]);
    }
    output.text(&format!("{}\n{}: {}\n", table.render(), machine.name, reached(&programs)))
}
