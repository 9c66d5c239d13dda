//! From a [`Policy`] back to the text of a policy file.

use std::fmt::{self, Write as _};

use tiermem_complaint::units::show_bytes;

use super::{Policy, Rule, Tier, Watermark, Weights};
use crate::TierIndex;

/// A TOML basic string.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "\\U{:08X}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

impl Policy {
    /// The policy as a policy file: complete, without what is default anyway. Parsing it gives the same policy.
    pub fn to_toml(&self) -> String {
        self.to_string()
    }

    fn quoted(&self, tier: TierIndex) -> Quoted<'_> {
        Quoted(self.tiers.get(tier.index()).map_or("", Tier::name))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version = 1")?;
        for tier in &self.tiers {
            show_tier(f, tier)?;
        }
        writeln!(f, "\n[placement]\nstrategy = \"{}\"", self.strategy.as_str())?;
        let chain: Vec<String> = self.chain.iter().map(|&tier| self.quoted(tier).to_string()).collect();
        writeln!(f, "chain = [{}]", chain.join(", "))?;
        if !self.spill.is_empty() {
            let spill = self.spill.iter().map(|&(from, to)| format!("{} = {}", self.quoted(from), self.quoted(to)));
            writeln!(f, "spill = {{ {} }}", spill.collect::<Vec<_>>().join(", "))?;
        }
        match &self.weights {
            Some(Weights::Given(given)) => {
                let weights = given.iter().map(|&(tier, weight)| format!("{} = {weight}", self.quoted(tier)));
                writeln!(f, "weights = {{ {} }}", weights.collect::<Vec<_>>().join(", "))?;
            }
            Some(Weights::Bandwidth) => writeln!(f, "weights = \"bandwidth\"")?,
            None => {}
        }
        for rule in &self.rules {
            self.show_rule(f, rule)?;
        }
        writeln!(f, "\n[return]\ndecay_ms = {}", self.decay_ms)
    }
}

impl Policy {
    fn show_rule(&self, f: &mut fmt::Formatter<'_>, rule: &Rule) -> fmt::Result {
        writeln!(f, "\n[[rule]]")?;
        if let Some(size) = rule.size {
            writeln!(f, "size = \"{size}\"")?;
        }
        for (key, glob) in [("symbol", &rule.symbol), ("module", &rule.module)] {
            if let Some(glob) = glob {
                writeln!(f, "{key} = {}", Quoted(glob.as_str()))?;
            }
        }
        if let Some(depth) = rule.depth {
            writeln!(f, "depth = {depth}")?;
        }
        writeln!(f, "tier = {}", self.quoted(rule.tier))
    }
}

fn show_tier(f: &mut fmt::Formatter<'_>, tier: &Tier) -> fmt::Result {
    // A name may hold dots, which a bare key may not.
    writeln!(f, "\n[tier.{}]", Quoted(&tier.name))?;
    if let Some(source) = &tier.source {
        writeln!(f, "source = {}", Quoted(source))?;
    }
    if let Some(limit) = tier.limit {
        writeln!(f, "limit = \"{}\"", show_bytes(limit))?;
    }
    if tier.watermark != Watermark::FULL {
        writeln!(f, "watermark = {}", tier.watermark)?;
    }
    if let Some(bandwidth) = tier.bandwidth {
        writeln!(f, "bandwidth = \"{bandwidth}\"")?;
    }
    Ok(())
}
