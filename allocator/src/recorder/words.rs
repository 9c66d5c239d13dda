//! Texts in buffers of a fixed size: what does not fit is left out.

use tiermem_sys::file;

/// A text of at most `N` bytes.
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    pub fn push(&mut self, text: &[u8]) -> &mut Self {
        let fitting = text.len().min(N - self.len);
        self.bytes[self.len..self.len + fitting].copy_from_slice(&text[..fitting]);
        self.len += fitting;
        self
    }

    pub fn push_number(&mut self, mut number: u64) -> &mut Self {
        let mut digits = [0; 20];
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

    pub const fn clear(&mut self) {
        self.len = 0;
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// It and a NUL, as paths are passed to the kernel; `None` if that does not fit.
    pub fn as_c_str(&mut self) -> Option<&std::ffi::CStr> {
        *self.bytes.get_mut(self.len)? = 0;
        std::ffi::CStr::from_bytes_with_nul(&self.bytes[..=self.len]).ok()
    }
}

/// Appends the command line of this process, as a shell would take it, and what is too long cut off.
pub fn push_command<const N: usize>(text: &mut Text<N>) {
    let mut arguments = [0; N];
    let len = file::read_small(c"/proc/thread-self/cmdline", &mut arguments).unwrap_or(0);
    let arguments = arguments[..len].strip_suffix(b"\0").unwrap_or(&arguments[..len]);
    for (i, argument) in arguments.split(|&byte| byte == 0).enumerate() {
        if i > 0 {
            text.push(b" ");
        }
        push_quoted(text, argument);
    }
}

fn push_quoted<const N: usize>(text: &mut Text<N>, argument: &[u8]) {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./=:,@%+".contains(byte);
    if !argument.is_empty() && argument.iter().all(plain) {
        text.push(argument);
        return;
    }
    text.push(b"'");
    for (i, part) in argument.split(|&byte| byte == b'\'').enumerate() {
        if i > 0 {
            text.push(b"'\\''");
        }
        text.push(part);
    }
    text.push(b"'");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_needs_it() {
        let quoted = |argument: &str| {
            let mut text = Text::<32>::new();
            push_quoted(&mut text, argument.as_bytes());
            String::from_utf8(text.as_bytes().to_vec()).unwrap()
        };
        assert_eq!(["-c", "a b", "", "it's"].map(quoted), ["-c", "'a b'", "''", "'it'\\''s'"]);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut text = Text::<8>::new();
        text.push(b"trace.").push_number(1234);
        assert_eq!(text.as_bytes(), b"trace.12");
        assert!(text.as_c_str().is_none());
        text.clear();
        assert_eq!(text.push(b"ab").as_c_str(), Some(c"ab"));
    }
}
