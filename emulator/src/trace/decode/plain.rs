//! Plain accesses, of which nearly all of a trace consists, many at a time.

use super::{Events, PADDING};
use crate::trace::{Access, Event};
use tiermem_trace::layout::{DELTA_BYTES, DELTA_LEN, GAP_BYTE, GAP_NUMBER, Memory, OTHER, SLOTS};
use tiermem_trace::varint::unfold;

/// Most bytes of a record that [`Head`] reads: tag, place, and eight each of gap and distance.
const RECORD_MAX: usize = 2 + 8 + 8;

/// Bytes to have in memory from a record's first on. With the padding, so many more stand there only where a whole record does.
const SIGHT: usize = RECORD_MAX + PADDING;

/// Bytes that follow for each code of a distance.
const BYTES_OF: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut class = 0;
    while class < DELTA_LEN.len() {
        bytes[DELTA_BYTES as usize + class] = DELTA_LEN[class];
        class += 1;
    }
    bytes
};

/// Which bits of the next eight bytes are the distance.
const BITS_OF: [u64; 32] = {
    let mut bits = [0; 32];
    let mut code = DELTA_BYTES as usize;
    while code < bits.len() {
        bits[code] = u64::MAX >> (64 - 8 * BYTES_OF[code] as u32);
        code += 1;
    }
    bits
};

/// What the first bytes of a plain access say.
struct Head {
    tag: u8,
    place: u8,
    gap: u64,
    /// Where the distance begins.
    behind: usize,
}

impl Head {
    /// `None` if the record is no plain access, or one with a gap of more than eight bytes.
    #[inline(always)]
    fn read(record: &[u8; SIGHT]) -> Option<Self> {
        let word = eight(record, 0);
        let (tag, place) = (word as u8, (word >> 8) as u8);
        if tag & 7 == OTHER {
            return None;
        }
        let (gap, len) = match tag >> 5 {
            GAP_BYTE => (word >> 16 & 0xff, 1),
            GAP_NUMBER => short_number(eight(record, 2))?,
            gap => (gap.into(), 0),
        };
        Some(Self { tag, place, gap, behind: 2 + len })
    }

    #[inline(always)]
    const fn code(&self) -> usize {
        (self.place >> 3) as usize
    }

    #[inline(always)]
    const fn len(&self) -> usize {
        self.behind + BYTES_OF[self.code()] as usize
    }

    #[inline(always)]
    fn access(&self, record: &[u8; SIGHT], memory: &mut Memory) -> Access {
        let (code, slot) = (self.code(), usize::from(self.place) % SLOTS);
        // No branch: whether a distance is short is as good as random where a program jumps.
        let near = if code < DELTA_BYTES.into() { code as u64 } else { 0 };
        let distance = near | eight(record, self.behind) & BITS_OF[code];
        let address = unfold(memory.slots[slot], distance);
        memory.remember(slot, BYTES_OF[code], address);
        memory.at = memory.at.wrapping_add(self.gap);
        Access {
            at: memory.at,
            address,
            len: 1 << (self.tag & 7),
            write: self.tag & 8 != 0,
            dependent: self.tag & 16 != 0,
        }
    }
}

#[inline(always)]
fn eight(record: &[u8; SIGHT], at: usize) -> u64 {
    // A head is at most ten bytes long.
    let at = at % 16;
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&record[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// A number with a varying length that ends within these eight bytes, and that length.
#[inline]
fn short_number(eight: u64) -> Option<(u64, usize)> {
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let ends = !eight & TOPS;
    if ends == 0 {
        return None;
    }
    let len = ends.trailing_zeros() / 8 + 1;
    let sevens = eight & !TOPS & u64::MAX >> (64 - 8 * len);
    let fourteens = sevens & 0x007f_007f_007f_007f | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
    let halves = fourteens & 0x0000_3fff_0000_3fff | (fourteens & 0x3fff_0000_3fff_0000) >> 2;
    Some((halves & 0x0fff_ffff | (halves & 0x0fff_ffff_0000_0000) >> 4, len as usize))
}

impl<B: AsRef<[u8]>> Events<B> {
    #[inline(always)]
    fn sight(bytes: &[u8], at: usize) -> Option<&[u8; SIGHT]> {
        bytes.get(at..)?.first_chunk()
    }

    /// Gives the next plain accesses to `each`, up to `most` of them. That it stops before says nothing about whether another event
    /// follows: ask [`advance`](Self::advance).
    #[inline(always)]
    pub fn accesses(&mut self, most: usize, mut each: impl FnMut(&Access)) {
        let (mut memory, mut at, mut left) = (self.memory, self.at, self.left);
        for _ in 0..most.min(left as usize) {
            let record = Self::sight(self.bytes.as_ref(), at);
            let access = if let Some((record, head)) = record.and_then(|record| Some((record, Head::read(record)?))) {
                at += head.len();
                left -= 1;
                head.access(record, &mut memory)
            } else {
                (self.memory, self.at, self.left) = (memory, at, left);
                let Some(access) = self.next_access() else { return };
                (memory, at, left) = (self.memory, self.at, self.left);
                access
            };
            each(&access);
        }
        (self.memory, self.at, self.left) = (memory, at, left);
    }

    /// The events of the rest of the block that are no plain accesses. Leaves all of them to come.
    pub(crate) fn others(&self) -> impl Iterator<Item = Event> {
        let mut rest = Events {
            bytes: self.bytes.as_ref(),
            at: self.at,
            end: self.end,
            left: self.left,
            memory: self.memory,
            malformed: self.malformed,
            offset: self.offset,
            block: self.block,
            readable: self.readable,
        };
        std::iter::from_fn(move || {
            rest.skip_accesses();
            rest.advance()
        })
    }
}

impl Events<&[u8]> {
    /// Passes over plain accesses and follows only the time. The addresses of later accesses are wrong from then on.
    fn skip_accesses(&mut self) {
        while self.left > 0
            && let Some(head) = Self::sight(self.bytes, self.at).and_then(Head::read)
        {
            self.at += head.len();
            self.left -= 1;
            self.memory.at = self.memory.at.wrapping_add(head.gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_numbers_are_what_reading_byte_by_byte_gives() {
        for shift in 0..56 {
            for value in [1_u64 << shift, (1 << shift) - 1, (1 << shift) | 0x55] {
                let mut bytes = Vec::new();
                tiermem_trace::varint::put(&mut bytes, value);
                let len = bytes.len();
                bytes.resize(8, 0xff);
                let word = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                assert_eq!(short_number(word), Some((value, len)));
            }
        }
        assert_eq!(short_number(u64::MAX), None);
    }
}
