//! Measurements kept between runs, in `$XDG_CACHE_HOME/tiermem/probe.json` (else `~/.cache`).
//!
//! One file serves several machines that share a home directory: entries are kept by machine, named by a hash of
//! `/etc/machine-id`, as machine-id(5) asks not to show the id itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tiermem_tiers::Source;

use crate::measure::{Measurement, Spread};
use crate::report::{Figure, Figures, Report};
use crate::roots::text;
use crate::{Error, Roots};

/// Name and version of the file's format.
pub const FORMAT: &str = "tiermem-probe/1";

/// What was measured on this machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// By the tier's identity, `kind:location`.
    pub tiers: BTreeMap<String, Measurement>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: String,
    machines: BTreeMap<String, BTreeMap<String, Measurement>>,
}

impl Measured {
    /// The measurement of a tier: its own, or for a file, the one of the nearest directory above it.
    pub fn find(&self, kind: &str, location: &str) -> Option<&Measurement> {
        if let Some(own) = self.tiers.get(&format!("{kind}:{location}")) {
            return Some(own);
        }
        let above = |m: &&Measurement| {
            m.kind == kind && m.location.starts_with('/') && Path::new(location).starts_with(&m.location)
        };
        self.tiers.values().filter(above).max_by_key(|m| m.location.len())
    }

    /// Enters what was measured into a report of the same machine.
    pub fn apply(&self, report: &mut Report) {
        for tier in &mut report.tiers {
            let Some(found) = self.tiers.get(&tier.identity()) else { continue };
            let slots = [
                (&mut tier.attributes.read_latency_ns, found.read_latency_ns),
                (&mut tier.attributes.write_latency_ns, found.write_latency_ns),
                (&mut tier.attributes.read_bandwidth, found.read_bandwidth),
                (&mut tier.attributes.write_bandwidth, found.write_bandwidth),
            ];
            for (slot, spread) in slots {
                if let Some(Spread { median, mad, samples }) = spread {
                    let detail = format!("median of {samples}, deviation {mad:.3e}, Unix time {}", found.measured_at);
                    Figures::add(slot, Figure::new(median, Source::Measured, detail));
                }
            }
        }
    }
}

/// Where the file is; `None` if the user has no home directory.
pub fn path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(folder.join("tiermem/probe.json"))
}

/// What was measured on this machine; empty if nothing was.
///
/// # Errors
/// `Unreadable` and `Malformed` as they say. A cache can be deleted and measured again.
pub fn load() -> Result<Measured, Error> {
    path().map_or_else(|| Ok(Measured::default()), |path| load_from(&path, &machine_key(&Roots::host())))
}

/// The same, from a given file and for a given machine.
///
/// # Errors
/// As [`load`].
pub fn load_from(path: &Path, machine: &str) -> Result<Measured, Error> {
    let mut stored = read(path)?;
    Ok(Measured { tiers: stored.machines.remove(machine).unwrap_or_default() })
}

/// Adds measurements of this machine to the file, replacing earlier ones of the same tiers.
///
/// # Errors
/// As [`load`], or `Unwritable`.
pub fn store(measurements: &[Measurement]) -> Result<PathBuf, Error> {
    let nowhere = || std::io::Error::other("neither XDG_CACHE_HOME nor HOME is set");
    let path = path().ok_or_else(|| Error::Unwritable { path: PathBuf::from("probe.json"), cause: nowhere() })?;
    store_to(&path, &machine_key(&Roots::host()), measurements)?;
    Ok(path)
}

/// The same, to a given file and for a given machine. The file is replaced as a whole, so that a reader sees the old
/// or the new one; of two writers at the same time, one may lose its entries.
///
/// # Errors
/// As [`store`].
pub fn store_to(path: &Path, machine: &str, measurements: &[Measurement]) -> Result<(), Error> {
    let mut stored = read(path)?;
    let entries = stored.machines.entry(machine.to_owned()).or_default();
    entries.extend(measurements.iter().map(|m| (m.identity(), m.clone())));
    let unwritable = |cause| Error::Unwritable { path: path.to_path_buf(), cause };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(unwritable)?;
    let beside = folder.join(format!(".probe.json.{}", std::process::id()));
    let text = serde_json::to_vec_pretty(&stored).map_err(|e| unwritable(e.into()))?;
    let written = fs::File::create(&beside)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|cause| {
        // The error that counts is the one above.
        let _ = fs::remove_file(&beside);
        unwritable(cause)
    })
}

fn read(path: &Path) -> Result<Stored, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Stored { format: FORMAT.to_owned(), machines: BTreeMap::new() });
        }
        Err(cause) => return Err(Error::Unreadable { path: path.to_path_buf(), cause }),
    };
    let malformed = |reason: String| Error::Malformed { path: path.to_path_buf(), reason };
    let advice = "delete it and run `tierctl probe` again";
    let stored: Stored =
        serde_json::from_slice(&bytes).map_err(|e| malformed(format!("not a {FORMAT} file ({e}): {advice}")))?;
    if stored.format != FORMAT {
        return Err(malformed(format!("its format is {}, this program knows {FORMAT}: {advice}", stored.format)));
    }
    Ok(stored)
}

/// Names a machine without giving its id away: FNV-1a over the program's name and the id. Where there is no id, the
/// processor and the host name stand for it.
pub fn machine_key(roots: &Roots) -> String {
    let etc = roots.files.join("etc/machine-id");
    let id = text(etc).or_else(|| text(roots.proc.join("sys/kernel/hostname"))).unwrap_or_default();
    let hash = ["tiermem", &id]
        .concat()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(location: &str, latency: f64) -> Measurement {
        Measurement {
            kind: "dax-file".to_owned(),
            location: location.to_owned(),
            read_latency_ns: Some(Spread::of(&[latency])),
            ..Measurement::default()
        }
    }

    #[test]
    fn machines_and_tiers_are_kept_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/probe.json");
        assert_eq!(load_from(&path, "a").unwrap(), Measured::default());
        store_to(&path, "a", &[measured("/x", 1.0), measured("/y", 2.0)]).unwrap();
        store_to(&path, "a", &[measured("/x", 3.0)]).unwrap();
        store_to(&path, "b", &[measured("/x", 9.0)]).unwrap();
        let a = load_from(&path, "a").unwrap();
        let latency = |m: Option<&Measurement>| m.and_then(|m| m.read_latency_ns).map(|s| s.median);
        assert_eq!(latency(a.find("dax-file", "/x")), Some(3.0));
        assert_eq!(latency(a.find("dax-file", "/y/file")), Some(2.0));
        assert_eq!(latency(a.find("dax-file", "/yy")), None);
        assert_eq!(latency(a.find("nvme", "/x")), None);
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file stays behind");
    }

    #[test]
    fn a_broken_or_newer_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("probe.json");
        for (text, word) in [("{", "not a tiermem-probe/1"), (r#"{"format":"tiermem-probe/9","machines":{}}"#, "/9")] {
            fs::write(&path, text).unwrap();
            let error = load_from(&path, "a").unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("delete it"), "{error}");
            assert!(store_to(&path, "a", &[]).is_err(), "a file that is not understood is not overwritten");
        }
    }
}
