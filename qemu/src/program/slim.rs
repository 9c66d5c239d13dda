//! Programs without what only a debugger reads: that is most of a debug build, and everything goes into the guest's memory.

use object::Endianness;
use object::LittleEndian as LE;
use object::elf::{FileHeader64, PT_LOAD, SHT_NOBITS, SHT_STRTAB, SHT_SYMTAB, SectionHeader64};
use object::pod::bytes_of;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

/// Offsets of `e_shoff` and of `e_shentsize`, `e_shnum`, `e_shstrndx` in the head of the file.
const SECTIONS_AT: std::ops::Range<usize> = 40..48;
const SECTION_COUNTS: std::ops::Range<usize> = 58..64;
/// The offset of `sh_offset` in a section's header.
const OFFSET_AT: std::ops::Range<usize> = 24..32;
/// How sections and their table are aligned.
const ALIGNMENT: usize = 16;

/// What is left beside that which is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// The names of functions, so that backtraces have them (without files and lines).
    Symbols,
}

/// The program without its debug data. What is no program for this kind of machine stays as it is.
pub fn slim(program: Vec<u8>, keep: Keep) -> Vec<u8> {
    let Some(end) = end_of_loaded(&program) else { return program };
    match keep {
        Keep::Symbols => with_symbols(&program, end).unwrap_or(program),
        Keep::Nothing => {
            let mut short = program;
            short.truncate(end);
            short[SECTIONS_AT].fill(0);
            short[SECTION_COUNTS].fill(0);
            short
        }
    }
}

/// Where the last segment that is loaded ends in the file.
fn end_of_loaded(program: &[u8]) -> Option<usize> {
    let header = FileHeader64::<Endianness>::parse(program).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, program).ok()?;
    let loaded = segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD);
    let end = loaded.filter_map(|s| s.p_offset(endian).checked_add(s.p_filesz(endian))).max()?;
    let end = usize::try_from(end).ok()?;
    (size_of::<FileHeader64<Endianness>>()..=program.len()).contains(&end).then_some(end)
}

/// The loaded part, the tables of symbols and strings behind it, and a table of sections in which the others are empty: so
/// the numbers by which sections name each other stay true.
fn with_symbols(program: &[u8], end: usize) -> Option<Vec<u8>> {
    let header = FileHeader64::<LE>::parse(program).ok()?;
    let sections: &[SectionHeader64<LE>] = header.section_headers(LE, program).ok()?;
    let mut short = program[..end].to_vec();
    let mut table = Vec::new();
    for section in sections {
        let mut entry = bytes_of(section).to_vec();
        let kind = section.sh_type(LE);
        let ends = section.sh_offset(LE).checked_add(section.sh_size(LE))?;
        if kind == SHT_SYMTAB || kind == SHT_STRTAB {
            short.resize(short.len().next_multiple_of(ALIGNMENT), 0);
            entry[OFFSET_AT].copy_from_slice(&(short.len() as u64).to_le_bytes());
            short.extend(section.data(LE, program).ok()?);
        } else if kind != SHT_NOBITS && ends > end as u64 {
            entry.fill(0);
        }
        table.extend(entry);
    }
    short.resize(short.len().next_multiple_of(ALIGNMENT), 0);
    let at = (short.len() as u64).to_le_bytes();
    short[SECTIONS_AT].copy_from_slice(&at);
    short.extend(table);
    Some(short)
}

#[cfg(test)]
mod tests {
    use super::{Keep, slim};
    use object::{Object, ObjectSection, ObjectSymbol};
    use std::os::unix::fs::PermissionsExt;

    fn runs(program: &[u8]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = std::process::Command::new(&path).arg("--list").output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("a_program_runs_without_its_debug_data"));
    }

    #[test]
    fn a_program_runs_without_its_debug_data() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let (named, bare) = (slim(whole.clone(), Keep::Symbols), slim(whole.clone(), Keep::Nothing));
        assert!(bare.len() < named.len() && named.len() < whole.len());
        [&named, &bare].into_iter().for_each(|program| runs(program));
        let names = |program: &[u8]| {
            let file = object::File::parse(program).unwrap();
            assert!(file.sections().all(|section| !section.name().unwrap_or_default().starts_with(".debug_info")));
            file.symbols().filter(|symbol| symbol.name().is_ok_and(|name| name.contains("end_of_loaded"))).count()
        };
        assert!(names(&named) > 0 && names(&bare) == 0);
    }

    #[test]
    fn what_is_no_program_stays_as_it_is() {
        for other in [&b"#!/bin/sh\n"[..], b"", b"\x7fELF\x02\x01\x01"] {
            assert_eq!(slim(other.to_vec(), Keep::Symbols), other);
            assert_eq!(slim(other.to_vec(), Keep::Nothing), other);
        }
    }
}
