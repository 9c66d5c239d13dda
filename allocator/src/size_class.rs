//! Size classes: which block sizes there are, and which one serves a request.
//!
//! Up to 128 bytes every multiple of 16; then eight classes per doubling up to [`FINE_MAX`] and four per doubling up
//! to [`CLASS_MAX`]. Rounding a request up therefore wastes at most an eighth of it up to 1 KiB and a fifth above.
//! Each power of two is a class, so that any alignment up to [`CLASS_MAX`] finds one.

use crate::geometry::UNIT_SIZE;

/// Every block is aligned to this many bytes, as the x86-64 and AArch64 ABIs ask of `malloc`.
pub const ALIGNMENT_MIN: usize = 16;

/// Largest request that is served through the direct table of the fast path, bytes.
pub const SMALL_MAX: usize = 2048;

/// Largest request up to which there are eight classes to a doubling, bytes.
const FINE_MAX: usize = 1024;

/// Largest request that is served from a span of several blocks, bytes. Above, a block has a span of its own.
pub const CLASS_MAX: usize = 128 << 10;

/// Number of size classes.
pub const CLASS_COUNT: usize = 8 + 3 * 8 + 7 * 4;

/// Entries of the direct table: one per 16 bytes of request, from 0 to [`SMALL_MAX`] inclusive.
pub const DIRECT_COUNT: usize = SMALL_MAX / ALIGNMENT_MIN + 1;

/// Block sizes in bytes, ascending.
pub const BLOCK_SIZE: [u32; CLASS_COUNT] = block_sizes();

/// Units (of [`UNIT_SIZE`] bytes) in a span of each class.
pub const SPAN_UNITS: [u8; CLASS_COUNT] = span_units();

/// A size class: an index into [`BLOCK_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SizeClass(u8);

impl SizeClass {
    /// The class that serves a request of `size` bytes, `None` if it is larger than [`CLASS_MAX`].
    #[inline]
    pub const fn of(size: usize) -> Option<Self> {
        if size <= SMALL_MAX {
            Some(Self(DIRECT_CLASS[size.div_ceil(ALIGNMENT_MIN)]))
        } else if size <= CLASS_MAX {
            Some(Self(medium_class(size)))
        } else {
            None
        }
    }

    /// The smallest class whose blocks hold `size` bytes at a multiple of `align` (a power of two).
    pub fn of_aligned(size: usize, align: usize) -> Option<Self> {
        let size = size.max(1).checked_next_multiple_of(align)?;
        let mut class = Self::of(size)?;
        while !class.block_size().is_multiple_of(align) {
            class = Self::from_index(class.index() + 1)?;
        }
        Some(class)
    }

    /// The class at this index.
    pub const fn from_index(index: usize) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "below CLASS_COUNT")]
        if index < CLASS_COUNT { Some(Self(index as u8)) } else { None }
    }

    /// All classes, ascending.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..CLASS_COUNT).filter_map(Self::from_index)
    }

    /// The class as an index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Bytes per block.
    #[inline]
    pub const fn block_size(self) -> usize {
        BLOCK_SIZE[self.index()] as usize
    }

    /// Units per span.
    #[inline]
    pub const fn span_units(self) -> usize {
        SPAN_UNITS[self.index()] as usize
    }

    /// Blocks per span.
    #[inline]
    pub const fn span_capacity(self) -> usize {
        self.span_units() * UNIT_SIZE / self.block_size()
    }

    /// Smallest request that this class serves, bytes.
    pub const fn request_min(self) -> usize {
        if self.0 == 0 { 0 } else { BLOCK_SIZE[self.index() - 1] as usize + 1 }
    }

    /// The entries of the direct table that lead to this class (empty above [`SMALL_MAX`]).
    pub fn direct_entries(self) -> std::ops::Range<usize> {
        let end = self.block_size() / ALIGNMENT_MIN + 1;
        if end > DIRECT_COUNT {
            return 0..0;
        }
        let start = if self.0 == 0 { 0 } else { BLOCK_SIZE[self.index() - 1] as usize / ALIGNMENT_MIN + 1 };
        start..end
    }
}

const DIRECT_CLASS: [u8; DIRECT_COUNT] = direct_classes();

/// The class of a request above [`FINE_MAX`]: the two bits below the leading one choose among four.
const fn medium_class(size: usize) -> u8 {
    const FIRST: u32 = 32;
    const FINE_BITS: u32 = FINE_MAX.trailing_zeros();
    let last = size - 1;
    let bits = last.ilog2();
    let quarter = (last >> (bits - 2)) & 3;
    #[expect(clippy::cast_possible_truncation, reason = "below CLASS_COUNT for sizes up to CLASS_MAX")]
    let class = (FIRST + (bits - FINE_BITS) * 4) as u8 + quarter as u8;
    class
}

const fn block_sizes() -> [u32; CLASS_COUNT] {
    let mut sizes = [0; CLASS_COUNT];
    let mut size = 0;
    let mut i = 0;
    while i < CLASS_COUNT {
        size += if size < 128 {
            16
        } else if size < FINE_MAX as u32 {
            (1 << u32::ilog2(size)) / 8
        } else {
            (1 << u32::ilog2(size)) / 4
        };
        sizes[i] = size;
        i += 1;
    }
    assert!(size as usize == CLASS_MAX, "the last class is the largest");
    sizes
}

/// One unit for blocks of up to an eighth of it; above, the fewest units that hold four blocks and waste at most an
/// eighth.
const fn span_units() -> [u8; CLASS_COUNT] {
    let mut units = [1; CLASS_COUNT];
    let mut i = 0;
    while i < CLASS_COUNT {
        let size = BLOCK_SIZE[i] as usize;
        let mut n = 1;
        while size > UNIT_SIZE / 8 && n < 16 {
            let bytes = n * UNIT_SIZE;
            if bytes / size >= 4 && bytes % size <= bytes / 8 {
                break;
            }
            n += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
        let chosen = n as u8;
        units[i] = chosen;
        i += 1;
    }
    units
}

const fn direct_classes() -> [u8; DIRECT_COUNT] {
    let mut table = [0; DIRECT_COUNT];
    let mut class = 0;
    let mut i = 0;
    while i < DIRECT_COUNT {
        if i * ALIGNMENT_MIN > BLOCK_SIZE[class as usize] as usize {
            class += 1;
        }
        table[i] = class;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_gets_the_smallest_class_that_holds_it() {
        for size in 0..=CLASS_MAX {
            let class = SizeClass::of(size).unwrap();
            assert!(class.block_size() >= size, "{size}");
            assert!(size >= class.request_min(), "{size} fits a smaller class than {class:?}");
        }
        assert_eq!(SizeClass::of(CLASS_MAX + 1), None);
    }

    #[test]
    fn rounding_up_wastes_at_most_what_the_header_says() {
        for size in 129..=CLASS_MAX {
            let waste = SizeClass::of(size).unwrap().block_size() - size;
            let share = if size <= FINE_MAX { 8 } else { 4 };
            assert!(waste * share <= size, "{size}: {waste}");
        }
    }

    #[test]
    fn direct_entries_partition_the_direct_table() {
        let entries: Vec<_> = SizeClass::all().flat_map(SizeClass::direct_entries).collect();
        assert_eq!(entries, (0..DIRECT_COUNT).collect::<Vec<_>>());
        for class in SizeClass::all() {
            for entry in class.direct_entries() {
                assert_eq!(SizeClass::of(entry * ALIGNMENT_MIN), Some(class));
            }
        }
    }

    #[test]
    fn aligned_requests_get_aligned_blocks() {
        for shift in 0..=17 {
            let align = 1 << shift;
            for size in [0, 1, 15, 16, 17, 100, 1000, 5000, 70_000] {
                if let Some(class) = SizeClass::of_aligned(size, align) {
                    assert!(class.block_size() >= size);
                    assert!(class.block_size().is_multiple_of(align));
                }
            }
        }
        assert_eq!(SizeClass::of_aligned(usize::MAX, 64), None);
    }

    #[test]
    fn spans_hold_several_blocks_and_waste_little() {
        for class in SizeClass::all() {
            let bytes = class.span_units() * UNIT_SIZE;
            assert!(class.span_capacity() >= 4, "{class:?}");
            assert!(bytes - class.span_capacity() * class.block_size() <= bytes / 8, "{class:?}");
        }
    }

    /// The table of `docs/allocator.md`, a row for each doubling.
    #[test]
    fn the_book_shows_these_classes() {
        let mut rows = Vec::new();
        let mut row = [const { String::new() }; 3];
        for class in SizeClass::all() {
            let figures = [class.block_size(), class.span_units(), class.span_capacity()];
            for (cell, figure) in row.iter_mut().zip(figures) {
                *cell += &format!(" {figure}");
            }
            if class.block_size() >= 128 && class.block_size().is_power_of_two() {
                rows.push(format!("|{} |{} |{} |", row[0], row[1], row[2]));
                row = [const { String::new() }; 3];
            }
        }
        let book = include_str!("../../docs/allocator.md");
        let shown: Vec<&str> = book.lines().skip_while(|line| !line.starts_with("| 16 32")).take(rows.len()).collect();
        assert_eq!(shown, rows);
    }
}
