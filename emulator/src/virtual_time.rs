//! Reading and writing emulated memory with a clock: the bytes are real and go through a tier's provider, the time is the
//! model's ([`Mode::Virtual`](crate::time::Mode::Virtual)).
//!
//! (The functional mode needs nothing of this: it is the provider alone, and tells no time.)
//!
//! ```
//! use tiermem_emulator::virtual_time::{Memory, World};
//! use tiermem_tiers::{Bytes, Provenance, Provider, TierId};
//! use tiermem_topology::Topology;
//!
//! let mut world = World::new(&Topology::load("one-expander")?)?;
//! // Any provider will do; this one hands out plain DRAM.
//! let spec = "far=dram,size=64M".parse()?;
//! let provider = tiermem_tiers::provider::open(&spec, TierId(0))?;
//! let extent = provider.reserve(Bytes::mib(2), Provenance::Tool)?;
//! let memory = Memory { provider: &*provider, extent: &extent, tier: world.tier("cxl0").unwrap() };
//!
//! let mut thread = world.thread("server").unwrap();
//! world.write(&mut thread, memory, 4096, b"far away")?;
//! world.fence(&mut thread);
//! let before = world.elapsed(&thread);
//! let mut bytes = [0; 8];
//! world.read(&mut thread, memory, 4096, &mut bytes)?;
//! assert_eq!(&bytes, b"far away");
//! // One line from a CXL device: 2.18 times the 97.8 ns of DRAM.
//! let took = world.elapsed(&thread).time().since(before.time());
//! assert!((took.as_ns() - 213.2).abs() < 0.1, "{took}");
//! provider.release(extent)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A provider that is [`Faulty`](crate::fault::Faulty) is told the time of whoever uses it: what its plan has for then
//! happens, and while it is slow, the model is as slow.
//!
//! Threads of execution are values, not threads of the operating system: a program moves on those that it has, one at a
//! time, in whatever order it likes, and [`workload::run`](crate::workload::run) is the order in which the one that is
//! furthest behind goes first. So the same program takes the same time in every run. There are no caches: what is read
//! here is read from memory. [`Machine`](crate::workload::Machine) has caches and no bytes.

use tiermem_tiers::{Error, Extent, GRANULE, Provider};
use tiermem_topology::{DeviceKind, Topology};

use crate::cache::LINE;
use crate::model::{Direction, ModelError, Request, System, TierIndex};
use crate::time::{Elapsed, Virtual};
use crate::workload::{Core, Thread};

/// A modelled machine whose memory can be used.
#[derive(Clone, Debug)]
pub struct World {
    system: System,
    core: Core,
    /// By tier: by how much it is slower than its profile says.
    slowdowns: Vec<f64>,
}

/// An extent of a provider that plays memory of a modelled tier. Its offset in the provider is its offset in the tier.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    /// Holds the bytes.
    pub provider: &'a dyn Provider,
    /// Which of them.
    pub extent: &'a Extent,
    /// Says how long it takes.
    pub tier: TierIndex,
}

impl std::fmt::Debug for Memory<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("extent", self.extent).field("tier", &self.tier).finish_non_exhaustive()
    }
}

impl World {
    /// The machine of `topology`, idle.
    ///
    /// # Errors
    /// Where it cannot be modelled.
    pub fn new(topology: &Topology) -> Result<Self, ModelError> {
        let system = System::new(topology)?;
        let slowdowns = vec![1.0; system.tiers().len()];
        Ok(Self { system, core: Core::default(), slowdowns })
    }

    /// The same with cores that can do more, or less, at once.
    #[must_use]
    pub const fn with_cores(mut self, core: Core) -> Self {
        self.core = core;
        self
    }

    /// The tier of that name.
    pub fn tier(&self, name: &str) -> Option<TierIndex> {
        self.system.tier(name)
    }

    /// A new thread of execution at time zero on the host of that name.
    pub fn thread(&self, host: &str) -> Option<Thread> {
        self.system.host(host).map(|host| Thread::new(host, self.core))
    }

    /// What a thread's clock shows.
    pub const fn elapsed(&self, thread: &Thread) -> Elapsed<Virtual> {
        Elapsed::new(thread.now())
    }

    /// Copies from memory. The lines of a longer copy overlap as far as the core has buffers; a tier that the CPU does not
    /// address is asked for all at once. The thread goes on when the last byte is there.
    ///
    /// # Errors
    /// As the provider says. An access that failed took the time it would have taken.
    ///
    /// # Panics
    /// If the thread's host has no way to the tier.
    pub fn read(&mut self, thread: &mut Thread, memory: Memory<'_>, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.pass(thread, memory, Direction::Read, offset, into.len());
        thread.drain();
        memory.provider.read(memory.extent, offset, into)
    }

    /// Copies to memory. The thread goes on as soon as its buffers have taken everything; [`World::fence`] waits until it
    /// has arrived. (The bytes are there at once: what a crash before that would lose is for
    /// [`coherence`](crate::coherence) to show.)
    ///
    /// # Errors
    /// As the provider says.
    ///
    /// # Panics
    /// If the thread's host has no way to the tier.
    pub fn write(&mut self, thread: &mut Thread, memory: Memory<'_>, offset: u64, from: &[u8]) -> Result<(), Error> {
        self.pass(thread, memory, Direction::Write, offset, from.len());
        memory.provider.write(memory.extent, offset, from)
    }

    /// Waits until everything that the thread wrote has arrived.
    pub fn fence(&self, thread: &mut Thread) {
        thread.drain();
    }

    /// Asks the provider whether it is slow by now.
    fn heed(&mut self, thread: &Thread, memory: Memory<'_>) {
        let factor = memory.provider.slowdown_at(thread.now().0 / 1000);
        let known = self.slowdowns.get_mut(usize::from(memory.tier.0));
        if let Some(known) = known.filter(|known| factor.to_bits() != known.to_bits()) {
            *known = factor;
            self.system.slow(memory.tier, factor);
        }
    }

    fn pass(&mut self, thread: &mut Thread, memory: Memory<'_>, direction: Direction, offset: u64, len: usize) {
        self.heed(thread, memory);
        let (host, tier) = (thread.host(), memory.tier);
        // Where memory has no place (anonymous memory), its offset is a serial number: that is granule 0.
        let base = memory.extent.offset() / GRANULE.0 * GRANULE.0;
        let (first, end) = (base + offset, base + offset + len as u64);
        let kind = self.system.tiers().get(usize::from(tier.0)).and_then(|tier| tier.kind);
        // Loads and stores move lines, commands move what they are told.
        let loads = matches!(kind, None | Some(DeviceKind::Cxl));
        let (mut at, piece) = if loads { (first / LINE * LINE, LINE) } else { (first, u64::from(u32::MAX)) };
        while at < end {
            let len = if loads { LINE } else { piece.min(end - at) };
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            thread.send(&mut self.system, Request { host, tier, direction, offset: at, len });
            at += u64::from(len);
        }
    }
}
