//! Negative controls: each of these providers breaks one clause of the contract, and the suite names a check for it.

// UNSAFETY: implements the unsafe part of a provider's interface.
#![expect(unsafe_code, reason = "implements the unsafe part of a provider's interface")]

use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use tiermem_tiers::{
    Access, Addressable, Bytes, Error, ErrorKind, Extent, ForkPlan, GRANULE, Health, Provenance, Provider, Tier, Usage,
};

use super::{alone, conformance, failures, open};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breach {
    None,
    DirtyExtents,
    LosesLastByte,
    RoundsLengths,
    IgnoresBounds,
    KeepsReleased,
    PromisesTooMuch,
    HandsOutTwice,
    SharesAfterFork,
    ForgetsChildren,
    UnmapsReservations,
}

struct Broken {
    inner: Box<dyn Provider>,
    breach: Breach,
    last: Mutex<Option<(u64, usize)>>,
}

impl Broken {
    fn addressable_inner(&self) -> &dyn Addressable {
        self.inner.addressable().expect("the controls wrap an addressable tier")
    }
}

impl Provider for Broken {
    fn tier(&self) -> &Tier {
        self.inner.tier()
    }

    fn access(&self) -> Access {
        self.inner.access()
    }

    fn usage(&self) -> Usage {
        let mut usage = self.inner.usage();
        if self.breach == Breach::PromisesTooMuch {
            usage.capacity.0 += GRANULE.0;
        }
        usage
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn reserve(&self, len: Bytes, provenance: Provenance) -> Result<Extent, Error> {
        let rounded = Bytes(len.0.saturating_add(GRANULE.0 - 1) / GRANULE.0 * GRANULE.0);
        let len = if self.breach == Breach::RoundsLengths { rounded } else { len };
        let extent = self.inner.reserve(len, provenance)?;
        if self.breach == Breach::DirtyExtents {
            self.inner.write(&extent, extent.len().0 - 1, &[1])?;
        }
        if self.breach == Breach::HandsOutTwice && len == GRANULE {
            let this = (extent.offset(), extent.address().map_or(0, |at| at.as_ptr().expose_provenance()));
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(this);
            if let Some((offset, at)) = last {
                let at = NonNull::new(std::ptr::with_exposed_provenance_mut(at));
                return Ok(Extent::from_parts(extent.tier(), offset, len, at, provenance));
            }
        }
        Ok(extent)
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        match self.breach {
            Breach::KeepsReleased => Ok(()),
            Breach::UnmapsReservations => {
                let (at, len) = (extent.address(), extent.len().0 as usize);
                self.inner.release(extent)?;
                // SAFETY: the range of an extent that was given up.
                let _ = at.map(|at| unsafe { tiermem_sys::map::unmap(at, len) });
                Ok(())
            }
            _ => self.inner.release(extent),
        }
    }

    fn read(&self, extent: &Extent, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        match self.inner.read(extent, offset, into) {
            Err(error) if error.kind() == ErrorKind::OutOfRange && self.breach == Breach::IgnoresBounds => Ok(()),
            answer => answer,
        }
    }

    fn write(&self, extent: &Extent, offset: u64, from: &[u8]) -> Result<(), Error> {
        let kept = if self.breach == Breach::LosesLastByte { from.len().saturating_sub(1) } else { from.len() };
        self.inner.write(extent, offset, &from[..kept])
    }

    fn addressable(&self) -> Option<&dyn Addressable> {
        Some(self)
    }
}

impl Addressable for Broken {
    unsafe fn reserve_at(
        &self,
        at: NonNull<u8>,
        len: Bytes,
        exclusive: bool,
        provenance: Provenance,
    ) -> Result<Extent, Error> {
        // SAFETY: passed on to the caller.
        unsafe { self.addressable_inner().reserve_at(at, len, exclusive, provenance) }
    }

    fn can_purge(&self) -> bool {
        false
    }

    fn fork_plan(&self) -> ForkPlan {
        self.addressable_inner().fork_plan()
    }

    fn before_fork(&self, extent: &Extent) -> Result<(), Error> {
        match self.breach {
            Breach::SharesAfterFork => Ok(()),
            _ => self.addressable_inner().before_fork(extent),
        }
    }

    fn after_fork(&self, child: bool) {
        // Without this call the child goes on in the parent's name.
        if !(child && self.breach == Breach::ForgetsChildren) {
            self.addressable_inner().after_fork(child);
        }
    }
}

fn broken(breach: Breach) -> Broken {
    Broken { inner: open("broken=dax-file:memfd,size=8M"), breach, last: Mutex::new(None) }
}

#[test]
fn the_wrapper_itself_breaks_nothing() {
    let _alone = alone();
    assert_eq!(failures(&broken(Breach::None)), [""; 0]);
}

#[test]
fn each_breach_is_caught() {
    let _alone = alone();
    let expected = [
        (Breach::DirtyExtents, "new-extents-are-zeroed"),
        (Breach::LosesLastByte, "reads-back"),
        (Breach::RoundsLengths, "bad-length-is-unsuitable"),
        (Breach::IgnoresBounds, "out-of-range-is-an-error"),
        (Breach::KeepsReleased, "usage-follows"),
        (Breach::PromisesTooMuch, "full-is-full-and-no-signal"),
        (Breach::HandsOutTwice, "extents-do-not-share-bytes"),
        (Breach::SharesAfterFork, "fork-isolates"),
        (Breach::SharesAfterFork, "fork-loses-no-write"),
        (Breach::SharesAfterFork, "snapshot-outlives-its-maker"),
        (Breach::ForgetsChildren, "the-dead-give-back"),
        (Breach::UnmapsReservations, "reserve-at-and-release"),
    ];
    for (breach, check) in expected {
        let outcome = conformance::check(&broken(breach), check).expect("a check of this name");
        let why = outcome.expect_err(&format!("{breach:?} is not caught by {check}"));
        eprintln!("{check} has caught {breach:?}: {why}");
    }
}
