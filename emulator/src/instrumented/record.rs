//! How what a thread does is packed: two words, a record and its value.
//!
//! ```text
//! bit   63      62      61      60..53   52..48   47..0
//!       store   range   event   0        size     address
//!
//! an access    store or load            1 to 16           value: what was loaded, if that is 8 bytes
//! a range      store or load    range   0                 value: its length, bytes
//! a block      allocated (1)    event   0                 value: size in the low 48 bits, site above
//!              or freed (0)     event   0
//! ```
//! Addresses of programs have 47 bits on x86-64, so the high 16 bits are free. Where a record needs no value, the word
//! beside it means nothing.

/// One word of a batch.
pub type Record = u64;

/// Bits of an address, and of a block's size.
pub const ADDRESS_BITS: u32 = 48;
/// Set for a store, and where a block is allocated.
pub const STORE: u64 = 1 << 63;
/// Set for a range.
pub const RANGE: u64 = 1 << 62;
/// Set where a block begins or ends.
pub const EVENT: u64 = 1 << 61;
/// A load of eight bytes, whose value the batch knows.
pub const LOAD_OF_WORD: u64 = 8;
/// The number of the site that stands for all that have none of their own.
pub const SITE_MAX: u32 = 0xffff;

const LOW: u64 = (1 << ADDRESS_BITS) - 1;

/// Packs one access of 1 to 16 bytes.
pub const fn access(address: u64, size: u8, store: bool) -> Record {
    (address & LOW) | (size as u64) << ADDRESS_BITS | if store { STORE } else { 0 }
}

/// Packs a range of any length, which is its value.
pub const fn range(address: u64, store: bool) -> Record {
    access(address, 0, store) | RANGE
}

/// Packs the begin of a block, and its value.
pub const fn allocated(address: u64, size: u64, site: u32) -> (Record, u64) {
    let size = if size > LOW { LOW } else { size };
    let site = if site > SITE_MAX { SITE_MAX } else { site };
    (access(address, 0, true) | EVENT, size | (site as u64) << ADDRESS_BITS)
}

/// Packs the end of a block.
pub const fn freed(address: u64) -> Record {
    access(address, 0, false) | EVENT
}

/// Size and site of a block.
pub const fn block(value: u64) -> (u64, u32) {
    (value & LOW, (value >> ADDRESS_BITS) as u32)
}

/// The address of a record.
#[inline]
pub const fn address(record: Record) -> u64 {
    record & LOW
}

/// The size of an access, bytes.
#[inline]
pub const fn size(record: Record) -> u64 {
    record >> ADDRESS_BITS & 0x1f
}
