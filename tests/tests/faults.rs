//! Every tier keeps its promises when things go wrong, and broken ones do not.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tiermem_tests::conformance::{self, faults};
use tiermem_tiers::provider::fault::{Clock, Faulty, Script};
use tiermem_tiers::{
    Access, Bytes, Error, ErrorKind, Extent, GRANULE, Health, Provenance, Provider, Tier, TierId, Usage, provider,
};

/// As in `conformance.rs`: some checks fork.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(text: &str) -> Box<dyn Provider> {
    provider::open(&text.parse().expect("a SPEC"), TierId(1)).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn keeps_promises(spec: &str) {
    let mut failed = Vec::new();
    let subject = faults::Subject { open: &|| open(spec), around: &|faulty| Box::new(faulty) };
    faults::run(&subject, &mut |name, outcome| match outcome {
        Ok(None) => {}
        Ok(Some(why)) => eprintln!("passed over {name} on {spec}: {why}"),
        Err(why) => failed.push(format!("{name}: {why}")),
    });
    assert_eq!(failed, [""; 0], "{spec}");
}

#[test]
fn dram() {
    let _alone = alone();
    keeps_promises("t=dram,size=16M");
}

#[test]
fn memfd() {
    let _alone = alone();
    keeps_promises("t=dax-file:memfd,size=16M");
}

#[test]
fn file_on_tmpfs() {
    let _alone = alone();
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    // Each check begins with a new file: what one has set aside would be missing in the next.
    let count = std::cell::Cell::new(0);
    let opener = || {
        count.set(count.get() + 1);
        open(&format!("t=dax-file:{}/tier{},size=16M", folder.path().display(), count.get()))
    };
    let mut failed = Vec::new();
    let subject = faults::Subject { open: &opener, around: &|faulty| Box::new(faulty) };
    faults::run(&subject, &mut |name, outcome| failed.extend(outcome.err().map(|why| format!("{name}: {why}"))));
    assert_eq!(failed, [""; 0]);
}

#[test]
fn nvme() {
    let _alone = alone();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    keeps_promises(&format!("t=nvme:{},size=16M", folder.path().display()));
}

#[test]
fn emulated_device() {
    let _alone = alone();
    keeps_promises("t=device:emulated,size=16M");
}

/// A plan without faults changes nothing: the whole contract holds.
#[test]
fn an_empty_plan_is_the_tier_itself() {
    let _alone = alone();
    for spec in ["t=dram,size=16M", "t=dax-file:memfd,size=16M", "t=device:emulated,size=16M"] {
        let tier = Faulty::new(open(spec), &Script::default(), Clock::Virtual).expect("a tier");
        let mut failed = Vec::new();
        conformance::run(&tier, &mut |name, outcome| failed.extend(outcome.err().map(|why| format!("{name}: {why}"))));
        assert_eq!(failed, [""; 0], "{spec}");
    }
}

// ---- negative controls ----

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breach {
    None,
    /// Says that bad space is set aside, and hands it out again.
    HandsOutAgain,
    /// Overwrites another extent when it meets poison.
    LosesANeighbour,
    /// Trusts that there is never an error.
    Panics,
    /// Passes poison over and gives what it has.
    Conceals,
    /// Reads zeroes from what was lost with a removed device.
    Forgets,
    /// Always says that all is well.
    IsAlwaysGood,
    /// Calls everything "gone".
    CallsEverythingGone,
    /// Never ends being full.
    StaysFull,
}

/// Goes around a tier, or around a faulty one, and breaks one promise.
struct Broken {
    inner: Box<dyn Provider>,
    breach: Breach,
    seen: Mutex<Vec<(u64, u64)>>,
    was_full: std::sync::atomic::AtomicBool,
}

impl Broken {
    fn boxed(inner: Box<dyn Provider>, breach: Breach) -> Box<dyn Provider> {
        Box::new(Self { inner, breach, seen: Mutex::default(), was_full: false.into() })
    }

    fn answer(&self, extent: &Extent, into: &mut [u8], error: Error) -> Result<(), Error> {
        let is_poison = matches!(error.kind(), ErrorKind::Poisoned { .. });
        match self.breach {
            Breach::Panics if is_poison => panic!("never expected: {error}"),
            Breach::Conceals if is_poison => Ok(()),
            Breach::Forgets if error.kind() == ErrorKind::Gone => {
                into.fill(0);
                Ok(())
            }
            Breach::CallsEverythingGone => Err(Error::new(ErrorKind::Gone)),
            Breach::LosesANeighbour if is_poison => {
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(&(offset, len)) = seen.iter().find(|(offset, _)| *offset != extent.offset()) {
                    let other = Extent::from_parts(extent.tier(), offset, Bytes(len), None, Provenance::Tool);
                    let _ = self.inner.write(&other, 4096, &[0; 8]);
                }
                Err(error)
            }
            _ => Err(error),
        }
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
        self.inner.usage()
    }

    fn health(&self) -> Health {
        if self.breach == Breach::IsAlwaysGood { Health::Good } else { self.inner.health() }
    }

    fn reserve(&self, len: Bytes, provenance: Provenance) -> Result<Extent, Error> {
        use std::sync::atomic::Ordering::Relaxed;
        if self.breach == Breach::StaysFull && self.was_full.load(Relaxed) {
            return Err(Error::new(ErrorKind::Full { wanted: len }));
        }
        let extent = self.inner.reserve(len, provenance).inspect_err(|_| self.was_full.store(true, Relaxed))?;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push((extent.offset(), extent.len().0));
        Ok(extent)
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).retain(|(offset, _)| *offset != extent.offset());
        self.inner.release(extent)
    }

    fn read(&self, extent: &Extent, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.inner.read(extent, offset, into).or_else(|error| self.answer(extent, into, error))
    }

    fn write(&self, extent: &Extent, offset: u64, from: &[u8]) -> Result<(), Error> {
        self.inner.write(extent, offset, from).or_else(|error| self.answer(extent, &mut [], error))
    }

    fn quarantine(&self, extent: &Extent, offset: u64) -> Result<(), Error> {
        if self.breach == Breach::HandsOutAgain { Ok(()) } else { self.inner.quarantine(extent, offset) }
    }

    fn quarantined(&self) -> Bytes {
        if self.breach == Breach::HandsOutAgain { GRANULE } else { self.inner.quarantined() }
    }

    fn repair(&self) -> Result<Bytes, Error> {
        self.inner.repair()
    }
}

/// The device's offsets are names that nobody else has, so a tier without addresses serves all controls.
const CONTROLLED: &str = "t=device:emulated,size=16M";

fn outcome(breach: Breach, check: &str) -> conformance::Outcome {
    let inside = breach == Breach::HandsOutAgain;
    let wrap = |is_wanted: bool, tier| if is_wanted { Broken::boxed(tier, breach) } else { tier };
    let subject =
        faults::Subject { open: &|| wrap(inside, open(CONTROLLED)), around: &|faulty| wrap(!inside, Box::new(faulty)) };
    faults::check(&subject, check).expect("a check of this name")
}

#[test]
fn each_breach_is_caught() {
    let _alone = alone();
    let expected = [
        (Breach::HandsOutAgain, "poisoned-space-is-set-aside"),
        (Breach::LosesANeighbour, "poison-is-typed-and-local"),
        (Breach::Panics, "poison-is-typed-and-local"),
        (Breach::Panics, "storm-of-everything"),
        (Breach::Conceals, "poison-is-typed-and-local"),
        (Breach::Forgets, "removed-is-gone-and-returns-empty"),
        (Breach::Forgets, "reset-loses-contexts-only"),
        (Breach::Forgets, "link-down-loses-nothing"),
        (Breach::Forgets, "storm-of-everything"),
        (Breach::IsAlwaysGood, "poisoned-space-is-set-aside"),
        (Breach::IsAlwaysGood, "removed-is-gone-and-returns-empty"),
        (Breach::CallsEverythingGone, "io-error-is-typed-and-passes"),
        (Breach::StaysFull, "full-passes"),
        (Breach::StaysFull, "shrunk-is-full"),
    ];
    for (breach, check) in expected {
        outcome(Breach::None, check).unwrap_or_else(|why| panic!("{check} fails without a breach: {why}"));
        let why = outcome(breach, check).expect_err(&format!("{breach:?} is not caught by {check}"));
        eprintln!("{check} has caught {breach:?}: {why}");
    }
}
