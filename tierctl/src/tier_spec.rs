//! SPECs from the command line.

use std::path::Path;

use tiermem_tiers::spec::SpecError;
use tiermem_tiers::{TierKind, TierSpec};

use crate::exit::{Exit, Failure};
use crate::tiers_here;

/// Parses `NAME=KIND[:WHERE][,KEY=VALUE]…`.
///
/// # Errors
/// [`Exit::BadInput`], saying which part is wrong.
pub fn parse(text: &str) -> Result<TierSpec, Failure> {
    text.parse().map_err(|e: SpecError| Failure::new(Exit::BadInput, e.to_string()))
}

/// As [`parse`], or where there is no `=`, the tier that `tierctl list` shows under this name.
///
/// # Errors
/// As [`parse`] and [`tiers_here::find`].
pub fn parse_or_find(text: &str) -> Result<TierSpec, Failure> {
    if text.contains('=') {
        return parse(text);
    }
    tiers_here::find(text).map_err(|failure| {
        let how = "for another place write NAME=KIND:WHERE, for example slow=dax-file:/dev/shm/slow,size=4G";
        Failure { message: format!("{}; {how}", failure.message), ..failure }
    })
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
    use super::{parse, with_absolute_path};
    use crate::exit::Exit;

    #[test]
    fn bad_specs_are_bad_input() {
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
