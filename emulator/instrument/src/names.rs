//! What the functions are called that asked for a block, where rules of a policy look at that.
//!
//! Names come from the symbol tables of the files that code is mapped from, as for rules of the allocator: Rust's demangled,
//! without hash, and each as it stands in the file.

use std::collections::HashMap;

use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};
use tiermem_emulator::instrumented::NamedFrame;
use tiermem_emulator::instrumented::report::ModuleReport;

use crate::process::modules;

/// Names addresses; keeps what it has read.
#[derive(Debug, Default)]
pub struct Names {
    modules: Vec<ModuleReport>,
    tables: HashMap<String, Table>,
}

/// What is needed of one file.
#[derive(Debug, Default)]
struct Table {
    /// Offset in the file, size and address of each loaded segment.
    segments: Vec<(u64, u64, u64)>,
    /// Address, size and name, by address.
    functions: Vec<(u64, u64, String)>,
}

impl Names {
    /// Names return addresses.
    pub fn of(&mut self, frames: &[u64]) -> Vec<NamedFrame> {
        frames.iter().map(|frame| self.frame(*frame)).collect()
    }

    fn frame(&mut self, back: u64) -> NamedFrame {
        // The call is before it, and may be the last instruction of its function.
        let call = back.saturating_sub(1);
        if self.module(call).is_none() {
            // A library may have been loaded since.
            self.modules = modules();
        }
        let Some(module) = self.module(call) else { return NamedFrame::default() };
        let (offset, path) = (call - module.start + module.file_offset, module.path.clone());
        let table = self.tables.entry(path.clone()).or_insert_with(|| Table::read(&path));
        let mut symbols: Vec<String> = Vec::new();
        for name in table.at(offset) {
            symbols.extend([format!("{:#}", rustc_demangle::demangle(name)), name.to_owned()]);
        }
        symbols.dedup();
        NamedFrame { symbols, module: path }
    }

    fn module(&self, address: u64) -> Option<&ModuleReport> {
        self.modules.iter().find(|module| (module.start..module.end).contains(&address))
    }
}

impl Table {
    /// A file's functions; what cannot be read has none.
    fn read(path: &str) -> Self {
        let mut table = Self::default();
        let Ok(bytes) = std::fs::read(path) else { return table };
        let Ok(file) = object::File::parse(&*bytes) else { return table };
        for segment in file.segments() {
            let (start, size) = segment.file_range();
            table.segments.push((start, size, segment.address()));
        }
        for symbol in file.symbols().chain(file.dynamic_symbols()) {
            if let Ok(name) = symbol.name()
                && symbol.kind() == SymbolKind::Text
                && symbol.size() > 0
            {
                table.functions.push((symbol.address(), symbol.size(), name.to_owned()));
            }
        }
        table.functions.sort();
        table.functions.dedup();
        table
    }

    /// All names of the function that holds the byte at this offset of the file.
    fn at(&self, offset: u64) -> impl Iterator<Item = &str> {
        let segment = self.segments.iter().find(|(start, size, _)| (*start..start + size).contains(&offset));
        let address = segment.map(|(start, _, address)| offset - start + address);
        let after = address.map_or(0, |address| self.functions.partition_point(|(at, ..)| *at <= address));
        let begin = after.checked_sub(1).map(|last| self.functions[last].0);
        let names = self.functions[..after].iter().rev().take_while(move |(at, ..)| Some(*at) == begin);
        let holds = move |(at, size): (u64, u64)| address.is_some_and(|address| (at..at + size).contains(&address));
        names.filter(move |(at, size, _)| holds((*at, *size))).map(|(_, _, name)| name.as_str())
    }
}
