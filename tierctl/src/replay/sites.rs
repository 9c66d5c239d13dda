//! Names of the sites of a trace.

use tiermem_emulator::replay::{NamedFrame, SiteNames};
use tiermem_emulator::trace::{Catalog, Frame};

/// The frames of all sites, as rules and people see them.
pub fn named(catalog: &Catalog) -> SiteNames {
    let frame = |frame: &Frame| match frame {
        Frame::Symbol(name) => NamedFrame { symbol: Some(name.clone()), module: String::new() },
        Frame::Code { module, offset } => NamedFrame { symbol: Some(format!("+{offset:#x}")), module: module.clone() },
        Frame::Address(address) => NamedFrame { symbol: Some(format!("{address:#x}")), module: String::new() },
    };
    catalog.sites().map(|site| (site, catalog.frames(site).unwrap_or_default().iter().map(frame).collect())).collect()
}

/// A site in a few words: its innermost frames.
pub fn text(frames: &[NamedFrame]) -> String {
    let frame = |frame: &NamedFrame| {
        let module = frame.module.rsplit('/').next().unwrap_or("");
        format!("{module}{}", frame.symbol.as_deref().unwrap_or(""))
    };
    frames.iter().take(3).map(frame).collect::<Vec<_>>().join(" < ")
}
