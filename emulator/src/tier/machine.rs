//! An emulated machine: made from a topology, kept in files, removed without a trace.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tiermem_tiers::provider::fault::Script;
use tiermem_tiers::provider::{self, OpenError};
use tiermem_tiers::spec::IoChoice;
use tiermem_tiers::{Attribute, Attributes, Bytes, Source, TierId, TierKind, TierName, TierSpec};
use tiermem_topology::{DeviceKind, TierView, Topology};

use super::scale::Scale;
use super::users::{self, User};

/// Name and version of a machine's record.
pub const FORMAT: &str = "tiermem-emulated/1";

/// The file with the record, in the machine's folder.
pub(super) const RECORD: &str = "emulated.json";

/// One tier of an emulated machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TierRecord {
    /// Its name in the topology.
    pub name: String,
    /// The kind word of a `SPEC`.
    pub kind: String,
    /// A path, or `emulated` for a device.
    pub location: String,
    /// How much it holds.
    pub size_bytes: u64,
    /// What it stands for, in words.
    pub description: String,
    /// Its profile.
    pub profile: String,
    /// The hosts that use it.
    pub hosts: Vec<String>,
    /// Who keeps their caches in step, where several share it.
    pub coherence: Option<String>,
    /// Idle read latency as seen from the first host, nanoseconds.
    pub read_latency_ns: f64,
    /// Idle write latency, nanoseconds.
    pub write_latency_ns: f64,
    /// Read bandwidth, bytes per second.
    pub read_bandwidth: f64,
    /// Write bandwidth, bytes per second.
    pub write_bandwidth: f64,
}

impl TierRecord {
    /// The file behind it; `None` for a device.
    pub fn file(&self) -> Option<&Path> {
        (self.kind != TierKind::Device.as_str()).then(|| Path::new(&self.location))
    }

    /// Whether its file is as long as it was made; somebody may have cut or removed it.
    pub fn is_whole(&self) -> bool {
        self.file().is_none_or(|file| fs::metadata(file).is_ok_and(|found| found.len() >= self.size_bytes))
    }

    /// The `SPEC` without figures.
    ///
    /// # Panics
    /// Never for a record that was made or read by this module.
    pub fn bare_spec(&self) -> TierSpec {
        const KINDS: [TierKind; 3] = [TierKind::DaxFile, TierKind::Nvme, TierKind::Device];
        let kind = KINDS.into_iter().find(|kind| kind.as_str() == self.kind).unwrap_or(TierKind::DaxFile);
        let capacity = Some(Attribute::new(Bytes(self.size_bytes), Source::Configured));
        TierSpec {
            name: TierName::new(&self.name).unwrap_or_else(|| panic!("{} is no name", self.name)),
            kind,
            location: self.location.clone(),
            attributes: Attributes { capacity, ..Attributes::default() },
            io: IoChoice::default(),
        }
    }

    /// The `SPEC` with its profile's figures, each [`Emulated`](Source::Emulated).
    ///
    /// # Panics
    /// As [`bare_spec`](Self::bare_spec).
    pub fn spec(&self) -> TierSpec {
        let mut spec = self.bare_spec();
        let emulated = |value| Some(Attribute::new(value, Source::Emulated));
        spec.attributes.read_latency_ns = emulated(self.read_latency_ns);
        spec.attributes.write_latency_ns = emulated(self.write_latency_ns);
        spec.attributes.read_bandwidth = emulated(self.read_bandwidth);
        spec.attributes.write_bandwidth = emulated(self.write_bandwidth);
        spec
    }

    fn is_sound(&self) -> bool {
        let kinds = [TierKind::DaxFile, TierKind::Nvme, TierKind::Device];
        TierName::new(&self.name).is_some() && kinds.iter().any(|kind| kind.as_str() == self.kind)
    }

    fn of(view: &TierView, folder: &Path, scale: Scale) -> Option<Self> {
        let kind = match view.kind {
            // The CPUs' own memory is this machine's.
            None if view.cpus > 0 => return None,
            None | Some(DeviceKind::Cxl) => TierKind::DaxFile,
            Some(DeviceKind::Nvme) => TierKind::Nvme,
            Some(_) => TierKind::Device,
        };
        let location = match kind {
            TierKind::Device => "emulated".to_owned(),
            _ => folder.join(&view.name).to_string_lossy().into_owned(),
        };
        let what = match view.kind {
            None => "memory-only node".to_owned(),
            Some(DeviceKind::Cxl) if view.devices.len() > 1 => {
                format!("CXL memory, {} devices interleaved, {}", view.devices.len(), view.exposure)
            }
            Some(DeviceKind::Cxl) => format!("CXL memory, {}, {}", view.exposure, view.persistence),
            Some(DeviceKind::Nvme) => "NVMe drive".to_owned(),
            Some(_) => "GPU".to_owned(),
        };
        Some(Self {
            name: view.name.clone(),
            kind: kind.as_str().to_owned(),
            location,
            size_bytes: scale.of(view.capacity).0,
            description: format!("emulated {what}"),
            profile: view.profile.clone(),
            hosts: view.hosts.clone(),
            coherence: view.coherence.map(|coherence| coherence.as_str().to_owned()),
            read_latency_ns: view.figures.read_latency_ns,
            write_latency_ns: view.figures.write_latency_ns,
            read_bandwidth: view.figures.read_bandwidth,
            write_bandwidth: view.figures.write_bandwidth,
        })
    }
}

/// Who makes a machine, so that what was left half made can be told from what is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Creator {
    pub pid: u32,
    pub start_time: u64,
}

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The machine's name; else the topology's.
    pub name: Option<&'a str>,
    /// Only what this host uses.
    pub host: Option<&'a str>,
    /// The folder in which the machine's own folder is made; else one in `/dev/shm`.
    pub dir: Option<&'a Path>,
    /// By how much capacities are multiplied.
    pub scale: Scale,
}

/// An emulated machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    format: String,
    /// Its name.
    pub name: String,
    /// The topology's name.
    pub topology: String,
    /// The topology itself, as a file.
    pub topology_text: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its tiers.
    pub tiers: Vec<TierRecord>,
    pub(super) creator: Creator,
}

/// What a registered machine is in.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// It can be used.
    Ready(Box<Machine>),
    /// Its folder is gone or cannot be read: why.
    Lost(String),
}

/// Why a machine could not be made or removed.
#[derive(Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// The name, host or topology does not fit: what to do.
    Unsuitable(String),
    /// There is a machine of this name.
    Exists(String),
    /// The file system has less room.
    NoSpace {
        /// What the tiers hold together.
        wanted: Bytes,
        /// What other machines have been promised of the same file system and do not use yet.
        promised: Bytes,
        /// What the file system still has.
        available: Bytes,
        /// Where.
        dir: PathBuf,
    },
    /// A tier's file could not be made.
    Tier(OpenError),
    /// Processes use it.
    InUse(Vec<User>),
    /// The system refused.
    System {
        /// What was tried.
        what: String,
        /// What it said.
        cause: io::Error,
    },
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsuitable(why) => f.write_str(why),
            Self::Exists(name) => {
                write!(f, "there is an emulated machine `{name}` already: destroy it, or take another name with --name")
            }
            Self::NoSpace { wanted, promised, available, dir } => {
                let dir = dir.display();
                write!(f, "the tiers hold {wanted} together, and {dir} has {available} left")?;
                if *promised > Bytes::ZERO {
                    write!(f, ", of which other emulated machines were promised {promised}")?;
                }
                f.write_str(": take another folder with --dir, or smaller tiers with --scale 1/N")
            }
            Self::Tier(error) => error.fmt(f),
            Self::InUse(users) => {
                let users: Vec<String> = users.iter().map(|user| format!("{} ({})", user.pid, user.command)).collect();
                write!(f, "in use by {}: end them, or use --force, and they keep what they have", users.join(", "))
            }
            Self::System { what, cause } => write!(f, "{what}: {cause}"),
        }
    }
}

impl std::error::Error for CreateError {}

pub(super) fn system(what: impl fmt::Display, cause: io::Error) -> CreateError {
    CreateError::System { what: what.to_string(), cause }
}

impl Machine {
    /// What would be made of `topology` in `folder`; nothing is touched.
    pub(super) fn plan(
        topology: &Topology,
        options: &Options<'_>,
        name: &str,
        folder: &Path,
        creator: Creator,
    ) -> Result<Self, CreateError> {
        let hosts: Vec<&str> = topology.hosts.iter().map(|host| host.name.as_str()).collect();
        if let Some(host) = options.host.filter(|host| !hosts.contains(host)) {
            return Err(CreateError::Unsuitable(format!(
                "no host is called {host}; the topology has {}",
                hosts.join(", ")
            )));
        }
        let views = topology.tiers();
        let seen = views.iter().filter(|view| options.host.is_none_or(|host| view.hosts.iter().any(|h| h == host)));
        let tiers: Vec<TierRecord> = seen.filter_map(|view| TierRecord::of(view, folder, options.scale)).collect();
        if tiers.is_empty() {
            return Err(CreateError::Unsuitable("there is nothing to emulate: only memory of CPUs' own".to_owned()));
        }
        if TierName::new(name).is_none() {
            let rule = "a name is 1 to 23 letters, digits, '.', '_' or '-', starting with a letter";
            return Err(CreateError::Unsuitable(format!(
                "`{name}` cannot name a machine: {rule}; give one with --name"
            )));
        }
        Ok(Self {
            format: FORMAT.to_owned(),
            name: name.to_owned(),
            topology: topology.name.clone(),
            topology_text: topology.to_string(),
            folder: folder.to_owned(),
            tiers,
            creator,
        })
    }

    /// Whether there is room for all files besides those of `others`, which take their space only as it is used.
    pub(super) fn check_space(&self, dir: &Path, others: &[Self]) -> Result<(), CreateError> {
        let space = tiermem_sys::fs::space(dir).map_err(|errno| {
            system(format!("cannot look at {}", dir.display()), io::Error::from_raw_os_error(errno as i32))
        })?;
        let device = |path: &Path| fs::metadata(path).ok().map(|folder| folder.dev());
        let neighbours = others.iter().filter(|other| device(&other.folder) == device(dir));
        let promised: u64 = neighbours.map(Self::promised).sum();
        let wanted: u64 = self.tiers.iter().filter(|tier| tier.file().is_some()).map(|tier| tier.size_bytes).sum();
        if wanted > space.available.saturating_sub(promised) {
            let [wanted, promised, available] = [wanted, promised, space.available].map(Bytes);
            return Err(CreateError::NoSpace { wanted, promised, available, dir: dir.to_owned() });
        }
        Ok(())
    }

    /// Bytes that its files may still come to take.
    fn promised(&self) -> u64 {
        const BLOCK: u64 = 512; // The unit of `st_blocks`, whatever the file system's is.
        let open = |tier: &TierRecord| {
            let taken = fs::metadata(tier.file()?).ok()?.blocks() * BLOCK;
            Some(tier.size_bytes.saturating_sub(taken))
        };
        self.tiers.iter().filter_map(open).sum()
    }

    /// Makes the folder, the record and the files.
    pub(super) fn make(&self) -> Result<(), CreateError> {
        let failed = |cause| system(format!("cannot make {}", self.folder.display()), cause);
        DirBuilder::new().mode(0o700).create(&self.folder).map_err(failed)?;
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        fs::write(self.folder.join(RECORD), text).map_err(failed)?;
        for tier in self.tiers.iter().filter(|tier| tier.file().is_some()) {
            drop(provider::open(&tier.bare_spec(), TierId(0)).map_err(CreateError::Tier)?);
        }
        self.tiers.iter().try_for_each(|tier| self.keep(tier, &Script::default()))
    }

    /// The record in a folder.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join(RECORD);
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let machine: Self = serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        if machine.format != FORMAT {
            return Err(format!("{}: its format is {}, this program knows {FORMAT}", path.display(), machine.format));
        }
        if machine.tiers.iter().all(TierRecord::is_sound) {
            Ok(machine)
        } else {
            Err(format!("{}: damaged", path.display()))
        }
    }

    /// The processes that use one of its tiers.
    pub fn users(&self) -> Vec<User> {
        users::of_files(&self.files())
    }

    /// The files of its tiers, extent tables included.
    fn files(&self) -> Vec<PathBuf> {
        let files = self.tiers.iter().filter_map(TierRecord::file);
        files.flat_map(|file| [file.to_owned(), beside(file)]).collect()
    }

    /// Removes the files and the folder. What is missing is no error.
    pub(super) fn unmake(&self) -> Result<(), CreateError> {
        let faults = self.tiers.iter().map(|tier| self.faults_file(tier));
        for file in self.files().iter().cloned().chain(faults).chain([self.folder.join(RECORD)]) {
            match fs::remove_file(&file) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    return Err(system(format!("cannot remove {}", file.display()), cause));
                }
                _ => {}
            }
        }
        match fs::remove_dir(&self.folder) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(system(format!("cannot remove {}", self.folder.display()), cause))
            }
            _ => Ok(()),
        }
    }
}

/// The extent table of a file.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".extents");
    name.into()
}
