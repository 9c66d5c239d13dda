//! Names of the sites of a trace.

use std::path::Path;

use tiermem_emulator::replay::{NamedFrame, SiteNames};
use tiermem_emulator::trace::{Catalog, Frame, SiteId};

use crate::symbols::Symboliser;

/// The frames of all sites, as rules and people see them. Places in files are named from the symbol tables that the files have
/// now.
pub fn named(catalog: &Catalog) -> SiteNames {
    let mut symbols = Symboliser::default();
    let mut frame = |frame: &Frame| match frame {
        Frame::Symbol(name) => NamedFrame { symbol: Some(name.clone()), module: String::new() },
        Frame::Code { module, offset } => {
            let symbol = symbols.in_file(Path::new(module), *offset).symbol.unwrap_or_else(|| format!("+{offset:#x}"));
            NamedFrame { symbol: Some(symbol), module: module.clone() }
        }
        Frame::Address(address) => NamedFrame { symbol: Some(format!("{address:#x}")), module: String::new() },
    };
    let mut frames = |site| catalog.frames(site).unwrap_or_default().iter().map(&mut frame).collect();
    catalog.sites().map(|site| (site, frames(site))).collect()
}

/// A site in a few words: its innermost frames.
pub fn text(frames: &[NamedFrame]) -> String {
    let frame = |frame: &NamedFrame| {
        let module = frame.module.rsplit('/').next().unwrap_or("");
        match frame.symbol.as_deref() {
            Some(symbol) if module.is_empty() => symbol.to_owned(),
            Some(offset) if offset.starts_with('+') => format!("{module}{offset}"),
            Some(symbol) => format!("{symbol} ({module})"),
            None => module.to_owned(),
        }
    };
    frames.iter().take(3).map(frame).collect::<Vec<_>>().join(" < ")
}

/// A site for a table: `None` is memory in no block.
pub fn title(site: Option<SiteId>, names: &SiteNames) -> String {
    let Some(id) = site else { return "(in no block)".to_owned() };
    match names.get(&id).map(|frames| text(frames)) {
        Some(text) if !text.is_empty() => text,
        _ if id.0 == 0 => "(site unknown)".to_owned(),
        _ => format!("site {}", id.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_as_well_as_they_are_known() {
        let frame =
            |symbol: &str, module: &str| NamedFrame { symbol: Some(symbol.to_owned()), module: module.to_owned() };
        let frames =
            [frame("make", "/bin/program"), frame("+0x12", "/lib/lib.so"), frame("0x7f00", ""), frame("main", "x")];
        assert_eq!(text(&frames), "make (program) < lib.so+0x12 < 0x7f00");
    }
}
