//! What the checks have in common: holding extents, children, and a flag that processes share.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tiermem_sys::process::{self, Ended};
use tiermem_sys::{file, map};
use tiermem_tiers::{Bytes, Error, ErrorKind, Extent, ForkPlan, GRANULE, Provenance, Provider};

/// How long a check waits for another process before it calls it stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// Turns anything that can be shown into a check's failure, with what was being done.
pub(super) fn failed<E: std::fmt::Display>(doing: &str) -> impl Fn(E) -> String {
    move |error| format!("{doing}: {error}")
}

/// Fails with `text` unless `truth` holds.
pub(super) fn ensure(truth: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if truth { Ok(()) } else { Err(text()) }
}

/// Extents that are given back whatever happens.
pub(super) struct Held<'a> {
    provider: &'a dyn Provider,
    pub(super) extents: Vec<Extent>,
}

impl<'a> Held<'a> {
    pub(super) const fn new(provider: &'a dyn Provider) -> Self {
        Self { provider, extents: Vec::new() }
    }

    /// Reserves one extent of this many granules.
    pub(super) fn one(provider: &'a dyn Provider, granules: u64) -> Result<Self, String> {
        let mut held = Self::new(provider);
        held.add(granules).map_err(failed("reserve"))?;
        Ok(held)
    }

    pub(super) fn add(&mut self, granules: u64) -> Result<&Extent, Error> {
        let extent = self.provider.reserve(Bytes(granules * GRANULE.0), Provenance::Tool)?;
        self.extents.push(extent);
        Ok(&self.extents[self.extents.len() - 1])
    }

    /// Reserves until the tier is full; any other error is a failure.
    pub(super) fn fill(&mut self) -> Result<(), String> {
        let most = self.provider.usage().capacity.0 / GRANULE.0 + 1;
        for _ in 0..=most {
            match self.add(1).map_err(|error| (error.kind(), error)) {
                Ok(_) => {}
                Err((ErrorKind::Full { .. }, _)) => return Ok(()),
                Err((_, error)) => return Err(format!("a full tier must answer Full, not: {error}")),
            }
        }
        Err(format!("{most} granules reserved and still not full"))
    }

    /// Fills the tier, which must be wholly free once processes that are about to end have ended.
    pub(super) fn fill_whole(&mut self) -> Result<(), String> {
        let capacity = self.provider.usage().capacity.0 / GRANULE.0;
        let start = Instant::now();
        loop {
            self.fill()?;
            let got = self.extents.len() as u64;
            if got == capacity {
                return Ok(());
            }
            ensure(start.elapsed() < PATIENCE / 4, || format!("{got} of {capacity} granules can be had"))?;
            self.release_all()?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn release_all(&mut self) -> Result<(), String> {
        let extents = std::mem::take(&mut self.extents);
        extents.into_iter().try_for_each(|extent| self.provider.release(extent)).map_err(failed("release"))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for extent in self.extents.drain(..) {
            let _ = self.provider.release(extent);
        }
    }
}

/// Writes `tag` at a few places of every granule.
pub(super) fn mark(provider: &dyn Provider, extent: &Extent, tag: u64) -> Result<(), String> {
    marks(extent).try_for_each(|at| provider.write(extent, at, &tag.to_le_bytes())).map_err(failed("write"))
}

/// Checks the places of [`mark`].
pub(super) fn check_mark(provider: &dyn Provider, extent: &Extent, tag: u64) -> Result<(), String> {
    for at in marks(extent) {
        let mut found = [0; 8];
        provider.read(extent, at, &mut found).map_err(failed("read"))?;
        let found = u64::from_le_bytes(found);
        ensure(found == tag, || format!("at {at:#x} of {extent:?}: {tag:#x} expected, {found:#x} found"))?;
    }
    Ok(())
}

fn marks(extent: &Extent) -> impl Iterator<Item = u64> + use<> {
    (0..extent.len().0).step_by(256 << 10).flat_map(|at| [at, at + 4096, at + (256 << 10) - 8])
}

/// A child process that is killed and waited for when the check ends early.
pub(super) struct Child {
    pub(super) pid: u32,
    waited: bool,
}

impl Child {
    /// Waits for it; it must have ended well.
    pub(super) fn ended_well(mut self) -> Result<(), String> {
        self.waited = true;
        match process::wait(self.pid).map_err(failed("waitpid"))? {
            Ended::Exited(0) => Ok(()),
            other => Err(format!("the child ended with {other:?}; its complaint is on stderr")),
        }
    }

    pub(super) fn kill(mut self) -> Result<(), String> {
        self.waited = true;
        process::kill_now(self.pid).map_err(failed("kill"))?;
        process::wait(self.pid).map(drop).map_err(failed("waitpid"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.waited {
            let _ = process::kill_now(self.pid);
            let _ = process::wait(self.pid);
        }
    }
}

/// Forks as an allocator does: prepares `extents`, forks, tells both sides.
pub(super) fn fork(
    provider: &dyn Provider,
    extents: &[Extent],
    body: impl FnOnce() -> Result<(), String>,
) -> Result<Child, String> {
    let addressable = provider.addressable();
    if let Some(tier) = addressable
        && tier.fork_plan() == ForkPlan::CopyOnWrite
    {
        extents.iter().try_for_each(|extent| tier.before_fork(extent)).map_err(failed("before_fork"))?;
    }
    // SAFETY: the child uses the provider, which works after a fork by contract, and ends without destructors.
    let pid = unsafe { process::fork() }.map_err(failed("fork"))?;
    if let Some(tier) = addressable {
        tier.after_fork(pid.is_none());
    }
    match pid {
        Some(pid) => Ok(Child { pid, waited: false }),
        None => run_child(body),
    }
}

/// Forks without telling any provider: for children that open tiers of their own.
pub(super) fn fork_stranger(body: impl FnOnce() -> Result<(), String>) -> Result<Child, String> {
    // SAFETY: the child ends without destructors, and std's locks are free in a process that forks from checks only.
    match unsafe { process::fork() }.map_err(failed("fork"))? {
        Some(pid) => Ok(Child { pid, waited: false }),
        None => run_child(body),
    }
}

fn run_child(body: impl FnOnce() -> Result<(), String>) -> ! {
    let code = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            eprintln!("child {}: {error}", process::id());
            1
        }
        Err(_) => 2,
    };
    process::exit_now(code)
}

/// A number that parent and children see.
pub(super) struct Flag {
    at: std::ptr::NonNull<u8>,
}

impl Flag {
    const LEN: usize = 4096;

    pub(super) fn new() -> Result<Self, String> {
        let fd = file::memory_file(c"tiermem-flag").map_err(failed("memfd_create"))?;
        file::set_size(fd.as_fd(), Self::LEN as u64).map_err(failed("ftruncate"))?;
        Ok(Self { at: map::file_shared(Self::LEN, fd.as_fd(), 0).map_err(failed("mmap"))? })
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: a shared mapping of our own, aligned, accessed as an atomic only.
        unsafe { self.at.cast::<AtomicU32>().as_ref() }
    }

    pub(super) fn set(&self, value: u32) {
        self.word().store(value, Ordering::SeqCst);
    }

    pub(super) fn value(&self) -> u32 {
        self.word().load(Ordering::SeqCst)
    }

    /// Waits until the number is at least `value`.
    pub(super) fn wait_for(&self, value: u32) -> Result<(), String> {
        let start = Instant::now();
        while self.word().load(Ordering::SeqCst) < value {
            ensure(start.elapsed() < PATIENCE, || format!("waited in vain for step {value} of another process"))?;
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        // SAFETY: made in `new`; nothing refers to it any more.
        let _ = unsafe { map::unmap(self.at, Self::LEN) };
    }
}

/// Repeatable random numbers (xorshift64, after Marsaglia, 2003).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
