//! How an access is packed: eight bytes, and sixteen for a range.
//!
//! ```text
//! bit   63      62      61..53   52..48   47..0
//!       store   range   0        size     address          size 1 to 16; 0 for a range, whose length follows as a word
//! ```
//! Addresses of programs have 47 bits on x86-64, so the high 16 bits are free.

/// One word of a batch.
pub type Record = u64;

/// Bits of an address.
pub const ADDRESS_BITS: u32 = 48;
/// Set for a store.
pub const STORE: u64 = 1 << 63;
/// Set for a range: the next word of the batch is its length in bytes.
pub const RANGE: u64 = 1 << 62;
/// A load of eight bytes, whose value the batch knows.
pub const LOAD_OF_WORD: u64 = 8;

/// Packs one access of 1 to 16 bytes.
pub const fn access(address: u64, size: u8, store: bool) -> Record {
    (address & ((1 << ADDRESS_BITS) - 1)) | (size as u64) << ADDRESS_BITS | if store { STORE } else { 0 }
}

/// Packs a range of any length; two words.
pub const fn range(address: u64, len: u64, store: bool) -> [Record; 2] {
    [access(address, 0, store) | RANGE, len]
}

/// The address of a record.
#[inline]
pub const fn address(record: Record) -> u64 {
    record & ((1 << ADDRESS_BITS) - 1)
}

/// The size of a record that is no range, bytes.
#[inline]
pub const fn size(record: Record) -> u64 {
    record >> ADDRESS_BITS & 0x1f
}
