//! Copies of values, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Config, Place};
use crate::model::{Direction, HostIndex, Request, Serve, TierIndex};
use crate::time::Time;

/// Values are copied in pieces of so many bytes: one command of an NVMe drive at most (drives tell theirs as MDTS; 1 MiB is common).
pub const PIECE: u64 = 1 << 20;

/// Very large values are copied in so many pieces: enough to keep the devices of an interleave set busy together.
pub const PIECES_MAX: u64 = 16;

/// A copy that nobody waits for: from a tier, to one, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Later {
    at: u64,
    /// Of those of one time, in the order of their causes.
    number: u64,
    from: Option<Span>,
    to: Option<Span>,
}

/// Part of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    tier: TierIndex,
    offset: u64,
    len: u64,
}

impl Span {
    fn pieces(self) -> impl Iterator<Item = Self> {
        // 32 bits are what a request can hold.
        let len = PIECE.max(self.len.div_ceil(PIECES_MAX)).min(1 << 31);
        let piece = move |at| Self { offset: self.offset + at, len: len.min(self.len - at), ..self };
        (0..self.len).step_by(len as usize).map(piece)
    }
}

/// The memory, and what is to be copied when its time has come: requests come to the models in the order of time.
#[derive(Debug)]
pub struct Traffic<M> {
    memory: M,
    host: HostIndex,
    tiers: Vec<TierIndex>,
    later: BinaryHeap<Reverse<Later>>,
    number: u64,
}

impl<M: Serve> Traffic<M> {
    pub fn new(memory: M, config: &Config) -> Self {
        let tiers = config.chain.iter().map(|shelf| shelf.tier).collect();
        Self { memory, host: config.host, tiers, later: BinaryHeap::new(), number: 0 }
    }

    fn span(&self, place: Place) -> Span {
        Span { tier: self.tiers[place.shelf], offset: place.offset, len: place.size }
    }

    fn serve(&mut self, at: u64, piece: Span, direction: Direction) -> u64 {
        let Span { tier, offset, len } = piece;
        // A piece is short.
        let request = Request { host: self.host, tier, direction, offset, len: len as u32 };
        self.memory.serve(Time(at), request).0
    }

    /// When a value that is asked for at `at` is there, picoseconds.
    pub fn copy_from(&mut self, place: Place, at: u64) -> u64 {
        self.span(place).pieces().map(|piece| self.serve(at, piece, Direction::Read)).max().unwrap_or(at)
    }

    /// When a value that is written from `at` on is there.
    pub fn copy_to(&mut self, place: Place, at: u64) -> u64 {
        self.span(place).pieces().map(|piece| self.serve(at, piece, Direction::Write)).max().unwrap_or(at)
    }

    /// Has a value copied from `at` on.
    pub fn later(&mut self, at: u64, from: Option<Place>, to: Option<Place>) {
        let (from, to) = (from.map(|from| self.span(from)), to.map(|to| self.span(to)));
        self.push(at, from, to);
    }

    fn push(&mut self, at: u64, from: Option<Span>, to: Option<Span>) {
        self.number += 1;
        self.later.push(Reverse(Later { at, number: self.number, from, to }));
    }

    /// Does what was to be done until `now`.
    pub fn catch_up(&mut self, now: u64) {
        while let Some(&Reverse(Later { at, from, to, .. })) = self.later.peek().filter(|later| later.0.at <= now) {
            self.later.pop();
            match (from, to) {
                // Each piece is written when it has been read.
                (Some(from), Some(to)) => {
                    for (from, to) in from.pieces().zip(to.pieces()) {
                        let read = self.serve(at, from, Direction::Read);
                        self.push(read, None, Some(to));
                    }
                }
                (Some(from), None) => from.pieces().for_each(|piece| _ = self.serve(at, piece, Direction::Read)),
                (None, Some(to)) => to.pieces().for_each(|piece| _ = self.serve(at, piece, Direction::Write)),
                (None, None) => {}
            }
        }
    }
}
