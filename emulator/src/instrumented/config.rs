//! What the run time is told: `tierctl instrument` writes it to a file, which [`VARIABLE`] names.

use std::fmt;
use std::path::{Path, PathBuf};

use tiermem_placement::Policy;
use tiermem_topology::{DeviceKind, Topology};

use super::placing::{PolicyRules, Rules};
use super::{Engine, Overlap};
use crate::cache::CacheConfig;
use crate::model::{HostIndex, System, TierIndex};

/// The environment variable that names the file. Without it an instrumented program runs as usual and counts nothing.
pub const VARIABLE: &str = "TIERMEM_INSTRUMENT";

/// What the run time is told.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder into which each process writes its report.
    pub reports: PathBuf,
    /// The topology: the name of a shipped one, or an absolute path. The program runs on its first host; memory that
    /// nobody allocates (stacks, static data) lies in its first node.
    pub topology: String,
    /// Text form of the caches.
    pub cache: String,
    /// How accesses overlap.
    pub overlap: Overlap,
    /// Where blocks go.
    pub placement: Placement,
    /// The file that every access and allocation is recorded to, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<PathBuf>,
}

/// Where blocks go.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// All to the tier of this name.
    All(String),
    /// As a policy file of this text says. Its tiers are found by name in the machine; `dram` is also the first one.
    Policy(String),
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

fn wrong(what: impl fmt::Display) -> ConfigError {
    ConfigError(what.to_string())
}

impl Config {
    /// Reads a file that `tierctl instrument` wrote.
    ///
    /// # Errors
    /// Where it cannot be read or does not parse.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read(path).map_err(|e| wrong(format_args!("{}: {e}", path.display())))?;
        serde_json::from_slice(&text).map_err(|e| wrong(format_args!("{}: {e}", path.display())))
    }

    /// The engine that it describes, and the names of its tiers.
    ///
    /// # Errors
    /// Says what cannot be built and why.
    pub fn engine(&self) -> Result<(Engine<System>, Vec<String>), ConfigError> {
        let cache = CacheConfig::parse(&self.cache).map_err(|e| wrong(format_args!("the caches: {e}")))?;
        let topology = Topology::load(&self.topology).map_err(wrong)?;
        let system = System::new(&topology).map_err(wrong)?;
        let rules = match &self.placement {
            Placement::All(name) => Rules::All(self.tier(&system, name)?),
            Placement::Policy(text) => self.policy_rules(&system, text)?,
        };
        let capacities = system.tiers().iter().map(|tier| tier.capacity.0).collect();
        let names = system.tiers().iter().map(|tier| tier.name.clone()).collect();
        let engine = Engine::new(&cache, self.overlap, rules, capacities, system).map_err(wrong)?;
        Ok((engine, names))
    }

    fn policy_rules(&self, system: &System, text: &str) -> Result<Rules, ConfigError> {
        let policy = Policy::parse(text, "the placement rules").map_err(wrong)?;
        let tiers = policy.tiers().iter().map(|tier| self.tier(system, tier.name())).collect::<Result<_, _>>()?;
        Ok(Rules::Policy(Box::new(PolicyRules { plan: policy.compile(), sites: policy.site_rules(), tiers })))
    }

    /// A tier that the CPUs of the first host address, by its name; `dram` is also the first.
    fn tier(&self, system: &System, name: &str) -> Result<TierIndex, ConfigError> {
        let usable = |tier: TierIndex| {
            let kind = system.tiers().get(usize::from(tier.0)).and_then(|info| info.kind);
            matches!(kind, None | Some(DeviceKind::Cxl)) && system.reaches(HostIndex(0), tier)
        };
        let found = system.tier(name).or((name == "dram").then_some(TierIndex(0)));
        found.filter(|tier| usable(*tier)).ok_or_else(|| {
            let all = (0..).zip(system.tiers()).filter(|(at, _)| usable(TierIndex(*at)));
            let names: Vec<&str> = all.map(|(_, info)| info.name.as_str()).collect();
            wrong(format_args!(
                "{}: its first host has no memory '{name}' that CPUs address; there is {}",
                self.topology,
                names.join(", ")
            ))
        })
    }
}
