//! `tierctl profile`.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tiermem::control::{Attachment, Snapshot};
use tiermem::profile as sampling;
use tiermem_sys::signal::Signals;
use tiermem_tiers::Bytes;

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::profile::{Measure, Profile, flame, modules, pprof, table};
use crate::segments;

/// How long a process that does not sample is looked at if nothing else is said.
const SECONDS_DEFAULT: f64 = 10.0;
/// How often it is asked whether it has begun, or ended.
const LOOK: Duration = Duration::from_millis(20);

/// Show which code allocates a process's memory, and in which tier.
///
/// The figures are estimates from samples (one for every 512 KiB by default). A process that does not sample yet is told to
/// for as long as --seconds says, and to stop afterwards; ^C ends that early. What was allocated before is not in the
/// profile.
#[derive(Debug, clap::Args)]
pub struct ProfileVerb {
    /// A process, or the control segment that one has left behind.
    #[arg(value_name = "PID|FILE")]
    what: String,

    /// Look at what is allocated within so many seconds (10 if the process does not sample yet).
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    seconds: Option<Duration>,

    /// Mean bytes between two samples meanwhile, 4K to 1G: small ones see more and cost more.
    #[arg(long, value_name = "SIZE", value_parser = parse_interval)]
    interval: Option<u64>,

    /// Show the memory that the program holds (the default).
    #[arg(long, conflicts_with = "allocated")]
    live: bool,

    /// Show all memory that was allocated, whether freed since or not.
    #[arg(long)]
    allocated: bool,

    /// Write it to a file; its extension chooses the format: .pb.gz, .svg, .folded, .json or .txt.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write it in this format.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For `go tool pprof` and others: gzipped protobuf, with a label `tier`.
    Pprof,
    /// A flame graph.
    Svg,
    /// A line for each stack, for other flame graph tools.
    Folded,
    /// The largest sites, for people.
    Table,
    /// All sites.
    Json,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if time >= Duration::from_millis(100) && time <= Duration::from_secs(86_400) => Ok(time),
        _ => Err("it is 0.1 seconds to a day".to_owned()),
    }
}

fn parse_interval(text: &str) -> Result<u64, String> {
    let Bytes(interval) = Bytes::parse(text)?;
    if interval != 0 && interval == sampling::clamp(interval) {
        return Ok(interval);
    }
    Err(format!("an interval is {} to {}", Bytes(sampling::INTERVAL_MIN), Bytes(sampling::INTERVAL_MAX)))
}

impl ProfileVerb {
    /// Takes the profile and writes it.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        let format = self.format(*output)?;
        let profile = self.take()?;
        let measure = if self.allocated { Measure::Allocated } else { Measure::Live };
        match format {
            Format::Json => {
                let text = Output::document("tiermem-profile/1", &table::document(&profile, measure))?;
                self.write(text.as_bytes(), *output)?;
            }
            Format::Table => self.write(table::text(&profile, measure).as_bytes(), *output)?,
            Format::Folded => self.write(flame::folded(&profile, measure).as_bytes(), *output)?,
            Format::Svg => self.write(&flame::graph(&profile, measure)?, *output)?,
            Format::Pprof => self.write(&pprof::encode(&profile, measure)?, *output)?,
        }
        if !matches!(format, Format::Json | Format::Table) || self.output.is_some() {
            profile.coverage_text().iter().for_each(|line| eprintln!("tierctl: {line}"));
        }
        Ok(Exit::Ok)
    }

    /// The format asked for, by name, by extension, or by where standard output goes.
    fn format(&self, output: Output) -> Result<Format, Failure> {
        let by_place = if output.is_json() { Format::Json } else { Format::Table };
        let format = match (self.format, &self.output) {
            (Some(format), _) => format,
            (None, None) => by_place,
            (None, Some(path)) => by_extension(path)?,
        };
        if format == Format::Pprof && self.output.is_none() && io::stdout().is_terminal() {
            let what = "a pprof file is not for a terminal; name one with --output FILE.pb.gz";
            return Err(Failure::new(Exit::Usage, what));
        }
        Ok(format)
    }

    fn write(&self, bytes: &[u8], output: Output) -> Result<(), Failure> {
        if let Some(path) = &self.output {
            return fs::write(path, bytes)
                .map_err(|e| Failure::from_io(format!("cannot write {}", path.display()), &e));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => output.text(text),
            Err(_) => io::stdout()
                .lock()
                .write_all(bytes)
                .map_err(|e| Failure::from_io("cannot write to standard output", &e)),
        }
    }

    fn take(&self) -> Result<Profile, Failure> {
        let Ok(pid) = self.what.parse::<u32>() else { return self.of_file(Path::new(&self.what)) };
        let attachment = segments::attachment_of_pid(pid)?;
        let before = segments::read(&attachment)?;
        // What was asked for last counts: an idle process has not heard it yet.
        let present = before.profile.wanted;
        let is_off = present == 0;
        let wanted = self.interval.unwrap_or(if is_off { sampling::INTERVAL_DEFAULT } else { present });
        if !is_off && self.seconds.is_none() && wanted == present {
            return Ok(Profile::new(&before, None, modules::of_process(pid)));
        }
        let time = self.seconds.unwrap_or(Duration::from_secs_f64(SECONDS_DEFAULT));
        if is_off {
            eprintln!("tierctl: process {pid} does not sample; sampling it for {} s", time.as_secs_f64());
        }
        let (now, modules) = watch(&attachment, pid, wanted, present, time)?;
        if now.profile.since_ms == 0 {
            let what = format!(
                "process {pid} has not begun to sample: it does so when it next needs memory, and it did not for {} s",
                time.as_secs_f64()
            );
            return Err(Failure::new(Exit::Failed, what));
        }
        Ok(Profile::new(&now, Some(&before), modules))
    }

    fn of_file(&self, path: &Path) -> Result<Profile, Failure> {
        if self.seconds.is_some() || self.interval.is_some() {
            let what = "--seconds and --interval are for running processes; a segment's figures are what they are";
            return Err(Failure::new(Exit::Usage, what));
        }
        let snapshot = segments::attach(path)?()?;
        if snapshot.profile.since_ms == 0 {
            let what = format!(
                "{}: the process did not sample; start it under `tierctl run`, or with TIERMEM_PROFILE=512K",
                path.display()
            );
            return Err(Failure::new(Exit::NotFound, what));
        }
        let recorded = snapshot.modules.clone();
        let modules = if recorded.is_empty() { modules::of_process(snapshot.pid) } else { recorded };
        Ok(Profile::new(&snapshot, None, modules))
    }
}

/// Has the process sample at `wanted` for a time, or until it ends or we are interrupted, and then as it did before. The
/// last figures, and the code that it had mapped.
fn watch(
    attachment: &Attachment,
    pid: u32,
    wanted: u64,
    before: u64,
    time: Duration,
) -> Result<(Snapshot, Vec<tiermem::control::Module>), Failure> {
    let failed = |e: io::Error| Failure::from_io("cannot wait for signals", &e);
    let signals =
        Signals::receive(&[signal::INTERRUPT, signal::TERMINATE, signal::HANG_UP]).map_err(|e| failed(e.into()))?;
    attachment.want_profile(wanted);
    let start = Instant::now();
    let mut modules = modules::of_process(pid);
    let mut interrupted = false;
    while !interrupted && start.elapsed() < time && segments::is_running(pid) {
        interrupted = !signals.wait(LOOK.min(time.saturating_sub(start.elapsed()))).map_err(failed)?.is_empty();
    }
    // Libraries may have been loaded meanwhile; of a process that has ended, the list is empty.
    let latest = modules::of_process(pid);
    if !latest.is_empty() {
        modules = latest;
    }
    let now = segments::read(attachment);
    attachment.want_profile(before);
    Ok((now?, modules))
}

/// The signals that end a look early, as in signal(7).
mod signal {
    pub const HANG_UP: i32 = 1;
    pub const INTERRUPT: i32 = 2;
    pub const TERMINATE: i32 = 15;
}

fn by_extension(path: &Path) -> Result<Format, Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let known = [
        (".pb.gz", Format::Pprof),
        (".svg", Format::Svg),
        (".folded", Format::Folded),
        (".json", Format::Json),
        (".txt", Format::Table),
    ];
    known.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| format).ok_or_else(|| {
        let what = format!(
            "{name}: the name does not say the format; end it in .pb.gz, .svg, .folded, .json or .txt, or use --format"
        );
        Failure::new(Exit::Usage, what)
    })
}

#[cfg(test)]
mod tests {
    use super::{Format, by_extension, parse_interval, parse_seconds};
    use crate::exit::Exit;
    use std::path::Path;

    #[test]
    fn extensions_choose_formats() {
        assert_eq!(by_extension(Path::new("a/b.pb.gz")).unwrap(), Format::Pprof);
        assert_eq!(by_extension(Path::new("b.svg")).unwrap(), Format::Svg);
        assert_eq!(by_extension(Path::new("b.png")).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn times_and_intervals_are_checked() {
        assert!(parse_seconds("0.5").is_ok() && parse_interval("512K").unwrap() == 512 << 10);
        assert!(["0", "-1", "nan", "x", "1e9"].iter().all(|text| parse_seconds(text).is_err()));
        assert!(["0", "1K", "2G", "x"].iter().all(|text| parse_interval(text).is_err()));
    }
}
