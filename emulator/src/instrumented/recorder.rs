//! Writes what an instrumented program does to a trace, for replay.
//!
//! Times are the order in which batches came: within a thread that is the program's order, between threads it is known to a
//! batch. An access is marked as dependent where its address is the value of the thread's last load of eight bytes, or up
//! to an OS page behind it.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;

use super::ThreadIndex;
use super::record::{self, EVENT, LOAD_OF_WORD, RANGE, Record, STORE};
use super::report::ModuleReport;
use super::space::OS_PAGE;
use crate::trace::{
    Access, Allocate, Clock, Completeness, Definition, Event, Frame, Free, Provenance, Site, SiteId, StreamId, TierTag,
    Writer,
};

/// A trace that is being written.
#[derive(Debug)]
pub struct Recorder {
    writer: Writer<File>,
    at: u64,
    /// By thread: what it loaded last.
    loaded: Vec<u64>,
    sites: HashSet<u32>,
}

impl Recorder {
    /// Begins a trace; replaces the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path, command: &[String], pid: u32) -> io::Result<Self> {
        let from = Provenance {
            tool: concat!("tierctl instrument ", env!("CARGO_PKG_VERSION")).to_owned(),
            command: command.join(" "),
            pid,
            clock: Clock::Order,
            common_clock: true,
            accesses: Completeness::Exact,
            allocations: Completeness::Exact,
            ..Provenance::default()
        };
        let writer = Writer::new(File::create(path)?, &from)?;
        Ok(Self { writer, at: 0, loaded: Vec::new(), sites: HashSet::new() })
    }

    /// What a thread did. `frames` gives the return addresses of a site.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn batch(
        &mut self,
        thread: ThreadIndex,
        records: &[Record],
        values: &[u64],
        frames: impl Fn(u32) -> Vec<u64>,
    ) -> io::Result<()> {
        let index = thread.0 as usize;
        if self.loaded.len() <= index {
            self.loaded.resize(index + 1, 0);
        }
        for (&packed, &value) in records.iter().zip(values) {
            self.at += 1;
            let event = self.event(index, packed, value);
            if let Event::Allocate(allocate) = event {
                self.define(allocate.site, &frames)?;
            }
            self.writer.event(StreamId(thread.0), &event)?;
        }
        Ok(())
    }

    fn event(&mut self, thread: usize, packed: Record, value: u64) -> Event {
        let (at, address) = (self.at, record::address(packed));
        let write = packed & STORE != 0;
        if packed & EVENT != 0 {
            if !write {
                return Event::Free(Free { at, address });
            }
            let (size, site) = record::block(value);
            return Event::Allocate(Allocate { at, site: SiteId(site + 1), address, size, tier: TierTag::UNKNOWN });
        }
        let loaded = self.loaded[thread];
        let dependent = loaded != 0 && address.wrapping_sub(loaded) < OS_PAGE;
        // A range of over 4 GiB counts as one of 4 GiB.
        let len = if packed & RANGE == 0 { record::size(packed) } else { value };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        if !write {
            self.loaded[thread] = if packed >> record::ADDRESS_BITS == LOAD_OF_WORD { value } else { 0 };
        }
        Event::Access(Access { at, address, len, write, dependent })
    }

    fn define(&mut self, id: SiteId, frames: &impl Fn(u32) -> Vec<u64>) -> io::Result<()> {
        if !self.sites.insert(id.0) {
            return Ok(());
        }
        let frames = frames(id.0 - 1).into_iter().map(Frame::Address).collect();
        self.writer.define(&Definition::Site(Site { id, frames }))
    }

    /// Writes the end.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self, modules: &[ModuleReport]) -> io::Result<()> {
        for module in modules {
            self.writer.define(&Definition::Module {
                start: module.start,
                end: module.end,
                offset: module.file_offset,
                path: module.path.clone(),
            })?;
        }
        self.writer.finish().map(drop)
    }
}
