//! The extent table's layout in shared memory (the sidecar file).
//!
//! ```text
//!  offset   size
//!       0     88   fixed part: magic, version, whose file this is, checksum (below)
//!    2048      8   sweeper: 0, or who is sweeping: [1 | generation:31 | group:16 | index:16]
//!    2056      4   groups in use: every group from here on is empty
//!    4096  1536 each, 256 of them: groups of members
//!          32 each, 48 of them: records of members (the last one of each group is never used)
//!             0  8  state: [generation:32 | phase:32], phase 0 free, 1 embryo, 2 live
//!             8  4  process id                   16  8  its start time, clock ticks since boot
//!            12  4  its PID namespace            24  8  its program image (changes at exec)
//!  397312   8 each, one per granule of the tier: entries
//!
//!  entry    63         50 49       48        47         46                    0
//!          +-------------+--------+---------+----------+-----------------------+
//!          | group    14 | poison | snapshot| uncounted| members, one bit each |
//!          +-------------+--------+---------+----------+-----------------------+
//! ```
//!
//! Invariants:
//! - An entry of 0 is free, and its granule reads as zeroes (or is made to before it is handed out).
//! - Whoever sets an entry to 0 was its only holder, and erased the granule before.
//! - With `snapshot` set, every holder maps the granule privately: the file's bytes no longer change. It is set at the
//!   first fork, and ends with the entry.
//! - `uncounted`: a child holds the granule that found no free record. Such a granule stays taken until the table is
//!   made anew.
//! - A bit is removed by its member, or by a sweeper once the member is dead.
//!
//! All numbers are in the host's byte order, which is little-endian on every supported machine.

use tiermem_sys::sync::atomic::{AtomicU32, AtomicU64};

use crate::GRANULE;

pub(super) const MAGIC: [u8; 8] = *b"TMEXTENT";
pub(super) const VERSION: u32 = 1;
/// Groups of members: processes that are no relatives and use the tier at the same time.
pub(super) const GROUPS: usize = 256;
/// Records a group has.
pub(super) const RECORDS: usize = 48;
/// Records that members use; the bit of the last one means "uncounted".
pub(super) const MEMBERS: usize = RECORDS - 1;

pub(super) const LIVE_AT: usize = 2048;
pub(super) const GROUPS_AT: usize = 4096;
pub(super) const ENTRIES_AT: usize = GROUPS_AT + GROUPS * size_of::<Group>();

/// Bytes of a sidecar for this many granules.
pub(super) const fn sidecar_len(granules: u32) -> usize {
    ENTRIES_AT + granules as usize * size_of::<u64>()
}

/// What never changes while the table is in use, except that `granules` may grow. Read and written through the file,
/// under the opening lock, never through the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Fixed {
    pub magic: [u8; 8],
    pub version: u32,
    /// 1 if tiermem made the file, so that it may remove it.
    pub made_here: u32,
    pub granule: u64,
    pub granules: u64,
    pub groups: u32,
    pub records: u32,
    /// Inode, birth time and device of the file that the table is about.
    pub file_inode: u64,
    pub file_birth_ns: u64,
    pub file_device: u64,
    /// Hash of the kernel's boot id: after a reboot no member lives.
    pub boot: u64,
    pub spare: u64,
    /// FNV-1a over everything before.
    pub checksum: u64,
}

const _: () = assert!(size_of::<Fixed>() == 88 && size_of::<Fixed>() <= LIVE_AT);

impl Fixed {
    pub(super) const LEN: usize = size_of::<Self>();

    /// A header with its checksum.
    pub(super) fn new(granules: u32, file: FileMark, boot: u64, made_here: bool) -> Self {
        let mut fixed = Self {
            magic: MAGIC,
            version: VERSION,
            made_here: u32::from(made_here),
            granule: GRANULE.0,
            granules: granules.into(),
            groups: GROUPS as u32,
            records: RECORDS as u32,
            file_inode: file.inode,
            file_birth_ns: file.birth_ns,
            file_device: file.device,
            boot,
            spare: 0,
            checksum: 0,
        };
        fixed.checksum = fixed.sum();
        fixed
    }

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&self.magic);
        put(&self.version.to_le_bytes());
        put(&self.made_here.to_le_bytes());
        put(&self.granule.to_le_bytes());
        put(&self.granules.to_le_bytes());
        put(&self.groups.to_le_bytes());
        put(&self.records.to_le_bytes());
        let words = [self.file_inode, self.file_birth_ns, self.file_device, self.boot, self.spare, self.checksum];
        words.iter().for_each(|word| put(&word.to_le_bytes()));
        bytes
    }

    /// Reads a header; `None` if it is not one of this version.
    pub(super) fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let fixed = Self {
            magic: std::array::from_fn(|i| bytes[i]),
            version: half(8),
            made_here: half(12),
            granule: word(16),
            granules: word(24),
            groups: half(32),
            records: half(36),
            file_inode: word(40),
            file_birth_ns: word(48),
            file_device: word(56),
            boot: word(64),
            spare: word(72),
            checksum: word(80),
        };
        let shape = (fixed.granule, fixed.groups as usize, fixed.records as usize) == (GRANULE.0, GROUPS, RECORDS);
        let known = fixed.magic == MAGIC && fixed.version == VERSION && fixed.checksum == fixed.sum();
        (known && shape).then_some(fixed)
    }

    pub(super) const fn file(&self) -> FileMark {
        FileMark { inode: self.file_inode, birth_ns: self.file_birth_ns, device: self.file_device }
    }

    fn sum(&self) -> u64 {
        let bytes = Self { checksum: 0, ..*self }.to_bytes();
        fnv1a(&bytes[..Self::LEN - size_of::<u64>()])
    }
}

/// Names a file for good: inode numbers are used again, birth times are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileMark {
    pub inode: u64,
    pub birth_ns: u64,
    pub device: u64,
}

/// The hash of Fowler, Noll and Vo, variant 1a, 64 bits.
pub(in crate::provider) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The part of the header that changes.
#[repr(C)]
pub(super) struct Live {
    pub sweeper: AtomicU64,
    pub groups_used: AtomicU32,
    pub spare: AtomicU32,
}

/// One process that uses the tier.
#[repr(C)]
pub(super) struct Record {
    pub state: AtomicU64,
    pub pid: AtomicU32,
    pub pid_namespace: AtomicU32,
    pub start_time: AtomicU64,
    pub image: AtomicU64,
}

/// Processes that may share granules, because they descend from one another.
#[repr(C)]
pub(super) struct Group {
    pub records: [Record; RECORDS],
}

const _: () = assert!(size_of::<Record>() == 32 && size_of::<Group>() == 1536 && size_of::<Live>() == 16);
const _: () = assert!(ENTRIES_AT == 397_312 && ENTRIES_AT.is_multiple_of(4096));
const _: () = assert!(cfg!(target_endian = "little"), "formats are little-endian");

/// What a record is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free = 0,
    /// Claimed for a process that is about to exist or to fill the record in; alive while its byte is locked.
    Embryo = 1,
    Live = 2,
}

/// A record's state word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub u64);

impl State {
    pub(super) const fn phase(self) -> Phase {
        match self.0 as u32 {
            0 => Phase::Free,
            1 => Phase::Embryo,
            _ => Phase::Live,
        }
    }

    pub(super) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) const fn with(self, phase: Phase) -> Self {
        Self((self.0 >> 32 << 32) | phase as u64)
    }

    /// Free, for a next generation.
    pub(super) const fn freed(self) -> Self {
        Self((self.generation().wrapping_add(1) as u64) << 32)
    }
}

/// A member's place: group and index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub group: u16,
    pub index: u8,
}

impl Seat {
    const NONE: u32 = u32::MAX;

    pub(super) const fn pack(seat: Option<Self>) -> u32 {
        match seat {
            Some(seat) => (seat.group as u32) << 8 | seat.index as u32,
            None => Self::NONE,
        }
    }

    pub(super) const fn unpack(packed: u32) -> Option<Self> {
        if packed == Self::NONE { None } else { Some(Self { group: (packed >> 8) as u16, index: packed as u8 }) }
    }

    /// The byte of the sidecar whose lock says that an embryo lives: that of its record.
    pub(super) const fn lock_byte(self) -> u64 {
        (GROUPS_AT + self.group as usize * size_of::<Group>() + self.index as usize * size_of::<Record>()) as u64
    }
}

/// A granule's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(pub u64);

impl Entry {
    pub(super) const FREE: Self = Self(0);
    pub(super) const UNCOUNTED: u64 = 1 << MEMBERS;
    pub(super) const SNAPSHOT: u64 = 1 << 48;
    pub(super) const POISON: u64 = 1 << 49;
    const GROUP_SHIFT: u32 = 50;
    const HOLDERS: u64 = (1 << RECORDS) - 1;

    /// Held by this member alone.
    pub(super) const fn of(seat: Seat) -> Self {
        Self((seat.group as u64) << Self::GROUP_SHIFT | 1 << seat.index)
    }

    pub(super) const fn group(self) -> usize {
        (self.0 >> Self::GROUP_SHIFT) as usize
    }

    /// Bits of those that hold it, "uncounted" included.
    pub(super) const fn holders(self) -> u64 {
        self.0 & Self::HOLDERS
    }

    pub(super) const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    pub(super) const fn is_held_by(self, seat: Seat) -> bool {
        self.group() == seat.group as usize && self.0 & 1 << seat.index != 0
    }

    /// What it becomes when its last holder has erased it.
    pub(super) const fn given_up(self) -> Self {
        Self(self.0 & Self::POISON)
    }
}

const _: () = assert!(GROUPS <= 1 << (64 - Entry::GROUP_SHIFT) && MEMBERS < 48);

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: FileMark = FileMark { inode: 1, birth_ns: 2, device: 3 };

    #[test]
    fn the_header_survives_and_a_flipped_bit_does_not() {
        let fixed = Fixed::new(77, MARK, 4, true);
        let bytes = fixed.to_bytes();
        assert_eq!(Fixed::from_bytes(&bytes), Some(fixed));
        for bit in 0..Fixed::LEN * 8 {
            let mut broken = bytes;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Fixed::from_bytes(&broken), None, "bit {bit}");
        }
    }

    #[test]
    fn words_pack_and_unpack() {
        let seat = Seat { group: 255, index: 46 };
        assert_eq!(Seat::unpack(Seat::pack(Some(seat))), Some(seat));
        assert_eq!(Seat::unpack(Seat::pack(None)), None);
        let entry = Entry(Entry::of(seat).0 | Entry::SNAPSHOT | Entry::POISON);
        assert_eq!((entry.group(), entry.holders()), (255, 1 << 46));
        assert!(entry.is_held_by(seat) && !entry.has(Entry::UNCOUNTED));
        assert_eq!(entry.given_up(), Entry(Entry::POISON));
        let state = State(0).with(Phase::Live);
        assert_eq!(state.phase(), Phase::Live);
        assert_eq!((state.freed().phase(), state.freed().generation()), (Phase::Free, 1));
    }

    const BOOK: &str = include_str!("../../../../docs/formats.md");

    /// `docs/formats.md` gives every field of the fixed part its place, and every part of the file.
    #[test]
    fn the_book_shows_this_layout() {
        macro_rules! rows {
            ($($field:ident: $bytes:literal),+) => {
                [$(format!("| {} | {} | `{}` |", std::mem::offset_of!(Fixed, $field), $bytes, stringify!($field))),+]
            };
        }
        let rows = rows!(magic: 8, version: 4, made_here: 4, granule: 8, granules: 8, groups: 4, records: 4, file_inode: 8,
            file_birth_ns: 8, file_device: 8, boot: 8, spare: 8, checksum: 8);
        let parts = [
            format!("{LIVE_AT:>7}  sweeper"),
            format!("{:>7}  groups in use", LIVE_AT + std::mem::offset_of!(Live, groups_used)),
            format!(
                "{GROUPS_AT:>7}  groups          {GROUPS} of {} bytes: {RECORDS} records of {} bytes",
                size_of::<Group>(),
                size_of::<Record>()
            ),
            format!("{ENTRIES_AT:>7}  entries"),
        ];
        for expected in rows.iter().chain(&parts) {
            assert!(BOOK.contains(expected.as_str()), "docs/formats.md lacks {expected}");
        }
        assert!(!BOOK.contains("| 8 | 8 | `version` |"), "negative control");
    }
}
