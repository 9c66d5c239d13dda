//! The segment's bytes, shared between the publishing process and its readers.
//!
//! ```text
//!      0  Header            identity, lengths, sequence number, counters of events and sites, policy
//!   4096  TierRecord    × 8     128 B each
//!   5120  ClassRecord   × 61    200 B each; the last one is the large blocks'
//!  20480  EventRecord   × 128    40 B each, a ring
//!  28672  SiteRecord    × 4096  400 B each, a hash table; untouched ones cost no memory
//! 1667072  modules          65536 B of text, one `start end offset path` a line, hexadecimal
//! 1732608  end
//! ```
//!
//! Little-endian; the host's word size is 8. Statistics (`TierRecord`, `ClassRecord`, `uptime_ms`) are written between
//! two increments of `Header::sequence`, which is odd meanwhile; a reader that sees it odd or changed reads again.
//! Everything else is written once, or word by word with no relation to other words.

use tiermem_sys::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use crate::seqlock::Sequence;
use crate::size_class::CLASS_COUNT;
use crate::tiers::TIERS_MAX;

/// `tiermem\0` as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"tiermem\0");
/// Version of this layout. Readers refuse others.
pub const VERSION: u32 = 2;
/// Entries of the ring of events.
pub const EVENTS: usize = 128;
/// Entries of the table of sites; the last one is for samples whose own site could not be entered.
pub const SITES: usize = 4096;
/// Return addresses kept per site.
pub const FRAMES: usize = 16;
/// Bytes for the list of modules.
pub const MODULES: usize = 64 << 10;

/// See the module.
#[repr(C)]
pub struct Header {
    pub magic: AtomicU64,
    pub version: AtomicU32,
    pub size: AtomicU32,
    /// FNV-1a over `magic`, `version`, `size` and `pid`: tells a segment from a damaged or half-made one.
    pub checksum: AtomicU32,
    pub pid: AtomicU32,
    pub parent: AtomicU32,
    pub tier_count: AtomicU32,
    pub started_unix_s: AtomicU64,
    pub uptime_ms: AtomicU64,
    pub sequence: Sequence,
    pub ended: AtomicU32,
    pub events_total: AtomicU64,
    pub modules_len: AtomicU64,
    pub command: [AtomicU8; 64],
    pub policy: [AtomicU8; 1024],
    pub policy_error: [AtomicU8; 1024],
    /// Mean bytes between two samples of the heap profile; 0 while nothing is sampled.
    pub profile_interval: AtomicU64,
    /// What a reader wants it to be; whatever stands here is brought within bounds before it comes into force.
    pub profile_wanted: AtomicU64,
    /// When sampling began, on the clock of `uptime_ms`; 0 if it never did.
    pub profile_since_ms: AtomicU64,
    /// For how long it was off since, milliseconds, not counting the present pause.
    pub profile_off_ms: AtomicU64,
    /// Samples whose blocks are not tracked because too many are: they are missing from the live figures.
    pub profile_lost: AtomicU64,
}

/// One tier's figures.
#[repr(C)]
pub struct TierRecord {
    pub name: [AtomicU8; 24],
    pub kind: [AtomicU8; 16],
    pub limit: AtomicU64,
    pub live: AtomicU64,
    pub committed: AtomicU64,
    pub committed_max: AtomicU64,
    pub allocations: AtomicU64,
    pub frees: AtomicU64,
    pub returned: AtomicU64,
    pub fallbacks: AtomicU64,
    pub unavailable: AtomicU64,
    pub quarantined: AtomicU64,
    pub reserved: AtomicU64,
}

/// One class's figures in one tier.
#[repr(C)]
pub struct ClassTier {
    pub live: AtomicU64,
    pub allocations: AtomicU64,
    pub live_bytes: AtomicU64,
}

/// One class's figures.
#[repr(C)]
pub struct ClassRecord {
    pub block_size: AtomicU64,
    pub tiers: [ClassTier; TIERS_MAX],
}

/// One event; valid if `count` is not 0.
#[repr(C)]
pub struct EventRecord {
    pub at_ms: AtomicU64,
    pub bytes: AtomicU64,
    pub count: AtomicU64,
    /// Number of the event since the start, from 1.
    pub serial: AtomicU64,
    pub kind: AtomicU32,
    /// Tier number; `u32::MAX` for none.
    pub tier: AtomicU32,
}

/// What one site did in one tier: estimates, from the weights of its samples. What is live is allocated less freed.
#[repr(C)]
pub struct SiteTier {
    pub allocated_objects_256ths: AtomicU64,
    pub allocated_bytes: AtomicU64,
    pub freed_objects_256ths: AtomicU64,
    pub freed_bytes: AtomicU64,
}

/// One allocation site; valid if `hash` is not 0.
#[repr(C)]
pub struct SiteRecord {
    pub hash: AtomicU64,
    pub samples: AtomicU64,
    pub frames: [AtomicU64; FRAMES],
    pub tiers: [SiteTier; TIERS_MAX],
}

/// The whole segment.
#[repr(C, align(4096))]
pub struct Segment {
    pub header: Header,
    pad0: [u8; 4096 - size_of::<Header>()],
    pub tiers: [TierRecord; TIERS_MAX],
    pub classes: [ClassRecord; CLASS_COUNT + 1],
    pad1: [u8; 20480 - 5120 - 200 * (CLASS_COUNT + 1)],
    pub events: [EventRecord; EVENTS],
    pad2: [u8; 28672 - 20480 - 40 * EVENTS],
    pub sites: [SiteRecord; SITES],
    pub modules: [AtomicU8; MODULES],
}

/// Bytes in a segment.
pub const SIZE: usize = size_of::<Segment>();

const _: () = assert!(size_of::<TierRecord>() == 128);
const _: () = assert!(size_of::<ClassRecord>() == 200);
const _: () = assert!(size_of::<EventRecord>() == 40);
const _: () = assert!(size_of::<SiteRecord>() == 400);
const _: () = assert!(std::mem::offset_of!(Segment, tiers) == 4096);
const _: () = assert!(std::mem::offset_of!(Segment, events) == 20480);
const _: () = assert!(std::mem::offset_of!(Segment, sites) == 28672);
const _: () = assert!(std::mem::offset_of!(Segment, modules) == 1_667_072);
const _: () = assert!(SIZE == 1_732_608);

/// The header's checksum.
pub fn checksum(pid: u32) -> u32 {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&(SIZE as u32).to_le_bytes());
    bytes[16..].copy_from_slice(&pid.to_le_bytes());
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    const BOOK: &str = include_str!("../../../docs/formats.md");

    /// Rows `| offset | bytes | `field` |` that the book must have, from the struct itself.
    macro_rules! rows {
        ($record:ident: $($field:ident),+) => {{
            let zeroed = std::mem::MaybeUninit::<$record>::zeroed();
            // SAFETY: made of integers only, for which zero is a value.
            let record = unsafe { zeroed.assume_init_ref() };
            vec![$(format!("| {} | {} | `{}` |", offset_of!($record, $field), size_of_val(&record.$field), stringify!($field))),+]
        }};
    }

    fn missing_from_book(rows: Vec<String>) -> Vec<String> {
        rows.into_iter().filter(|row| !BOOK.contains(row.as_str())).collect()
    }

    #[test]
    fn the_book_shows_this_header() {
        let rows = rows!(Header: magic, version, size, checksum, pid, parent, tier_count, started_unix_s, uptime_ms, sequence,
            ended, events_total, modules_len, command, policy, policy_error, profile_interval, profile_wanted,
            profile_since_ms, profile_off_ms, profile_lost);
        assert_eq!(missing_from_book(rows), [""; 0]);
    }

    #[test]
    fn the_book_shows_this_tier_record() {
        let rows = rows!(TierRecord: name, kind, limit, live, committed, committed_max, allocations, frees, returned,
            fallbacks, unavailable, quarantined, reserved);
        assert_eq!(missing_from_book(rows), [""; 0]);
    }

    #[test]
    fn the_book_shows_this_site_record() {
        let site = rows!(SiteRecord: hash, samples, frames, tiers);
        let tier = rows!(SiteTier: allocated_objects_256ths, allocated_bytes, freed_objects_256ths, freed_bytes);
        assert_eq!(missing_from_book([site, tier].concat()), [""; 0]);
    }

    #[test]
    fn the_book_shows_these_parts() {
        let part = |at: usize, name: &str, count: usize, size: usize| {
            format!("{at:>7}  {name:<8}{count:>5} records of {size:>4} bytes")
        };
        let parts = vec![
            part(offset_of!(Segment, tiers), "tiers", TIERS_MAX, size_of::<TierRecord>()),
            part(offset_of!(Segment, classes), "classes", CLASS_COUNT + 1, size_of::<ClassRecord>()),
            part(offset_of!(Segment, events), "events", EVENTS, size_of::<EventRecord>()),
            part(offset_of!(Segment, sites), "sites", SITES, size_of::<SiteRecord>()),
            format!("{:>7}  modules  {MODULES} bytes of text", offset_of!(Segment, modules)),
            format!("{SIZE:>7}  end"),
        ];
        assert_eq!(missing_from_book(parts), [""; 0]);
    }

    /// Negative control: a row that is not there is missed.
    #[test]
    fn a_wrong_row_is_missed() {
        assert_eq!(missing_from_book(vec!["| 8 | 8 | `version` |".to_owned()]).len(), 1);
    }
}
