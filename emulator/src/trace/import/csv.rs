//! Operations of a cache or store as comma-separated values.

use std::io::{BufRead, Write};

use super::{Complaint, ImportError, Sink, Summary, tool};
use crate::trace::{Clock, Completeness, Event, KeyAction, KeyOperation, Provenance, StreamId};

const EXPECTED: &str = "comma-separated values, with a first line that names the columns, or with the columns given";

/// What the columns of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns(Vec<Option<Column>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Time,
    Key,
    Size,
    Operation,
    Tenant,
}

/// What times are told in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    #[default]
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

impl TimeUnit {
    const fn nanoseconds(self) -> u64 {
        match self {
            Self::Seconds => 1_000_000_000,
            Self::Milliseconds => 1_000_000,
            Self::Microseconds => 1_000,
            Self::Nanoseconds => 1,
        }
    }
}

impl Columns {
    /// Reads names of columns: `time`, `key`, `size`, `op` and `tenant`, or other names that public traces use for them; a
    /// column with any other name is ignored.
    ///
    /// # Errors
    /// If there is no column for keys, or two for one thing.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let columns: Vec<_> = names.into_iter().map(|name| column(name.trim())).collect();
        if !columns.contains(&Some(Column::Key)) {
            return Err("no column is called `key`".to_owned());
        }
        for (n, column) in columns.iter().enumerate() {
            if column.is_some() && columns[..n].contains(column) {
                return Err(format!("two columns for the same thing: number {} again", n + 1));
            }
        }
        Ok(Self(columns))
    }

    /// As the traces of cache clusters at Twitter have them (Yang et al., OSDI '20): time in seconds, key, its length, the
    /// value's length, client, operation, time to live.
    pub fn twitter() -> Self {
        let columns = [Some(Column::Time), Some(Column::Key), None, Some(Column::Size), Some(Column::Tenant)];
        Self([&columns[..], &[Some(Column::Operation), None]].concat())
    }
}

fn column(name: &str) -> Option<Column> {
    Some(match name.to_ascii_lowercase().replace(['-', ' '], "_").as_str() {
        "time" | "timestamp" | "ts" | "t" => Column::Time,
        "key" | "id" | "obj_id" | "object" | "anonymized_key" => Column::Key,
        "size" | "value_size" | "obj_size" | "bytes" | "length" => Column::Size,
        "op" | "operation" | "action" | "cmd" => Column::Operation,
        "tenant" | "client" | "client_id" | "user" | "namespace" => Column::Tenant,
        _ => return None,
    })
}

pub(super) fn import<W: Write>(
    columns: Option<&Columns>,
    unit: TimeUnit,
    input: impl BufRead,
    out: W,
    skip_bad: bool,
) -> Result<(Summary, W), ImportError> {
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input);
    let mut record = ::csv::ByteRecord::new();
    let (columns, named) = match columns {
        Some(columns) => (columns.clone(), 0),
        None => (first_line(&mut reader, &mut record)?, 1),
    };
    let mut sink = Sink::new(out, &provenance(&columns), skip_bad)?;
    sink.summary.lines = named;
    let mut requests = 0;
    while reader.read_byte_record(&mut record).map_err(read_error)? {
        let number = record.position().map_or(0, ::csv::Position::line);
        sink.summary.lines += 1;
        let fields: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
        requests += 1;
        let outcome = operation(&columns, unit, &fields, requests).and_then(|operation| {
            let written = sink.event(StreamId(0), Event::Key(operation));
            written.map_err(Complaint::from)
        });
        sink.judge(number, outcome)?;
    }
    sink.finish(EXPECTED)
}

/// The names of the columns; of an empty file, that of the one that there must be.
fn first_line(
    reader: &mut ::csv::Reader<impl BufRead>,
    record: &mut ::csv::ByteRecord,
) -> Result<Columns, ImportError> {
    if !reader.read_byte_record(record).map_err(read_error)? {
        return Ok(Columns(vec![Some(Column::Key)]));
    }
    let names: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
    Columns::parse(names.iter().map(AsRef::as_ref)).map_err(|what| ImportError::Line {
        number: record.position().map_or(0, ::csv::Position::line),
        what: format!("{what}: name the columns in the first line, or with --columns time,key,size,op,tenant"),
    })
}

fn read_error(error: ::csv::Error) -> ImportError {
    let number = error.position().map_or(0, ::csv::Position::line);
    let what = error.to_string();
    match error.into_kind() {
        ::csv::ErrorKind::Io(error) => ImportError::Read(error),
        _ => ImportError::Line { number, what },
    }
}

fn provenance(columns: &Columns) -> Provenance {
    let timed = columns.0.contains(&Some(Column::Time));
    Provenance {
        tool: tool("csv"),
        clock: if timed { Clock::RealNs } else { Clock::Order },
        common_clock: true,
        accesses: Completeness::Absent,
        notes: vec!["keys that are no numbers stand as their FNV-1a hash".to_owned()],
        ..Provenance::default()
    }
}

fn operation(
    columns: &Columns,
    unit: TimeUnit,
    fields: &[impl AsRef<str>],
    request: u64,
) -> Result<KeyOperation, Complaint> {
    let mut found = KeyOperation { request, ..KeyOperation::default() };
    if fields.len() < columns.0.len() {
        return Err(Complaint::bad(format!("{} columns instead of {}", fields.len(), columns.0.len())));
    }
    for (column, field) in columns.0.iter().zip(fields) {
        let text = field.as_ref().trim();
        match column {
            None => {}
            Some(Column::Time) => found.at = time(text, unit)?,
            Some(Column::Key) if text.is_empty() => return Err(Complaint::bad("the key is empty")),
            Some(Column::Key) => found.key = key(text),
            Some(Column::Size) => {
                found.size = text.parse().map_err(|_| Complaint::bad(format!("`{text}` is no size in bytes")))?;
            }
            Some(Column::Tenant) => found.tenant = text.parse().unwrap_or_else(|_| hash(text) as u32),
            Some(Column::Operation) => found.action = action(text)?,
        }
    }
    Ok(found)
}

/// Nanoseconds.
fn time(text: &str, unit: TimeUnit) -> Result<u64, Complaint> {
    let bad = || Complaint::bad(format!("`{text}` is no time"));
    if let Ok(whole) = text.parse::<u64>() {
        return whole.checked_mul(unit.nanoseconds()).ok_or_else(bad);
    }
    let value: f64 = text.parse().map_err(|_| bad())?;
    #[expect(clippy::cast_precision_loss, reason = "a power of ten")]
    let ns = value * unit.nanoseconds() as f64;
    if !(0.0..1e19).contains(&ns) {
        return Err(bad());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds, as checked above")]
    Ok(ns.round() as u64)
}

fn key(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| hash(text))
}

/// FNV-1a, 64 bits.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn action(text: &str) -> Result<KeyAction, Complaint> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "get" | "gets" | "read" | "r" | "0" => KeyAction::Get,
        "put" | "set" | "add" | "replace" | "cas" | "append" | "prepend" | "incr" | "decr" | "write" | "update"
        | "w" | "1" => KeyAction::Put,
        "delete" | "del" | "remove" | "d" => KeyAction::Delete,
        _ => return Err(Complaint::bad(format!("`{text}` is no operation: get, put or delete"))),
    })
}
