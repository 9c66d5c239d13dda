//! Text for a report, put together on the stack.

/// Longest report, bytes.
const LEN_MAX: usize = 2048;

/// Text under construction; what does not fit is left out.
pub struct Text {
    bytes: [u8; LEN_MAX],
    len: usize,
}

impl Text {
    /// No text.
    pub const fn new() -> Self {
        Self { bytes: [0; LEN_MAX], len: 0 }
    }

    /// Appends text.
    pub fn add(&mut self, text: &[u8]) -> &mut Self {
        let kept = text.len().min(LEN_MAX - self.len);
        self.bytes[self.len..self.len + kept].copy_from_slice(&text[..kept]);
        self.len += kept;
        self
    }

    /// Appends a number in decimal.
    pub fn number(&mut self, number: usize) -> &mut Self {
        self.digits(number, 10)
    }

    /// Appends an address or offset in hexadecimal.
    pub fn hex(&mut self, number: usize) -> &mut Self {
        self.add(b"0x").digits(number, 16)
    }

    fn digits(&mut self, mut number: usize, base: usize) -> &mut Self {
        let mut digits = [0u8; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b"0123456789abcdef"[number % base];
            number /= base;
            if number == 0 {
                return self.add(&digits[first..]);
            }
        }
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_an_end() {
        let mut text = Text::new();
        text.add(b"a ").number(0).add(b" ").number(usize::MAX).add(b" ").hex(0xdead);
        assert_eq!(text.as_bytes(), b"a 0 18446744073709551615 0xdead");
        (0..LEN_MAX).for_each(|_| {
            text.add(b"xy");
        });
        assert_eq!(text.as_bytes().len(), LEN_MAX);
    }
}
