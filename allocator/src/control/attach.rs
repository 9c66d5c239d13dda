//! The reading side.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use tiermem_sys::map;
use tiermem_sys::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use super::layout::{self, EVENTS, FRAMES, Segment};
use super::{Event, EventKind, Module, ProfileUse, SiteTierUse, SiteUse, SizeClassUse, Snapshot, TierUse};
use crate::tiers::TIERS_MAX;

/// Why a segment cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttachError {
    /// There is none: the process does not run under tiermem, or has ended.
    NotFound,
    /// It belongs to another user.
    NoRights,
    /// The file is no segment, or of another version.
    Unknown {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The system says no.
    System(io::Error),
}

impl std::fmt::Display for AttachError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound => f.write_str("there is no control segment: the process does not run under tiermem"),
            Self::NoRights => f.write_str("the process belongs to another user; only that user or root may attach"),
            Self::Unknown { reason } => write!(f, "the control segment cannot be read: {reason}"),
            Self::System(error) => write!(f, "the control segment cannot be opened: {error}"),
        }
    }
}

impl std::error::Error for AttachError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for AttachError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::NoRights,
            _ => Self::System(error),
        }
    }
}

/// A mapped control segment of some process, which may have ended.
#[derive(Debug)]
pub struct Attachment {
    at: NonNull<u8>,
}

// SAFETY: the mapping is shared memory of atomics; any thread may read it.
unsafe impl Send for Attachment {}
// SAFETY: as above.
unsafe impl Sync for Attachment {}

impl Attachment {
    /// Maps the segment in this file.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn open(path: &Path) -> Result<Self, AttachError> {
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() != layout::SIZE as u64 {
            return Err(AttachError::Unknown { reason: "its length is not that of a segment of this version" });
        }
        let at = map::file_shared(layout::SIZE, file.as_fd(), 0).map_err(|errno| AttachError::System(errno.into()))?;
        let attachment = Self { at };
        let header = &attachment.segment().header;
        // Acquire pairs with the Release in `publish::begin`.
        if header.magic.load(Ordering::Acquire) != layout::MAGIC {
            return Err(AttachError::Unknown { reason: "it has not begun, or is no segment" });
        }
        if header.version.load(Ordering::Relaxed) != layout::VERSION {
            return Err(AttachError::Unknown { reason: "it is of another version; use the tierctl of that version" });
        }
        if header.checksum.load(Ordering::Relaxed) != layout::checksum(header.pid.load(Ordering::Relaxed)) {
            return Err(AttachError::Unknown { reason: "its header is damaged" });
        }
        Ok(attachment)
    }

    fn segment(&self) -> &Segment {
        // SAFETY: mapped with a segment's size for as long as `self` lives; made of atomics and padding, for which
        // any bytes are valid.
        unsafe { self.at.cast().as_ref() }
    }

    /// Copies out the figures of one moment.
    ///
    /// # Errors
    /// `Unknown` if the publisher never finishes writing (it was stopped in the middle).
    pub fn read(&self) -> Result<Snapshot, AttachError> {
        let segment = self.segment();
        let header = &segment.header;
        let mut snapshot = Snapshot {
            pid: header.pid.load(Ordering::Relaxed),
            parent: header.parent.load(Ordering::Relaxed),
            command: text(&header.command),
            started_unix_s: header.started_unix_s.load(Ordering::Relaxed),
            ended: header.ended.load(Ordering::Acquire) != 0,
            policy: text(&header.policy),
            policy_error: text(&header.policy_error),
            events: events(segment),
            events_total: header.events_total.load(Ordering::Acquire),
            modules: modules(segment),
            ..Snapshot::default()
        };
        read_consistently(segment, &mut snapshot)?;
        snapshot.sites = sites(segment, snapshot.tiers.len());
        snapshot.profile = ProfileUse {
            interval: word(&header.profile_interval),
            wanted: word(&header.profile_wanted),
            since_ms: word(&header.profile_since_ms),
            off_ms: word(&header.profile_off_ms),
            lost: word(&header.profile_lost),
        };
        snapshot.rss = resident(snapshot.pid);
        Ok(snapshot)
    }
}

impl Attachment {
    /// Asks the process to sample its heap profile at this interval, bytes; 0 for not at all. It does so at its next
    /// publication, brought within [its bounds](crate::profile::clamp); [`Snapshot::profile`] shows when.
    pub fn want_profile(&self, interval: u64) {
        self.segment().header.profile_wanted.store(interval, Ordering::Relaxed);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and the last use of it. If it fails, address space is lost and nothing else.
        let _ = unsafe { map::unmap(self.at, layout::SIZE) };
    }
}

/// Reads what the sequence number guards. A publisher that was killed in the middle leaves it odd for ever: after
/// enough tries the figures are taken as they are.
fn read_consistently(segment: &Segment, into: &mut Snapshot) -> Result<(), AttachError> {
    const TRIES: u32 = 1000;
    for attempt in 0..TRIES {
        let before = segment.header.sequence.begin_read();
        if before.is_settled() || attempt + 1 == TRIES {
            into.uptime_ms = segment.header.uptime_ms.load(Ordering::Relaxed);
            let count = (segment.header.tier_count.load(Ordering::Relaxed) as usize).min(TIERS_MAX);
            into.tiers = segment.tiers[..count].iter().map(tier).collect();
            into.size_classes = size_classes(segment, count);
            if segment.header.sequence.is_unchanged(before) {
                return Ok(());
            }
        }
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    Err(AttachError::Unknown { reason: "its figures change faster than they can be read; try again" })
}

fn word(at: &AtomicU64) -> u64 {
    at.load(Ordering::Relaxed)
}

fn tier(record: &layout::TierRecord) -> TierUse {
    TierUse {
        name: text(&record.name),
        kind: text(&record.kind),
        limit: word(&record.limit),
        live: word(&record.live),
        committed: word(&record.committed),
        committed_max: word(&record.committed_max),
        allocations: word(&record.allocations),
        frees: word(&record.frees),
        returned: word(&record.returned),
        fallbacks: word(&record.fallbacks),
        unavailable: word(&record.unavailable) != 0,
        quarantined: word(&record.quarantined),
    }
}

fn size_classes(segment: &Segment, tiers: usize) -> Vec<SizeClassUse> {
    let used = |class: &&layout::ClassRecord| class.tiers[..tiers].iter().any(|t| word(&t.allocations) > 0);
    let column = |class: &layout::ClassRecord, of: fn(&layout::ClassTier) -> &AtomicU64| {
        class.tiers[..tiers].iter().map(|tier| word(of(tier))).collect()
    };
    segment
        .classes
        .iter()
        .filter(used)
        .map(|class| SizeClassUse {
            block_size: word(&class.block_size),
            live: column(class, |t| &t.live),
            allocations: column(class, |t| &t.allocations),
            live_bytes: column(class, |t| &t.live_bytes),
        })
        .collect()
}

fn events(segment: &Segment) -> Vec<Event> {
    let mut entries: Vec<_> = segment.events[..EVENTS].iter().filter(|e| word(&e.count) > 0).collect();
    entries.sort_by_key(|e| word(&e.serial));
    entries
        .into_iter()
        .filter_map(|e| {
            let tier = e.tier.load(Ordering::Relaxed);
            Some(Event {
                at_ms: word(&e.at_ms),
                kind: EventKind::from_number(e.kind.load(Ordering::Relaxed))?,
                tier: (tier != u32::MAX).then_some(tier as usize),
                bytes: word(&e.bytes),
                count: word(&e.count),
            })
        })
        .collect()
}

fn sites(segment: &Segment, tiers: usize) -> Vec<SiteUse> {
    let mut sites: Vec<_> = segment
        .sites
        .iter()
        .filter(|site| word(&site.hash) != 0)
        .map(|site| SiteUse {
            frames: site.frames[..FRAMES].iter().map(word).take_while(|&pc| pc != 0).collect(),
            tiers: site.tiers[..tiers].iter().map(site_tier).collect(),
            samples: word(&site.samples),
        })
        .collect();
    sites.sort_by_key(|site| std::cmp::Reverse(site.allocated_bytes()));
    sites
}

/// What was freed is read first: a block that is freed while we read was allocated before, so it cannot count as freed and
/// not as allocated.
fn site_tier(record: &layout::SiteTier) -> SiteTierUse {
    let freed = (word(&record.freed_objects_256ths), word(&record.freed_bytes));
    // Keeps the order that is spoken of above.
    fence(Ordering::Acquire);
    let (objects, bytes) = (word(&record.allocated_objects_256ths), word(&record.allocated_bytes));
    SiteTierUse {
        allocated_objects: objects as f64 / 256.0,
        allocated_bytes: bytes,
        live_objects: objects.saturating_sub(freed.0) as f64 / 256.0,
        live_bytes: bytes.saturating_sub(freed.1),
    }
}

fn modules(segment: &Segment) -> Vec<Module> {
    let len = (segment.header.modules_len.load(Ordering::Acquire) as usize).min(layout::MODULES);
    let bytes: Vec<u8> = segment.modules[..len].iter().map(|b| b.load(Ordering::Relaxed)).collect();
    let number = |text: Option<&str>| u64::from_str_radix(text?, 16).ok();
    String::from_utf8_lossy(&bytes)
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(4, ' ');
            Some(Module {
                start: number(parts.next())?,
                end: number(parts.next())?,
                file_offset: number(parts.next())?,
                path: PathBuf::from(parts.next()?),
            })
        })
        .collect()
}

fn text(bytes: &[AtomicU8]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|b| b.load(Ordering::Relaxed)).take_while(|&b| b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The process's resident set in bytes; 0 if it has ended.
fn resident(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let os_pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    os_pages * map::os_page_size() as u64
}

/// Where processes of this user publish unless told otherwise: `/dev/shm/tiermem-UID`.
pub fn default_dir() -> PathBuf {
    PathBuf::from(format!("/dev/shm/tiermem-{}", tiermem_sys::process::user()))
}

/// All directories that may hold segments which this user may read: the default one and those of `tierctl run` in
/// it; for root, every user's.
pub fn control_dirs() -> Vec<PathBuf> {
    let everyone = tiermem_sys::process::user() == 0;
    let own = default_dir();
    let tops = fs::read_dir("/dev/shm").into_iter().flatten().flatten().map(|entry| entry.path());
    let tops = tops.filter(|path| {
        *path == own || everyone && path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("tiermem-"))
    });
    tops.flat_map(|top| {
        let runs = fs::read_dir(&top).into_iter().flatten().flatten().map(|entry| entry.path());
        let runs: Vec<_> = runs.filter(|path| path.is_dir()).collect();
        std::iter::once(top).chain(runs)
    })
    .filter(|dir| dir.is_dir())
    .collect()
}
