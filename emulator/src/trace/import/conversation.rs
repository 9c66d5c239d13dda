//! Requests to a language model, one JSON object a line.

use std::io::Write;

use serde::Deserialize;

use super::{Complaint, Lines, Sink, tool};
use crate::trace::{Clock, Completeness, Event, KeyAction, KeyOperation, Provenance, StreamId};

#[derive(Debug)]
pub(super) struct Conversation {
    block_bytes: u64,
    requests: u64,
}

/// A line. Fields that are not needed may be missing, or others there.
#[derive(Debug, Deserialize)]
struct Request {
    /// Milliseconds since the beginning.
    timestamp: f64,
    /// The blocks of the prefix, in order.
    hash_ids: Vec<u64>,
}

impl Conversation {
    pub(super) fn new(block_bytes: u64) -> Self {
        Self { block_bytes, requests: 0 }
    }
}

impl Lines for Conversation {
    const EXPECTED: &'static str = "JSON objects with `timestamp` and `hash_ids`, one a line";

    fn provenance(&self) -> Provenance {
        Provenance {
            tool: tool("conversation"),
            clock: Clock::RealNs,
            common_clock: true,
            accesses: Completeness::Absent,
            notes: vec![format!("a key is a block of a prompt's prefix, taken to be {} bytes", self.block_bytes)],
            ..Provenance::default()
        }
    }

    fn line<W: Write>(&mut self, line: &str, into: &mut Sink<W>) -> Result<(), Complaint> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let request: Request = serde_json::from_str(line).map_err(|error| Complaint::bad(error.to_string()))?;
        if !(0.0..1e12).contains(&request.timestamp) {
            return Err(Complaint::bad(format!("a timestamp of {} ms", request.timestamp)));
        }
        self.requests += 1;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds, as checked above")]
        let at = (request.timestamp * 1e6).round() as u64;
        for key in request.hash_ids {
            let operation = KeyOperation {
                at,
                action: KeyAction::Get,
                key,
                size: self.block_bytes,
                tenant: 0,
                request: self.requests,
            };
            into.event(StreamId(0), Event::Key(operation))?;
        }
        Ok(())
    }
}
