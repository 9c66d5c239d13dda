//! From site rules to address ranges: which code matches which rule, looked up once per set of loaded libraries.

use object::{Object, ObjectSymbol, SegmentFlags, SymbolKind};
use tiermem_placement::{Frame, SiteRules, TierIndex};
use tiermem_sys::map::os_page_size;

/// An executable mapping.
pub struct Module {
    pub start: usize,
    pub end: usize,
    pub file_offset: usize,
    pub path: String,
}

/// The executable mappings of files in this process.
pub fn modules() -> Vec<Module> {
    let maps = std::fs::read("/proc/thread-self/maps").unwrap_or_default();
    let module = |(start, end, file_offset, path): (_, _, _, &[u8])| Module {
        start,
        end,
        file_offset,
        path: String::from_utf8_lossy(path).into_owned(),
    };
    maps.split(|&byte| byte == b'\n').filter_map(parse_mapping).map(module).collect()
}

/// Start, end, offset in the file and path of a file's executable mapping, from one line of proc_pid_maps(5):
/// `start-end perms offset dev inode path`. Does not allocate.
pub fn parse_mapping(line: &[u8]) -> Option<(usize, usize, usize, &[u8])> {
    let path = line.get(line.iter().position(|&byte| byte == b'/')?..)?;
    let shown = path.len();
    // Of a file that was replaced since, as updates do.
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let text = std::str::from_utf8(&line[..line.len() - shown]).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if !fields.next()?.contains('x') {
        return None;
    }
    let number = |digits| usize::from_str_radix(digits, 16).ok();
    Some((number(start)?, number(end)?, number(fields.next()?)?, path))
}

/// Code that rules match.
struct Range {
    start: usize,
    end: usize,
    /// Bit per rule.
    rules: u64,
}

/// Site rules as address ranges.
pub struct Resolved {
    /// Ascending, not overlapping within `rules` of the same kind; symbols before the module they lie in.
    ranges: Vec<Range>,
    /// All code that was looked at.
    known: Vec<(usize, usize)>,
    rules: SiteRules,
}

impl Resolved {
    /// Looks the rules up in what is loaded now.
    pub fn new(rules: &SiteRules) -> Self {
        let mut ranges = Vec::new();
        let mut known = Vec::new();
        for module in modules() {
            known.push((module.start, module.end));
            let whole = matching(rules, &Frame { symbol: None, module: &module.path });
            if whole != 0 {
                ranges.push(Range { start: module.start, end: module.end, rules: whole });
            }
            if rules.rules().iter().any(|rule| rule.symbol.is_some()) {
                add_symbols(rules, &module, &mut ranges);
            }
        }
        Self { ranges, known, rules: rules.clone() }
    }

    /// The tier of the first rule that the call stack matches; `Some(None)` if none does, `None` if the stack has
    /// code that was not looked at.
    #[expect(clippy::option_option, reason = "unknown code, no match, a match")]
    pub fn tier_for(&self, size: u64, frames: &[usize]) -> Option<Option<TierIndex>> {
        // A return address may be one past its function's end; the call lies before it.
        let calls = || frames.iter().map(|pc| pc - 1);
        for (i, rule) in self.rules.rules().iter().enumerate() {
            let depth = rule.depth.map_or(usize::MAX, |depth| depth as usize);
            let hit = |pc| self.ranges.iter().any(|r| r.rules >> i & 1 == 1 && (r.start..r.end).contains(&pc));
            if rule.size.contains(size) && calls().take(depth).any(hit) {
                return Some(Some(rule.tier));
            }
        }
        let known = |pc| self.known.iter().any(|&(start, end)| (start..end).contains(&pc));
        calls().all(known).then_some(None)
    }
}

/// The rules that a frame matches, as bits.
fn matching(rules: &SiteRules, frame: &Frame<'_>) -> u64 {
    let matches = rules.rules().iter().enumerate().filter(|(_, rule)| rule.matches_frame(frame));
    matches.fold(0, |bits, (i, _)| bits | 1 << i)
}

/// Adds the functions of a module that symbol rules match. A file that cannot be read has none.
fn add_symbols(rules: &SiteRules, module: &Module, ranges: &mut Vec<Range>) {
    let Ok(bytes) = std::fs::read(&module.path) else { return };
    let Ok(file) = object::File::parse(&*bytes) else { return };
    let Some(bias) = load_bias(&file, module) else { return };
    for symbol in file.symbols().chain(file.dynamic_symbols()) {
        let Ok(name) = symbol.name() else { continue };
        if symbol.kind() != SymbolKind::Text || symbol.size() == 0 {
            continue;
        }
        let plain = format!("{:#}", rustc_demangle::demangle(name));
        let both = [plain.as_str(), name];
        let found = both
            .iter()
            .fold(0, |bits, name| bits | matching(rules, &Frame { symbol: Some(name), module: &module.path }));
        let start = (symbol.address() as usize).wrapping_add(bias);
        if found != 0 && (module.start..module.end).contains(&start) {
            ranges.push(Range { start, end: start + symbol.size() as usize, rules: found });
        }
    }
}

/// What is added to the file's addresses where the module is mapped.
fn load_bias(file: &object::File<'_>, module: &Module) -> Option<usize> {
    use object::ObjectSegment;
    // A segment is mapped from the start of the OS page that it begins in, which may hold the end of another one.
    let segment = file.segments().find(|segment| {
        let executable =
            matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. } if (p_flags & object::elf::PF_X).0 != 0);
        let (offset, len) = segment.file_range();
        let start = offset as usize / os_page_size() * os_page_size();
        executable && (start..(offset + len) as usize).contains(&module.file_offset)
    })?;
    let mapped_address =
        (segment.address() as usize + module.file_offset).wrapping_sub(segment.file_range().0 as usize);
    Some(module.start.wrapping_sub(mapped_address))
}
