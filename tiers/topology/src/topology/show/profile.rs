//! Profiles that a file itself brings along.

use std::fmt;

use super::Key;
use crate::Profile;
use crate::quoted::Quoted;

/// A profile as the table `[profile.NAME]`.
pub(super) struct Shown<'a>(pub(super) &'a Profile);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Profile { name, description, baseline, .. } = self.0;
        writeln!(f, "\n[profile.{}]\nkind = \"{}\"\ndescription = {}", Key(name), self.0.kind(), Quoted(description))?;
        if let Some(baseline) = baseline {
            writeln!(f, "{baseline}")?;
        }
        for figure in self.0.shown() {
            let value = figure.relative.unwrap_or_else(|| format!("value = {}", figure.value));
            let (key, status, source) = (figure.key, figure.status.as_str(), Quoted(&figure.source));
            writeln!(f, "{key} = {{ {value}, status = \"{status}\", source = {source} }}")?;
        }
        Ok(())
    }
}
