//! Names for code addresses, from the symbol tables of the files that were mapped there.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use object::read::ReadCache;
use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};
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
    /// Address, size (0 if unknown) and mangled name, by address.
    functions: Vec<(u64, u64, String)>,
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
            Some((name, within)) => Frame { symbol: Some(demangle(name)), offset: within + 1, module: file },
            None => Frame { symbol: None, offset: offset + 1, module: file },
        }
    }
}

impl Table {
    /// The function that holds the byte at this offset of the file, and how far into it that is.
    fn function_at(&self, offset: u64) -> Option<(&str, u64)> {
        let inside = |&&(start, size, _): &&(u64, u64, u64)| offset >= start && offset - start < size;
        let &(start, _, address) = self.segments.iter().find(inside)?;
        let address = offset - start + address;
        let after = self.functions.partition_point(|&(at, ..)| at <= address);
        let (at, size, name) = self.functions.get(after.checked_sub(1)?)?;
        (*size == 0 || address - at < *size).then_some((name, address - at))
    }
}

/// Reads a file's functions; what cannot be read has none.
fn read_table(path: &Path) -> Table {
    let Ok(file) = File::open(path) else { return Table::default() };
    let cache = ReadCache::new(file);
    let Ok(object) = object::File::parse(&cache) else { return Table::default() };
    let mut table = Table::default();
    for segment in object.segments() {
        let (start, size) = segment.file_range();
        table.segments.push((start, size, segment.address()));
    }
    table.add_functions(&object);
    if object.symbol_table().is_none() {
        table.add_debug_file(&object);
    }
    // Of several names for one place, the one with a size is first, and the others go.
    table.functions.sort_by(|a, b| (a.0, b.1, &a.2).cmp(&(b.0, a.1, &b.2)));
    table.functions.dedup_by_key(|f| f.0);
    table
}

impl Table {
    fn add_functions<'data>(&mut self, object: &impl Object<'data>) {
        for symbol in object.symbols().chain(object.dynamic_symbols()) {
            // Assembly often leaves its functions without a type.
            let is_code = symbol.kind() == SymbolKind::Text && symbol.is_definition();
            if let Ok(name) = symbol.name()
                && is_code
                && !name.is_empty()
            {
                self.functions.push((symbol.address(), symbol.size(), name.to_owned()));
            }
        }
    }

    fn add_debug_file<'data>(&mut self, object: &impl Object<'data>) {
        let Ok(Some(id)) = object.build_id() else { return };
        let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
        let Some((folder, rest)) = hex.split_at_checked(2) else { return };
        let Ok(file) = File::open(format!("{DEBUG_FILES}/{folder}/{rest}.debug")) else { return };
        if let Ok(debug) = object::File::parse(&ReadCache::new(file)) {
            self.add_functions(&debug);
        }
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
    use super::{Frame, Symboliser, demangle};
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
