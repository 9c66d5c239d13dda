//! Which source of accesses a user asks for.

/// Where accesses come from. See `docs/traces.md` for what each can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Marks of accessed OS pages, cleared and read again: `clear_refs` and `smaps`.
    ClearRefs,
    /// OS pages that were written since they were protected: an asynchronous userfaultfd and `PAGEMAP_SCAN`.
    PagemapScan,
}

impl SourceKind {
    /// All of them, the best first.
    pub const ALL: [Self; 2] = [Self::ClearRefs, Self::PagemapScan];

    /// The word for people, that of the mechanism in `tierctl list`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClearRefs => "clear-refs",
            Self::PagemapScan => "pagemap-scan",
        }
    }

    /// What the program pays for each OS page that is found accessed, nanoseconds: the CPU sets a mark anew, or the kernel lifts
    /// the protection. As measured on a virtual machine (`docs/measurements.md`), and rather too much than too little.
    pub(super) const fn cost_ns(self) -> u64 {
        match self {
            Self::ClearRefs => 200,
            Self::PagemapScan => 3000,
        }
    }

    /// What it sees.
    pub const fn sees(self) -> &'static str {
        match self {
            Self::ClearRefs => "reads and writes",
            Self::PagemapScan => "writes, no reads",
        }
    }
}

/// What is asked for: `auto` or a source, and perhaps `,every=MS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// `None`: the best that works.
    pub source: Option<SourceKind>,
    /// How often memory is looked at, milliseconds.
    pub every_ms: u32,
}

/// Text that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

impl Request {
    /// How often memory is looked at where nothing is said, milliseconds.
    pub const EVERY_MS_DEFAULT: u32 = 100;
    /// What may be asked for, for messages.
    pub const FORMS: &'static str = "off, auto, clear-refs or pagemap-scan, and after these ,every=MS with 1 to 60000";

    /// Reads it; `None` for `off` and for nothing.
    ///
    /// # Errors
    /// If it is none of [`FORMS`](Self::FORMS).
    pub fn parse(text: &[u8]) -> Result<Option<Self>, Unclear> {
        let (name, every) = match text.iter().position(|&byte| byte == b',') {
            Some(comma) => (&text[..comma], Some(&text[comma + 1..])),
            None => (text, None),
        };
        let source = match name {
            b"" | b"off" if every.is_none() => return Ok(None),
            b"auto" => None,
            name => Some(SourceKind::ALL.into_iter().find(|kind| kind.as_str().as_bytes() == name).ok_or(Unclear)?),
        };
        let every_ms = every.map_or(Ok(Self::EVERY_MS_DEFAULT), every_ms)?;
        Ok(Some(Self { source, every_ms }))
    }
}

fn every_ms(text: &[u8]) -> Result<u32, Unclear> {
    let digits = text.strip_prefix(b"every=").ok_or(Unclear)?;
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.filter(|ms| (1..=60_000).contains(ms)).ok_or(Unclear)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let request = |source, every_ms| Ok(Some(Request { source, every_ms }));
        assert_eq!(Request::parse(b""), Ok(None));
        assert_eq!(Request::parse(b"off"), Ok(None));
        assert_eq!(Request::parse(b"auto"), request(None, 100));
        assert_eq!(Request::parse(b"auto,every=7"), request(None, 7));
        assert_eq!(Request::parse(b"clear-refs"), request(Some(SourceKind::ClearRefs), 100));
        assert_eq!(Request::parse(b"pagemap-scan,every=60000"), request(Some(SourceKind::PagemapScan), 60_000));
        for wrong in ["on", "auto,", "off,every=5", "auto,every=0", "auto,every=60001", "auto,every=x", "clear-refs,7"]
        {
            assert_eq!(Request::parse(wrong.as_bytes()), Err(Unclear), "{wrong}");
        }
    }
}
