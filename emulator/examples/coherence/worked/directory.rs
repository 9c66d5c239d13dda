//! A directory of one object with generations and leases: its owner publishes it, readers on other hosts find and read
//! it, and the owner reuses its memory only when nobody reads it any more, even if readers crash.
//!
//! ```text
//!  0        64        128       192            320
//!  | state  | lease 0 | lease 1 | body          |
//!  |<------- coherent --------->|<not coherent->|
//! ```
//!
//! The state is twice the generation, and one more while it may be read. A reader announces which generation it is
//! about to read in a word of its own, and then looks whether that is still the one (hazard pointers; Michael, IEEE TPDS
//! 2004); the owner takes the state back and then looks at these words. Each side stores and then loads what the other
//! stores, so a full fence has to stand in between on both: an atomic exchange on the owner's, a fence on the readers'.

use std::ops::Range;

use tiermem_emulator::coherence::{Detector, FindingKind, Host, Scenario};

use super::{LINE, Steps};

/// A step of the protocol that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The owner writes the body back before it publishes it.
    CleanBody,
    /// The owner waits until nobody has a lease before it reuses the memory.
    WaitForLeases,
    /// The owner writes the wiped body back.
    CleanWipe,
    /// A reader makes its lease visible before it looks again.
    FenceAfterLease,
    /// A reader looks again whether the generation is still there, once it has announced its lease.
    LookAgain,
    /// A reader drops its own copy of the body.
    Invalidate,
    /// A reader waits until it is dropped.
    FenceAfterInvalidate,
    /// A reader gives its lease back after it has read, not before.
    ReadBeforeRelease,
    /// A recovery ends the leases of those who crashed.
    RevokeLeases,
    /// A recovery leaves the leases of those who live alone.
    RevokeOnlyOfTheDead,
}

impl Steps for Step {
    const ALL: &'static [Self] = &[
        Self::CleanBody,
        Self::WaitForLeases,
        Self::CleanWipe,
        Self::FenceAfterLease,
        Self::LookAgain,
        Self::Invalidate,
        Self::FenceAfterInvalidate,
        Self::ReadBeforeRelease,
        Self::RevokeLeases,
        Self::RevokeOnlyOfTheDead,
    ];

    fn expected(self) -> &'static [FindingKind] {
        use Detector::{PlaintextAfterErase, PublishBeforeFlush, StaleRead, TornPublish, UseAfterEnd};
        use FindingKind::Detected;
        match self {
            Self::CleanBody => &[Detected(PublishBeforeFlush)],
            Self::CleanWipe => &[Detected(PlaintextAfterErase)],
            Self::Invalidate | Self::FenceAfterInvalidate => &[Detected(StaleRead), Detected(TornPublish)],
            Self::RevokeLeases => &[FindingKind::Stuck],
            _ => &[Detected(UseAfterEnd)],
        }
    }

    fn scenario(left_out: Option<Self>, scenario: &mut Scenario) {
        let directory = Directory { left_out };
        scenario.pool(BODY.end).coherent(STATE..BODY.start).label(STATE..STATE + 8, "state").label(BODY, "body");
        scenario.host("owner", move |host| {
            for generation in 1..=GENERATIONS {
                directory.publish(host, generation, &object(generation));
                directory.retire(host, generation);
            }
        });
        for (reader, name) in READERS.into_iter().enumerate() {
            let lease = directory.lease(reader);
            scenario.label(lease..lease + 8, format_args!("lease {reader}"));
            scenario.host_that_may_crash(name, move |host| {
                for _ in 0..2 {
                    if let Some((generation, body)) = directory.read(host, reader) {
                        assert_eq!(body, object(generation), "of generation {generation}");
                    }
                }
            });
        }
        scenario.recovery(move |host| directory.recover(host));
    }
}

/// Bytes of the object: two lines.
const SIZE: usize = 128;
const STATE: u64 = 0;
const BODY: Range<u64> = 3 * LINE..3 * LINE + SIZE as u64;
const READERS: [&str; 2] = ["reader", "other reader"];
const GENERATIONS: u64 = 2;

/// What the object says in this generation.
fn object(generation: u64) -> [u8; SIZE] {
    [u8::try_from(generation).unwrap_or(0); SIZE]
}

/// The directory. All that it knows is in the pool.
#[derive(Clone, Copy, Debug)]
pub struct Directory {
    left_out: Option<Step>,
}

impl Directory {
    fn does(self, step: Step) -> bool {
        self.left_out != Some(step)
    }

    fn lease(self, reader: usize) -> u64 {
        LINE * (1 + reader as u64)
    }

    /// The owner publishes a generation, after the one before has been retired.
    pub fn publish(self, host: &Host<'_>, generation: u64, body: &[u8; SIZE]) {
        host.lease_begin(BODY, generation);
        host.store(BODY.start, body);
        host.secret(BODY);
        if self.does(Step::CleanBody) {
            host.clean(BODY);
            host.fence();
        }
        host.publish(BODY);
        host.store_u64(STATE, 2 * generation + 1);
    }

    /// The owner takes a generation back; the body is wiped when this returns.
    pub fn retire(self, host: &Host<'_>, generation: u64) {
        host.swap(STATE, 2 * generation);
        let leased = || (0..READERS.len()).any(|reader| host.load_u64(self.lease(reader)) == generation);
        while self.does(Step::WaitForLeases) && leased() {
            host.pause();
        }
        host.lease_end(BODY, generation);
        host.not_using(BODY);
        host.store(BODY.start, &[0; SIZE]);
        if self.does(Step::CleanWipe) {
            host.clean(BODY);
            host.fence();
        }
        host.erased(BODY);
    }

    /// A reader reads what is published now: its generation, and what it says. Nothing, if nothing is published or it
    /// was taken back in this moment.
    pub fn read(self, host: &Host<'_>, reader: usize) -> Option<(u64, [u8; SIZE])> {
        let state = host.load_u64(STATE);
        if state.is_multiple_of(2) {
            return None;
        }
        let generation = state / 2;
        host.store_u64(self.lease(reader), generation);
        if self.does(Step::FenceAfterLease) {
            host.fence();
        }
        if self.does(Step::LookAgain) && host.load_u64(STATE) != state {
            host.store_u64(self.lease(reader), 0);
            return None;
        }
        host.using(BODY, generation);
        if !self.does(Step::ReadBeforeRelease) {
            host.store_u64(self.lease(reader), 0);
        }
        if self.does(Step::Invalidate) {
            host.flush(BODY);
        }
        if self.does(Step::FenceAfterInvalidate) {
            host.fence();
        }
        let mut body = [0; SIZE];
        host.load(BODY.start, &mut body);
        host.not_using(BODY);
        if self.does(Step::ReadBeforeRelease) {
            host.store_u64(self.lease(reader), 0);
        }
        Some((generation, body))
    }

    /// Ends the leases of readers that crashed.
    pub fn recover(self, host: &Host<'_>) {
        for (reader, name) in READERS.into_iter().enumerate() {
            let dead = host.has_crashed(name) || !self.does(Step::RevokeOnlyOfTheDead);
            if dead && self.does(Step::RevokeLeases) {
                host.store_u64(self.lease(reader), 0);
            }
        }
        host.fence();
    }
}
