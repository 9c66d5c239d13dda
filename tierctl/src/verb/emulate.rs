//! `tierctl emulate`.

mod faults;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;
use tiermem_emulator::tier::registry::Registry;
use tiermem_emulator::tier::{CreateError, FORMAT, Machine, Options, Scale, State};
use tiermem_tiers::Bytes;
use tiermem_topology::{LoadError, SHIPPED, Topology};

use super::list::{bandwidth, latency};
use crate::exit::{Exit, Failure};
use crate::fault_plan;
use crate::output::{Align, Output, Table};

/// Make, show and remove emulated machines: tiers on files that stand for hardware that is not there.
///
/// `tierctl list` shows the tiers with the figures of their profiles; `tierctl run --tier NAME` places memory on them.
/// Nothing is slowed down: only virtual time tells how long an access would take.
#[derive(Debug, clap::Args)]
pub struct Emulate {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make the tiers of a topology and register them for this user.
    Create {
        /// A shipped topology (`tierctl emulate list` names them) or a file.
        topology: String,
        /// The machine's name (default: the topology's).
        #[arg(long)]
        name: Option<String>,
        /// Make only the tiers that this host uses.
        #[arg(long)]
        host: Option<String>,
        /// Put the files into a folder of their own in DIR (default: in `/dev/shm`).
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Multiply all capacities, for example by 1/64.
        #[arg(long, value_name = "N/M", value_parser = parse_scale)]
        scale: Option<Scale>,
    },
    /// List this user's emulated machines, and the shipped topologies.
    List,
    /// Show the tiers of an emulated machine or of a topology.
    Show {
        /// A machine, a shipped topology or a file.
        what: String,
        /// Draw the topology as SVG.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Let things go wrong on the tiers of an emulated machine, as the plan says (see `tierctl fault --help`).
    ///
    /// Every program that has one of its tiers open meets the faults, within a second or with its next operation on the tier,
    /// and so does every program that `tierctl run` starts on one later, until `tierctl emulate heal` or another plan. Times and
    /// operations count in each program from when the plan comes into force there.
    Fault {
        /// The machine.
        name: String,
        /// The plan.
        #[arg(value_name = "PLAN.toml")]
        plan: PathBuf,
    },
    /// End the faults of an emulated machine, and take into use again what they had set aside.
    ///
    /// Also in running programs. What was poisoned or lost and a program still holds stays so until it is given back and this is
    /// done again.
    Heal {
        /// The machine.
        name: String,
    },
    /// Remove an emulated machine and its files.
    Destroy {
        /// The machine.
        name: String,
        /// Remove it even while it is used: the users keep what they have until they end.
        #[arg(long)]
        force: bool,
    },
}

/// The JSON of `tierctl emulate list`.
#[derive(Serialize)]
struct Listed {
    machines: Vec<ListedMachine>,
    topologies: Vec<ListedTopology>,
}

#[derive(Serialize)]
struct ListedMachine {
    name: String,
    /// Null if it is lost; `lost` then says why.
    topology: Option<String>,
    folder: Option<PathBuf>,
    tiers: Vec<String>,
    bytes: u64,
    users: Vec<u32>,
    /// Whether a fault plan is in force.
    faults: bool,
    lost: Option<String>,
}

#[derive(Serialize)]
struct ListedTopology {
    name: String,
    description: String,
}

/// The JSON of `tierctl emulate show` of a topology.
#[derive(Serialize)]
struct Shown {
    name: String,
    description: String,
    tiers: Vec<ShownTier>,
    toml: String,
}

#[derive(Serialize)]
struct ShownTier {
    name: String,
    kind: String,
    capacity_bytes: u64,
    hosts: Vec<String>,
    coherence: Option<&'static str>,
    profile: String,
    read_latency_ns: f64,
    write_latency_ns: f64,
    read_bandwidth: f64,
    write_bandwidth: f64,
}

impl Emulate {
    /// Does it.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        let registry = Registry::default();
        match self.action {
            Action::Create { topology, name, host, dir, scale } => {
                let topology = Topology::load(&topology).map_err(load_failure)?;
                let scale = scale.unwrap_or(Scale::WHOLE);
                let options = Options { name: name.as_deref(), host: host.as_deref(), dir: dir.as_deref(), scale };
                let machine = registry.create(&topology, &options).map_err(failure)?;
                show_machine(&machine, output)?;
            }
            Action::List => list(&registry, output)?,
            Action::Show { what, svg } => match registry.find(&what) {
                Some(State::Ready(machine)) => {
                    if let Some(file) = svg {
                        let topology = Topology::parse(&machine.topology_text, &what);
                        let topology = topology.map_err(|error| Failure::new(Exit::BadInput, error.to_string()))?;
                        draw(&topology, &file)?;
                    }
                    show_machine(&machine, output)?;
                }
                Some(State::Lost(why)) => return Err(Failure::new(Exit::NotFound, lost(&what, &why))),
                _ => {
                    let topology = Topology::load(&what).map_err(load_failure)?;
                    if let Some(file) = svg {
                        draw(&topology, &file)?;
                    }
                    show_topology(&topology, output)?;
                }
            },
            Action::Fault { name, plan } => {
                let machine = ready(&registry, &name)?;
                let text = fault_plan::text(&plan)?;
                machine.attach_faults(&text, &plan.display().to_string()).map_err(failure)?;
                faults::show_reached(&machine, output)?;
            }
            Action::Heal { name } => {
                let machine = ready(&registry, &name)?;
                let healed = machine.heal().map_err(failure)?;
                faults::show_healed(&machine, healed, output)?;
            }
            Action::Destroy { name, force } => {
                if registry.find(&name).is_none() {
                    return Err(unknown(&registry, &name));
                }
                registry.destroy(&name, force).map_err(failure)?;
            }
        }
        Ok(Exit::Ok)
    }
}

/// The machine of that name, if it can be used.
fn ready(registry: &Registry, name: &str) -> Result<Machine, Failure> {
    match registry.find(name) {
        Some(State::Ready(machine)) => Ok(*machine),
        Some(State::Lost(why)) => Err(Failure::new(Exit::NotFound, lost(name, &why))),
        _ => Err(unknown(registry, name)),
    }
}

fn unknown(registry: &Registry, name: &str) -> Failure {
    let known: Vec<String> = registry.machines().into_iter().map(|(name, _)| name).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Failure::new(Exit::NotFound, format!("no emulated machine is called {name}; there is {known}"))
}

fn draw(topology: &Topology, file: &Path) -> Result<(), Failure> {
    std::fs::write(file, topology.to_svg())
        .map_err(|error| Failure::from_io(format!("cannot write {}", file.display()), &error))
}

fn parse_scale(text: &str) -> Result<Scale, String> {
    Scale::parse(text).ok_or_else(|| "a scale is N or N/M with whole numbers above 0, for example 1/64".to_owned())
}

fn lost(name: &str, why: &str) -> String {
    format!("the emulated machine {name} is lost ({why}): `tierctl emulate destroy {name}` removes its entry")
}

fn load_failure(error: LoadError) -> Failure {
    match &error {
        LoadError::Unknown { .. } => Failure::new(Exit::NotFound, error.to_string()),
        LoadError::Unreadable { path, cause } => {
            Failure::from_io(format!("cannot read the topology {}", path.display()), cause)
        }
        _ => Failure::new(Exit::BadInput, error.to_string()),
    }
}

fn failure(error: CreateError) -> Failure {
    let exit = match &error {
        CreateError::Unsuitable(_) => Exit::BadInput,
        CreateError::System { what, cause } => return Failure::from_io(what, cause),
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

fn list(registry: &Registry, output: &Output) -> Result<(), Failure> {
    registry.sweep();
    let machines = registry.machines().into_iter().map(|(name, state)| match state {
        State::Ready(machine) => ListedMachine {
            topology: Some(machine.topology.clone()),
            folder: Some(machine.folder.clone()),
            tiers: machine.tiers.iter().map(|tier| tier.name.clone()).collect(),
            bytes: machine.tiers.iter().map(|tier| tier.size_bytes).sum(),
            users: machine.users().into_iter().map(|user| user.pid).collect(),
            faults: machine.has_faults(),
            lost: None,
            name,
        },
        State::Lost(why) => lost_machine(name, why),
        _ => lost_machine(name, "unknown state".to_owned()),
    });
    let topologies = SHIPPED.iter().filter_map(|(name, _)| {
        let description = Topology::shipped(name)?.description;
        Some(ListedTopology { name: (*name).to_owned(), description })
    });
    let listed = Listed { machines: machines.collect(), topologies: topologies.collect() };
    if output.is_json() {
        return output.json("tiermem-emulate-list/1", &listed);
    }
    let mut table = Table::new(&[
        ("MACHINE", Align::Left),
        ("TOPOLOGY", Align::Left),
        ("TIERS", Align::Left),
        ("SIZE", Align::Right),
        ("USERS", Align::Right),
        ("FOLDER", Align::Left),
    ]);
    for machine in &listed.machines {
        let folder = machine.folder.as_ref().map(|folder| folder.display().to_string());
        table.row([
            machine.name.clone(),
            machine.topology.clone().unwrap_or_default(),
            machine.tiers.join(" "),
            Bytes(machine.bytes).to_string(),
            machine.users.len().to_string(),
            folder.or_else(|| machine.lost.clone().map(|why| format!("lost: {why}"))).unwrap_or_default(),
        ]);
    }
    let mut shipped = Table::new(&[("SHIPPED TOPOLOGY", Align::Left), ("ABOUT", Align::Left)]);
    for topology in &listed.topologies {
        shipped.row([topology.name.clone(), topology.description.clone()]);
    }
    output.text(&format!("{}\n{}", table.render(), shipped.render()))
}

fn lost_machine(name: String, why: String) -> ListedMachine {
    ListedMachine {
        name,
        topology: None,
        folder: None,
        tiers: Vec::new(),
        bytes: 0,
        users: Vec::new(),
        faults: false,
        lost: Some(why),
    }
}

const COLUMNS: [(&str, Align); 8] = [
    ("TIER", Align::Left),
    ("KIND", Align::Left),
    ("WHAT", Align::Left),
    ("SIZE", Align::Right),
    ("LATENCY", Align::Right),
    ("READ", Align::Right),
    ("WRITE", Align::Right),
    ("HOSTS", Align::Left),
];

fn show_machine(machine: &Machine, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        let mut document = serde_json::to_value(machine)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot write {FORMAT}: {error}")))?;
        // The record has its format already; the output puts it in front.
        if let Some(fields) = document.as_object_mut() {
            fields.remove("format");
        }
        return output.json(FORMAT, &document);
    }
    let mut table = Table::new(&COLUMNS);
    for tier in &machine.tiers {
        table.row([
            tier.name.clone(),
            tier.kind.clone(),
            tier.description.clone(),
            Bytes(tier.size_bytes).to_string(),
            latency(tier.read_latency_ns),
            bandwidth(tier.read_bandwidth),
            bandwidth(tier.write_bandwidth),
            tier.hosts.join(" "),
        ]);
    }
    let specs: Vec<String> = machine.tiers.iter().map(|tier| format!("  --tier {}", tier.bare_spec())).collect();
    let faults = if machine.has_faults() { "\na fault plan is in force: `tierctl emulate heal` ends it\n" } else { "" };
    output.text(&format!(
        "{} ({}) in {}\n\n{}\n{}\n{faults}",
        machine.name,
        machine.topology,
        machine.folder.display(),
        table.render(),
        specs.join("\n")
    ))
}

fn show_topology(topology: &Topology, output: &Output) -> Result<(), Failure> {
    let tiers = topology.tiers();
    if output.is_json() {
        let tiers = tiers.into_iter().map(|tier| ShownTier {
            kind: tier.kind.map_or_else(|| "node".to_owned(), |kind| kind.to_string()),
            capacity_bytes: tier.capacity.0,
            coherence: tier.coherence.map(|coherence| coherence.as_str()),
            read_latency_ns: tier.figures.read_latency_ns,
            write_latency_ns: tier.figures.write_latency_ns,
            read_bandwidth: tier.figures.read_bandwidth,
            write_bandwidth: tier.figures.write_bandwidth,
            name: tier.name,
            hosts: tier.hosts,
            profile: tier.profile,
        });
        let (name, description) = (topology.name.clone(), topology.description.clone());
        let shown = Shown { name, description, tiers: tiers.collect(), toml: topology.to_string() };
        return output.json("tiermem-topology/1", &shown);
    }
    let mut table = Table::new(&COLUMNS);
    for tier in &tiers {
        let shared = tier.coherence.map_or_else(String::new, |coherence| format!(", shared, coherence: {coherence}"));
        table.row([
            tier.name.clone(),
            tier.kind.map_or_else(|| "node".to_owned(), |kind| kind.to_string()),
            format!("{}{shared}", tier.profile),
            tier.capacity.to_string(),
            latency(tier.figures.read_latency_ns),
            bandwidth(tier.figures.read_bandwidth),
            bandwidth(tier.figures.write_bandwidth),
            tier.hosts.join(" "),
        ]);
    }
    output.text(&format!("{}: {}\n\n{}", topology.name, topology.description, table.render()))
}
