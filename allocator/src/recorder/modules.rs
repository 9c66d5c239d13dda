//! Which code is mapped where, so that return addresses can be told as places in files.

use super::lines::Buffer;
use crate::sites::parse_mapping;

/// Mappings that are remembered as written. A program with more has them written again now and then, which does no harm.
const KNOWN_MAX: usize = 256;

/// The mappings of code that were written.
pub struct Known {
    ranges: [(usize, usize); KNOWN_MAX],
    count: usize,
    buffer: Buffer,
}

impl Known {
    pub const fn new() -> Self {
        Self { ranges: [(0, 0); KNOWN_MAX], count: 0, buffer: Buffer::new() }
    }

    pub const fn clear(&mut self) {
        self.count = 0;
    }

    /// Whether the code at `address` is in one of them.
    pub fn has(&self, address: usize) -> bool {
        self.ranges[..self.count].iter().any(|&(start, end)| (start..end).contains(&address))
    }

    /// Calls `visit` with start, end, offset in the file and path of each mapping of a file's code that was not there yet.
    pub fn update(&mut self, mut visit: impl FnMut(usize, usize, usize, &[u8])) {
        let Self { ranges, count, buffer } = self;
        // Without the file nothing is known, and sites stay addresses.
        let _ = buffer.each_line(c"/proc/thread-self/maps", |line| {
            if let Some((start, end, offset, path)) = parse_mapping(line)
                && !ranges[..*count].contains(&(start, end))
            {
                visit(start, end, offset, path);
                if let Some(place) = ranges.get_mut(*count) {
                    *place = (start, end);
                    *count += 1;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let parsed = |line: &str| {
            let (start, end, offset, path) = parse_mapping(line.as_bytes())?;
            Some((start, end, offset, String::from_utf8_lossy(path).into_owned()))
        };
        let line = "7f00-7f10 r-xp 00002000 00:00 12                 /a b (deleted)";
        assert_eq!(parsed(line), Some((0x7f00, 0x7f10, 0x2000, "/a b".to_owned())));
        assert_eq!(parsed("7f00-7f10 r--p 00000000 00:00 12 /a"), None);
        assert_eq!(parsed("7f00-7f10 r-xp 00000000 00:00 0 [vdso]"), None);
        assert_eq!(parsed(""), None);
    }

    #[test]
    fn code_is_found_once() {
        let mut known = Known::new();
        let here = code_is_found_once as *const () as usize;
        assert!(!known.has(here));
        let mut found = Vec::new();
        known.update(|start, end, _, path| {
            found.push((start..end, String::from_utf8_lossy(path).into_owned()));
        });
        assert!(known.has(here));
        let own = std::env::current_exe().unwrap();
        let module = found.iter().find(|(range, _)| range.contains(&here)).unwrap();
        assert_eq!(std::path::Path::new(&module.1), own);
        let lines = std::fs::read_to_string("/proc/self/maps").unwrap();
        let code = lines.lines().filter(|line| line.split(' ').nth(1).unwrap().contains('x') && line.contains('/'));
        assert_eq!(found.len(), code.count());
        known.update(|_, _, _, path| panic!("{} again", String::from_utf8_lossy(path)));
    }
}
