//! `tierctl replay`.

use std::fs::File;
use std::path::PathBuf;

use tiermem_emulator::cache::CacheConfig;
use tiermem_emulator::keyed;
use tiermem_emulator::replay::{self, Config, Dependence, Placement, SiteNames};
use tiermem_emulator::trace::{Catalog, Completeness, Strictness, Trace};
use tiermem_topology::Topology;

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::replay::{document, keys, rules, sites, tally};
use crate::{policy_file, trace};

/// Compute how long a recorded run would take on another machine, in virtual time.
///
/// Every access of the trace goes through a model of the caches and, where it misses, of the machine's memory. The same run
/// with all memory on the first tier is computed beside it, for the slowdown. Of a trace that does not hold every access
/// (what `tierctl run --trace` records, samples, counts) it tells where the memory would lie and, as far as they were seen, where
/// the accesses would go; no times. Of a trace of key operations it tells what a store whose values lie on several tiers would
/// have done: hits by tier, bytes, latencies.
#[derive(Debug, clap::Args)]
pub struct ReplayVerb {
    /// The trace.
    file: PathBuf,

    /// The machine: a topology file, or the name of a shipped one.
    #[arg(long, short, value_name = "TOPOLOGY", default_value = "one-expander")]
    topology: String,

    /// The host of it, if it has several.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// Put memory on a tier: `site:TEXT=TIER` (TEXT in a function or file of the call stack), `size:4K-1M=TIER`,
    /// `addr:0x7f00-0x7fff=TIER`, or `all=TIER` for what nothing else says. The first that fits counts. `as-recorded` puts
    /// the other blocks where the recorded run had them, tiers being found by name; `recorded:NAME=TIER` says which it is.
    #[arg(long, value_name = "RULE")]
    place: Vec<String>,

    /// Place the blocks that no rule fits as this policy does. Its tiers are those of the topology, by name; `dram` is
    /// the host's first node if no tier is called so.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// The caches, as `48K/12@1.7,2M/16@5,shared:32M/16@21,prefetch:16x8`: size, ways and nanoseconds of each level.
    #[arg(long, value_name = "LEVELS", value_parser = parse_caches)]
    cache: Option<CacheConfig>,

    /// Lines that a core can wait for at once.
    #[arg(long, value_name = "N", default_value_t = Config::default().outstanding)]
    outstanding: u32,

    /// Accesses that a core can run ahead of one that is not done.
    #[arg(long, value_name = "N", default_value_t = Config::default().window)]
    window: u32,

    /// Which accesses wait for the load before them: those that the trace marks, all (an upper bound) or none (a lower
    /// bound).
    #[arg(long, value_enum, default_value_t = Dependent::Recorded)]
    dependent: Dependent,

    /// What an instruction takes where memory does not hold it up, nanoseconds.
    #[arg(long, value_name = "NS", default_value_t = Config::default().instruction_ns)]
    instruction_ns: f64,

    /// Multiply recorded times (not instructions) by this.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    work_factor: f64,

    /// Use what can be read of a damaged trace.
    #[arg(long)]
    salvage: bool,

    /// Sites to show; JSON always holds all.
    #[arg(long, value_name = "N", default_value_t = 15)]
    sites: usize,

    #[command(flatten)]
    keys: keys::KeyOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Dependent {
    Recorded,
    All,
    None,
}

fn parse_caches(text: &str) -> Result<CacheConfig, String> {
    CacheConfig::parse(text).map_err(|error| error.to_string())
}

impl ReplayVerb {
    /// Does it.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        let bad = |what: String| Failure::new(Exit::BadInput, what);
        let topology = Topology::load(&self.topology).map_err(|error| bad(error.to_string()))?;
        let machine = rules::Machine::new(&topology, self.host.as_deref())?;
        let strictness = if self.salvage { Strictness::Salvage } else { Strictness::Strict };
        let opened = Trace::open(&self.file, strictness).map_err(|error| trace::failure(&self.file, &error))?;
        if keyed::is_keyed(&opened).map_err(|error| trace::failure(&self.file, &error))? {
            return self.tell_keys(&opened, &machine, *output);
        }
        if let Some(option) = self.keys.given() {
            let what = format!("{option}: {} holds no operations on keys", self.file.display());
            return Err(Failure::new(Exit::Usage, what));
        }
        let names = sites::named(opened.catalog());
        let config = self.config(&machine);
        let placement = self.placement(&machine, opened.catalog(), &names)?;
        if opened.provenance().accesses != Completeness::Exact {
            return self.tell_tally(&opened, &machine, placement, &names, *output);
        }
        let all_on_dram = Placement::all(machine.dram, machine.capacities());
        let placed = [placement, all_on_dram].map(|placement| (machine.system.clone(), placement));
        let [report, baseline] = replay::replay_side_by_side(&opened, placed, &config)
            .map_err(|error| bad(format!("{}: {error}", self.file.display())))?;
        report.damage.iter().for_each(|damage| eprintln!("tierctl: {}: left out: {damage}", self.file.display()));
        let result = document::Document::new(&self.file, &machine, &report, &baseline, &names);
        if output.is_json() {
            output.json("tiermem-replay/1", &result)?;
        } else {
            output.text(&result.text(self.sites))?;
        }
        Ok(Exit::Ok)
    }

    /// Of a trace of key operations.
    fn tell_keys(&self, opened: &Trace<File>, machine: &rules::Machine, output: Output) -> Result<Exit, Failure> {
        let for_blocks = [
            (!self.place.is_empty(), "--place"),
            (self.policy.is_some(), "--policy"),
            (self.cache.is_some(), "--cache"),
        ];
        if let Some((_, option)) = for_blocks.iter().find(|(given, _)| *given) {
            let what =
                format!("{option}: {} holds operations on keys; --tiers says where values go", self.file.display());
            return Err(Failure::new(Exit::Usage, what));
        }
        let result = self.keys.replay(&self.file, opened, machine, self.work_factor)?;
        result.damage().iter().for_each(|damage| eprintln!("tierctl: {}: left out: {damage}", self.file.display()));
        if output.is_json() {
            output.json("tiermem-replay-keys/1", &result)?;
        } else {
            output.text(&result.text())?;
        }
        Ok(Exit::Ok)
    }

    /// Of a trace that does not hold every access.
    fn tell_tally(
        &self,
        opened: &Trace<File>,
        machine: &rules::Machine,
        placement: Placement,
        names: &SiteNames,
        output: Output,
    ) -> Result<Exit, Failure> {
        let refused = |error| Failure::new(Exit::BadInput, format!("{}: {error}", self.file.display()));
        let tallied = replay::tally(opened, placement).map_err(refused)?;
        tallied.damage.iter().for_each(|damage| eprintln!("tierctl: {}: left out: {damage}", self.file.display()));
        let result = tally::Document::new(&self.file, machine, &tallied, names);
        if output.is_json() {
            output.json("tiermem-replay-tally/1", &result)?;
        } else {
            output.text(&result.text(self.sites))?;
        }
        Ok(Exit::Ok)
    }

    fn config(&self, machine: &rules::Machine) -> Config {
        Config {
            caches: self.cache.clone().unwrap_or_default(),
            outstanding: self.outstanding,
            window: self.window,
            dependence: match self.dependent {
                Dependent::Recorded => Dependence::Recorded,
                Dependent::All => Dependence::All,
                Dependent::None => Dependence::Never,
            },
            instruction_ns: self.instruction_ns,
            work_factor: self.work_factor,
            host: machine.host,
            ..Config::default()
        }
    }

    fn placement(&self, machine: &rules::Machine, catalog: &Catalog, names: &SiteNames) -> Result<Placement, Failure> {
        let places = machine.rules(&self.place)?;
        let placement = Placement::all(places.default, machine.capacities()).rules(places.rules, names.clone());
        match (&self.policy, places.recorded) {
            (None, None) => Ok(placement),
            (None, Some(named)) => Ok(placement.as_recorded(machine.recorded(catalog, &named)?)),
            (Some(_), Some(_)) => {
                let both = "--policy and --place as-recorded both say where blocks go that no rule fits: choose one";
                Err(Failure::new(Exit::Usage, both))
            }
            (Some(file), None) => {
                let policy = policy_file::read(file)?;
                placement.policy(&policy, names.clone(), |name| machine.tier(name)).map_err(|error| {
                    Failure::new(Exit::BadInput, format!("{}: {error}: it has {}", file.display(), machine.tier_list()))
                })
            }
        }
    }
}
