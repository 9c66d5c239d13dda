//! `tierctl instrument`.

use std::ffi::OsString;
use std::path::PathBuf;

use tiermem_emulator::cache::CacheConfig;
use tiermem_emulator::instrumented::Overlap;
use tiermem_emulator::instrumented::config::{Config, Placement, VARIABLE};
use tiermem_sys::signal::{end_by, number::SIGINT};

use crate::exit::{Exit, Failure};
use crate::instrument::document::Document;
use crate::instrument::{build, collect, folder::Folder, library};
use crate::output::Output;
use crate::run::child::{Ending, StandIn};
use crate::run::program;

/// Shown below the options.
const HELP: &str = "\
Builds: cargo gets the compiler's flags in CARGO_ENCODED_RUSTFLAGS (after those of RUSTFLAGS or its own variable) and the \
host as its target, so that build scripts and procedural macros stay as they are; programs are then in \
target/TRIPLE/PROFILE. C and C++: cc, gcc, clang and their like are found as wrappers with their flags (`-- make`). gcc needs \
the headers for its plugins (gcc-VERSION-plugin-dev). What cargo compiles with cc for packages stays as it is.

Runs: every instrumented process under CMD writes a report at its end, and tierctl prints them on standard error. \
libtiermem_instrument.so is taken from --library, else $TIERMEM_INSTRUMENT_LIBRARY, else from beside tierctl, \
../lib/tiermem or ../lib.

CMD's exit code is returned, as by `tierctl run`. `tierctl --help` lists the exit codes.";

/// Rebuild a program so that each load and store counts, and run it on a modelled machine in virtual time.
///
/// Loads and stores go through a model of the caches and, where they miss, of the machine's memory; each thread has a
/// clock. Nothing is sampled.
///
/// Example: tierctl instrument --topology one-expander --tier cxl0 -- cargo run --release
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Instrument {
    /// The machine: a topology file, or the name of a shipped one. Programs run on its first host.
    #[arg(long, short, value_name = "TOPOLOGY", default_value = "one-expander")]
    topology: String,

    /// Put all blocks on this tier. Stacks and static data stay on the first.
    #[arg(long, value_name = "TIER", default_value = "dram", conflicts_with = "policy")]
    tier: String,

    /// Place blocks as this policy says.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// The caches, as `48K/12@1.7,2M/16@5,shared:32M/16@21,prefetch:16x8`: size, ways and nanoseconds of each level.
    #[arg(long, value_name = "LEVELS", value_parser = parse_caches)]
    cache: Option<CacheConfig>,

    /// Lines that a core can wait for at once.
    #[arg(long, value_name = "N", default_value_t = Overlap::default().outstanding)]
    outstanding: u32,

    /// Accesses that a core can run ahead of a load that is not done.
    #[arg(long, value_name = "N", default_value_t = Overlap::default().window)]
    window: u32,

    /// From one access to the next where memory does not hold it up, nanoseconds.
    #[arg(long, value_name = "NS", default_value_t = Overlap::default().issue_ns)]
    issue_ns: f64,

    /// Record every access and allocation, for `tierctl replay`. A second process of CMD writes FILE.PID.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Write the report to a file instead of standard error: JSON if its name ends so or with --json.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Sites to show; JSON always holds all.
    #[arg(long, value_name = "N", default_value_t = 10)]
    sites: usize,

    /// Use this library instead of the installed libtiermem_instrument.so.
    #[arg(long, value_name = "LIBRARY")]
    library: Option<PathBuf>,

    /// A build, a program, or both, as `cargo run`.
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

fn parse_caches(text: &str) -> Result<CacheConfig, String> {
    CacheConfig::parse(text).map_err(|error| error.to_string())
}

impl Instrument {
    /// Does it.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        self.run(*output).map_err(|failure| match failure.exit {
            Exit::Failed => Failure { exit: Exit::Command(125), ..failure },
            _ => failure,
        })
    }

    fn run(self, output: Output) -> Result<Exit, Failure> {
        let folder = Folder::create()?;
        let config = self.config(&folder)?;
        config.engine().map_err(|error| Failure::new(Exit::BadInput, error.to_string()))?;
        let library = library::find(self.library.as_deref())?;
        // clap sees to it that there is at least one.
        let name = self.command.first().cloned().unwrap_or_default();
        let found = program::find(&name, std::env::var_os("PATH").as_deref())?;
        let written = folder.write_config(&config)?;

        let stand_in = StandIn::prepare()?;
        let mut command = build::command(&found, &self.command, &library)?;
        command.env(VARIABLE, written);
        let ending = stand_in.run(&mut command, || std::time::Duration::from_secs(1))?;

        let collected = collect::gather(folder.reports())?;
        let document = Document::new(&config, self.policy.as_deref(), collected);
        self.tell(&document, output)?;
        if ending == Ending::Killed(SIGINT) {
            // A shell that runs us in a loop stops the loop on ^C only if it sees that we died of it as well.
            drop(folder);
            end_by(SIGINT);
        }
        Ok(ending.exit())
    }

    fn config(&self, folder: &Folder) -> Result<Config, Failure> {
        let bad = |what: &str| Failure::new(Exit::Usage, what);
        if !(1..=64).contains(&self.outstanding) {
            return Err(bad("--outstanding is 1 to 64"));
        }
        if self.window == 0 {
            return Err(bad("--window is at least 1"));
        }
        if !(0.0..=1e6).contains(&self.issue_ns) {
            return Err(bad("--issue-ns is 0 to 1,000,000"));
        }
        let placement = match &self.policy {
            None => Placement::All(self.tier.clone()),
            Some(path) => Placement::Policy(
                std::fs::read_to_string(path).map_err(|error| Failure::from_io(path.display(), &error))?,
            ),
        };
        // A program may change its folder before it reads this.
        let is_file = self.topology.contains('/') || self.topology.ends_with(".toml");
        let topology = std::path::absolute(&self.topology).ok().filter(|_| is_file);
        Ok(Config {
            reports: folder.reports().to_path_buf(),
            topology: topology.map_or_else(|| self.topology.clone(), |path| path.to_string_lossy().into_owned()),
            cache: self.cache.clone().unwrap_or_default().to_string(),
            overlap: Overlap { outstanding: self.outstanding, window: self.window, issue_ns: self.issue_ns },
            placement,
            trace: self.trace.as_ref().and_then(|path| std::path::absolute(path).ok()),
        })
    }

    /// Prints or writes the report.
    fn tell(&self, document: &Document, output: Output) -> Result<(), Failure> {
        let by_name = self.output.as_ref().is_some_and(|path| path.extension().is_some_and(|end| end == "json"));
        let text = if output.json_wanted() || by_name {
            Output::document("tiermem-instrument/1", document)?
        } else {
            document.text(self.sites)
        };
        match &self.output {
            None => eprintln!("{}", text.trim_end()),
            Some(path) => {
                std::fs::write(path, text).map_err(|error| Failure::from_io(path.display(), &error))?;
                eprintln!("tierctl: the report is {}", path.display());
            }
        }
        Ok(())
    }
}
