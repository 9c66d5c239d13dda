//! Names for code addresses, from the symbol tables of the files that were mapped there.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use object::elf::{SHN_XINDEX, STT_FUNC};
use object::read::elf::ElfFile64;
use object::read::{ReadCache, ReadRef};
use object::{Endianness, Object, ObjectSegment};
use tiermem::control::Module;

/// Where Debian and others keep the symbols of stripped files, by build id.
const DEBUG_FILES: &str = "/usr/lib/debug/.build-id";

/// A named code address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function, demangled; `None` where no symbol table knows it.
    pub symbol: Option<String>,
    /// Bytes from the start of the function, else from the start of the module's file, else the address itself.
    pub offset: u64,
    /// File name of the module, empty if the address is in none.
    pub module: String,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.symbol, self.module.as_str()) {
            (Some(symbol), module) => write!(f, "{symbol}+{:#x} ({module})", self.offset),
            (None, "") => write!(f, "{:#x}", self.offset),
            (None, module) => write!(f, "{module}+{:#x}", self.offset),
        }
    }
}

/// Names addresses; keeps the symbol tables that it has read.
#[derive(Debug, Default)]
pub struct Symboliser {
    tables: HashMap<PathBuf, Table>,
}

/// What is needed of one file.
#[derive(Debug, Default)]
struct Table {
    /// File offset, size and address of each loaded segment.
    segments: Vec<(u64, u64, u64)>,
    /// By address; of several at one address the largest first.
    functions: Vec<Function>,
    /// Where the names are: the file itself, or that of its symbols.
    names: Option<File>,
}

/// A function of thousands, most of which nobody asks for.
#[derive(Clone, Copy, Debug)]
struct Function {
    address: u64,
    /// 0 if it is not known.
    size: u64,
    /// Where the mangled name begins in the file.
    name_at: u64,
}

impl Symboliser {
    /// Names a return address. (The call is one instruction before it, and may be the last one of its function.)
    pub fn frame(&mut self, address: u64, modules: &[Module]) -> Frame {
        let call = address.saturating_sub(1);
        let Some(module) = modules.iter().find(|m| (m.start..m.end).contains(&call)) else {
            return Frame { offset: address, ..Frame::default() };
        };
        self.of_call(&module.path, call - module.start + module.file_offset)
    }

    /// Names a return address that is told as an offset in the bytes of a file.
    pub fn in_file(&mut self, path: &Path, offset: u64) -> Frame {
        self.of_call(path, offset.saturating_sub(1))
    }

    fn of_call(&mut self, path: &Path, offset: u64) -> Frame {
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let table = self.tables.entry(path.to_path_buf()).or_insert_with(|| read_table(path));
        match table.function_at(offset) {
            Some((name, within)) => Frame { symbol: Some(demangle(&name)), offset: within + 1, module: file },
            None => Frame { symbol: None, offset: offset + 1, module: file },
        }
    }
}

impl Table {
    /// The function that holds the byte at this offset of the file, and how far into it that is.
    fn function_at(&self, offset: u64) -> Option<(String, u64)> {
        let inside = |&&(start, size, _): &&(u64, u64, u64)| offset >= start && offset - start < size;
        let &(start, _, address) = self.segments.iter().find(inside)?;
        let address = offset - start + address;
        let after = self.functions.partition_point(|function| function.address <= address);
        let start = self.functions.get(after.checked_sub(1)?)?.address;
        let first = self.functions.partition_point(|function| function.address < start);
        let Function { size, .. } = self.functions[first];
        if size != 0 && address - start >= size {
            return None;
        }
        // Of several names for one place, one with a size, and always the same one.
        let same = self.functions[first..after].iter().take_while(|function| function.size == size);
        let name = same.filter_map(|function| name(self.names.as_ref()?, function.name_at)).min()?;
        Some((name, address - start))
    }
}

/// The text in a file from here to its end, a zero.
fn name(file: &File, mut at: u64) -> Option<String> {
    let mut text = Vec::new();
    let mut piece = [0; 256];
    loop {
        let read = file.read_at(&mut piece, at).ok()?;
        let piece = &piece[..read];
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&piece[..end]);
            return (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned());
        }
        // A file that ends in the middle of a name, or is none.
        if read == 0 || text.len() > NAME_MAX {
            return None;
        }
        text.extend_from_slice(piece);
        at += read as u64;
    }
}

/// Bytes of the longest name that is believed.
const NAME_MAX: usize = 1 << 20;

/// Reads a file's functions; what cannot be read has none.
fn read_table(path: &Path) -> Table {
    let mut table = Table::default();
    let Ok(file) = File::open(path) else { return table };
    let cache = ReadCache::new(&file);
    let Ok(object) = ElfFile64::<Endianness, _>::parse(&cache) else { return table };
    for segment in object.segments() {
        let (start, size) = segment.file_range();
        table.segments.push((start, size, segment.address()));
    }
    if object.elf_symbol_table().is_empty() && table.add_debug_file(&object) {
        return table;
    }
    table.add_functions(&object);
    drop(cache);
    table.names = Some(file);
    table
}

impl Table {
    fn add_functions<'data, R: ReadRef<'data>>(&mut self, object: &ElfFile64<'data, Endianness, R>) {
        let endian = object.endian();
        for symbols in [object.elf_symbol_table(), object.elf_dynamic_symbol_table()] {
            let Ok(names) = object.elf_section_table().section(symbols.string_section()) else { continue };
            let names = names.sh_offset.get(endian);
            for symbol in symbols.iter() {
                let (section, name) = (symbol.st_shndx.get(endian), symbol.st_name.get(endian));
                // Special numbers, but for the one that stands for larger ones, say that it is in no section.
                let is_here = !section.is_special() || section == SHN_XINDEX;
                if symbol.st_type() == STT_FUNC && is_here && name != 0 {
                    let (address, size) = (symbol.st_value.get(endian), symbol.st_size.get(endian));
                    self.functions.push(Function { address, size, name_at: names + u64::from(name) });
                }
            }
        }
        self.functions.sort_unstable_by_key(|function| (function.address, Reverse(function.size), function.name_at));
    }

    /// Takes the functions of a stripped file from where its symbols are kept, if they are.
    fn add_debug_file<'data, R: ReadRef<'data>>(&mut self, object: &ElfFile64<'data, Endianness, R>) -> bool {
        let Ok(Some(id)) = object.build_id() else { return false };
        let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
        let Some((folder, rest)) = hex.split_at_checked(2) else { return false };
        let Ok(file) = File::open(format!("{DEBUG_FILES}/{folder}/{rest}.debug")) else { return false };
        let cache = ReadCache::new(&file);
        let Ok(debug) = ElfFile64::<Endianness, _>::parse(&cache) else { return false };
        self.add_functions(&debug);
        drop(cache);
        self.names = Some(file);
        true
    }
}

/// A Rust or C++ name as its programmer wrote it; others as they are.
fn demangle(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    // Versions of dynamic symbols (`malloc@@GLIBC_2.2.5`) are not part of the name.
    let plain = name.split('@').next().unwrap_or(name);
    let cpp = plain.starts_with("_Z").then(|| cpp_demangle::Symbol::new(plain).ok()).flatten();
    cpp.and_then(|symbol| symbol.demangle().ok()).unwrap_or_else(|| plain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Frame, Function, Symboliser, Table, demangle};
    use std::fs;
    use tiermem::control::Module;

    /// This process's own executable mappings.
    fn own_modules() -> Vec<Module> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let module = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = fields[0].split_once('-')?;
            let hex = |text| u64::from_str_radix(text, 16).ok();
            let is_code = fields.len() == 6 && fields[1].contains('x') && fields[5].starts_with('/');
            is_code.then_some(())?;
            Some(Module { start: hex(start)?, end: hex(end)?, file_offset: hex(fields[2])?, path: fields[5].into() })
        };
        maps.lines().filter_map(module).collect()
    }

    #[inline(never)]
    fn a_function_to_find(x: u64) -> u64 {
        std::hint::black_box(x) + 1
    }

    #[test]
    fn own_functions_and_those_of_libraries_are_named() {
        let modules = own_modules();
        let mut symbols = Symboliser::default();
        let function: fn(u64) -> u64 = a_function_to_find;
        let frame = symbols.frame(function as usize as u64 + 2, &modules);
        assert_eq!(frame.symbol.as_deref().map(|s| s.rsplit("::").next().unwrap()), Some("a_function_to_find"));
        assert_eq!(frame.offset, 2);
        assert!(frame.module.starts_with("tierctl-"));
        // A return address right behind a function belongs to the call at its end, not to the next function.
        let start = symbols.frame(function as usize as u64 + 1, &modules);
        assert_eq!(start.offset, 1);
        // The same place, told as an offset in the file.
        let address = function as usize as u64 + 2;
        let module = modules.iter().find(|module| (module.start..module.end).contains(&address)).unwrap();
        assert_eq!(symbols.in_file(&module.path, address - module.start + module.file_offset), frame);
    }

    /// Of several names for one place that with a size is told, of those with the same size the first in the alphabet; what lies
    /// behind a function's end is nobody's; a name that goes on for ever is none.
    #[test]
    fn names_are_read_where_they_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names");
        let long = "x".repeat(700);
        let parts: [&[u8]; 6] = [b"\0zeta\0", b"alpha\0", b"small\0", long.as_bytes(), b"\0", b"endless"];
        let place = |part: usize| parts[..part].iter().map(|part| part.len() as u64).sum::<u64>();
        fs::write(&path, parts.concat()).unwrap();
        let function = |address, size, name_at| Function { address, size, name_at };
        let functions = vec![
            function(0x10, 8, 1),
            function(0x10, 8, place(1)),
            function(0x10, 0, place(2)),
            function(0x20, 4, place(3)),
            function(0x30, 4, place(5)),
        ];
        let table = Table { segments: vec![(0, 0x100, 0)], functions, names: Some(fs::File::open(&path).unwrap()) };
        assert_eq!(table.function_at(0x12), Some(("alpha".to_owned(), 2)));
        assert_eq!(table.function_at(0x18), None);
        assert_eq!(table.function_at(0x21), Some((long, 1)));
        assert_eq!(table.function_at(0x31), None);
        assert_eq!(table.function_at(0x0f), None);
    }

    #[test]
    fn unknown_addresses_show_what_is_known() {
        let mut symbols = Symboliser::default();
        assert_eq!(symbols.frame(0x1234, &[]).to_string(), "0x1234");
        let gone = Module { start: 0x1000, end: 0x9000, file_offset: 0x100, path: "/no/such/lib.so".into() };
        assert_eq!(symbols.frame(0x1235, &[gone]).to_string(), "lib.so+0x335");
    }

    #[test]
    fn names_are_demangled() {
        assert_eq!(demangle("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), "core::fmt::Write::write_fmt");
        assert_eq!(demangle("_ZN5Cache6insertEi"), "Cache::insert(int)");
        assert_eq!(demangle("malloc@@GLIBC_2.2.5"), "malloc");
        assert_eq!(demangle("_Zbroken"), "_Zbroken");
        let frame = Frame { symbol: Some("f".into()), offset: 0x10, module: "a.so".into() };
        assert_eq!(frame.to_string(), "f+0x10 (a.so)");
    }
}
