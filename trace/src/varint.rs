//! Numbers of varying length: seven bits a byte, least significant first, the top bit set where more follow (LEB128, as in
//! DWARF 5, section 7.6), and signed ones folded so that small ones of either sign stay short.

/// Appends a number.
#[inline]
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that a number takes.
#[inline]
pub const fn len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// A number's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    bytes: [u8; 10],
    len: usize,
}

impl Encoded {
    /// They.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A number's bytes, without allocating.
pub fn encoded(mut value: u64) -> Encoded {
    let mut all = Encoded { bytes: [0; 10], len: len(value) };
    for byte in &mut all.bytes[..all.len] {
        *byte = value as u8 | 0x80;
        value >>= 7;
    }
    all.bytes[all.len - 1] &= 0x7f;
    all
}

/// The difference `to - from` as a number that is small where the two are near: 0, −1, 1, −2, … become 0, 1, 2, 3, …
#[inline]
pub const fn fold(from: u64, to: u64) -> u64 {
    let delta = to.wrapping_sub(from);
    delta << 1 ^ ((delta as i64) >> 63) as u64
}

/// `to`, from `from` and what [`fold`] gave.
#[inline]
pub const fn unfold(from: u64, folded: u64) -> u64 {
    from.wrapping_add(folded >> 1 ^ (folded & 1).wrapping_neg())
}

/// Reads from the front of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What is left.
    pub rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// The next byte.
    #[inline]
    pub fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// The next number; `None` if there is none, or if it has more than 64 bits.
    #[inline]
    pub fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        if first < 0x80 {
            return Some(first.into());
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// As [`number`](Self::number), for one that must fit.
    #[inline]
    pub fn narrow<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    /// The next `len` bytes.
    #[inline]
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    /// A text with its length. What is no UTF-8 is replaced.
    pub fn text(&mut self) -> Option<String> {
        let len = self.narrow()?;
        Some(String::from_utf8_lossy(self.bytes(len)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put(&mut out, value);
                assert_eq!((out.len(), &out[..]), (len(value), encoded(value).as_slice()));
                let mut input = Input { rest: &out };
                assert_eq!((input.number(), input.rest.len()), (Some(value), 0));
                assert_eq!(Input { rest: &out[..out.len() - 1] }.number(), None);
                assert_eq!(unfold(7, fold(7, value)), value);
                assert_eq!(unfold(value, fold(value, 7)), 7);
            }
        }
        assert_eq!([fold(5, 5), fold(5, 4), fold(5, 6), fold(5, 3)], [0, 1, 2, 3]);
    }

    #[test]
    fn more_than_64_bits_are_refused() {
        let mut bytes = [0xff; 10];
        bytes[9] = 2;
        assert_eq!(Input { rest: &bytes }.number(), None);
        assert_eq!(Input { rest: &[0x80; 11] }.number(), None);
    }
}
