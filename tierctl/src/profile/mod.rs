//! A heap profile as its readers want it: named, trimmed, and in the forms of other tools.

pub mod flame;
pub mod modules;
pub mod pprof;
pub mod table;

use std::collections::HashMap;

use tiermem::control::{Module, SiteTierUse, SiteUse, Snapshot};

use crate::record::sites::{caller, relative_error, without_allocator};
use crate::symbols::{Frame, Symboliser};

/// What a figure is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Bytes in blocks that the program holds.
    Live,
    /// Bytes ever allocated.
    Allocated,
}

impl Measure {
    /// The figure of one site in one tier.
    pub const fn bytes(self, tier: &SiteTierUse) -> u64 {
        match self {
            Self::Live => tier.live_bytes,
            Self::Allocated => tier.allocated_bytes,
        }
    }

    /// In a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Allocated => "allocated",
        }
    }
}

/// What a profile covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Mean bytes between two samples; 0 if it was off at the end.
    pub interval: u64,
    /// When sampling began, milliseconds since the process started.
    pub since_ms: u64,
    /// For how long it was off since then, milliseconds.
    pub off_ms: u64,
    /// Samples that are missing from the live figures.
    pub lost: u64,
    /// When the figures were taken, milliseconds since the process started.
    pub at_ms: u64,
    /// Allocations of the last so many milliseconds only.
    pub window_ms: Option<u64>,
}

/// One site of one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// Return addresses, innermost first, those inside the allocator left out.
    pub addresses: Vec<u64>,
    /// Their names, in the same order.
    pub stack: Vec<Frame>,
    /// Index of the first call that is no mere wrapper of malloc.
    pub caller: usize,
    /// By tier.
    pub tiers: Vec<SiteTierUse>,
    /// Samples that the figures rest on.
    pub samples: u64,
}

/// The heap profile of one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// When it was started, seconds since 1970.
    pub started_unix_s: u64,
    /// The names of its tiers.
    pub tiers: Vec<String>,
    /// What the figures cover.
    pub coverage: Coverage,
    /// The sites, in no order.
    pub sites: Vec<Site>,
    /// The code that was mapped.
    pub modules: Vec<Module>,
}

impl Profile {
    /// The profile in a snapshot; of allocations, only those since `before` if that is given. (What is live is live
    /// whenever it was allocated.)
    pub fn new(now: &Snapshot, before: Option<&Snapshot>, modules: Vec<Module>) -> Self {
        let earlier: HashMap<&[u64], &SiteUse> =
            before.iter().flat_map(|b| &b.sites).map(|site| (site.frames.as_slice(), site)).collect();
        let mut symboliser = Symboliser::default();
        let mut named = |site: &SiteUse| {
            let figures = since(site, earlier.get(site.frames.as_slice()).copied());
            name(&figures, &modules, &mut symboliser)
        };
        let sites = now.sites.iter().map(&mut named).filter(Site::is_used).collect();
        let window_ms = before.map(|b| now.uptime_ms.saturating_sub(b.uptime_ms));
        let profile = now.profile;
        Self {
            pid: now.pid,
            command: now.command.clone(),
            started_unix_s: now.started_unix_s,
            tiers: now.tiers.iter().map(|tier| tier.name.clone()).collect(),
            coverage: Coverage {
                interval: profile.interval,
                since_ms: profile.since_ms,
                off_ms: profile.off_ms,
                lost: profile.lost,
                at_ms: now.uptime_ms,
                window_ms,
            },
            sites,
            modules,
        }
    }

    /// The sum over all sites.
    pub fn total(&self, measure: Measure) -> u64 {
        self.sites.iter().map(|site| site.bytes(measure)).sum()
    }

    /// What the figures cover, in plain words, a line each.
    pub fn coverage_text(&self) -> Vec<String> {
        let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1000.0);
        let coverage = &self.coverage;
        let mut lines = vec![format!(
            "sampling began {} after the start; blocks from before are not in it",
            seconds(coverage.since_ms)
        )];
        if coverage.off_ms > 0 {
            lines.push(format!(
                "it was off for {} since then; blocks of that time are not in it",
                seconds(coverage.off_ms)
            ));
        }
        if let Some(window) = coverage.window_ms {
            lines.push(format!(
                "allocated: in the last {}; live: of all that was allocated while it was on",
                seconds(window)
            ));
        }
        if coverage.lost > 0 {
            lines.push(format!(
                "{} samples are missing from the live figures: too many blocks were tracked; a larger interval helps",
                coverage.lost
            ));
        }
        lines
    }
}

impl Site {
    /// Its bytes, over all tiers.
    pub fn bytes(&self, measure: Measure) -> u64 {
        self.tiers.iter().map(|tier| measure.bytes(tier)).sum()
    }

    fn is_used(&self) -> bool {
        self.tiers.iter().any(|tier| tier.allocated_bytes > 0 || tier.live_bytes > 0)
    }

    /// One standard error of the bytes allocated, of their size.
    pub fn relative_error(&self) -> f64 {
        relative_error(self.samples as f64, self.tiers.iter().map(|tier| tier.allocated_objects).sum())
    }
}

/// A site's figures less what it had done before.
fn since(now: &SiteUse, before: Option<&SiteUse>) -> SiteUse {
    let Some(before) = before else { return now.clone() };
    let less = |(now, before): (&SiteTierUse, &SiteTierUse)| SiteTierUse {
        allocated_objects: (now.allocated_objects - before.allocated_objects).max(0.0),
        allocated_bytes: now.allocated_bytes.saturating_sub(before.allocated_bytes),
        ..*now
    };
    SiteUse {
        tiers: now.tiers.iter().zip(&before.tiers).map(less).collect(),
        samples: now.samples.saturating_sub(before.samples),
        frames: now.frames.clone(),
    }
}

fn name(site: &SiteUse, modules: &[Module], symboliser: &mut Symboliser) -> Site {
    let all: Vec<Frame> = site.frames.iter().map(|&address| symboliser.frame(address, modules)).collect();
    let mut addresses = site.frames.clone();
    let stack = without_allocator(all);
    addresses.drain(..addresses.len() - stack.len());
    Site { addresses, caller: caller(&stack), stack, tiers: site.tiers.clone(), samples: site.samples }
}

#[cfg(test)]
pub mod tests {
    use super::{Measure, Profile};
    use tiermem::control::{Module, ProfileUse, SiteTierUse, SiteUse, Snapshot, TierUse};

    fn used(objects: f64, bytes: u64, live_objects: f64, live: u64) -> SiteTierUse {
        SiteTierUse { allocated_objects: objects, allocated_bytes: bytes, live_objects, live_bytes: live }
    }

    /// Two sites on two tiers, sampled from 3.2 s on.
    pub fn snapshot() -> Snapshot {
        let tier = |name: &str| TierUse { name: name.into(), ..TierUse::default() };
        let sites = vec![
            SiteUse {
                frames: vec![0x1101, 0x1202, 0x1303],
                tiers: vec![used(100.0, 6400, 50.0, 3200), used(10.0, 640, 0.0, 0)],
                samples: 20,
            },
            SiteUse { frames: vec![0x1404], tiers: vec![used(0.0, 0, 0.0, 0), used(2.0, 4000, 2.0, 4000)], samples: 2 },
        ];
        let profile = ProfileUse { interval: 512 << 10, wanted: 512 << 10, since_ms: 3200, off_ms: 0, lost: 0 };
        Snapshot {
            pid: 7,
            command: "prog".into(),
            uptime_ms: 9000,
            tiers: vec![tier("dram"), tier("slow")],
            sites,
            profile,
            ..Snapshot::default()
        }
    }

    /// The profile in [`snapshot`].
    pub fn profile() -> Profile {
        let module = Module { start: 0x1000, end: 0x2000, file_offset: 0, path: "/gone/prog".into() };
        Profile::new(&snapshot(), None, vec![module])
    }

    #[test]
    fn a_profile_says_what_it_covers() {
        let profile = profile();
        assert_eq!((profile.total(Measure::Allocated), profile.total(Measure::Live)), (11040, 7200));
        assert_eq!(profile.coverage_text(), ["sampling began 3.2 s after the start; blocks from before are not in it"]);
        let mut later = snapshot();
        later.uptime_ms = 10_500;
        later.profile.off_ms = 500;
        later.profile.lost = 3;
        later.sites[0].tiers[0] = used(101.0, 6464, 51.0, 3264);
        let window = Profile::new(&later, Some(&snapshot()), Vec::new());
        assert_eq!((window.total(Measure::Allocated), window.total(Measure::Live)), (64, 7264));
        let text = window.coverage_text().join("\n");
        assert!(text.contains("off for 0.5 s") && text.contains("last 1.5 s") && text.contains("3 samples"), "{text}");
    }

    #[test]
    fn errors_shrink_with_samples_and_vanish_where_all_are_sampled() {
        let profile = profile();
        let errors: Vec<f64> = profile.sites.iter().map(super::Site::relative_error).collect();
        assert!((errors[0] - ((1.0 - 20.0 / 110.0) / 20.0f64).sqrt()).abs() < 1e-12);
        assert_eq!(errors[1], 0.0);
    }
}
