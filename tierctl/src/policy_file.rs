//! Policies from files and from the command line, checked before anything starts.

use std::fs;
use std::path::Path;

use tiermem_placement::Policy;
use tiermem_tiers::{Bytes, TierSpec};

use crate::exit::{Exit, Failure};
use crate::tier_spec;

/// Reads and checks a policy file.
///
/// # Errors
/// If it cannot be read, or, with [`Exit::BadInput`], everything that is wrong with it, each complaint with its line.
pub fn read(path: &Path) -> Result<Policy, Failure> {
    let shown = path.display().to_string();
    let text = fs::read(path).map_err(|e| Failure::from_io(format!("cannot read the policy {shown}"), &e))?;
    let text = String::from_utf8(text).map_err(|e| {
        Failure::new(Exit::BadInput, format!("{shown}: not UTF-8 text (byte {})", e.utf8_error().valid_up_to()))
    })?;
    let policy = Policy::parse(&text, &shown).map_err(|e| bad(&e))?;
    specs(&policy).map_err(|f| Failure::new(f.exit, format!("{shown}: {}", f.message)))?;
    Ok(policy)
}

/// The tiers of a policy that say where they are.
///
/// # Errors
/// [`Exit::BadInput`] if one of them says it wrongly.
pub fn specs(policy: &Policy) -> Result<Vec<TierSpec>, Failure> {
    let with_source = policy.tiers().iter().filter_map(|t| t.source().map(|source| format!("{}={source}", t.name())));
    with_source.map(|spec| tier_spec::parse(&spec)).collect()
}

/// Adds the tiers and limits of a command line to a policy.
///
/// # Errors
/// [`Exit::BadInput`] if a tier does not fit into the policy, or a limit names none or is 0.
pub fn amend(policy: &mut Policy, tiers: &[TierSpec], limits: &[Limit]) -> Result<(), Failure> {
    for spec in tiers {
        policy.add_tier(&spec.to_string()).map_err(|e| bad(&e))?;
    }
    for limit in limits {
        if !policy.set_limit(&limit.tier, Some(limit.size.0)) {
            let known: Vec<&str> = policy.tiers().iter().map(tiermem_placement::Tier::name).collect();
            let what = format!("--limit {limit}: no such tier, or no size; the tiers are {}", known.join(", "));
            return Err(Failure::new(Exit::BadInput, what));
        }
    }
    Ok(())
}

fn bad(error: &tiermem_placement::PolicyError) -> Failure {
    Failure::new(Exit::BadInput, error.to_string())
}

/// `--limit TIER=SIZE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The tier's name.
    pub tier: String,
    /// The most that one process may hold there.
    pub size: Bytes,
}

impl Limit {
    /// Parses `dram=64M`.
    ///
    /// # Errors
    /// [`Exit::BadInput`], saying what to write.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let bad = |what: &str| {
            Failure::new(Exit::BadInput, format!("--limit '{text}': {what}; write TIER=SIZE, for example dram=64M"))
        };
        let (tier, size) = text.split_once('=').ok_or_else(|| bad("there is no '='"))?;
        let size = Bytes::parse(size).map_err(|e| bad(&e))?;
        if size == Bytes::ZERO {
            return Err(bad("a limit of 0 would leave the tier unused"));
        }
        Ok(Self { tier: tier.to_owned(), size })
    }
}

impl std::fmt::Display for Limit {
    /// As in `TIERMEM_LIMITS`: the size in bytes, exact.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.tier, self.size.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, amend, read};
    use crate::exit::Exit;
    use crate::tier_spec;
    use std::fs;
    use tiermem_placement::Policy;
    use tiermem_tiers::Bytes;

    #[test]
    fn limits_are_checked() {
        let limit = Limit::parse("dram=64M").unwrap();
        assert_eq!(limit, Limit { tier: "dram".into(), size: Bytes::mib(64) });
        assert_eq!(limit.to_string(), "dram=67108864");
        for bad in ["dram", "dram=", "dram=much", "dram=0", "=5x"] {
            assert_eq!(Limit::parse(bad).unwrap_err().exit, Exit::BadInput, "{bad}");
        }
        let unknown = amend(&mut Policy::default(), &[], &[Limit::parse("drum=1M").unwrap()]).unwrap_err();
        assert!(unknown.message.contains("the tiers are dram"));
    }

    #[test]
    fn complaints_name_file_line_and_column() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.toml");
        fs::write(&path, "version = 1\n\n[placement]\nchain = [\"drum\"]\n").unwrap();
        let failure = read(&path).unwrap_err();
        assert_eq!(failure.exit, Exit::BadInput);
        assert!(failure.message.contains("p.toml:4:"), "{}", failure.message);
        fs::write(&path, "version = 1\n[tier.far]\nsource = \"tape:1\"\n").unwrap();
        assert!(read(&path).unwrap_err().message.contains("far"));
        fs::write(&path, b"\xff").unwrap();
        assert!(read(&path).unwrap_err().message.contains("UTF-8"));
        assert_eq!(read(&dir.path().join("none")).unwrap_err().exit, Exit::NotFound);
    }

    #[test]
    fn command_line_tiers_follow_dram() {
        let mut policy = Policy::default();
        let slow = tier_spec::parse("slow=dax-file:/dev/shm/x,size=4G").unwrap();
        amend(&mut policy, &[slow], &[Limit::parse("slow=1G").unwrap()]).unwrap();
        let names: Vec<&str> = policy.tiers().iter().map(tiermem_placement::Tier::name).collect();
        assert_eq!(names, ["dram", "slow"]);
        assert_eq!(policy.tiers()[1].limit(), Some(1 << 30));
    }
}
