//! valgrind's lackey: `valgrind --tool=lackey --trace-mem=yes --log-file=FILE PROGRAM`
//! (valgrind manual, *Lackey: an example tool*).
//!
//! ```text
//! I  04001090,3      an instruction: address, bytes
//!  L 1ffefff7f0,8    a load
//!  S 1ffefff7e8,8    a store
//!  M 0421c7cc,4      a load and a store of the same place
//! ```

use std::io::Write;

use super::{Complaint, Lines, Sink, hex, tool};
use crate::trace::{Access, Clock, Completeness, Event, Provenance, StreamId};

#[derive(Debug, Default)]
pub(super) struct Lackey {
    instructions: u64,
}

impl Lines for Lackey {
    const EXPECTED: &'static str =
        "lines like ` L 1ffefff7f0,8`, as `valgrind --tool=lackey --trace-mem=yes` prints them";

    fn provenance(&self) -> Provenance {
        Provenance {
            tool: tool("lackey"),
            clock: Clock::Instructions,
            common_clock: true,
            accesses: Completeness::Exact,
            notes: vec!["all threads in one stream, and no allocations: lackey tells neither".to_owned()],
            ..Provenance::default()
        }
    }

    fn line<W: Write>(&mut self, line: &str, into: &mut Sink<W>) -> Result<(), Complaint> {
        // Valgrind's own messages.
        if line.is_empty() || line.starts_with("==") || line.starts_with("--") {
            return Ok(());
        }
        let bad = || Complaint::bad(format!("`{line}` is no line of lackey's: `I`, ` L`, ` S` or ` M`, address,size"));
        let (kind, rest) = line.split_at_checked(3).ok_or_else(bad)?;
        let (address, len) = rest.split_once(',').ok_or_else(bad)?;
        let (address, len) = (hex(address).ok_or_else(bad)?, len.parse().map_err(|_| bad())?);
        let (load, store) = match kind {
            "I  " => {
                self.instructions += 1;
                return Ok(());
            }
            " L " => (true, false),
            " S " => (false, true),
            " M " => (true, true),
            _ => return Err(bad()),
        };
        for (_, write) in [(load, false), (store, true)].into_iter().filter(|(there, _)| *there) {
            let access = Access { at: self.instructions, address, len, write, dependent: false };
            into.event(StreamId(0), Event::Access(access))?;
        }
        Ok(())
    }
}
