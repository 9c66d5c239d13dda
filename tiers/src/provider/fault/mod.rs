//! A tier on which things go wrong, on purpose: a provider around another one.
//!
//! A [`Script`] says what goes wrong and when; the same script and the same operations give the same faults. Whoever uses
//! the tier sees what the interface promises for broken hardware, and nothing else:
//!
//! | fault | through the provider | loads and stores | the tier |
//! |---|---|---|---|
//! | poison | `Poisoned`, at the first bad byte; what comes before it is copied | SIGBUS in that OS page (grain `os-page`) | `Degraded`; the granule is set aside |
//! | remove, reset | `Gone`; after its return only what was held before | SIGBUS in all that was held | `Failed` until its return |
//! | link down | `Gone` while it lasts | SIGSEGV while it lasts | `Failed` while it lasts |
//! | shrink, full | `reserve` answers `Full` | nothing | capacity follows |
//! | I/O error | `System` with `EIO` | nothing | nothing |
//! | slow | nothing | nothing | models in virtual time take that much longer ([`Faulty::slowdown`]) |
//! | crash | the process is killed | | |

mod armed;
mod hand;
pub mod kept;
mod provider;
mod script;
mod state;

use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use tiermem_sys::{Errno, clock, file, process};

use super::backing_file::BackingFile;
use super::{Provider, check};
use crate::{Bytes, Error, ErrorKind, Extent, GRANULE};
use armed::InForce;
use hand::Hand;
use kept::Kept;
pub use script::{Fault, FaultKind, Grain, LINE, Lasts, Script, ScriptError, Trigger, lasts_default, times_default};
pub use state::Happened;
use state::{Range, State};

/// Where the time of a [`Faulty`] tier comes from.
#[derive(Debug)]
pub enum Clock {
    /// [`Faulty::advance_to`] sets it; it begins at 0.
    Virtual,
    /// The system's clock, from the opening of the tier on.
    Wall,
}

/// A tier with faults. With an empty script it is the tier itself.
pub struct Faulty {
    inner: Box<dyn Provider>,
    state: Lock<State>,
    empty: Option<BackingFile>,
    clock: Clock,
    /// The virtual time, or when the tier was opened on the system's clock; nanoseconds.
    time_ns: AtomicU64,
    /// Bits of the factor.
    slowdown: AtomicU64,
    events: AtomicU32,
    /// The lock of `state` is held around a fork.
    forking: AtomicBool,
}

impl Faulty {
    /// Wraps a tier. What the script says about others is left out.
    ///
    /// # Errors
    /// As memfd_create(2): an addressable tier needs a file that stays empty.
    pub fn new(inner: Box<dyn Provider>, script: &Script, clock: Clock) -> Result<Self, Error> {
        Self::with_kept(inner, script, None, clock)
    }

    /// As [`new`](Self::new), with a second script, the one that is kept beside the tier. It counts operations and time from
    /// when it comes into force here: at the opening, or if it is put there later, at the next operation, look
    /// ([`usage`](Provider::usage), [`health`](Provider::health)) or [`poll`](Self::poll). When another one takes its place,
    /// its faults end; what they have poisoned or lost stays so until it is released.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_kept(
        inner: Box<dyn Provider>,
        script: &Script,
        kept: Option<Kept>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let tier = inner.tier();
        let granules = (inner.usage().capacity.0 / GRANULE.0) as usize;
        let state = State::new(script, tier.name, granules, kept);
        let system = |errno| check::system(tier, "memfd_create", errno, Bytes::ZERO);
        let empty = match inner.addressable() {
            Some(_) => {
                let fd = file::memory_file(c"tiermem-fault").map_err(system)?;
                file::set_size(fd.as_fd(), 0).map_err(system)?;
                Some(BackingFile::new(fd, None, false).map_err(system)?)
            }
            None => None,
        };
        let time_ns = AtomicU64::new(match clock {
            Clock::Virtual => 0,
            Clock::Wall => clock::monotonic_ns(),
        });
        let slowdown = AtomicU64::new(1f64.to_bits());
        let (events, forking) = (AtomicU32::new(0), AtomicBool::new(false));
        Ok(Self { inner, state: Lock::new(state), empty, clock, time_ns, slowdown, events, forking })
    }

    /// Sets the virtual time, nanoseconds; it never goes back. What is due by then happens now. Without effect under
    /// [`Clock::Wall`].
    pub fn advance_to(&self, ns: u64) {
        if matches!(self.clock, Clock::Virtual) {
            // Relaxed: a number; what it brings is ordered by the lock.
            self.time_ns.fetch_max(ns, Ordering::Relaxed);
        }
        self.poll();
    }

    /// Brings what time has made due, and says whether time alone can bring or end anything more. Under [`Clock::Wall`]
    /// somebody calls this now and then: operations on a tier may be rare.
    pub fn poll(&self) -> bool {
        let mut state = self.state.lock();
        let in_force = self.look(&mut state, false);
        self.note(&state, in_force);
        state.waits_for_time()
    }

    /// [Polls](Self::poll), and says after how long to do so again: soon while a fault waits for time, later where a script is kept
    /// beside the tier, empty or not, because another one may come; `None` where nothing can come by itself.
    pub fn poll_again_in(&self) -> Option<Duration> {
        const TIME_MOVES: Duration = Duration::from_millis(2);
        const SCRIPT_MAY_CHANGE: Duration = Duration::from_millis(100);
        let waits_for_time = self.poll();
        if waits_for_time { Some(TIME_MOVES) } else { self.state.lock().has_kept().then_some(SCRIPT_MAY_CHANGE) }
    }

    /// By how much the tier is slower now; 1 if it is not. For models: the tier itself does not wait.
    pub fn slowdown(&self) -> f64 {
        // Relaxed: a figure.
        f64::from_bits(self.slowdown.load(Ordering::Relaxed))
    }

    /// What has happened, oldest first; the first 1024 of it.
    pub fn happened(&self) -> Vec<Happened> {
        self.state.lock().happened.clone()
    }

    /// How much has happened; cheap.
    pub fn happened_count(&self) -> u32 {
        // Relaxed: a figure.
        self.events.load(Ordering::Relaxed)
    }

    /// Faults that found nothing to hit (an extent that had been released), or no room for more.
    pub fn missed(&self) -> u64 {
        self.state.lock().missed
    }

    /// The tier inside.
    pub fn inner(&self) -> &dyn Provider {
        self.inner.as_ref()
    }

    fn now_ns(&self) -> u64 {
        // Relaxed: as in `advance_to`.
        let time_ns = self.time_ns.load(Ordering::Relaxed);
        match self.clock {
            Clock::Virtual => time_ns,
            Clock::Wall => clock::monotonic_ns().saturating_sub(time_ns),
        }
    }

    fn hand(&self) -> Hand<'_> {
        Hand { inner: self.inner.as_ref(), empty: self.empty.as_ref() }
    }

    /// Publishes what others ask for without the lock.
    fn note(&self, state: &State, in_force: InForce) {
        // Relaxed, both: a figure, and a counter that says only "look again".
        self.slowdown.store(in_force.factor.unwrap_or(1.0).to_bits(), Ordering::Relaxed);
        self.events.store(state.happened.len() as u32, Ordering::Relaxed);
    }

    /// Counts an operation; what is in force for it.
    fn operate(&self) -> InForce {
        let mut state = self.state.lock();
        let in_force = self.look(&mut state, true);
        self.note(&state, in_force);
        in_force
    }

    /// What is in force, without an operation.
    fn in_force(&self) -> InForce {
        self.look(&mut self.state.lock(), false)
    }

    /// Puts in force what is kept beside the tier, and brings what is due.
    fn look(&self, state: &mut State, is_operation: bool) -> InForce {
        let now_ns = self.now_ns();
        if let Err(why) = state.heed_kept(now_ns) {
            self.tell_of_damage(why);
        }
        let hand = self.hand();
        if is_operation { state.operate(now_ns, &hand) } else { state.bring(now_ns, false, &hand) }
    }

    /// On standard error, without allocating.
    #[cold]
    fn tell_of_damage(&self, why: &str) {
        let mut line = [0u8; 256];
        let mut rest = &mut line[..];
        let name = self.inner.tier().name;
        // A line that does not fit is cut.
        let _ = writeln!(
            rest,
            "tiermem: tier {name}: the fault plan of its emulated machine is damaged ({why}); what was in force stays, until \
             `tierctl emulate heal` or another plan"
        );
        let len = 256 - rest.len();
        process::say(&line[..len]);
    }

    fn error(&self, kind: ErrorKind) -> Error {
        check::error(self.inner.tier(), kind)
    }

    fn reserve_by(&self, len: Bytes, reserve: impl FnOnce() -> Result<Extent, Error>) -> Result<Extent, Error> {
        let in_force = self.operate();
        if in_force.gone {
            return Err(self.error(ErrorKind::Gone));
        }
        let full = self.error(ErrorKind::Full { wanted: len });
        let room = in_force.capacity.is_none_or(|capacity| {
            self.inner.usage().reserved.0.checked_add(len.0).is_some_and(|sum| sum <= capacity.0)
        });
        if !len.0.is_multiple_of(GRANULE.0) || len == Bytes::ZERO {
            return reserve();
        }
        if in_force.full || !room {
            return Err(full);
        }
        let extent = reserve()?;
        if self.state.lock().enter(&extent) {
            return Ok(extent);
        }
        self.inner.release(extent)?;
        Err(full)
    }

    /// Checks an access, and gives the number of bytes before the first poisoned one.
    fn admit(&self, extent: &Extent, offset: u64, len: usize, is_read: bool) -> Result<usize, Error> {
        check::range(self.inner.tier(), extent, offset, len)?;
        let in_force = self.operate();
        let range = self.state.lock().look(extent, offset, len as u64);
        if in_force.gone || range == Range::Lost {
            return Err(self.error(ErrorKind::Gone));
        }
        if if is_read { in_force.no_reads } else { in_force.no_writes } {
            let call = if is_read { "read" } else { "write" };
            return Err(self.error(ErrorKind::System { call }).with_os_code(Errno::EIO as i32));
        }
        Ok(match range {
            Range::Poisoned(first) => (first - offset) as usize,
            _ => len,
        })
    }

    fn poisoned(&self, extent: &Extent, offset: u64) -> Error {
        self.error(ErrorKind::Poisoned { extent: extent.offset(), offset })
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faulty")
            .field("tier", &self.inner.tier().name)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
