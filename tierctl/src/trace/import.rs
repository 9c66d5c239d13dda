//! `tierctl trace import`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use tiermem_emulator::trace::import::{self as importing, Columns, ImportError, Source, Summary, TimeUnit};
use tiermem_tiers::Bytes;

use crate::exit::{Exit, Failure};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub struct Import {
    /// What the input is.
    #[arg(long, value_enum)]
    from: From,

    /// The other tool's record; `-` for standard input.
    input: PathBuf,

    /// The trace to write. It must not exist yet.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    /// Skip lines that cannot be understood, and say how many there were.
    #[arg(long)]
    skip_bad: bool,

    /// damon: how often DAMON looks at a region within an interval (aggregation interval / sampling interval).
    #[arg(long, value_name = "N", default_value_t = 0)]
    looks: u32,

    /// csv: the columns, where the first line does not name them: `time,key,size,op,tenant` in any order, `-` for one to
    /// be ignored; or `twitter`.
    #[arg(long, value_name = "NAMES")]
    columns: Option<String>,

    /// csv: what times are told in.
    #[arg(long, value_enum, default_value_t = Unit::S)]
    time_unit: Unit,

    /// conversation: what the cache holds for one block of a prefix.
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = parse_size)]
    block_bytes: u64,
}

/// Kinds of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    /// valgrind --tool=lackey --trace-mem=yes.
    Lackey,
    /// perf script, after perf mem record.
    Perf,
    /// perf script, damo or the kernel's trace buffer, of damon_aggregated.
    Damon,
    /// Operations of a cache as comma-separated values.
    Csv,
    /// Requests to a language model as JSON lines with timestamp and hash_ids.
    Conversation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Unit {
    S,
    Ms,
    Us,
    Ns,
}

fn parse_size(text: &str) -> Result<u64, String> {
    Bytes::parse(text).map(|Bytes(size)| size)
}

/// `tiermem-trace-import/1`.
#[derive(Debug, Serialize)]
struct Document {
    trace: String,
    lines: u64,
    events: u64,
    skipped: u64,
    late: u64,
}

impl Import {
    /// Imports.
    pub fn execute(self, output: Output) -> Result<Exit, Failure> {
        let source = self.source()?;
        if fs::symlink_metadata(&self.output).is_ok() {
            let what = format!("{} exists; remove it or write to another file", self.output.display());
            return Err(Failure::new(Exit::Usage, what));
        }
        let input: Box<dyn BufRead> = if self.input == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            let file = File::open(&self.input);
            let what = || format!("cannot read {}", self.input.display());
            Box::new(BufReader::with_capacity(1 << 20, file.map_err(|error| Failure::from_io(what(), &error))?))
        };
        let summary = self.write(&source, input)?;
        if let Some((number, what)) = &summary.first_skipped {
            let more = if summary.skipped == 1 { "one line".to_owned() } else { format!("{} lines", summary.skipped) };
            eprintln!("tierctl: skipped {more}; the first is line {number}: {what}");
        }
        if summary.late > 0 {
            eprintln!("tierctl: {} events came late and were given the time of the one before", summary.late);
        }
        let Summary { lines, events, skipped, late, .. } = summary;
        if output.is_json() {
            let trace = self.output.display().to_string();
            output.json("tiermem-trace-import/1", &Document { trace, lines, events, skipped, late })?;
        } else {
            output.text(&format!("{}: {events} events from {lines} lines", self.output.display()))?;
        }
        Ok(Exit::Ok)
    }

    fn source(&self) -> Result<Source, Failure> {
        Ok(match self.from {
            From::Lackey => Source::Lackey,
            From::Perf => Source::Perf,
            From::Damon => Source::Damon { looks: self.looks },
            From::Csv => Source::Csv { columns: self.columns()?, unit: self.unit() },
            From::Conversation => Source::Conversation { block_bytes: self.block_bytes },
        })
    }

    fn columns(&self) -> Result<Option<Columns>, Failure> {
        match self.columns.as_deref() {
            None => Ok(None),
            Some("twitter") => Ok(Some(Columns::twitter())),
            Some(names) => Columns::parse(names.split(','))
                .map(Some)
                .map_err(|what| Failure::new(Exit::Usage, format!("--columns {names}: {what}"))),
        }
    }

    const fn unit(&self) -> TimeUnit {
        match self.time_unit {
            Unit::S => TimeUnit::Seconds,
            Unit::Ms => TimeUnit::Milliseconds,
            Unit::Us => TimeUnit::Microseconds,
            Unit::Ns => TimeUnit::Nanoseconds,
        }
    }

    /// Writes beside the file and moves it into place when it is whole.
    fn write(&self, source: &Source, input: impl BufRead) -> Result<Summary, Failure> {
        let mut beside = OsString::from(&self.output);
        beside.push(".partial");
        let cannot = |error: &io::Error| Failure::from_io(format!("cannot write {}", self.output.display()), error);
        let out = BufWriter::with_capacity(1 << 20, File::create(&beside).map_err(|error| cannot(&error))?);
        let done = importing::import(source, input, out, self.skip_bad);
        let outcome = match done {
            Ok((summary, _)) => fs::rename(&beside, &self.output).map(|()| summary).map_err(|error| cannot(&error)),
            Err(ImportError::Write(error)) => Err(cannot(&error)),
            Err(ImportError::Read(error)) => {
                Err(Failure::from_io(format!("cannot read {}", self.input.display()), &error))
            }
            Err(error) => Err(Failure::new(Exit::BadInput, format!("{}: {error}", self.input.display()))),
        };
        if outcome.is_err() {
            // Half a trace is of no use.
            drop(fs::remove_file(&beside));
        }
        outcome
    }
}
