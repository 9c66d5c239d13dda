//! The interleaved comparisons: everyone, hardened allocators with themselves, and huge pages.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use tiermem_benches::suite::cells::{self, Cell, Kind};
use tiermem_benches::suite::measure::{self, Results};
use tiermem_benches::suite::rivals::{Absent, BASELINE, Field, Party};
use tiermem_benches::suite::summary::Figure;
use tiermem_benches::suite::{hardened, markdown, plot, programs, reported};

use super::{Outcome, Place, Shared, show, write};

/// The one cell of [`huge`].
const HUGE_CELL: &str = "working-set";

#[derive(Args)]
pub struct Amount {
    /// Interleaved rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only cells whose name contains one of these words.
    #[arg(long, value_delimiter = ',')]
    filter: Vec<String>,
    /// An eighth of the work; figures of a smoke test, not to be quoted.
    #[arg(long)]
    quick: bool,
    /// Threads of the multi-threaded workloads; default: the processors, from 2 to 16.
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Args)]
pub struct Allocators {
    #[command(flatten)]
    shared: Shared,
    #[command(flatten)]
    amount: Amount,
    /// The allocator that ratios refer to.
    #[arg(long, default_value = BASELINE)]
    baseline: String,
}

#[derive(Args)]
pub struct Hardened {
    #[command(flatten)]
    shared: Shared,
    #[command(flatten)]
    amount: Amount,
}

#[derive(Args)]
pub struct Huge {
    #[command(flatten)]
    shared: Shared,
    /// Interleaved rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A sixth of the blocks; figures of a smoke test, not to be quoted.
    #[arg(long)]
    quick: bool,
}

pub fn allocators(options: &Allocators) -> Outcome {
    let place = Place::find()?;
    let field = place.field(&options.shared, Party::Field)?;
    let baseline = options.baseline.as_str();
    if !field.rivals.iter().any(|rival| rival.name == baseline) {
        return Err(format!("the baseline `{baseline}` does not take part; choose another with --baseline").into());
    }
    let (cells, missing) = chosen(&options.amount, &place, |_| true)?;
    let out = &options.shared.out;
    let save = |results: &Results| -> Result<(), Box<dyn Error>> {
        save(results, out, "allocators", &markdown::report(results, baseline))?;
        for (figure, file) in [(Figure::Cpu, "allocators-cpu.svg"), (Figure::Rss, "allocators-rss.svg")] {
            plot::draw(results, baseline, figure, &out.join(file))?;
            eprintln!("wrote {}", out.join(file).display());
        }
        Ok(())
    };
    let results = run(field, (cells, missing), options.amount.rounds, &place, save)?;
    show(&markdown::report(&results, baseline));
    Ok(ExitCode::SUCCESS)
}

pub fn hardened(options: &Hardened) -> Outcome {
    let place = Place::find()?;
    let field = place.field(&options.shared, Party::Hardened)?;
    let cells = chosen(&options.amount, &place, |cell| cell.kind != Kind::Question)?;
    let save = |results: &Results| save(results, &options.shared.out, "hardened", &hardened::report(results));
    let results = run(field, cells, options.amount.rounds, &place, save)?;
    show(&hardened::report(&results));
    Ok(ExitCode::SUCCESS)
}

pub fn huge(options: &Huge) -> Outcome {
    let place = Place::find()?;
    let field = place.field(&options.shared, Party::Huge)?;
    let cells = cells::workloads(1, options.quick).into_iter().filter(|cell| cell.name == HUGE_CELL).collect();
    let report = |results: &Results| reported::huge(results, &measure::transparent_huge_pages());
    let save = |results: &Results| save(results, &options.shared.out, "huge", &report(results));
    let results = run(field, (cells, Vec::new()), options.rounds, &place, save)?;
    show(&report(&results));
    Ok(ExitCode::SUCCESS)
}

/// The cells that `amount` asks for, and those that cannot run here.
fn chosen(
    amount: &Amount,
    place: &Place,
    wanted: impl Fn(&Cell) -> bool,
) -> Result<(Vec<Cell>, Vec<Absent>), Box<dyn Error>> {
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let mut all = cells::workloads(amount.threads.unwrap_or(processors.clamp(2, 16)), amount.quick);
    let (programs, mut missing) = programs::find(place.scratch.path(), amount.quick)?;
    all.extend(programs);
    let named = |name: &str| amount.filter.is_empty() || amount.filter.iter().any(|word| name.contains(word));
    all.retain(|cell| named(&cell.name) && wanted(cell));
    missing.retain(|cell| named(&cell.name));
    missing.iter().for_each(|cell| eprintln!("SKIP cell {}: {}", cell.name, cell.why));
    if all.is_empty() { Err("no cell matches the filter".into()) } else { Ok((all, missing)) }
}

/// Runs all rounds; `save` is called after each, so that a run that is cut short leaves what it has.
fn run(
    field: Field,
    (cells, missing_cells): (Vec<Cell>, Vec<Absent>),
    rounds: usize,
    place: &Place,
    save: impl Fn(&Results) -> Result<(), Box<dyn Error>>,
) -> Result<Results, Box<dyn Error>> {
    let Field { rivals, absent } = field;
    let rows = measure::rows(&cells);
    let mut results = Results { machine: measure::machine(), rounds: 0, rivals, absent, missing_cells, rows };
    for round in 0..rounds {
        measure::round(round, &cells, &results.rivals, &mut results.rows, &place.workload, place.scratch.path())?;
        results.rounds = round + 1;
        save(&results)?;
    }
    Ok(results)
}

fn save(results: &Results, out: &Path, name: &str, report: &str) -> Result<(), Box<dyn Error>> {
    write(out, &format!("{name}.json"), &serde_json::to_string_pretty(results)?)?;
    write(out, &format!("{name}.md"), report)?;
    Ok(())
}
