//! `tierctl trace check`.

use std::fs::File;
use std::path::Path;

use serde::Serialize;
use tiermem_emulator::trace::{BlockKind, Error, ErrorKind, Reader};

use super::failure;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// `tiermem-trace-check/1`: `complete` is whether the recording ended properly; `damage` lists what cannot be read;
/// `records` is what can be.
#[derive(Debug, Default, Serialize)]
struct Document {
    file: String,
    good: bool,
    complete: bool,
    blocks: u64,
    records: u64,
    first_tick: Option<u64>,
    last_tick: Option<u64>,
    damage: Vec<Damage>,
}

#[derive(Debug, Serialize)]
struct Damage {
    offset: u64,
    block: u64,
    what: String,
}

/// More places are counted but not told.
const TOLD_MAX: usize = 20;

/// Reads all of it.
pub fn check(file: &Path, output: Output) -> Result<Exit, Failure> {
    let input = File::open(file).map_err(|e| Failure::from_io(format!("cannot read {}", file.display()), &e))?;
    let mut reader = Reader::new(input).map_err(|error| failure(file, &error))?;
    let mut document = Document { file: file.display().to_string(), ..Document::default() };
    loop {
        let found = match reader.next_block() {
            Ok(None) => break,
            Ok(Some(block)) => {
                document.complete = block.header.kind == BlockKind::End;
                let definitions = block.definitions().err();
                definitions.or_else(|| block.events().find_map(Result::err))
            }
            Err(error) if error.is_io() => return Err(failure(file, &error)),
            Err(error) => Some(error),
        };
        if let Some(error) = found {
            document.damage.push(damage(&error));
            // Nothing follows.
            if error.is_truncated() {
                break;
            }
        }
    }
    let readable = reader.readable();
    (document.blocks, document.records) = (readable.blocks, readable.records);
    (document.first_tick, document.last_tick) = readable.times.unzip();
    document.good = document.damage.is_empty() && document.complete;
    if output.is_json() {
        output.json("tiermem-trace-check/1", &document)?;
    }
    verdict(&document, output)
}

fn damage(error: &Error) -> Damage {
    Damage { offset: error.offset, block: error.block, what: what(&error.kind, error) }
}

/// Without the place, which stands beside it.
fn what(kind: &ErrorKind, error: &Error) -> String {
    let text = error.to_string();
    match kind {
        ErrorKind::Io(_) => text,
        _ => text.split(" (byte ").next().unwrap_or(&text).to_owned(),
    }
}

fn verdict(document: &Document, output: Output) -> Result<Exit, Failure> {
    let Document { file, blocks, records, .. } = document;
    let times = match (document.first_tick, document.last_tick) {
        (Some(first), Some(last)) => format!(", ticks {first} to {last}"),
        _ => String::new(),
    };
    if document.good {
        if !output.is_json() {
            output.text(&format!("{file}: good: {blocks} blocks, {records} records{times}"))?;
        }
        return Ok(Exit::Ok);
    }
    let mut lines: Vec<String> = Vec::new();
    for damage in document.damage.iter().take(TOLD_MAX) {
        lines.push(format!("{file}: byte {}, block {}: {}", damage.offset, damage.block, damage.what));
    }
    if let Some(more) = document.damage.len().checked_sub(TOLD_MAX + 1) {
        lines.push(format!("{file}: and {} more places", more + 1));
    }
    if document.damage.is_empty() {
        lines.push(format!("{file}: the recording did not end properly: the last events may be missing"));
    }
    lines.push(format!(
        "{blocks} blocks with {records} records{times} can be read; --salvage has `trace show` and `replay` use them"
    ));
    Err(Failure::new(Exit::BadInput, lines.join("\n")))
}
