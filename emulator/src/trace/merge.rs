//! The streams of a trace, put into one order.

use super::decode::Events;
use super::error::Error;
use super::file::{Place, ReadAt, Strictness, Trace};
use super::record::{Event, StreamId};

/// All events of a trace in the order of their times. See [`Trace::events`].
#[derive(Debug)]
pub struct Merged<'t, S> {
    trace: &'t Trace<S>,
    /// Each with an event to give; the least in time is found by looking at all, for there are few.
    lanes: Vec<Lane<'t>>,
    /// The lane that gave the last event, and the time until which it comes before all others.
    current: usize,
    until: u64,
    failed: Option<Error>,
    /// What was left out.
    damage: Vec<Error>,
}

#[derive(Debug)]
struct Lane<'t> {
    stream: StreamId,
    places: std::slice::Iter<'t, Place>,
    events: Option<Events<Vec<u8>>>,
    next: Option<Event>,
}

impl<'t, S: ReadAt> Merged<'t, S> {
    pub(super) fn new(trace: &'t Trace<S>) -> Self {
        let lanes = trace.places().iter().map(|(&stream, places)| Lane {
            stream,
            places: places.iter(),
            events: None,
            next: None,
        });
        let mut merged = Self { trace, lanes: lanes.collect(), current: 0, until: 0, failed: None, damage: Vec::new() };
        for lane in 0..merged.lanes.len() {
            merged.refill(lane);
        }
        merged.lanes.retain(|lane| lane.next.is_some());
        merged.choose();
        merged
    }

    /// What was left out so far (only where damage is salvaged).
    pub fn damage(&self) -> &[Error] {
        &self.damage
    }

    /// Gives a lane its next event, from its next block if need be.
    fn refill(&mut self, lane: usize) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        loop {
            let mut bytes = Vec::new();
            if let Some(events) = &mut lane.events {
                lane.next = events.advance();
                if lane.next.is_some() {
                    return;
                }
                let ended = events.finish();
                if let Err(error) = ended {
                    self.damage.push(error);
                    if self.trace.strictness() == Strictness::Strict {
                        self.failed = self.damage.pop();
                        return;
                    }
                }
                bytes = lane.events.take().map(Events::into_bytes).unwrap_or_default();
            }
            let Some(place) = lane.places.next() else { return };
            match self.trace.read_events(place, bytes) {
                Ok(events) => lane.events = Some(events),
                Err(error) if self.trace.strictness() == Strictness::Salvage && !error.is_io() => {
                    self.damage.push(error);
                }
                Err(error) => {
                    self.failed = Some(error);
                    return;
                }
            }
        }
    }

    /// Finds the lane whose event is the first, and until when it stays the first.
    fn choose(&mut self) {
        let at = |lane: &Lane<'_>| lane.next.as_ref().map_or(u64::MAX, Event::at);
        let first = self.lanes.iter().enumerate().min_by_key(|(_, lane)| (at(lane), lane.stream));
        self.current = first.map_or(0, |(index, _)| index);
        let others = self.lanes.iter().enumerate().filter(|&(index, _)| index != self.current);
        // Of an equal time, the one with the lower number goes first; the current one is looked at again then.
        self.until = others.map(|(_, lane)| at(lane)).min().unwrap_or(u64::MAX);
    }
}

impl<S: ReadAt> Iterator for Merged<'_, S> {
    type Item = Result<(StreamId, Event), Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            self.lanes.clear();
            return Some(Err(error));
        }
        let lane = self.lanes.get_mut(self.current)?;
        let (stream, event) = (lane.stream, lane.next.take()?);
        // The frequent case in line: the block goes on.
        lane.next = lane.events.as_mut().and_then(Events::advance);
        if lane.next.is_none() {
            self.refill(self.current);
        }
        match self.lanes.get(self.current).and_then(|lane| lane.next.as_ref()) {
            Some(next) if next.at() < self.until => {}
            Some(_) => self.choose(),
            None => {
                if self.failed.is_none() {
                    self.lanes.remove(self.current);
                }
                self.choose();
            }
        }
        Some(Ok((stream, event)))
    }
}
