//! SPECs from the command line.

use std::path::Path;

use tiermem_tiers::{Attribute, Attributes, Bytes, Source, TierKind, TierName, TierSpec};

use crate::exit::{Exit, Failure};

/// Parses `NAME=KIND[:WHERE][,KEY=VALUE]…`.
///
/// # Errors
/// [`Exit::BadInput`], saying which part is wrong.
pub fn parse(text: &str) -> Result<TierSpec, Failure> {
    let bad = |part: &str, advice: &str| Failure::new(Exit::BadInput, format!("tier '{text}': '{part}': {advice}"));
    let (name, rest) = text.split_once('=').ok_or_else(|| bad(text, "write NAME=KIND:WHERE"))?;
    let name = TierName::new(name).ok_or_else(|| bad(name, "not a tier's name"))?;
    let mut parts = rest.split(',');
    let place = parts.next().unwrap_or_default();
    let (kind, location) = place.split_once(':').unwrap_or((place, ""));
    let kinds =
        [TierKind::Dram, TierKind::CxlNode, TierKind::Devdax, TierKind::DaxFile, TierKind::Nvme, TierKind::Device];
    let known = kinds.into_iter().find(|k| k.as_str() == kind).ok_or_else(|| bad(kind, "no such kind of tier"))?;
    let mut attributes = Attributes::default();
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| bad(part, "write KEY=VALUE"))?;
        if key == "size" {
            let size = Bytes::parse(value).map_err(|_| bad(part, "not a size"))?;
            attributes.capacity = Some(Attribute::new(size, Source::Configured));
        }
    }
    Ok(TierSpec { name, kind: known, location: location.to_owned(), attributes })
}

/// The spec as text that [`parse`] takes.
pub fn to_text(spec: &TierSpec) -> String {
    let colon = if spec.location.is_empty() { "" } else { ":" };
    let size = spec.attributes.capacity.map_or(String::new(), |c| format!(",size={}", c.value.0));
    format!("{}={}{colon}{}{size}", spec.name, spec.kind, spec.location)
}

/// Makes a relative path absolute: programs change their working directory, and their children start elsewhere.
pub fn with_absolute_path(spec: TierSpec) -> TierSpec {
    let has_path = match spec.kind {
        TierKind::DaxFile => spec.location != "memfd",
        TierKind::Devdax | TierKind::Nvme => true,
        _ => false,
    };
    if !has_path {
        return spec;
    }
    match std::path::absolute(Path::new(&spec.location)).ok().and_then(|p| p.into_os_string().into_string().ok()) {
        Some(location) => TierSpec { location, ..spec },
        None => spec,
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, to_text, with_absolute_path};
    use crate::exit::Exit;

    #[test]
    fn specs_survive_a_round_trip() {
        let spec = parse("slow=dax-file:/dev/shm/slow,size=4G").unwrap();
        assert_eq!(parse(&to_text(&spec)).unwrap(), spec);
        assert_eq!(parse("slow").unwrap_err().exit, Exit::BadInput);
        assert_eq!(parse("slow=tape:0").unwrap_err().exit, Exit::BadInput);
    }

    #[test]
    fn paths_become_absolute_and_other_places_stay() {
        let cwd = std::env::current_dir().unwrap();
        let relative = with_absolute_path(parse("slow=dax-file:some/file").unwrap());
        assert_eq!(relative.location, cwd.join("some/file").to_str().unwrap());
        for same in ["far=cxl-node:1", "fast=dram", "m=dax-file:memfd", "gpu=device:cuda:0", "s=dax-file:/x"] {
            let spec = parse(same).unwrap();
            assert_eq!(with_absolute_path(spec.clone()), spec);
        }
    }
}
