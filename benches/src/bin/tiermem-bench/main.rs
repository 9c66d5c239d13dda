//! `tiermem-bench allocators | instructions | startup`: measurements against peers.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tiermem_benches::suite::measure::{self, Results};
use tiermem_benches::suite::rivals::{self, BASELINE, Field, Folders, OURS, Rival};
use tiermem_benches::suite::summary::Figure;
use tiermem_benches::suite::{cells, instructions, markdown, plot, programs, startup};

type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Benchmarks against peers.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Compare malloc implementations on workloads and real programs, interleaved.
    Allocators(Allocators),
    /// Count instructions per malloc and free with callgrind.
    Instructions(Instructions),
    /// Measure what starting a program under tiermem costs.
    Startup(Startup),
}

#[derive(Args)]
struct Shared {
    /// Folder for the results.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Only these allocators.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A further library: NAME=PATH[,VARIABLE=VALUE…].
    #[arg(long, value_parser = Rival::parse)]
    rival: Vec<Rival>,
    /// Use what is built already.
    #[arg(long)]
    no_build: bool,
}

#[derive(Args)]
struct Allocators {
    #[command(flatten)]
    shared: Shared,
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
    /// The allocator that ratios refer to.
    #[arg(long, default_value = BASELINE)]
    baseline: String,
}

#[derive(Args)]
struct Instructions {
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
struct Startup {
    /// Folder for the results.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Starts of each kind.
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// The program to start.
    #[arg(long, default_value = "/bin/true")]
    program: PathBuf,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().what {
        What::Allocators(options) => allocators(&options),
        What::Instructions(options) => instructions(&options),
        What::Startup(options) => startup(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("tiermem-bench: {error}");
        ExitCode::FAILURE
    })
}

/// Builds and finds the field that `shared` asks for.
fn field(shared: &Shared, folders: &Folders, second_tier: &Path) -> Result<Field, Box<dyn Error>> {
    let mut failed = Vec::new();
    if !shared.no_build {
        failed =
            rivals::build(folders, shared.only.iter().any(|name| !name.starts_with(OURS)) || shared.only.is_empty());
    }
    let mut field = rivals::find(folders, second_tier);
    field.keep(&shared.only)?;
    field.check_tiers(&folders.release.join("tiermem-workload"));
    field.rivals.extend(shared.rival.iter().cloned());
    field.absent.extend(failed);
    for absent in &field.absent {
        eprintln!("SKIP {}: {}", absent.name, absent.why);
    }
    Ok(field)
}

fn allocators(options: &Allocators) -> Outcome {
    let folders = Folders::find()?;
    let scratch = tempfile::tempdir()?;
    let second_tier = tempfile::Builder::new().prefix("tiermem-bench-").tempdir_in("/dev/shm")?;
    let field = field(&options.shared, &folders, &second_tier.path().join("slow-tier"))?;
    if !field.rivals.iter().any(|rival| rival.name == options.baseline) {
        return Err(
            format!("the baseline `{}` does not take part; choose another with --baseline", options.baseline).into()
        );
    }
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = options.threads.unwrap_or(processors.clamp(2, 16));
    let mut all = cells::workloads(threads, options.quick);
    let (program_cells, missing_cells) = programs::find(scratch.path(), options.quick)?;
    missing_cells.iter().for_each(|cell| eprintln!("SKIP cell {}: {}", cell.name, cell.why));
    all.extend(program_cells);
    all.retain(|cell| options.filter.is_empty() || options.filter.iter().any(|word| cell.name.contains(word)));
    if all.is_empty() {
        return Err("no cell matches the filter".into());
    }

    let workload = folders.release.join("tiermem-workload");
    let Field { rivals, absent } = field;
    let rows = measure::rows(&all);
    let mut results = Results { machine: measure::machine(), rounds: 0, rivals, absent, missing_cells, rows };
    for round in 0..options.rounds {
        measure::round(round, &all, &results.rivals, &mut results.rows, &workload, scratch.path())?;
        results.rounds = round + 1;
        // After each round, so that a run that is cut short leaves what it has.
        save(&results, &options.baseline, &options.shared.out)?;
    }
    println!("{}", markdown::report(&results, &options.baseline));
    Ok(ExitCode::SUCCESS)
}

fn save(results: &Results, baseline: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    write(out, "allocators.json", &serde_json::to_string_pretty(results)?)?;
    write(out, "allocators.md", &markdown::report(results, baseline))?;
    for (figure, file) in [(Figure::Cpu, "allocators-cpu.svg"), (Figure::Rss, "allocators-rss.svg")] {
        plot::draw(results, baseline, figure, &out.join(file))?;
        eprintln!("wrote {}", out.join(file).display());
    }
    Ok(())
}

fn instructions(options: &Instructions) -> Outcome {
    let folders = Folders::find()?;
    let scratch = tempfile::tempdir()?;
    let field = field(&options.shared, &folders, &scratch.path().join("slow-tier"))?;
    let (orders, workload) = (instructions::orders(&options.orders)?, folders.release.join("tiermem-workload"));
    let counted = instructions::count(&field.rivals, &orders, options.gate.is_none(), &workload, scratch.path())?;
    let report = instructions::markdown(&counted);
    println!("{report}");
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

fn startup(options: &Startup) -> Outcome {
    let scratch = tempfile::tempdir()?;
    let ways = startup::ways(&Folders::find()?.release, &options.program);
    let costs = startup::measure(&ways, options.count, scratch.path())?;
    let report = startup::markdown(&costs);
    println!("{report}");
    write(&options.out, "startup.json", &serde_json::to_string_pretty(&costs)?)?;
    write(&options.out, "startup.md", &report)?;
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path, file: &str, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(file);
    std::fs::write(&path, text)?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
