//! What is counted with callgrind: instructions of calls, and of hints.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tiermem_benches::suite::rivals::{OURS, Party};
use tiermem_benches::suite::{hints, instructions};

use super::{Outcome, Place, Shared, show, write};

#[derive(Args)]
pub struct Instructions {
    #[command(flatten)]
    shared: Shared,
    /// Only these orders.
    #[arg(long, value_delimiter = ',')]
    orders: Vec<String>,
    /// Fail if ours is more than 2 % over the figures in this file.
    #[arg(long)]
    gate: Option<PathBuf>,
    /// Write our figures into the gate file instead of checking them.
    #[arg(long, requires = "gate")]
    update: bool,
}

#[derive(Args)]
pub struct Hints {
    /// Folder for the results.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Use what is built already.
    #[arg(long)]
    no_build: bool,
    /// Interleaved rounds.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

pub fn instructions(options: &Instructions) -> Outcome {
    let place = Place::find()?;
    let field = place.field(&options.shared, Party::Field)?;
    let orders = instructions::orders(&options.orders)?;
    let with_loop = options.gate.is_none();
    let counted = instructions::count(&field.rivals, &orders, with_loop, &place.workload, place.scratch.path())?;
    let report = instructions::markdown(&counted);
    show(&report);
    write(&options.shared.out, "instructions.json", &serde_json::to_string_pretty(&counted)?)?;
    write(&options.shared.out, "instructions.md", &report)?;
    let Some(gate) = &options.gate else { return Ok(ExitCode::SUCCESS) };
    let ours = counted.rivals.iter().find(|(name, _)| name == OURS).map(|(_, figures)| figures);
    let ours = ours.ok_or(format!("the gate needs `{OURS}` among the allocators"))?;
    let figures = serde_json::to_string_pretty(ours)? + "\n";
    write(&options.shared.out, "gate-counted.json", &figures)?;
    if options.update {
        std::fs::write(gate, figures)?;
        eprintln!("wrote {}", gate.display());
        return Ok(ExitCode::SUCCESS);
    }
    let text = std::fs::read_to_string(gate)
        .map_err(|error| format!("{}: {error}; write it with --update", gate.display()))?;
    let allowed = serde_json::from_str(&text)?;
    for line in instructions::stale(ours, &allowed) {
        eprintln!("gate: {line}; bring {} up to date with --update", gate.display());
    }
    let broken = instructions::gate(&counted.orders, ours, &allowed);
    broken.iter().for_each(|line| eprintln!("gate: {line}"));
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn hints(options: &Hints) -> Outcome {
    let place = Place::find()?;
    let shared =
        Shared { out: options.out.clone(), only: vec![OURS.into()], rival: Vec::new(), no_build: options.no_build };
    let field = place.field(&shared, Party::Field)?;
    let ours = field.rivals.first().and_then(|rival| rival.preload.clone());
    let ours = ours.ok_or("our library is not built; run without --no-build")?;
    let costs = hints::measure(&ours, &place.second_tier(), options.rounds, &place.workload, place.scratch.path())?;
    let report = hints::markdown(&costs);
    show(&report);
    write(&options.out, "hints.json", &serde_json::to_string_pretty(&costs)?)?;
    write(&options.out, "hints.md", &report)?;
    Ok(ExitCode::SUCCESS)
}
