//! Known algorithms on a modelled machine: what they would take there.
//!
//! A [`Thread`] is a hardware thread with a clock of its own. It sends requests to whatever [`Serve`]s them and waits, or
//! does not: a load whose value the next step needs is waited for, others overlap as far as there are buffers for lines
//! on their way. [`Machine`] puts caches in front. [`run`] lets several threads go on together, always the one that is
//! furthest behind in time, so that what they share sees their requests in order.
//!
//! - [`probe`] is `tierctl probe` in virtual time: what a tier looks like from outside.
//! - [`kernel`] holds the algorithms of the predictions: pointer chase, stream, random updates, lookups in a B-tree, a
//!   key-value store with Zipf keys, breadth-first search.
//! - [`closed_form`] says what theory expects of them, where it does; [`predict`] puts both side by side.

pub mod closed_form;
pub mod kernel;
mod machine;
pub mod predict;
pub mod probe;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

pub use machine::{Machine, Placed};

use crate::model::{HostIndex, Request, Serve};
use crate::time::Time;

/// What a core can do at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Core {
    /// Lines that can be on their way at the same time.
    pub lines_in_flight: usize,
    /// Between two accesses that wait for nothing, nanoseconds.
    pub issue_ns: f64,
}

impl Default for Core {
    /// 16 lines, as Golden Cove has fill buffers (Intel, Architecture Day 2021), and an access each cycle at 3 GHz. The
    /// second level's prefetchers of a real core add to the 16 on streams.
    fn default() -> Self {
        Self { lines_in_flight: 16, issue_ns: 1.0 / 3.0 }
    }
}

/// A hardware thread.
#[derive(Clone, Debug)]
pub struct Thread {
    host: HostIndex,
    now: Time,
    issue: Time,
    limit: usize,
    /// When the lines on their way arrive, in the order in which they were asked for. A buffer is free again once its
    /// line and all earlier ones have arrived.
    in_flight: VecDeque<Time>,
}

impl Thread {
    /// An idle thread at time zero.
    pub fn new(host: HostIndex, core: Core) -> Self {
        let limit = core.lines_in_flight.max(1);
        let in_flight = VecDeque::with_capacity(limit);
        Self { host, now: Time::ZERO, issue: Time::from_ns(core.issue_ns), limit, in_flight }
    }

    /// Where it runs.
    pub const fn host(&self) -> HostIndex {
        self.host
    }

    /// What its clock shows.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Works for `time` without touching memory.
    pub fn compute(&mut self, time: Time) {
        self.now += time;
    }

    /// Does nothing until `time`, if that is still to come.
    pub fn wait_until(&mut self, time: Time) {
        self.now = self.now.max(time);
    }

    /// Sends a request as soon as a buffer is free, and goes on without waiting for the answer; says when it comes.
    #[inline]
    pub fn send(&mut self, memory: &mut impl Serve, request: Request) -> Time {
        if self.in_flight.len() == self.limit
            && let Some(oldest) = self.in_flight.pop_front()
        {
            self.wait_until(oldest);
        }
        let done = memory.serve(self.now, request);
        self.in_flight.push_back(done);
        self.now += self.issue;
        done
    }

    /// Sends a request and waits for the answer.
    #[inline]
    pub fn send_and_wait(&mut self, memory: &mut impl Serve, request: Request) {
        let done = memory.serve(self.now, request);
        self.wait_until(done);
    }

    /// Waits until nothing is on its way.
    pub fn drain(&mut self) {
        if let Some(last) = self.in_flight.drain(..).max() {
            self.wait_until(last);
        }
    }
}

/// Lets threads take turns, each turn to the one whose clock is furthest behind, of several the first. `step` does a
/// piece of work of thread `index` and says whether there is more.
pub fn run<W>(threads: &mut [(Thread, W)], mut step: impl FnMut(usize, &mut Thread, &mut W) -> bool) {
    let mut order: BinaryHeap<Reverse<(Time, usize)>> =
        threads.iter().enumerate().map(|(index, (thread, _))| Reverse((thread.now, index))).collect();
    while let Some(Reverse((_, index))) = order.pop() {
        let (thread, work) = &mut threads[index];
        if step(index, thread, work) {
            order.push(Reverse((thread.now, index)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Direction, TierIndex};

    /// Everything takes 100 ns.
    struct Constant;

    impl Serve for Constant {
        fn serve(&mut self, at: Time, _: Request) -> Time {
            at + Time::from_ns(100.0)
        }
    }

    fn request() -> Request {
        Request { host: HostIndex(0), tier: TierIndex(0), direction: Direction::Read, offset: 0, len: 64 }
    }

    #[test]
    fn as_many_overlap_as_there_are_buffers() {
        let core = Core { lines_in_flight: 10, issue_ns: 1.0 };
        let mut thread = Thread::new(HostIndex(0), core);
        for _ in 0..100 {
            thread.send(&mut Constant, request());
        }
        thread.drain();
        // Ten at a time: each of the ten rounds takes 100 ns, the first one's issues come on top of the last.
        assert_eq!(thread.now(), Time::from_ns(1009.0));
    }

    #[test]
    fn turns_go_to_the_thread_that_is_behind() {
        let mut threads: Vec<(Thread, u64)> =
            [3.0, 1.0].map(|_| Thread::new(HostIndex(0), Core::default())).into_iter().zip([3_u64, 1]).collect();
        let mut turns = Vec::new();
        run(&mut threads, |index, thread, pace| {
            turns.push(index);
            thread.compute(Time(*pace));
            turns.len() < 8
        });
        assert_eq!(turns, [0, 1, 1, 1, 0, 1, 1, 1, 0]);
    }
}
