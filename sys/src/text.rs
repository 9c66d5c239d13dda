//! Paths and numbers as text without allocating.

use std::ffi::CStr;

/// A short path under construction, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct PathBuffer {
    bytes: [u8; Self::LEN_MAX],
    len: usize,
}

impl Default for PathBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl PathBuffer {
    /// Longest path, the final NUL included.
    pub const LEN_MAX: usize = 96;

    /// An empty path.
    pub const fn new() -> Self {
        Self { bytes: [0; Self::LEN_MAX], len: 0 }
    }

    /// Appends text.
    ///
    /// # Panics
    /// If the path becomes too long: what is appended are constants and numbers.
    pub fn push(&mut self, text: &[u8]) -> &mut Self {
        let end = self.len + text.len();
        assert!(end < Self::LEN_MAX, "only short paths are built here");
        self.bytes[self.len..end].copy_from_slice(text);
        self.len = end;
        self
    }

    /// Appends a number in decimal.
    ///
    /// # Panics
    /// As [`PathBuffer::push`].
    pub fn push_number(&mut self, mut number: u64) -> &mut Self {
        let mut digits = [0u8; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return self.push(&digits[first..]);
            }
        }
    }

    /// The path.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

/// The decimal number at the start of `text`, after blanks.
pub fn leading_number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    text[..digits].iter().try_fold(0u64, |n, &d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_numbers() {
        let mut path = PathBuffer::new();
        path.push(b"/proc/").push_number(0).push(b"/").push_number(u64::MAX);
        assert_eq!(path.as_c_str(), c"/proc/0/18446744073709551615");
        assert_eq!(leading_number(b"  42 kB"), Some(42));
        assert_eq!(leading_number(b"kB"), None);
        assert_eq!(leading_number(b"99999999999999999999999"), None);
    }
}
