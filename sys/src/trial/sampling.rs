//! Trials of sampling: perf events, idle-page tracking, referenced bits.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::{Obstacle, Outcome, scratch};
use crate::map::os_page_size;
use crate::pagemap::Pagemap;
use crate::perf::{Event, Sampler};

/// Longest time that sampling is tried for.
const PATIENCE: Duration = Duration::from_millis(20);

/// Samples this thread by time until one sample has come.
///
/// # Errors
/// Where it stopped.
pub fn sample_time() -> Outcome {
    let opening = Obstacle::at("opening a software cpu-clock event");
    let mut sampler = Sampler::open(Event::cpu_clock(200_000)).map_err(opening)?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let mut with_address = 0;
        sampler.drain(|sample| with_address += usize::from(sample.instruction != 0));
        if with_address > 0 {
            return Ok(());
        }
    }
    Err(Obstacle::silent("waiting for a sample"))
}

/// Samples the data addresses of loads and sees one inside the range that was read.
///
/// # Errors
/// Where it stopped.
pub fn sample_addresses(event: Event) -> Outcome {
    let mut sampler = Sampler::open(event).map_err(Obstacle::at("opening a memory sampling event"))?;
    let memory = scratch(64)?;
    let first = memory.at.as_ptr() as u64;
    let range = first..first + memory.len as u64;
    let start = Instant::now();
    let mut inside = 0;
    while start.elapsed() < PATIENCE && inside == 0 {
        for _ in 0..1000 {
            (0..64).for_each(|os_page| memory.set(os_page, memory.get(os_page).wrapping_add(1)));
        }
        sampler.drain(|sample| inside += usize::from(range.contains(&sample.address)));
    }
    if inside > 0 { Ok(()) } else { Err(Obstacle::silent("waiting for a sample of our own loads")) }
}

/// Marks an OS page idle and reads the mark back.
///
/// # Errors
/// Where it stopped; `ENOENT` where the kernel has no idle-page tracking.
pub fn idle_tracking() -> Outcome {
    let opening = Obstacle::io("opening /sys/kernel/mm/page_idle/bitmap");
    let bitmap = OpenOptions::new().read(true).write(true).open("/sys/kernel/mm/page_idle/bitmap").map_err(opening)?;
    let memory = scratch(1)?;
    memory.set(0, 1);
    let frame = Pagemap::open().and_then(|map| map.frame(memory.at)).map_err(Obstacle::at("reading a frame number"))?;
    let hidden = Obstacle { step: "reading a frame number", errno: Some(crate::Errno::EPERM) };
    let frame = frame.ok_or(hidden)?;
    let (word, bit) = (frame / 64 * 8, 1u64 << (frame % 64));
    bitmap.write_all_at(&bit.to_ne_bytes(), word).map_err(Obstacle::io("marking an OS page idle"))?;
    let mut answer = [0; 8];
    bitmap.read_exact_at(&mut answer, word).map_err(Obstacle::io("reading the idle mark"))?;
    if u64::from_ne_bytes(answer) & bit != 0 { Ok(()) } else { Err(Obstacle::silent("reading the idle mark")) }
}

/// Clears the referenced bits of this process, touches one of two OS pages, and sees just that in smaps.
///
/// # Errors
/// Where it stopped.
pub fn referenced_bits() -> Outcome {
    let memory = scratch(2)?;
    memory.set(0, 1);
    memory.set(1, 1);
    let referenced = || -> Outcome<u64> {
        let smaps = fs::read_to_string("/proc/self/smaps").map_err(Obstacle::io("reading /proc/self/smaps"))?;
        smaps_field(&smaps, memory.at, "Referenced").ok_or(Obstacle::silent("finding our mapping in smaps"))
    };
    fs::write("/proc/self/clear_refs", "1").map_err(Obstacle::io("writing /proc/self/clear_refs"))?;
    if referenced()? != 0 {
        return Err(Obstacle::silent("clearing the referenced bits"));
    }
    // The kernel clears the bits without flushing the TLB, and an address that is still in the TLB sets none.
    memory.flush_translations().map_err(Obstacle::at("mprotect"))?;
    memory.set(1, 2);
    let touched = os_page_size() as u64 / 1024;
    if referenced()? == touched { Ok(()) } else { Err(Obstacle::silent("finding the OS page that was touched")) }
}

/// A field, in KiB, of the mapping that holds an address.
pub(super) fn smaps_field(smaps: &str, at: NonNull<u8>, field: &str) -> Option<u64> {
    let address = at.as_ptr() as u64;
    let mut inside = false;
    for line in smaps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        if let Some((start, end)) = range.and_then(|(start, end)| Some((hex(start)?, hex(end)?))) {
            inside = (start..end).contains(&address);
        } else if inside && line.split(':').next() == Some(field) {
            return line.split_whitespace().nth(1)?.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_in_its_own_mapping_only() {
        let smaps =
            "1000-2000 rw-p 0 00:00 0\nReferenced: 4 kB\n2000-4000 rw-p 0 00:00 0\nRss: 8 kB\nReferenced: 12 kB\n";
        let at = |address: usize| NonNull::new(std::ptr::without_provenance_mut(address)).unwrap();
        assert_eq!(smaps_field(smaps, at(0x3000), "Referenced"), Some(12));
        assert_eq!(smaps_field(smaps, at(0x1000), "Rss"), None);
        assert_eq!(smaps_field(smaps, at(0x9000), "Referenced"), None);
    }

    #[test]
    fn a_touch_shows_in_the_referenced_bits() {
        let _alone = crate::referenced::ONE_AT_A_TIME.lock();
        match referenced_bits() {
            Err(Obstacle { errno: Some(errno), step }) => eprintln!("SKIP a_touch_shows: {step}: {errno}"),
            outcome => assert_eq!(outcome, Ok(())),
        }
    }
}
