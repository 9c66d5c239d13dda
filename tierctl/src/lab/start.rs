//! What is made ready before a guest is booted, and checked before anything is made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tiermem_qemu::host::{Lab, Log, Scratch};
use tiermem_qemu::machine::{Folders, Machine, machines};
use tiermem_qemu::{Error, ErrorKind};
use tiermem_sys::cgroup;
use tiermem_topology::Topology;

/// Of its memory, a machine leaves so much to its host, bytes.
const RESERVE: u64 = 256 << 20;
/// More than the files take that every guest boots with, bytes.
const IMAGE: u64 = 96 << 20;

/// Machines that can be booted.
#[derive(Debug)]
pub struct Ready {
    pub machines: Vec<Machine>,
    pub scratch: Scratch,
    pub log: Log,
}

/// What a start depends on.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub topology: &'a Topology,
    pub guests: Option<u32>,
    /// Where persistent devices keep what they hold.
    pub state: Option<&'a Path>,
    /// Where the log goes; by default into the cache.
    pub log: Option<&'a Path>,
    /// Bytes that go into each guest with the program.
    pub luggage: u64,
}

impl Wanted<'_> {
    /// Checks what is needed and makes the folders.
    ///
    /// # Errors
    /// A topology that cannot become a machine; not enough memory or room.
    pub fn ready(&self, lab: &Lab) -> Result<Ready, Error> {
        // Where the files go is known once their size is.
        let nowhere = PathBuf::from("/nowhere");
        let needed = self.machines(&nowhere)?;
        let images = (IMAGE + self.luggage) * needed.len() as u64;
        check_memory(&needed, images)?;
        let files = needed.iter().flat_map(|machine| &machine.files).filter(|file| file.path.starts_with(&nowhere));
        let files: BTreeMap<_, _> = files.map(|file| (&file.path, file.bytes)).collect();
        let scratch = Scratch::make(images + files.values().sum::<u64>())?;
        let machines = self.machines(scratch.path())?;
        let log = match self.log {
            Some(folder) => Log::at(folder)?,
            None => Log::in_cache(&lab.cache, &self.topology.name)?,
        };
        Ok(Ready { machines, scratch, log })
    }

    fn machines(&self, scratch: &Path) -> Result<Vec<Machine>, Error> {
        machines(self.topology, self.guests, Folders { scratch, state: self.state.unwrap_or(scratch) })
    }
}

/// Complains unless the machines fit into memory, their images with them: those lie in shared memory.
fn check_memory(machines: &[Machine], images: u64) -> Result<(), Error> {
    let need: u64 = machines.iter().map(|machine| machine.memory_bytes + RESERVE).sum::<u64>() + images;
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let free = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map(|kib| kib << 10);
    let allowed = cgroup::memory().map(|group| group.limit.saturating_sub(group.used));
    match free.into_iter().chain(allowed).min() {
        Some(have) if have < need => {
            let why = format!(
                "{} MiB of memory are needed for {} and {} MiB are free",
                need.div_ceil(1 << 20),
                if machines.len() == 1 { "the guest".to_owned() } else { format!("{} guests", machines.len()) },
                have >> 20
            );
            Err(Error::new(ErrorKind::NoRoom, why))
        }
        _ => Ok(()),
    }
}
