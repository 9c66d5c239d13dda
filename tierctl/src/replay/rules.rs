//! The machine of a replay, and where its memory goes.

use std::collections::BTreeMap;
use std::ops::Range;

use tiermem_emulator::model::{HostIndex, ModelError, System, TierIndex};
use tiermem_emulator::replay::Rule;
use tiermem_emulator::trace::{Catalog, TierTag};
use tiermem_tiers::Bytes;
use tiermem_topology::Topology;

use crate::exit::{Exit, Failure};

/// A modelled machine, seen from one host.
pub struct Machine {
    /// All of it.
    pub system: System,
    /// The host.
    pub host: HostIndex,
    /// The host's first node.
    pub dram: TierIndex,
    /// As the topology says.
    pub name: String,
}

impl Machine {
    /// A model of `topology`, seen from `host` or its only one.
    ///
    /// # Errors
    /// If it cannot be modelled, or the host is not there, not told, or has no memory of its own.
    pub fn new(topology: &Topology, host: Option<&str>) -> Result<Self, Failure> {
        let bad = |what: String| Failure::new(Exit::BadInput, what);
        let system = System::new(topology).map_err(|error: ModelError| bad(error.to_string()))?;
        let hosts = system.hosts().join(", ");
        let name = match (host, system.hosts()) {
            (Some(name), _) => name.to_owned(),
            (None, [first, ..]) => first.clone(),
            (None, []) => return Err(bad(format!("{} has no host", topology.name))),
        };
        let missing = || bad(format!("{} has no host `{name}`; it has {hosts}", topology.name));
        let host = system.host(&name).ok_or_else(missing)?;
        let node = topology.nodes.iter().find(|node| node.host == name);
        let dram = node.and_then(|node| system.tier(&node.name)).ok_or_else(|| bad(format!("{name} has no memory")))?;
        Ok(Self { system, host, dram, name: topology.name.clone() })
    }

    /// The tier of a name that the host reaches; `dram` is the first node if nothing is called so.
    pub fn tier(&self, name: &str) -> Option<TierIndex> {
        let dram = || (name == "dram").then_some(self.dram);
        self.system.tier(name).or_else(dram).filter(|&tier| self.system.reaches(self.host, tier))
    }

    /// The name of a tier.
    pub fn tier_name(&self, tier: TierIndex) -> &str {
        self.system.tiers().get(usize::from(tier.0)).map_or("?", |tier| &tier.name)
    }

    /// The names of the tiers that the host reaches.
    pub fn tier_list(&self) -> String {
        let all = self.system.tiers().iter().map(|tier| tier.name.as_str());
        all.filter(|name| self.tier(name).is_some()).collect::<Vec<_>>().join(", ")
    }

    /// What each tier holds, bytes.
    pub fn capacities(&self) -> Vec<u64> {
        self.system.tiers().iter().map(|tier| tier.capacity.0).collect()
    }

    /// What `--place` asks for.
    ///
    /// # Errors
    /// If a rule is malformed or names a tier that is not there.
    pub fn rules(&self, texts: &[String]) -> Result<Places, Failure> {
        let mut places = Places { rules: Vec::new(), default: self.dram, recorded: None };
        for text in texts {
            let usage = |what: &str| Failure::new(Exit::Usage, format!("--place {text}: {what}"));
            if text == "as-recorded" {
                places.recorded.get_or_insert_default();
                continue;
            }
            let (what, name) = text.rsplit_once('=').ok_or_else(|| usage("it is WHAT=TIER, or as-recorded"))?;
            let unknown = || usage(&format!("there is no tier `{name}`; the host reaches {}", self.tier_list()));
            let tier = self.tier(name).ok_or_else(unknown)?;
            let rule = match what.split_once(':') {
                None if what == "all" => {
                    places.default = tier;
                    continue;
                }
                Some(("recorded", part)) if !part.is_empty() => {
                    places.recorded.get_or_insert_default().insert(part.to_owned(), tier);
                    continue;
                }
                Some(("site", part)) if !part.is_empty() => Rule::Site(part.to_owned(), tier),
                Some(("size", part)) => {
                    let size = |text: &str| Bytes::parse(text).ok().map(|Bytes(size)| size);
                    Rule::Size(range(part, size, 1).ok_or_else(|| usage("sizes are like 4K-1M"))?, tier)
                }
                Some(("addr", part)) => {
                    let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok();
                    Rule::Address(range(part, hex, 0).ok_or_else(|| usage("addresses are like 0x7f00-0x7fff"))?, tier)
                }
                _ => {
                    let known = "it is site:TEXT, size:FROM-TO, addr:FROM-TO, recorded:TIER or all, and =TIER";
                    return Err(usage(known));
                }
            };
            places.rules.push(rule);
        }
        Ok(places)
    }

    /// The machine's tier for each tier of a trace: the one that `named` says, else the one of the same name.
    ///
    /// # Errors
    /// If there is none, or the trace does not say where memory was.
    pub fn recorded(
        &self,
        catalog: &Catalog,
        named: &BTreeMap<String, TierIndex>,
    ) -> Result<BTreeMap<TierTag, TierIndex>, Failure> {
        let usage = |what: String| Failure::new(Exit::Usage, format!("--place as-recorded: {what}"));
        if let Some(name) = named.keys().find(|name| !catalog.tiers().any(|(_, there)| there == name.as_str())) {
            return Err(usage(format!("the trace has no tier `{name}`")));
        }
        let tier = |(tag, name): (TierTag, &str)| {
            let tier = named.get(name).copied().or_else(|| self.tier(name));
            let missing =
                || usage(format!("{} has no tier `{name}`; say where it is: --place recorded:{name}=TIER", self.name));
            tier.map(|tier| (tag, tier)).ok_or_else(missing)
        };
        let tiers = catalog.tiers().map(tier).collect::<Result<BTreeMap<_, _>, _>>()?;
        if tiers.is_empty() { Err(usage("the trace does not say where memory was".to_owned())) } else { Ok(tiers) }
    }
}

/// Where memory goes.
#[derive(Debug)]
pub struct Places {
    /// The first one that fits counts.
    pub rules: Vec<Rule>,
    /// For what nothing else says.
    pub default: TierIndex,
    /// Whether blocks go where they were recorded, and tiers of the trace that were given one of the machine.
    pub recorded: Option<BTreeMap<String, TierIndex>>,
}

/// `FROM-TO`, with `past` added to the end.
fn range(text: &str, parse: impl Fn(&str) -> Option<u64>, past: u64) -> Option<Range<u64>> {
    let (from, to) = text.split_once('-')?;
    let range = parse(from)?..parse(to)?.checked_add(past)?;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiermem_emulator::trace::Definition;

    fn machine() -> Machine {
        Machine::new(&Topology::shipped("one-expander").unwrap(), None).unwrap()
    }

    #[test]
    fn rules_are_read_and_complained_about() {
        let machine = machine();
        let slow = machine.tier("cxl0").unwrap();
        let texts = ["site:cache=cxl0", "size:4K-1M=cxl0", "addr:0x1000-2000=dram", "all=cxl0", "recorded:far=cxl0"];
        let Places { rules, default, recorded } = machine.rules(&texts.map(str::to_owned)).unwrap();
        assert_eq!(recorded, Some([("far".to_owned(), slow)].into()));
        assert_eq!(machine.rules(&["as-recorded".to_owned()]).unwrap().recorded, Some(BTreeMap::new()));
        let expected = [
            Rule::Site("cache".to_owned(), slow),
            Rule::Size(4096..(1 << 20) + 1, slow),
            Rule::Address(0x1000..0x2000, machine.dram),
        ];
        assert_eq!((rules.as_slice(), default), (&expected[..], slow));
        for (bad, why) in [
            ("cxl0", "WHAT=TIER"),
            ("all=moon", "the host reaches dram, cxl0"),
            ("size:1M-4K=cxl0", "sizes are like"),
            ("addr:x-y=cxl0", "addresses are like"),
            ("colour:red=cxl0", "site:TEXT"),
        ] {
            let failure = machine.rules(&[bad.to_owned()]).unwrap_err();
            assert!(failure.exit == Exit::Usage && failure.message.contains(why), "{}", failure.message);
        }
    }

    #[test]
    fn tiers_of_a_trace_are_found_by_name_or_as_told() {
        let machine = machine();
        let slow = machine.tier("cxl0").unwrap();
        let mut catalog = Catalog::default();
        let none = machine.recorded(&catalog, &BTreeMap::new()).unwrap_err();
        assert!(none.message.contains("does not say"), "{}", none.message);
        for (tag, name) in [(0, "dram"), (1, "far")] {
            catalog.define(Definition::Tier { tag: TierTag(tag), name: name.to_owned() });
        }
        let unknown = machine.recorded(&catalog, &BTreeMap::new()).unwrap_err();
        assert!(unknown.message.contains("--place recorded:far=TIER"), "{}", unknown.message);
        let named = BTreeMap::from([("far".to_owned(), slow)]);
        let found = machine.recorded(&catalog, &named).unwrap();
        assert_eq!(found, BTreeMap::from([(TierTag(0), machine.dram), (TierTag(1), slow)]));
        let wrong = machine.recorded(&catalog, &BTreeMap::from([("near".to_owned(), slow)])).unwrap_err();
        assert!(wrong.message.contains("no tier `near`"), "{}", wrong.message);
    }

    #[test]
    fn hosts_are_found_or_named() {
        let topology = Topology::shipped("pool-4-coherent").unwrap();
        let failure = Machine::new(&topology, Some("nobody")).err().unwrap();
        assert!(failure.message.contains("no host `nobody`; it has "), "{}", failure.message);
    }
}
