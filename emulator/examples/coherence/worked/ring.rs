//! A message ring: several hosts send, one receives, over memory without coherence and a few coherent words.
//!
//! ```text
//!  0       64        128       192              320              448
//!  | claim | turn 0  | turn 1  | slot 0         | slot 1         |
//!  |<-------- coherent ------->|<-------- not coherent --------->|
//! ```
//!
//! Ticket `t` belongs to slot `t % SLOTS` (after Vyukov's bounded queue). The slot's turn says what may happen to it: it
//! is `t` when the sender with that ticket may fill it, and `t + 1` when the receiver may empty it. Payloads have to be
//! moved by hand: the sender writes them back before it passes the turn on, the receiver drops what it has of them
//! before it looks. The receiver wipes a slot before it passes it on: messages leave nothing behind.

use std::ops::Range;

use tiermem_emulator::coherence::{Detector, FindingKind, Host, Scenario};

use super::{LINE, Steps};

/// A step of the protocol that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Claims a ticket by compare-and-exchange, not by a load and a store.
    ClaimAtomically,
    /// Waits until the slot has been emptied.
    WaitForTurn,
    /// Writes the payload back.
    CleanPayload,
    /// Writes all lines of it back, not only the first.
    CleanEveryLine,
    /// Waits until it is written back.
    FenceAfterClean,
    /// Passes the turn on after that, not before.
    PassTurnLast,
    /// Drops the receiver's own copy of the slot.
    Invalidate,
    /// Drops it after the turn has come, not before.
    InvalidateAfterTurn,
    /// Empties the slot before it passes it on, not after.
    EmptyBeforePassing,
    /// Writes the wiped slot back.
    CleanWipe,
}

impl Steps for Step {
    const ALL: &'static [Self] = &[
        Self::ClaimAtomically,
        Self::WaitForTurn,
        Self::CleanPayload,
        Self::CleanEveryLine,
        Self::FenceAfterClean,
        Self::PassTurnLast,
        Self::Invalidate,
        Self::InvalidateAfterTurn,
        Self::EmptyBeforePassing,
        Self::CleanWipe,
    ];

    fn expected(self) -> &'static [FindingKind] {
        use Detector::{
            DoubleAllocation, PlaintextAfterErase, PublishBeforeFlush, StaleRead, TornPublish, WriteBackOverNewer,
        };
        use FindingKind::{Detected, Panic, Stuck};
        match self {
            Self::ClaimAtomically => &[Detected(DoubleAllocation)],
            Self::WaitForTurn => &[Detected(DoubleAllocation), Stuck],
            Self::CleanPayload | Self::CleanEveryLine | Self::FenceAfterClean | Self::PassTurnLast => {
                &[Detected(PublishBeforeFlush)]
            }
            Self::Invalidate | Self::InvalidateAfterTurn => &[Detected(StaleRead), Detected(TornPublish)],
            Self::CleanWipe => &[Detected(PlaintextAfterErase)],
            // The next sender and the receiver are in the slot at the same time.
            Self::EmptyBeforePassing => {
                &[Detected(TornPublish), Detected(WriteBackOverNewer), Detected(PlaintextAfterErase), Panic]
            }
        }
    }

    fn scenario(left_out: Option<Self>, scenario: &mut Scenario) {
        let ring = Ring { left_out };
        scenario.pool(FIRST_SLOT + SLOTS * MESSAGE as u64).coherent(0..FIRST_SLOT).label(CLAIM..CLAIM + 8, "claim");
        for slot in 0..SLOTS {
            scenario.initial_u64(ring.turn(slot), slot);
            scenario.label(ring.turn(slot)..ring.turn(slot) + 8, format_args!("turn {slot}"));
            scenario.label(ring.slot(slot), format_args!("slot {slot}"));
        }
        for (sender, name) in (1..).zip(["alice", "bob"]) {
            scenario.host(name, move |host| {
                for number in 0..SENT {
                    ring.send(host, &[sender * 16 + number; MESSAGE]);
                }
            });
        }
        scenario.host("receiver", move |host| {
            let mut next = [0; 3];
            for ticket in 0..2 * u64::from(SENT) {
                let message = ring.receive(host, ticket);
                assert!(message.iter().all(|byte| *byte == message[0]), "a mixture of messages: {message:?}");
                let (sender, number) = (usize::from(message[0] / 16), message[0] % 16);
                assert_eq!(number, next[sender], "of sender {sender}");
                next[sender] += 1;
            }
        });
    }
}

/// Bytes of a message: two lines.
const MESSAGE: usize = 128;
const SLOTS: u64 = 2;
/// Messages of each sender.
const SENT: u8 = 2;

/// The ring. All that it knows is in the pool.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    left_out: Option<Step>,
}

/// Where the next ticket stands.
const CLAIM: u64 = 0;
const FIRST_SLOT: u64 = LINE * (1 + SLOTS);

impl Ring {
    fn does(self, step: Step) -> bool {
        self.left_out != Some(step)
    }

    fn turn(self, ticket: u64) -> u64 {
        LINE * (1 + ticket % SLOTS)
    }

    fn slot(self, ticket: u64) -> Range<u64> {
        let start = FIRST_SLOT + ticket % SLOTS * MESSAGE as u64;
        start..start + MESSAGE as u64
    }

    /// Sends a message, once there is room for it.
    pub fn send(self, host: &Host<'_>, message: &[u8; MESSAGE]) {
        let ticket = self.claim(host);
        let slot = self.slot(ticket);
        host.allocated(slot.clone());
        host.store(slot.start, message);
        host.secret(slot.clone());
        let pass = || {
            host.publish(slot.clone());
            host.store_u64(self.turn(ticket), ticket + 1);
        };
        if !self.does(Step::PassTurnLast) {
            pass();
        }
        if self.does(Step::CleanPayload) {
            let end = if self.does(Step::CleanEveryLine) { slot.end } else { slot.start + LINE };
            host.clean(slot.start..end);
        }
        if self.does(Step::FenceAfterClean) {
            host.fence();
        }
        if self.does(Step::PassTurnLast) {
            pass();
        }
    }

    /// Takes the next ticket, once its slot is empty.
    fn claim(self, host: &Host<'_>) -> u64 {
        loop {
            let ticket = host.load_u64(CLAIM);
            if self.does(Step::WaitForTurn) && host.load_u64(self.turn(ticket)) != ticket {
                host.pause();
                continue;
            }
            if !self.does(Step::ClaimAtomically) {
                host.store_u64(CLAIM, ticket + 1);
                return ticket;
            }
            if host.compare_exchange(CLAIM, ticket, ticket + 1).is_ok() {
                return ticket;
            }
        }
    }

    /// Receives the message with this ticket, once it is there. One host only receives, one ticket after the other.
    pub fn receive(self, host: &Host<'_>, ticket: u64) -> [u8; MESSAGE] {
        let slot = self.slot(ticket);
        let invalidate = || {
            host.flush(slot.clone());
            host.fence();
        };
        if !self.does(Step::InvalidateAfterTurn) {
            invalidate();
        }
        while host.load_u64(self.turn(ticket)) != ticket + 1 {
            host.pause();
        }
        if self.does(Step::Invalidate) && self.does(Step::InvalidateAfterTurn) {
            invalidate();
        }
        let pass = || {
            host.freed(slot.clone());
            host.store_u64(self.turn(ticket), ticket + SLOTS);
        };
        if !self.does(Step::EmptyBeforePassing) {
            pass();
        }
        let mut message = [0; MESSAGE];
        host.load(slot.start, &mut message);
        self.wipe(host, slot.clone());
        if self.does(Step::EmptyBeforePassing) {
            pass();
        }
        message
    }

    fn wipe(self, host: &Host<'_>, slot: Range<u64>) {
        host.store(slot.start, &[0; MESSAGE]);
        if self.does(Step::CleanWipe) {
            host.clean(slot.clone());
            host.fence();
        }
        host.erased(slot);
    }
}
