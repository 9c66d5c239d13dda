//! From the text of a policy file to a [`Policy`].

use std::ops::Range;

use tiermem_complaint::table::{self, Place, Table};
use tiermem_complaint::units::clip;
use tiermem_complaint::{Complaints, FileError, read, read_bytes, suggestion};
use toml::de::DeTable;

use super::{Bandwidth, DRAM, Glob, Policy, Rule, SizeRange, Strategy, Tier, Watermark, Weights, check, index_of};
use crate::{RULES_MAX, TIERS_MAX, TierIndex};

/// The only version there is.
const VERSION: u32 = 1;

/// Longest text that is looked at, bytes. A policy needs a few hundred.
const TEXT_LEN_MAX: usize = 256 << 10;

/// What it is, in complaints about what is something else.
const WHAT: &str = "a policy";

/// Largest weight.
const WEIGHT_MAX: u32 = 1_000_000;

/// Deepest stack that a rule can ask for, frames.
const DEPTH_MAX: u32 = 64;

pub(super) fn parse(text: &str, file_name: &str) -> Result<Policy, FileError> {
    read(text, file_name, TEXT_LEN_MAX, WHAT, policy)
}

pub(super) fn parse_bytes(bytes: &[u8], file_name: &str) -> Result<Policy, FileError> {
    read_bytes(bytes, file_name, TEXT_LEN_MAX, WHAT, policy)
}

fn policy(root: &DeTable<'_>, complaints: &mut Complaints<'_>) -> Policy {
    let mut policy = Policy::default();
    Reader { policy: &mut policy, complaints, tiers_dropped: false }.file(root);
    policy
}

/// Fills a policy from the tables of a file.
struct Reader<'p, 'c, 'text> {
    policy: &'p mut Policy,
    complaints: &'c mut Complaints<'text>,
    /// There were too many tiers, and the last ones are not declared.
    tiers_dropped: bool,
}

impl Reader<'_, '_, '_> {
    fn complain(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.complaints.add(span, message);
    }

    fn file(&mut self, root: &DeTable<'_>) {
        let known = ["version", "tier", "placement", "rule", "return"];
        let root = Table::new(root, 0..0, "the policy file", &known, self.complaints);
        match root.get("version") {
            Some(value) => {
                table::whole(value, "the policy version", VERSION, VERSION, self.complaints);
            }
            None => self.complain(root.span.clone(), format!("`version = {VERSION}` is missing")),
        }
        if let Some(value) = root.get("tier") {
            self.tiers(value);
        }
        self.placement(root.get("placement"));
        if let Some(value) = root.get("rule") {
            self.rules(value);
        }
        if let Some(value) = root.get("return") {
            self.memory_return(value);
        }
    }

    fn tiers(&mut self, value: Place<'_, '_>) {
        let Some(tiers) = table::table(value, "tables such as [tier.slow]", self.complaints) else { return };
        for (span, name, value) in table::in_file_order(tiers) {
            if let Some(message) = check::name_complaint(name) {
                self.complain(span.clone(), message);
            }
            let mut tier = Tier::new(name, None);
            if let Some(entries) = table::table(value, "a table such as [tier.slow]", self.complaints) {
                self.tier(&mut tier, entries, span.clone());
            }
            // A faulty tier is declared nevertheless, lest every mention of it be a complaint of its own.
            let declared = &mut self.policy.tiers;
            if let Some(dram) = declared.first_mut().filter(|_| name == DRAM) {
                *dram = tier;
            } else if declared.len() < TIERS_MAX {
                declared.push(tier);
            } else if !self.tiers_dropped {
                self.tiers_dropped = true;
                let message = format!("`{}` is one tier too many: at most {TIERS_MAX}, dram included", clip(name));
                self.complain(span, message);
            }
        }
    }

    fn tier(&mut self, tier: &mut Tier, entries: &DeTable<'_>, span: Range<usize>) {
        let name = format!("[tier.{}]", clip(&tier.name));
        let known = ["source", "limit", "watermark", "bandwidth"];
        let entries = Table::new(entries, span, &name, &known, self.complaints);
        if let Some(value) = entries.get("source") {
            tier.source = self.text(value, "the source as a string", check::source_complaint);
        } else if tier.name != DRAM {
            let message = format!("{name} needs a `source`, for example source = \"dax-file:/dev/shm/slow,size=4G\"");
            self.complain(entries.span.clone(), message);
        }
        if let Some(value) = entries.get("limit") {
            tier.limit = table::bytes(value, "a size such as \"64 MiB\"", self.complaints);
            if tier.limit == Some(0) {
                self.complain(
                    value.span(),
                    "a limit of 0 bytes: no block could live there; leave the tier out instead",
                );
            }
        }
        if let Some(value) = entries.get("watermark")
            && let Some(fraction) = table::number(value, "a fraction such as 0.9", self.complaints)
        {
            match Watermark::from_fraction(fraction) {
                Some(watermark) => tier.watermark = watermark,
                None => self.complain(value.span(), format!("a watermark is over 0 and up to 1, not {fraction}")),
            }
        }
        if let Some(value) = entries.get("bandwidth")
            && let Some(text) = table::string(value, "a bandwidth such as \"12 GB/s\"", self.complaints)
        {
            match Bandwidth::parse(text) {
                Ok(bandwidth) => tier.bandwidth = Some(bandwidth),
                Err(message) => self.complain(value.span(), message),
            }
        }
    }

    fn placement(&mut self, value: Option<Place<'_, '_>>) {
        let nothing = DeTable::new();
        let entries = value.and_then(|value| table::table(value, "the table [placement]", self.complaints));
        let span = value.map_or(0..0, toml::Spanned::span);
        let known = ["strategy", "chain", "weights", "spill"];
        let entries = Table::new(entries.unwrap_or(&nothing), span, "[placement]", &known, self.complaints);
        if let Some(value) = entries.get("spill") {
            self.spill(value);
        }
        match entries.get("chain") {
            Some(value) => self.chain(value),
            None => self.derive_chain(entries.get("spill").map_or(0..0, toml::Spanned::span)),
        }
        let weights = entries.get("weights");
        if let Some(value) = weights {
            self.weights(value);
        }
        if let Some(value) = entries.get("strategy") {
            self.strategy(value, weights);
        }
    }

    fn strategy(&mut self, value: Place<'_, '_>, weights: Option<Place<'_, '_>>) {
        let Some(word) = table::string(value, "\"fill\" or \"interleave\"", self.complaints) else { return };
        let strategies = [Strategy::Fill, Strategy::Interleave];
        let Some(strategy) = strategies.into_iter().find(|strategy| strategy.as_str() == word) else {
            let hint = suggestion(word, strategies.iter().map(|strategy| strategy.as_str()));
            return self.complain(value.span(), format!("unknown strategy `{}`{hint}", clip(word)));
        };
        self.policy.strategy = strategy;
        if strategy == Strategy::Fill {
            return;
        }
        let Some(weights) = weights else {
            let help = "weights = { dram = 3, … } or weights = \"bandwidth\"";
            return self.complain(value.span(), format!("\"interleave\" needs {help}"));
        };
        if let Some(Weights::Given(given)) = &self.policy.weights {
            let without = self.policy.chain.iter().filter(|&&tier| given.iter().all(|&(of, _)| of != tier));
            let names: Vec<String> = without.map(|&tier| format!("`{}`", self.name(tier))).collect();
            if !names.is_empty() {
                let message = format!("no weight for {}, which the chain interleaves", names.join(", "));
                self.complain(weights.span(), message);
            }
        }
    }

    fn chain(&mut self, value: Place<'_, '_>) {
        let what = "an array of tiers such as [\"dram\", \"slow\"]";
        let Some(items) = table::array(value, what, self.complaints) else { return };
        if items.is_empty() {
            self.complain(value.span(), "an empty chain: no tier could serve any block");
        }
        let mut chain = Vec::new();
        for item in items {
            let Some(tier) = self.tier_name(item) else { continue };
            if chain.contains(&tier) {
                self.complain(item.span(), format!("`{}` is in the chain already", self.name(tier)));
            } else {
                chain.push(tier);
            }
        }
        self.policy.chain = chain;
    }

    /// The chain that a file without `chain` means: along the spills from where they begin or, without any, all tiers.
    fn derive_chain(&mut self, spill_span: Range<usize>) {
        let spill = &self.policy.spill;
        if spill.is_empty() {
            self.policy.chain = (0..self.policy.tiers.len()).map(index_of).collect();
            return;
        }
        let mut roots = spill.iter().map(|&(from, _)| from).filter(|&from| spill.iter().all(|&(_, to)| to != from));
        let (root, other) = (roots.next(), roots.next());
        if let (Some(root), Some(other)) = (root, other) {
            let message = format!(
                "`{}` and `{}` both begin a way of spilling: say with `chain` in which order tiers are filled",
                self.name(root),
                self.name(other)
            );
            return self.complain(spill_span, message);
        }
        // Without any root there is a circle, which has its complaint.
        self.policy.chain = root.map(|root| self.policy.fallback(root).iter().collect()).unwrap_or_default();
    }

    fn spill(&mut self, value: Place<'_, '_>) {
        let what = "a table of next tiers such as { dram = \"slow\" }";
        let Some(entries) = table::table(value, what, self.complaints) else { return };
        for (span, from, value) in table::in_file_order(entries) {
            let from = self.known_tier(from, span);
            let to = self.tier_name(value);
            let (Some(from), Some(to)) = (from, to) else { continue };
            let circle = self.way(to, from);
            self.policy.spill.push((from, to));
            if let Some(way) = circle {
                let way: Vec<&str> = [from].iter().chain(&way).map(|&tier| self.name(tier)).collect();
                let message = format!("spilling goes in a circle: {}", way.join(" → "));
                self.complain(value.span(), message);
            }
        }
    }

    /// The way along the spills from `start` to `end`, both included, if there is one.
    fn way(&self, start: TierIndex, end: TierIndex) -> Option<Vec<TierIndex>> {
        let mut way = vec![start];
        while way.last() != Some(&end) {
            let next = self.policy.spill.iter().find(|(from, _)| Some(from) == way.last()).map(|&(_, to)| to)?;
            // Into a circle that does not hold `end`.
            if way.contains(&next) {
                return None;
            }
            way.push(next);
        }
        Some(way)
    }

    fn weights(&mut self, value: Place<'_, '_>) {
        if value.get_ref().as_str() == Some("bandwidth") {
            self.policy.weights = Some(Weights::Bandwidth);
            return;
        }
        let what = "a table such as { dram = 3, slow = 1 } or \"bandwidth\"";
        let Some(entries) = table::table(value, what, self.complaints) else { return };
        let mut given = Vec::new();
        for (span, name, value) in table::in_file_order(entries) {
            let weight = table::whole(value, "a weight", 1, WEIGHT_MAX, self.complaints);
            let Some(tier) = self.known_tier(name, span.clone()) else { continue };
            if !self.policy.chain.contains(&tier) {
                self.complain(span, format!("`{name}` has a weight but is not in the chain"));
            }
            // After a complaint the value no longer matters, only that there is one.
            given.push((tier, weight.unwrap_or(1)));
        }
        self.policy.weights = Some(Weights::Given(given));
    }

    fn rules(&mut self, value: Place<'_, '_>) {
        let Some(items) = table::array(value, "tables headed [[rule]]", self.complaints) else { return };
        let mut sizes: Vec<SizeRange> = Vec::new();
        for (i, item) in items.iter().enumerate() {
            if i == RULES_MAX {
                return self.complain(item.span(), format!("one rule too many: at most {RULES_MAX}"));
            }
            let Some(entries) = table::table(item, "a table headed [[rule]]", self.complaints) else { continue };
            let known = ["size", "symbol", "module", "depth", "tier"];
            let entries = Table::new(entries, item.span(), "[[rule]]", &known, self.complaints);
            let Some(rule) = self.rule(&entries) else { continue };
            if let Some(size) = rule.size.filter(|_| !rule.looks_at_site()) {
                if sizes.iter().any(|earlier| earlier.min <= size.min && size.max <= earlier.max) {
                    let span = entries.get("size").map_or(item.span(), toml::Spanned::span);
                    self.complain(span, "an earlier rule takes all of these sizes: this one would never apply");
                }
                sizes.push(size);
            }
            self.policy.rules.push(rule);
        }
    }

    fn rule(&mut self, entries: &Table<'_, '_>) -> Option<Rule> {
        let mut rule = Rule { size: None, symbol: None, module: None, depth: None, tier: TierIndex::DRAM };
        let [size, symbol, module, depth] = ["size", "symbol", "module", "depth"].map(|key| entries.get(key));
        if let Some(value) = size
            && let Some(text) = table::string(value, "a range of sizes such as \">= 1 MiB\"", self.complaints)
        {
            match SizeRange::parse(text) {
                Ok(range) => rule.size = Some(range),
                Err(message) => self.complain(value.span(), message),
            }
        }
        let complaint = |text: &str| check::text_complaint(text, "write a pattern, for example \"Cache::*\"");
        rule.symbol = symbol.and_then(|value| self.text(value, "a pattern as a string", complaint)).map(Glob::new);
        rule.module = module.and_then(|value| self.text(value, "a pattern as a string", complaint)).map(Glob::new);
        rule.depth = depth.and_then(|value| table::whole(value, "a depth in frames", 1, DEPTH_MAX, self.complaints));
        if size.or(symbol).or(module).is_none() {
            self.complain(entries.span.clone(), "a rule needs a condition: `size`, `symbol` or `module`");
        } else if let Some(value) = depth.filter(|_| symbol.or(module).is_none()) {
            self.complain(value.span(), "`depth` limits a search for `symbol` or `module`, and this rule has neither");
        }
        let Some(value) = entries.get("tier") else {
            self.complain(entries.span.clone(), "a rule needs a `tier`");
            return None;
        };
        rule.tier = self.tier_name(value)?;
        Some(rule)
    }

    fn memory_return(&mut self, value: Place<'_, '_>) {
        let Some(entries) = table::table(value, "the table [return]", self.complaints) else { return };
        let entries = Table::new(entries, value.span(), "[return]", &["decay_ms"], self.complaints);
        if let Some(value) = entries.get("decay_ms")
            && let Some(decay) = table::whole(value, "a decay time in ms", 0, u32::MAX, self.complaints)
        {
            self.policy.decay_ms = decay;
        }
    }

    /// `value` as a text that `complaint` has nothing against.
    fn text(&mut self, value: Place<'_, '_>, what: &str, complaint: impl Fn(&str) -> Option<String>) -> Option<String> {
        let text = table::string(value, what, self.complaints)?;
        match complaint(text) {
            Some(message) => {
                self.complain(value.span(), message);
                None
            }
            None => Some(text.to_owned()),
        }
    }

    /// The tier that `value` names.
    fn tier_name(&mut self, value: Place<'_, '_>) -> Option<TierIndex> {
        let name = table::string(value, "the name of a tier", self.complaints)?;
        self.known_tier(name, value.span())
    }

    fn known_tier(&mut self, name: &str, span: Range<usize>) -> Option<TierIndex> {
        let tier = self.policy.tier_index(name);
        if tier.is_none() && !self.tiers_dropped {
            let hint = suggestion(name, self.policy.tiers.iter().map(Tier::name));
            self.complain(span, format!("unknown tier `{}`{hint}", clip(name)));
        }
        tier
    }

    fn name(&self, tier: TierIndex) -> &str {
        self.policy.tiers.get(tier.index()).map_or("?", Tier::name)
    }
}
