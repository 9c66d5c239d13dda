//! `tiermem-bench allocators | hardened | huge | hints | instructions | startup`: measurements against peers.

mod compare;
mod counts;

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tiermem_benches::suite::rivals::{self, Field, Folders, Party, Rival};
use tiermem_benches::suite::startup;

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
    Allocators(compare::Allocators),
    /// Compare allocators that check what the program does with themselves without checks.
    Hardened(compare::Hardened),
    /// Measure what huge pages are worth to a large working set.
    Huge(compare::Huge),
    /// Measure what switching a tier hint per request costs.
    Hints(counts::Hints),
    /// Count instructions per malloc and free with callgrind.
    Instructions(counts::Instructions),
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
        What::Allocators(options) => compare::allocators(&options),
        What::Hardened(options) => compare::hardened(&options),
        What::Huge(options) => compare::huge(&options),
        What::Hints(options) => counts::hints(&options),
        What::Instructions(options) => counts::instructions(&options),
        What::Startup(options) => startup(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("tiermem-bench: {error}");
        ExitCode::FAILURE
    })
}

/// Where things are while measuring.
struct Place {
    folders: Folders,
    workload: PathBuf,
    scratch: tempfile::TempDir,
    /// Holds the file that backs our slow tier; in shared memory, so that it is as fast as DRAM.
    tiers: tempfile::TempDir,
}

impl Place {
    fn find() -> std::io::Result<Self> {
        let folders = Folders::find()?;
        let workload = folders.release.join("tiermem-workload");
        let tiers = tempfile::Builder::new().prefix("tiermem-bench-").tempdir_in("/dev/shm")?;
        Ok(Self { folders, workload, scratch: tempfile::tempdir()?, tiers })
    }

    fn second_tier(&self) -> PathBuf {
        self.tiers.path().join("slow-tier")
    }

    /// Builds and finds those of `party` that `shared` asks for.
    fn field(&self, shared: &Shared, party: Party) -> Result<Field, Box<dyn Error>> {
        // What failed to build must not be measured as it was built some time before.
        let failed = if shared.no_build { Vec::new() } else { rivals::build(&self.folders, party, &shared.only)? };
        let mut field = rivals::find(&self.folders, &self.second_tier(), party);
        field.replace_failed(failed);
        field.keep(&shared.only)?;
        field.check_ours(&self.workload);
        field.rivals.extend(shared.rival.iter().cloned());
        for absent in &field.absent {
            eprintln!("SKIP {}: {}", absent.name, absent.why);
        }
        Ok(field)
    }
}

fn startup(options: &Startup) -> Outcome {
    let scratch = tempfile::tempdir()?;
    let ways = startup::ways(&Folders::find()?.release, &options.program);
    let costs = startup::measure(&ways, options.count, scratch.path())?;
    let report = startup::markdown(&costs);
    show(&report);
    write(&options.out, "startup.json", &serde_json::to_string_pretty(&costs)?)?;
    write(&options.out, "startup.md", &report)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a report. A reader that has seen enough, as `head` has, is no reason to end before the folders are removed.
fn show(report: &str) {
    // The report is in a file as well.
    let _ = writeln!(std::io::stdout(), "{report}");
}

fn write(folder: &Path, file: &str, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(file);
    std::fs::write(&path, text)?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
