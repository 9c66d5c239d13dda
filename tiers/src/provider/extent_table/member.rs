//! Members: taking a seat, forking, and telling whether a member still lives.

use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};

use tiermem_sys::sync::atomic::Ordering;
use tiermem_sys::{Result, file, process};

use super::format::{GROUPS, MEMBERS, Phase, Record, Seat, State};
use super::{Erase, ExtentTable, NO_SEAT, Thoroughness};

/// What names a program image in a process for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub pid: u32,
    pub pid_namespace: u32,
    pub start_time: u64,
    pub image: u64,
}

impl Identity {
    /// This process's.
    pub(super) fn own() -> Result<Self> {
        let pid = process::id();
        Ok(Self {
            pid,
            pid_namespace: process::pid_namespace()?,
            start_time: process::start_time(pid)?,
            image: process::image(),
        })
    }

    fn of(record: &Record) -> Self {
        // Relaxed: the Acquire of the state that was read before, and the second look at it after, order these.
        Self {
            pid: record.pid.load(Ordering::Relaxed),
            pid_namespace: record.pid_namespace.load(Ordering::Relaxed),
            start_time: record.start_time.load(Ordering::Relaxed),
            image: record.image.load(Ordering::Relaxed),
        }
    }

    fn write_to(self, record: &Record) {
        // Relaxed: published by the Release of the state.
        record.pid.store(self.pid, Ordering::Relaxed);
        record.pid_namespace.store(self.pid_namespace, Ordering::Relaxed);
        record.start_time.store(self.start_time, Ordering::Relaxed);
        record.image.store(self.image, Ordering::Relaxed);
    }
}

impl ExtentTable {
    /// This process's seat; takes one in an empty group at first.
    pub(super) fn ensure_seat(&self) -> Result<Seat> {
        if let Some(seat) = self.seat() {
            return Ok(seat);
        }
        let _seating = self.seating.lock();
        if let Some(seat) = self.seat() {
            return Ok(seat);
        }
        let seat = self.take_seat()?;
        self.seat.store(Seat::pack(Some(seat)), Ordering::Relaxed);
        Ok(seat)
    }

    fn take_seat(&self) -> Result<Seat> {
        let identity = Identity::own()?;
        for group in 0..GROUPS {
            let seat = Seat { group: group as u16, index: 0 };
            let Some(embryo) = self.conceive(seat)? else { continue };
            // No living member is in a group whose records are all free, so nobody can come in behind our back.
            let alone = self.group(group).records.iter().skip(1).all(|r| state(r).phase() == Phase::Free);
            if !alone {
                self.set_state(seat, Phase::Free);
                continue;
            }
            self.give_birth(seat, identity, embryo);
            return Ok(seat);
        }
        Err(NO_SEAT)
    }

    /// Claims a free record: locks its byte, so that the record counts as alive from the start, then marks it.
    fn conceive(&self, seat: Seat) -> Result<Option<OwnedFd>> {
        let record = self.record(seat);
        let before = state(record);
        if before.phase() != Phase::Free {
            return Ok(None);
        }
        let description = file::reopen(self.sidecar.fd()?)?;
        if file::try_lock_description(description.as_fd(), seat.lock_byte()).is_err() {
            return Ok(None);
        }
        // Relaxed: sweepers must look at this group from now on; they read it after the state they care for.
        self.live().groups_used.fetch_max(u32::from(seat.group) + 1, Ordering::AcqRel);
        let marked = record.state.compare_exchange(
            before.0,
            before.with(Phase::Embryo).0,
            // AcqRel: the lock is taken before the record says embryo.
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        Ok(marked.is_ok().then_some(description))
    }

    /// Fills a claimed record in; only then the lock may go.
    fn give_birth(&self, seat: Seat, identity: Identity, embryo: OwnedFd) {
        identity.write_to(self.record(seat));
        self.set_state(seat, Phase::Live);
        drop(embryo);
    }

    fn set_state(&self, seat: Seat, phase: Phase) {
        let record = self.record(seat);
        let now = state(record);
        let next = if phase == Phase::Free { now.freed() } else { now.with(phase) };
        // Release pairs with the Acquire in `state`: what was written to the record is seen with it.
        record.state.store(next.0, Ordering::Release);
    }

    /// The seat of the child-to-be, claimed once per fork; `None` if all are taken.
    pub(super) fn ensure_embryo(&self, erase: Erase<'_>) -> Option<Seat> {
        if let Some(embryo) = Seat::unpack(self.embryo.load(Ordering::Relaxed)) {
            return Some(embryo);
        }
        let group = self.seat()?.group;
        let (seat, description) = self.free_seat_in(group).or_else(|| {
            // Children that ended leave their seats behind.
            self.sweep(Thoroughness::Full, erase);
            self.free_seat_in(group)
        })?;
        // Relaxed: only the forking thread uses them.
        self.embryo_fd.store(description.into_raw_fd(), Ordering::Relaxed);
        self.embryo.store(Seat::pack(Some(seat)), Ordering::Relaxed);
        Some(seat)
    }

    fn free_seat_in(&self, group: u16) -> Option<(Seat, OwnedFd)> {
        (0..MEMBERS as u8).find_map(|index| {
            let seat = Seat { group, index };
            Some((seat, self.conceive(seat).ok()??))
        })
    }

    /// To be called on both sides of a fork.
    pub(in crate::provider) fn after_fork(&self, child: bool) {
        // Relaxed: the forking thread, in the parent and as its copy in the child.
        let embryo = Seat::unpack(self.embryo.swap(Seat::pack(None), Ordering::Relaxed));
        let fd = self.embryo_fd.swap(-1, Ordering::Relaxed);
        // SAFETY: `ensure_embryo` left us the descriptor, and after a fork each side has its own.
        let description = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) });
        if !child {
            return; // Closing our copy leaves the lock to the child, or ends it if there is none.
        }
        if self.seating.try_lock().is_none() {
            // SAFETY: the thread that held it does not exist in the child.
            unsafe { self.seating.release() };
        }
        let born = match (embryo, description, Identity::own()) {
            (Some(seat), Some(description), Ok(identity)) => {
                self.give_birth(seat, identity, description);
                Some(seat)
            }
            (Some(_), Some(description), Err(_)) => {
                // Without /proc nobody can tell that we live except by the lock: keep it for good.
                let _ = description.into_raw_fd();
                embryo
            }
            // Never the parent's seat. A new one is taken when there is something to reserve.
            _ => None,
        };
        self.seat.store(Seat::pack(born), Ordering::Relaxed);
    }

    /// Gives the seat back if nothing is held through it.
    pub(super) fn leave(&self) {
        let Some(seat) = self.seat() else { return };
        let holds = (0..self.granules).any(|granule| self.load(granule).is_held_by(seat));
        if !holds {
            self.seat.store(Seat::pack(None), Ordering::Relaxed);
            self.set_state(seat, Phase::Free);
        }
    }

    /// Whether the member in this seat is certainly dead, given what we are.
    pub(super) fn is_dead(&self, seat: Seat, own: Identity, thoroughness: Thoroughness) -> bool {
        let record = self.record(seat);
        let before = state(record);
        let dead = match before.phase() {
            Phase::Free => return false,
            Phase::Embryo => {
                self.sidecar.fd().and_then(|fd| file::is_locked_elsewhere(fd, seat.lock_byte())) == Ok(false)
            }
            Phase::Live => self.is_identity_dead(Identity::of(record), own, thoroughness),
        };
        // An embryo that was born meanwhile, or a record that changed under our eyes, is none of our business.
        dead && state(record) == before
    }

    fn is_identity_dead(&self, it: Identity, own: Identity, thoroughness: Thoroughness) -> bool {
        if it.pid_namespace != own.pid_namespace {
            return false; // Its number means nothing here.
        }
        if it.pid == own.pid {
            // An earlier process with our number, or what this process was before exec.
            return (it.start_time, it.image) != (own.start_time, own.image);
        }
        if !process::exists(it.pid) {
            return true;
        }
        match process::start_time(it.pid) {
            Ok(start_time) if start_time != it.start_time => true,
            Ok(_) if thoroughness == Thoroughness::Full && self.maps_tell => {
                // A member maps the sidecar from before its birth until it ends or becomes another program.
                process::maps_file(it.pid, self.sidecar.identity()) == Ok(false)
            }
            _ => false,
        }
    }
}

pub(super) fn state(record: &Record) -> State {
    // Acquire pairs with the Release in `set_state`.
    State(record.state.load(Ordering::Acquire))
}
