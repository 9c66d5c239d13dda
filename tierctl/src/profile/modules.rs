//! The code that a running process has mapped.

use std::fs;

use tiermem::control::Module;

/// The executable mappings of files in a process; none if it cannot be looked at (it has ended).
pub fn of_process(pid: u32) -> Vec<Module> {
    fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default().lines().filter_map(parse).collect()
}

/// One line of proc_pid_maps(5): `start-end perms offset dev inode path`.
fn parse(line: &str) -> Option<Module> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if !fields.next()?.contains('x') {
        return None;
    }
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let file_offset = hex(fields.next()?)?;
    let path = line.get(line.find('/')?..)?;
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    Some(Module { start: hex(start)?, end: hex(end)?, file_offset, path: path.into() })
}

#[cfg(test)]
mod tests {
    use super::{of_process, parse};

    #[test]
    fn own_code_is_found_and_other_mappings_are_not() {
        let here = own_code_is_found_and_other_mappings_are_not as fn() as usize as u64;
        let modules = of_process(std::process::id());
        let own = modules.iter().find(|m| (m.start..m.end).contains(&here)).unwrap();
        assert!(own.path.file_name().unwrap().to_string_lossy().starts_with("tierctl"));
        assert!(parse("7f00-7f10 rw-p 00000000 00:00 0 /a").is_none());
        assert!(parse("7f00-7f10 r-xp 00000000 00:00 0 [vdso]").is_none());
        let odd = parse("7f00-7f10 r-xp 00002000 00:00 12 /a b (deleted)").unwrap();
        assert_eq!((odd.start, odd.file_offset, odd.path.to_str()), (0x7f00, 0x2000, Some("/a b")));
        assert!(of_process(u32::MAX).is_empty());
    }
}
