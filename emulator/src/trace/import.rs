//! Traces out of what other tools record.
//!
//! Each source is a text format, read line by line. A line that cannot be understood is an error with its number; where bad
//! lines are to be skipped, they are counted, and the first one is told.

mod conversation;
mod csv;
mod damon;
mod lackey;
mod perf;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, BufRead, Write};

use super::write::Writer;
use super::{Definition, Event, Provenance, StreamId};

pub use self::csv::{Columns, TimeUnit};

/// What is to be imported.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// `valgrind --tool=lackey --trace-mem=yes`: each load and store, timed by the instructions before it.
    Lackey,
    /// `perf script` of samples that have data addresses, as `perf mem record` takes them.
    Perf,
    /// `perf script`, or the kernel's trace buffer, of the tracepoint `damon_aggregated`.
    Damon {
        /// How often DAMON looked at each region within an interval (its aggregation interval over its sampling interval);
        /// 0 if unknown.
        looks: u32,
    },
    /// Operations of a cache or store, one a line, as comma-separated values.
    Csv {
        /// What the columns are; `None` if the first line tells.
        columns: Option<Columns>,
        /// What times are told in.
        unit: TimeUnit,
    },
    /// Requests to a language model, one JSON object a line, with `timestamp` in milliseconds and the `hash_ids` of the
    /// blocks of its prefix, as in the traces that Mooncake published (Qin et al., FAST '25): each block is asked for.
    Conversation {
        /// Bytes that the cache holds for a block.
        block_bytes: u64,
    },
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines read.
    pub lines: u64,
    /// Events written.
    pub events: u64,
    /// Lines that were skipped because they could not be understood.
    pub skipped: u64,
    /// The first of those: its number, and what was wrong.
    pub first_skipped: Option<(u64, String)>,
    /// Events that came with a time before that of their predecessor in their stream, and were given its time.
    pub late: u64,
}

/// Why nothing came of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportError {
    /// A line cannot be understood.
    Line {
        /// Its number, from 1.
        number: u64,
        /// What is wrong.
        what: String,
    },
    /// The whole input is of a kind that no trace can be made of.
    Refused {
        /// Where that was seen.
        number: u64,
        /// Why, and what to do instead.
        what: String,
    },
    /// There was nothing to import.
    Empty {
        /// What was expected.
        expected: &'static str,
    },
    /// The input cannot be read.
    Read(io::Error),
    /// The trace cannot be written.
    Write(io::Error),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { number, what } | Self::Refused { number, what } => write!(f, "line {number}: {what}"),
            Self::Empty { expected } => write!(f, "there is nothing to import: expected {expected}"),
            Self::Read(error) => write!(f, "cannot read: {error}"),
            Self::Write(error) => write!(f, "cannot write: {error}"),
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) | Self::Write(error) => Some(error),
            _ => None,
        }
    }
}

/// What is wrong with a line.
#[derive(Debug)]
enum Complaint {
    /// It cannot be understood.
    Bad(String),
    /// No line like this can be of use.
    Refused(String),
    /// The trace cannot be written.
    Write(io::Error),
}

impl Complaint {
    fn bad(what: impl Into<String>) -> Self {
        Self::Bad(what.into())
    }
}

impl From<io::Error> for Complaint {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// Where importers put what they find.
struct Sink<W: Write> {
    writer: Writer<W>,
    skip_bad: bool,
    summary: Summary,
}

impl<W: Write> Sink<W> {
    fn new(out: W, from: &Provenance, skip_bad: bool) -> Result<Self, ImportError> {
        let writer = Writer::new(out, from).map_err(ImportError::Write)?;
        Ok(Self { writer, skip_bad, summary: Summary::default() })
    }

    fn event(&mut self, stream: StreamId, event: Event) -> io::Result<()> {
        self.summary.events += 1;
        self.writer.event(stream, &event)
    }

    fn define(&mut self, definition: &Definition) -> io::Result<()> {
        self.writer.define(definition)
    }

    /// Goes on after a line, or does not.
    fn judge(&mut self, number: u64, outcome: Result<(), Complaint>) -> Result<(), ImportError> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Complaint::Bad(what)) if self.skip_bad => {
                self.summary.skipped += 1;
                self.summary.first_skipped.get_or_insert((number, what));
                Ok(())
            }
            Err(Complaint::Bad(what)) => Err(ImportError::Line { number, what }),
            Err(Complaint::Refused(what)) => Err(ImportError::Refused { number, what }),
            Err(Complaint::Write(error)) => Err(ImportError::Write(error)),
        }
    }

    fn finish(mut self, expected: &'static str) -> Result<(Summary, W), ImportError> {
        if self.summary.events == 0 {
            return Err(match self.summary.first_skipped.take() {
                Some((number, what)) => ImportError::Line { number, what },
                None => ImportError::Empty { expected },
            });
        }
        self.summary.late = self.writer.late();
        let out = self.writer.finish().map_err(ImportError::Write)?;
        Ok((self.summary, out))
    }
}

/// Something that understands lines.
trait Lines {
    /// What an input must have at least.
    const EXPECTED: &'static str;

    /// Where the trace comes from.
    fn provenance(&self) -> Provenance;

    /// Takes a line, without its end.
    fn line<W: Write>(&mut self, line: &str, into: &mut Sink<W>) -> Result<(), Complaint>;

    /// There are no more lines.
    fn end<W: Write>(&mut self, into: &mut Sink<W>) -> Result<(), Complaint> {
        let _ = into;
        Ok(())
    }
}

/// Reads `input` as what `source` says and writes the trace to `out`. With `skip_bad`, lines that cannot be understood are
/// skipped and counted.
///
/// ```
/// use tiermem_emulator::trace::import::{Source, import};
///
/// let text = "I  04001090,3\n L 1ffefff7f0,8\n";
/// let (summary, trace) = import(&Source::Lackey, text.as_bytes(), Vec::new(), false)?;
/// assert_eq!((summary.events, trace.starts_with(b"TMTRACE")), (1, true));
/// # Ok::<(), tiermem_emulator::trace::import::ImportError>(())
/// ```
///
/// # Errors
/// If a line cannot be understood, if there is nothing to import, or if reading or writing fails.
pub fn import<W: Write>(
    source: &Source,
    input: impl BufRead,
    out: W,
    skip_bad: bool,
) -> Result<(Summary, W), ImportError> {
    match source {
        Source::Lackey => by_line(lackey::Lackey::default(), input, out, skip_bad),
        Source::Perf => by_line(perf::Perf::default(), input, out, skip_bad),
        Source::Damon { looks } => by_line(damon::Damon::new(*looks), input, out, skip_bad),
        Source::Csv { columns, unit } => csv::import(columns.as_ref(), *unit, input, out, skip_bad),
        Source::Conversation { block_bytes } => {
            by_line(conversation::Conversation::new(*block_bytes), input, out, skip_bad)
        }
    }
}

fn by_line<L: Lines, W: Write>(
    mut lines: L,
    mut input: impl BufRead,
    out: W,
    skip_bad: bool,
) -> Result<(Summary, W), ImportError> {
    let mut sink = Sink::new(out, &lines.provenance(), skip_bad)?;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if input.read_until(b'\n', &mut bytes).map_err(ImportError::Read)? == 0 {
            break;
        }
        sink.summary.lines += 1;
        let line = String::from_utf8_lossy(&bytes);
        let outcome = lines.line(line.trim_end_matches(['\n', '\r']), &mut sink);
        sink.judge(sink.summary.lines, outcome)?;
    }
    let outcome = lines.end(&mut sink);
    sink.judge(sink.summary.lines, outcome)?;
    sink.finish(L::EXPECTED)
}

/// The name of the tool in the provenance.
fn tool(source: &str) -> String {
    format!("tierctl {} trace import ({source})", env!("CARGO_PKG_VERSION"))
}

/// A hexadecimal number, with or without `0x`.
fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// Seconds with a fraction, as nanoseconds.
fn nanoseconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = 10u64.pow(9 - fraction.len() as u32);
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction * scale)
}
