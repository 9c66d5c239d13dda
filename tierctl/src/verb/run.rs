//! `tierctl run`.

use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use tiermem_placement::Policy;
use tiermem_sys::signal::{end_by, number::SIGINT};
use tiermem_tiers::TierSpec;

use crate::exit::{Exit, Failure};
use crate::fault_plan;
use crate::output::Output;
use crate::policy_file::{self, Limit};
use crate::record::kernel;
use crate::record::poller::Poller;
use crate::record::sites::{self, Site};
use crate::record::{Recorded, RunRecord, tier_totals};
use crate::run::child::{Ending, StandIn};
use crate::run::control_dir::ControlDir;
use crate::run::recording::{self, Recording};
use crate::run::tier_files::TierFiles;
use crate::run::{preload, program, weights};
use crate::{report, segments, summary, tier_spec};

/// Shown below the options.
const HELP: &str = "\
The program finds these in its environment; what was there under these names before is replaced or removed:
  LD_PRELOAD           libtiermem.so, then what was there
  TIERMEM_POLICY       the policy file, absolute
  TIERMEM_TIERS        the SPECs of --tier, with absolute paths, separated by semicolons
  TIERMEM_LIMITS       the --limits in bytes, separated by semicolons
  TIERMEM_FAULTS       the script of --faults
  TIERMEM_TRACE        the file of --trace, absolute
  TIERMEM_TRACE_ACCESSES  the SOURCE of --trace-accesses
  TIERMEM_TRACE_FRAMES    the N of --trace-frames
  TIERMEM_CONTROL_DIR  the private folder in which each process publishes its figures
libtiermem.so is taken from --preload, else $TIERMEM_PRELOAD, else from beside tierctl, ../lib/tiermem or ../lib.

`tierctl --help` lists the exit codes.";

/// Run a program with its memory placed across tiers.
///
/// The program is not changed: libtiermem.so is loaded into it and its children (LD_PRELOAD). Without --policy, host
/// memory is filled first and then each --tier in the order given. Files that a dax-file tier makes are removed at the
/// end. Signals go on to the program; its exit code is returned.
///
/// Example: tierctl run --tier slow=dax-file:/dev/shm/slow,size=4G --limit dram=64M --report out.html -- redis-server
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Run {
    /// Place memory as this policy file says (see `tierctl policy example`).
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// Add a tier, or give one of the policy another place: `NAME=KIND[:WHERE][,KEY=VALUE]…`, or the name of a tier that
    /// `tierctl list` shows, emulated ones included.
    #[arg(long = "tier", value_name = "SPEC|NAME")]
    tiers: Vec<String>,

    /// Let each process hold at most SIZE in a tier, for example dram=64M.
    #[arg(long = "limit", value_name = "TIER=SIZE")]
    limits: Vec<String>,

    /// Let things go wrong on the tiers as this plan says (see `tierctl fault --help`); times count from the opening of a
    /// tier at the start of each process.
    #[arg(long, value_name = "PLAN.toml")]
    faults: Option<PathBuf>,

    /// Write a report, one HTML page that needs nothing else.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,

    /// Record every allocation, resize and free into a trace (see `tierctl trace --help`). The program records into FILE, each
    /// process and program that it starts into a file of its own, FILE.PID; a trace that is there is replaced.
    #[arg(long, value_name = "FILE.tmt")]
    trace: Option<PathBuf>,

    /// Also record how much of each extent was accessed in each interval, by SOURCE: `clear-refs` (reads and writes),
    /// `pagemap-scan` (writes), or `auto`, the first of them that works here. `,every=MS` after it sets the interval (100 ms).
    /// If none works, the program is not started, and the code is 5, or 4 if only rights are missing.
    #[arg(long, value_name = "SOURCE", requires = "trace", num_args = 0..=1, require_equals = true,
        default_missing_value = "auto")]
    trace_accesses: Option<String>,

    /// Record up to N frames of the call stack of each allocation, instead of the caller alone. Each takes time: see
    /// docs/measurements.md.
    #[arg(long, value_name = "N", requires = "trace", value_parser = clap::value_parser!(u32).range(1..=16))]
    trace_frames: Option<u32>,

    /// Print the summary even if stderr is not a terminal.
    #[arg(long)]
    summary: bool,

    /// Print no summary.
    #[arg(long, conflicts_with = "summary")]
    quiet: bool,

    /// Use this library instead of the installed libtiermem.so.
    #[arg(long, value_name = "LIBRARY")]
    preload: Option<PathBuf>,

    /// Run the program even if it will ignore the preload.
    #[arg(long)]
    force: bool,

    /// The program and its arguments.
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

impl Run {
    /// Checks everything, then runs the program.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        self.run(output).map_err(|failure| match failure.exit {
            Exit::Failed => Failure { exit: Exit::Command(125), ..failure },
            _ => failure,
        })
    }

    fn run(self, output: &Output) -> Result<Exit, Failure> {
        let specs = self.tiers.iter().map(|t| tier_spec::parse_or_find(t).map(tier_spec::with_absolute_path));
        let specs = specs.collect::<Result<Vec<TierSpec>, _>>()?;
        let limits = self.limits.iter().map(|l| Limit::parse(l)).collect::<Result<Vec<_>, _>>()?;
        let mut policy = self.check_policy(&specs, &limits)?;
        let all_specs = policy_file::specs(&policy)?;
        let faults = fault_plan::for_program(self.faults.as_deref(), &policy, &all_specs)?;
        let library = preload::find(self.preload.as_deref())?;
        let program = self.find_program()?;
        if let Some(path) = &self.report {
            check_writable(path)?;
        }
        self.trace_accesses.as_deref().map_or(Ok(()), recording::check_accesses)?;
        let recording = self.trace.as_deref().map(Recording::prepare).transpose()?;

        let stand_in = StandIn::prepare()?;
        let control = ControlDir::create()?;
        let files = TierFiles::expect(&all_specs);
        let mut command = self.child_command(&program, &library, &control, &specs, &limits);
        set_or_remove(&mut command, preload::FAULTS_VARIABLE, faults.map(OsString::from));
        set_or_remove(&mut command, preload::TRACE_VARIABLE, recording.as_ref().map(|r| r.path().into()));
        set_or_remove(&mut command, preload::TRACE_ACCESSES_VARIABLE, self.trace_accesses.as_ref().map(OsString::from));
        let frames = self.trace_frames.map(|frames| frames.to_string().into());
        set_or_remove(&mut command, preload::TRACE_FRAMES_VARIABLE, frames);
        command.env_remove(preload::TRACE_TAKEN_VARIABLE);
        let completed = weights::complete(&mut policy, &all_specs, control.path())?;
        if let Some(file) = &completed {
            command.env(preload::POLICY_VARIABLE, file.path());
        }
        let mut poller = Poller::new(control.path().to_path_buf(), segments::attach, kernel::mapped_files(&all_specs));
        let started_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let ending = stand_in.run(&mut command, || poller.tick())?;
        let duration = poller.began().elapsed();
        let recorded = poller.finish();
        drop((files, completed, control));
        let recorded_into = recording.map(Recording::finish).transpose().unwrap_or_else(|nothing| {
            eprintln!("tierctl: {nothing}");
            None
        });

        let sites = if self.report.is_some() { gather_sites(&recorded) } else { Vec::new() };
        let record = RunRecord {
            command: self.command.iter().map(|c| c.to_string_lossy().into_owned()).collect(),
            started_unix_s,
            duration,
            ending,
            policy: self.policy.as_ref().map(|p| p.display().to_string()),
            tier_specs: self.tiers.clone(),
            limits: self.limits.clone(),
            recorded,
            sites,
        };
        let told = self.tell(&record, recorded_into.as_deref(), *output);
        finish(ending, told)
    }

    /// The policy and the command line must fit together before anything starts.
    fn check_policy(&self, specs: &[TierSpec], limits: &[Limit]) -> Result<Policy, Failure> {
        let mut policy = match &self.policy {
            Some(path) => policy_file::read(path)?,
            None => Policy::default(),
        };
        policy_file::amend(&mut policy, specs, limits)?;
        Ok(policy)
    }

    fn find_program(&self) -> Result<PathBuf, Failure> {
        // clap sees to it that there is at least one.
        let name = self.command.first().cloned().unwrap_or_default();
        let program = program::find(&name, env::var_os("PATH").as_deref())?;
        match program::why_preload_is_ignored(&program) {
            Some(why) if !self.force => Err(Failure::new(
                Exit::Unsupported,
                format!(
                    "{}: {why}, so the preload would have no effect. Use --force to run it all the same.",
                    program.display()
                ),
            )),
            _ => Ok(program),
        }
    }

    fn child_command(
        &self,
        program: &Path,
        library: &Path,
        control: &ControlDir,
        specs: &[TierSpec],
        limits: &[Limit],
    ) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        command.arg0(&self.command[0]).args(&self.command[1..]);
        command.env("LD_PRELOAD", preload::preload_list(library, env::var_os("LD_PRELOAD").as_deref()));
        command.env(preload::CONTROL_DIR_VARIABLE, control.path());
        let absolute = self.policy.as_ref().and_then(|p| std::path::absolute(p).ok());
        set_or_remove(&mut command, preload::POLICY_VARIABLE, absolute.map(PathBuf::into_os_string));
        let specs = join(specs.iter().map(TierSpec::to_string));
        set_or_remove(&mut command, preload::TIERS_VARIABLE, specs);
        let limits = join(limits.iter().map(Limit::to_string));
        set_or_remove(&mut command, preload::LIMITS_VARIABLE, limits);
        command
    }

    /// The report and the summary.
    fn tell(&self, record: &RunRecord, recorded_into: Option<&str>, output: Output) -> Result<(), Failure> {
        if let Some(path) = &self.report {
            let failure = |e: io::Error| Failure::from_io(format!("cannot write the report {}", path.display()), &e);
            std::fs::write(path, report::render(record)).map_err(failure)?;
        }
        if self.quiet {
            return Ok(());
        }
        if output.json_wanted() {
            eprintln!("{}", Output::document(summary::RUN_FORMAT, &summary::document(record))?);
        } else if self.summary || io::stderr().is_terminal() {
            eprint!("{}", summary::text(record));
            if let Some(path) = &self.report {
                eprintln!("tierctl: the report is {}", path.display());
            }
            if let Some(line) = recorded_into {
                eprintln!("tierctl: {line}");
            }
        }
        Ok(())
    }
}

fn gather_sites(recorded: &Recorded) -> Vec<Site> {
    let totals = tier_totals(recorded);
    let names: Vec<&str> = totals.iter().map(|t| t.name.as_str()).collect();
    sites::gather(recorded, &names)
}

/// The program's own ending comes first; our failures count only where it succeeded.
fn finish(ending: Ending, told: Result<(), Failure>) -> Result<Exit, Failure> {
    if let Err(failure) = told {
        let exit = if ending == Ending::Exited(0) { Exit::Command(125) } else { ending.exit() };
        return Err(Failure { exit, ..failure });
    }
    if ending == Ending::Killed(SIGINT) {
        // A shell that runs us in a loop stops the loop on ^C only if it sees that we died of it as well.
        end_by(SIGINT);
    }
    Ok(ending.exit())
}

fn check_writable(path: &Path) -> Result<(), Failure> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).map_err(|e| Failure::from_io(format!("cannot write the report {}", path.display()), &e))
}

fn join(items: impl Iterator<Item = String>) -> Option<OsString> {
    let list = items.collect::<Vec<_>>().join(";");
    (!list.is_empty()).then(|| list.into())
}

/// What an outer run set for itself is not for this one.
fn set_or_remove(command: &mut Command, name: &str, value: Option<OsString>) {
    match value {
        Some(value) => command.env(name, value),
        None => command.env_remove(name),
    };
}
