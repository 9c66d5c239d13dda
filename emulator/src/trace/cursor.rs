//! One stream of a trace, block by block.

use super::StreamId;
use super::decode::Events;
use super::error::Error;
use super::file::{Place, ReadAt, Strictness, Trace};

/// The events of a block, and the time of the last one.
pub type BlockEvents = (Events<Vec<u8>>, u64);

/// The blocks of a stream, in order. See [`Trace::cursor`].
#[derive(Debug)]
pub struct Cursor<'t, S> {
    trace: &'t Trace<S>,
    places: std::slice::Iter<'t, Place>,
    damage: Vec<Error>,
}

impl<'t, S: ReadAt> Cursor<'t, S> {
    pub(super) fn new(trace: &'t Trace<S>, stream: StreamId) -> Self {
        let places = trace.places().get(&stream).map_or(&[][..], Vec::as_slice);
        Self { trace, places: places.iter(), damage: Vec::new() }
    }

    /// The events of the next block, and the time of the last one; `None` after the last block. `used` is what the block
    /// before was: its memory is used again, and if it was malformed this says so.
    ///
    /// # Errors
    /// If the block before was malformed, or this one cannot be read or is damaged; where damage is salvaged, such blocks
    /// are left out instead.
    pub fn next_block(&mut self, used: Option<Events<Vec<u8>>>) -> Result<Option<BlockEvents>, Error> {
        let mut bytes = Vec::new();
        if let Some(events) = used {
            events.finish().or_else(|error| self.excuse(error))?;
            bytes = events.into_bytes();
        }
        while let Some(place) = self.places.next() {
            match self.trace.read_events(place, std::mem::take(&mut bytes)) {
                Ok(events) => return Ok(Some((events, place.header.last))),
                Err(error) => self.excuse(error)?,
            }
        }
        Ok(None)
    }

    fn excuse(&mut self, error: Error) -> Result<(), Error> {
        if self.trace.strictness() == Strictness::Strict || error.is_io() {
            return Err(error);
        }
        self.damage.push(error);
        Ok(())
    }

    /// Takes what was left out so far.
    pub fn take_damage(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.damage)
    }
}
