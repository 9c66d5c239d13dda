//! `perf script` of samples with data addresses: `perf mem record PROGRAM`, then `perf script`, or with the fields named:
//! `perf script -F comm,pid,tid,time,period,event,addr,data_src,weight`. (linux, `tools/perf/builtin-script.c`: the fields
//! stand in the order in which `process_event` prints them.)
//!
//! ```text
//! program 46572/46573 [002] 544966.882384: 10000 cpu/mem-loads,ldlat=30/P: 7ffdf1391b0c 10268100142 |OP LOAD|LVL L1 hit|… 7
//! command process/thread CPU seconds       period event                    address      source of the data              cycles
//! ```

use std::collections::BTreeSet;
use std::io::Write;

use super::{Complaint, Lines, Sink, hex, nanoseconds, tool};
use crate::trace::{Clock, Completeness, Definition, Event, Provenance, Sample, StreamId};

/// Events that say where the program was, but not what it accessed.
const WITHOUT_ADDRESS: &[&str] = &[
    "cpu-clock",
    "task-clock",
    "cycles",
    "instructions",
    "branches",
    "branch-misses",
    "cache-references",
    "cache-misses",
    "context-switches",
    "cpu-cycles",
    "ref-cycles",
    "bus-cycles",
];

#[derive(Debug, Default)]
pub(super) struct Perf {
    threads: BTreeSet<u32>,
}

impl Lines for Perf {
    const EXPECTED: &'static str = "`perf script` of samples with data addresses (`perf mem record`)";

    fn provenance(&self) -> Provenance {
        Provenance {
            tool: tool("perf script"),
            clock: Clock::RealNs,
            common_clock: true,
            accesses: Completeness::Sampled(0),
            ..Provenance::default()
        }
    }

    fn line<W: Write>(&mut self, line: &str, into: &mut Sink<W>) -> Result<(), Complaint> {
        // Comments, and the lines of stacks, which are indented by tabs.
        if line.trim().is_empty() || line.starts_with('#') || line.starts_with('\t') {
            return Ok(());
        }
        let head = Head::parse(line)?;
        let (period, event, rest) = head.event()?;
        let name = event.split([':', '/']).find(|part| !part.is_empty() && !part.starts_with("cpu")).unwrap_or(event);
        if WITHOUT_ADDRESS.contains(&name) || WITHOUT_ADDRESS.contains(&event.split(':').next().unwrap_or(event)) {
            return Err(Complaint::Refused(format!(
                "samples of `{event}` say which code ran, not which memory it accessed: record with `perf mem record`, on a \
                 machine whose processor samples data addresses (PEBS, IBS or SPE)"
            )));
        }
        let sample = sample(period, event, rest)?;
        let at = head.at;
        if sample.address == 0 {
            return Err(Complaint::bad("the sample has no data address"));
        }
        if self.threads.insert(head.thread) {
            let name = head.command.to_owned();
            into.define(&Definition::Stream { id: StreamId(head.thread), os_id: head.thread, name })?;
        }
        Ok(into.event(StreamId(head.thread), Event::Sample(Sample { at, ..sample }))?)
    }
}

/// What each line begins with.
pub(super) struct Head<'a> {
    command: &'a str,
    pub(super) thread: u32,
    /// Nanoseconds.
    pub(super) at: u64,
    pub(super) rest: &'a str,
}

impl<'a> Head<'a> {
    /// The command may hold spaces: what is certain is the time, `seconds.fraction:`.
    pub(super) fn parse(line: &'a str) -> Result<Self, Complaint> {
        let bad = |what| Complaint::bad(format!("{what}; expected `COMMAND PID/TID [CPU] SECONDS: …`"));
        let words = words(line);
        let (time, at) = words
            .iter()
            .enumerate()
            .find_map(|(index, word)| {
                let text = word.strip_suffix(':')?;
                text.contains('.').then_some(())?;
                Some((index, nanoseconds(text)?))
            })
            .ok_or_else(|| bad("there is no time"))?;
        let mut before = &words[..time];
        // The CPU, and the flags of the kernel's own trace buffer.
        while let Some((last, front)) = before.split_last()
            && thread(last).is_none()
            && !front.is_empty()
        {
            before = front;
        }
        let (last, command) = before.split_last().ok_or_else(|| bad("there is no thread"))?;
        let thread = thread(last).ok_or_else(|| bad("there is no thread"))?;
        let command = match (command.first(), command.last()) {
            (Some(first), Some(last)) => &line[offset(line, first)..offset(line, last) + last.len()],
            // `kdamond.0-1234`, as the kernel's trace buffer has it.
            _ => last.rsplit_once('-').map_or("", |(command, _)| command),
        };
        let rest = &line[offset(line, words[time]) + words[time].len()..];
        Ok(Self { command, thread, at, rest })
    }

    /// The period (1 if it is not shown), the event and what follows it.
    pub(super) fn event(&self) -> Result<(u64, &'a str, &'a str), Complaint> {
        let words = words(self.rest);
        let bad = || Complaint::bad("there is no event behind the time");
        let (period, name) = match words.first().ok_or_else(bad)?.parse() {
            Ok(period) => (period, *words.get(1).ok_or_else(bad)?),
            Err(_) => (1, words[0]),
        };
        let event = name.strip_suffix(':').ok_or_else(bad)?;
        Ok((period, event, &self.rest[offset(self.rest, name) + name.len()..]))
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_ascii_whitespace().collect()
}

/// Where a word of `text` stands in it.
fn offset(text: &str, word: &str) -> usize {
    word.as_ptr().addr() - text.as_ptr().addr()
}

/// `TID`, `PID/TID` or `COMMAND-TID`.
fn thread(word: &str) -> Option<u32> {
    word.rsplit(['/', '-']).next()?.parse().ok()
}

/// The address and what is known about the access.
fn sample(period: u64, event: &str, rest: &str) -> Result<Sample, Complaint> {
    let bad = || {
        Complaint::bad(format!(
            "the sample of `{event}` has no data address: record with `perf mem record`, and do not leave `addr` out with -F"
        ))
    };
    let address = words(rest).first().and_then(|word| hex(word)).ok_or_else(bad)?;
    // The source of the data is told between bars, and what follows the last one is the weight.
    let (write, latency) = match rest.find("|OP ") {
        Some(at) => {
            let (operation, behind) = rest[at + 4..].split_once('|').unwrap_or((&rest[at + 4..], ""));
            let last = behind.rsplit('|').next().unwrap_or("");
            let latency = words(last).iter().rev().find_map(|word| word.parse().ok());
            (operation.contains("STORE"), latency.unwrap_or(0))
        }
        None => (event.contains("store"), 0),
    };
    Ok(Sample { at: 0, address, write, weight: period, latency_cycles: latency })
}
