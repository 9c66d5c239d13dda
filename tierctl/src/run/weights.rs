//! Bandwidths for policies that weigh tiers by them. The preload knows only what the policy says; what `tierctl probe`
//! has measured is added here.

use std::fs;
use std::path::{Path, PathBuf};

use tiermem_discovery::cache::{self, Measured};
use tiermem_placement::{Bandwidth, Policy};
use tiermem_tiers::TierSpec;

use crate::exit::Failure;

/// The completed policy's file; removed with it.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
}

impl PolicyFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PolicyFile {
    fn drop(&mut self) {
        // If it cannot be removed, its folder stays too, and `tierctl ps` sees to that.
        drop(fs::remove_file(&self.path));
    }
}

/// Completes the policy, if it needs bandwidths that it does not state, and writes it into `folder` for the preload.
/// Says on standard error which tiers stay unknown. `None` if the policy needs nothing.
///
/// # Errors
/// If the file cannot be written.
pub fn complete(policy: &mut Policy, specs: &[TierSpec], folder: &Path) -> Result<Option<PolicyFile>, Failure> {
    let missing: Vec<String> = policy.bandwidths_missing().map(|tier| tier.name().to_owned()).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let measured = cache::load().unwrap_or_else(|error| {
        eprintln!("tierctl: {error}; going on without what was measured");
        Measured::default()
    });
    for name in &missing {
        match bandwidth(name, specs, &measured) {
            Some(bandwidth) => {
                policy.set_bandwidth(name, bandwidth);
            }
            None => eprintln!(
                "tierctl: the bandwidth of tier {name} is unknown, so it gets the least weight; run `tierctl probe`, or \
                 write `bandwidth` in the policy"
            ),
        }
    }
    let path = folder.join("policy.toml");
    fs::write(&path, policy.to_toml()).map_err(|e| Failure::from_io(format!("cannot write {}", path.display()), &e))?;
    Ok(Some(PolicyFile { path }))
}

/// What the `SPEC` says, else what was measured at its place.
fn bandwidth(name: &str, specs: &[TierSpec], measured: &Measured) -> Option<Bandwidth> {
    let spec = specs.iter().find(|spec| spec.name.as_str() == name);
    let stated = spec.and_then(|spec| spec.attributes.read_bandwidth).map(|bandwidth| bandwidth.value);
    let (kind, location) = match spec {
        Some(spec) => (spec.kind.as_str(), spec.location.as_str()),
        None => ("dram", ""),
    };
    // DRAM without a node is that of the first.
    let location = if kind == "dram" && location.is_empty() { "0" } else { location };
    let found = || measured.find(kind, location)?.read_bandwidth.map(|spread| spread.median);
    let bytes_per_s = stated.or_else(found)?;
    (bytes_per_s >= 1.0).then_some(Bandwidth(bytes_per_s as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "version = 1\n[tier.slow]\nsource = \"dax-file:/dev/shm/slow,size=1G\"\n\
                        [placement]\nstrategy = \"interleave\"\nchain = [\"dram\", \"slow\"]\nweights = \"bandwidth\"\n";

    fn specs(text: &str) -> Vec<TierSpec> {
        vec![text.parse().unwrap()]
    }

    #[test]
    fn what_a_spec_states_is_used_and_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut policy = Policy::parse(TEXT, "test").unwrap();
        let specs = specs("slow=dax-file:/dev/shm/slow,size=1G,read-bandwidth=9GB/s");
        let file = complete(&mut policy, &specs, folder.path()).unwrap().unwrap();
        let written = Policy::parse(&fs::read_to_string(file.path()).unwrap(), "written").unwrap();
        assert_eq!(written.tiers()[1].bandwidth(), Some(Bandwidth(9_000_000_000)));
        drop(file);
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }

    #[test]
    fn a_policy_without_such_weights_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut policy = Policy::default();
        assert!(complete(&mut policy, &[], folder.path()).unwrap().is_none());
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
