//! The streams of a trace, put into one order.

use super::cursor::Cursor;
use super::decode::Events;
use super::error::Error;
use super::file::{ReadAt, Trace};
use super::{Event, StreamId};

/// All events of a trace in the order of their times. See [`Trace::events`].
#[derive(Debug)]
pub struct Merged<'t, S> {
    /// Each with an event to give; the first in time is found by looking at all, for there are few.
    lanes: Vec<Lane<'t, S>>,
    /// The lane that gave the last event, and the time before which it need not be compared with the others.
    current: usize,
    until: u64,
    failed: Option<Error>,
    /// What was left out.
    damage: Vec<Error>,
}

#[derive(Debug)]
struct Lane<'t, S> {
    stream: StreamId,
    cursor: Cursor<'t, S>,
    events: Option<Events<Vec<u8>>>,
    next: Option<Event>,
}

impl<'t, S: ReadAt> Merged<'t, S> {
    pub(super) fn new(trace: &'t Trace<S>) -> Self {
        let lanes =
            trace.streams().map(|(stream, ..)| Lane { stream, cursor: trace.cursor(stream), events: None, next: None });
        let lanes = lanes.collect();
        let mut merged = Self { lanes, current: 0, until: 0, failed: None, damage: Vec::new() };
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
            lane.next = lane.events.as_mut().and_then(Events::advance);
            if lane.next.is_some() {
                return;
            }
            let block = lane.cursor.next_block(lane.events.take());
            self.damage.extend(lane.cursor.take_damage());
            match block {
                Ok(Some((events, _))) => lane.events = Some(events),
                Ok(None) => return,
                Err(error) => {
                    self.failed = Some(error);
                    return;
                }
            }
        }
    }

    /// Finds the lane whose event is the first, and until when it stays the first.
    fn choose(&mut self) {
        let at = |lane: &Lane<'_, S>| lane.next.as_ref().map_or(u64::MAX, Event::at);
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
