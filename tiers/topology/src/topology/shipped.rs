//! The topologies that tiermem ships, and files of the user's.

use std::path::Path;
use std::{fmt, fs, io};

use tiermem_complaint::suggestion;
use tiermem_complaint::units::clip;

use super::{LoadError, Topology};

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        /// The topologies that tiermem ships: name and text.
        pub const SHIPPED: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../topologies/", $name, ".toml")))),+];
    };
}

shipped!(
    "one-expander",
    "one-expander-devdax",
    "two-interleaved",
    "two-ports",
    "switch-one",
    "switch-two",
    "pool-2",
    "pool-3",
    "pool-4-coherent",
    "pool-4-incoherent",
    "persistent",
    "persistent-devdax",
    "three-tiers",
    "inference-server",
);

pub(super) fn load(which: &str) -> Result<Topology, LoadError> {
    if let Some((name, text)) = SHIPPED.iter().find(|(name, _)| *name == which) {
        return Topology::parse(text, &format!("{name}.toml")).map_err(LoadError::Invalid);
    }
    let path = Path::new(which);
    match fs::read(path) {
        Ok(bytes) => Topology::parse_bytes(&bytes, which).map_err(LoadError::Invalid),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && !which.contains('/') => {
            Err(LoadError::Unknown { which: which.to_owned() })
        }
        Err(cause) => Err(LoadError::Unreadable { path: path.to_owned(), cause }),
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { which } => {
                let hint = suggestion(which, SHIPPED.iter().map(|(name, _)| *name));
                write!(f, "neither a shipped topology nor a file: `{}`{hint}", clip(which))
            }
            Self::Unreadable { path, cause } => write!(f, "cannot read the topology {}: {cause}", path.display()),
            Self::Invalid(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { cause, .. } => Some(cause),
            Self::Invalid(error) => Some(error),
            Self::Unknown { .. } => None,
        }
    }
}
