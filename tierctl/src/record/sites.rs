//! Allocation sites of all processes of a run, named and added up.

use std::collections::HashMap;

use tiermem::control::SiteTierUse;

use super::Recorded;
use crate::symbols::{Frame, Symboliser};

/// Sites that are kept: the largest.
const SITES_MAX: usize = 200;

/// An allocation site, over all processes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// The calls, innermost first, without those inside the allocator.
    pub stack: Vec<Frame>,
    /// Index in `stack` of the first call that is not a mere wrapper of malloc (`operator new`, `strdup`, `xmalloc`).
    pub caller: usize,
    /// What it did in each tier, estimated, in the order of [`super::tier_totals`].
    pub tiers: Vec<SiteTierUse>,
    /// Samples that the estimates rest on.
    pub samples: u64,
}

impl Site {
    /// Bytes allocated in this tier.
    pub fn allocated(&self, tier: usize) -> u64 {
        self.tiers.get(tier).map_or(0, |t| t.allocated_bytes)
    }

    /// Bytes of these that are live.
    pub fn live(&self, tier: usize) -> u64 {
        self.tiers.get(tier).map_or(0, |t| t.live_bytes)
    }
}

/// Adds one site's figures in a tier to another's.
pub fn add(into: &mut SiteTierUse, more: &SiteTierUse) {
    into.allocated_objects += more.allocated_objects;
    into.allocated_bytes += more.allocated_bytes;
    into.live_objects += more.live_objects;
    into.live_bytes += more.live_bytes;
}

/// One standard error of an estimate of `objects` blocks, of its size. Each of `n` samples stands for `w` blocks with a variance
/// of `w (w − 1)` (Horvitz and Thompson), so that of a sum of equal ones is √((1 − 1/w) / n).
pub fn relative_error(samples: f64, objects: f64) -> f64 {
    if samples <= 0.0 { 1.0 } else { ((1.0 - samples / objects.max(samples)) / samples).sqrt().min(1.0) }
}

/// Names and adds up the sites. Reads the symbol tables of the programs and libraries.
pub fn gather(recorded: &Recorded, tiers: &[&str]) -> Vec<Site> {
    let mut symboliser = Symboliser::default();
    let mut merged: HashMap<Vec<Frame>, Site> = HashMap::new();
    for snapshot in recorded.processes.iter().map(|p| &p.snapshot) {
        for site in &snapshot.sites {
            let frames = site.frames.iter().map(|&address| symboliser.frame(address, &snapshot.modules));
            let stack = without_allocator(frames.collect());
            let caller = caller(&stack);
            let total = merged.entry(stack.clone()).or_insert_with(|| Site {
                stack,
                caller,
                tiers: vec![SiteTierUse::default(); tiers.len()],
                samples: 0,
            });
            total.samples += site.samples;
            for (tier, figures) in snapshot.tiers.iter().zip(&site.tiers) {
                if let Some(index) = tiers.iter().position(|name| *name == tier.name) {
                    add(&mut total.tiers[index], figures);
                }
            }
        }
    }
    let mut sites: Vec<Site> = merged.into_values().collect();
    // The stack breaks ties, so that the same run gives the same page.
    sites.sort_by_cached_key(|s| {
        let stack: Vec<String> = s.stack.iter().map(Frame::to_string).collect();
        (std::cmp::Reverse(s.tiers.iter().map(|t| t.allocated_bytes).sum::<u64>()), stack)
    });
    sites.truncate(SITES_MAX);
    sites
}

/// The calls of a stack without those inside the allocator.
pub fn without_allocator(frames: Vec<Frame>) -> Vec<Frame> {
    let inside = frames.iter().take_while(|f| f.module.starts_with("libtiermem")).count();
    if inside == frames.len() { frames } else { frames.into_iter().skip(inside).collect() }
}

/// Index of the first call of a stack that is not a mere wrapper of malloc.
pub fn caller(stack: &[Frame]) -> usize {
    stack.iter().position(|f| !is_wrapper(f)).unwrap_or(0)
}

/// Whether a call says nothing about who wanted the memory: most programs wrap malloc in something called `…alloc…`.
fn is_wrapper(frame: &Frame) -> bool {
    const NAMES: [&str; 8] =
        ["strdup", "__strdup", "strndup", "__strndup", "asprintf", "vasprintf", "allocate", "posix_memalign"];
    let Some(symbol) = frame.symbol.as_deref() else { return false };
    if symbol.starts_with("operator new") || symbol.starts_with("__gnu_cxx::") || symbol.starts_with("alloc::raw_vec::")
    {
        return true;
    }
    let without_arguments = symbol.split('(').next().unwrap_or(symbol);
    let name = without_arguments.rsplit("::").next().unwrap_or(without_arguments);
    NAMES.contains(&name) || name.to_ascii_lowercase().contains("alloc")
}

#[cfg(test)]
mod tests {
    use super::{gather, is_wrapper};
    use crate::record::{ProcessRecord, Recorded};
    use crate::symbols::Frame;
    use tiermem::control::{Module, SiteTierUse, SiteUse, Snapshot, TierUse};

    fn process(base: u64, tiers: &[&str], bytes: &[u64]) -> ProcessRecord {
        let module = |start: u64, path: &str| Module { start, end: start + 0x1000, file_offset: 0, path: path.into() };
        let used = |&bytes: &u64| SiteTierUse { allocated_bytes: bytes, live_bytes: 1, ..SiteTierUse::default() };
        let figures = bytes.iter().map(used).collect();
        let site = SiteUse { frames: vec![base + 0x8010, base + 0x111], tiers: figures, samples: 2 };
        let tiers = tiers.iter().map(|&name| TierUse { name: name.into(), ..TierUse::default() }).collect();
        let modules = vec![module(base, "/gone/prog"), module(base + 0x8000, "/gone/libtiermem.so")];
        let snapshot = Snapshot { pid: 1, tiers, sites: vec![site], modules, ..Snapshot::default() };
        ProcessRecord { snapshot, ..ProcessRecord::default() }
    }

    #[test]
    fn the_same_site_of_two_processes_is_one_wherever_it_was_loaded() {
        let processes =
            vec![process(0x10_0000, &["dram", "slow"], &[10, 1]), process(0x70_0000, &["slow", "dram"], &[5, 7])];
        let recorded = Recorded { processes, ..Recorded::default() };
        let sites = gather(&recorded, &["dram", "slow"]);
        assert_eq!(sites.len(), 1);
        assert_eq!([0, 1].map(|tier| (sites[0].allocated(tier), sites[0].live(tier))), [(17, 2), (6, 2)]);
        assert_eq!(sites[0].samples, 4);
        assert_eq!(sites[0].stack.len(), 1, "the allocator's own frame is left out");
        assert_eq!(sites[0].stack[0].to_string(), "prog+0x111");
    }

    #[test]
    fn wrappers_of_malloc_are_seen_through() {
        let frame = |symbol: &str| Frame { symbol: Some(symbol.into()), ..Frame::default() };
        for wrapper in [
            "malloc",
            "_PyObject_Malloc",
            "zrealloc",
            "operator new(unsigned long)",
            "__gnu_cxx::new_allocator<int>::allocate(unsigned long, void const*)",
            "alloc::raw_vec::RawVec<T,A>::grow_one",
            "strdup",
        ] {
            assert!(is_wrapper(&frame(wrapper)), "{wrapper}");
        }
        for caller in ["main", "list_resize", "alloc::vec::Vec<T,A>::push", "Cache::insert(Alloc&)", "dictExpand"] {
            assert!(!is_wrapper(&frame(caller)), "{caller}");
        }
        assert!(!is_wrapper(&Frame::default()));
    }
}
