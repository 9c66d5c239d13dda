//! `tierctl qemu`.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use tiermem_qemu::cache::{Cache, Part};
use tiermem_qemu::fetch::{self, Options, Progress};
use tiermem_qemu::guest::{self, Driver};
use tiermem_qemu::machine::{Folders, machines};
use tiermem_qemu::wire::Deed;
use tiermem_topology::{SHIPPED, Topology};

use crate::exit::{Exit, Failure};
use crate::lab;
use crate::output::{Align, Output, Table};

/// Try CXL memory without the hardware: virtual machines with real kernel drivers on emulated devices.
///
/// QEMU emulates what devices do, not how long they take: figures from a guest say nothing about CXL's speed (the emulator is
/// for that).
#[derive(Debug, clap::Args)]
pub struct QemuVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Fetch(Fetch),
    List(List),
    Show(Show),
    Run(Box<lab::Run>),
    Exec(Box<lab::Exec>),
    Shell(Box<lab::Shell>),
    Stop(lab::Stop),
    #[command(hide = true)]
    Keep(Box<lab::Keep>),
    Guest(Guest),
}

/// Get QEMU, a kernel and busybox into the lab's folder; nothing else on this machine changes.
///
/// The packages come from the Debian mirror in this host's apt sources, through apt, which verifies them.
#[derive(Debug, clap::Args)]
struct Fetch {
    /// Use only what is there already, and say what lacks.
    #[arg(long)]
    offline: bool,
    /// Look for newer versions.
    #[arg(long, conflicts_with = "offline")]
    update: bool,
    /// Fetch from this mirror of Debian (the folder with dists/ and pool/).
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// The keys that the mirror's lists are signed with.
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Take packages of this release and its backports.
    #[arg(long, value_name = "RELEASE")]
    suite: Option<String>,
    /// Fetch the release's own, older kernel as well.
    #[arg(long)]
    older_kernel: bool,
    /// Remove kernels that a newer one of the same suite has taken the place of.
    #[arg(long)]
    prune: bool,
}

/// List the topologies that can be started.
#[derive(Debug, clap::Args)]
struct List {}

/// Show the virtual machines that a topology becomes: QEMU's arguments and the regions that the guest sets up.
#[derive(Debug, clap::Args)]
struct Show {
    /// A shipped topology, or a file.
    topology: String,
    /// Start so many guests.
    #[arg(long, value_name = "N")]
    hosts: Option<u32>,
    /// Draw the topology into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// For use inside a guest of the lab.
#[derive(Debug, clap::Args)]
struct Guest {
    #[command(subcommand)]
    deed: GuestDeed,
}

#[derive(Debug, Subcommand)]
enum GuestDeed {
    /// Talk to the host; the guest's init starts this.
    #[command(hide = true)]
    Agent,
    /// Make a NUMA node of a DAX device, or a device of the node's memory.
    Convert {
        /// The device, for example dax0.0.
        device: String,
        /// What to make of it: node or devdax.
        to: ConvertTo,
    },
    /// Poison lines of a CXL device.
    Poison {
        /// Its name in the topology.
        device: String,
        /// Where, bytes, for example 4194304, 0x400000 or 4M.
        #[arg(value_parser = offset)]
        offset: u64,
        /// How much, bytes.
        #[arg(default_value_t = 64)]
        length: u64,
    },
    /// Let a CXL device report an event of its memory.
    MediaEvent {
        /// Its name in the topology.
        device: String,
        /// Where, bytes, for example 4194304, 0x400000 or 4M.
        #[arg(value_parser = offset)]
        offset: u64,
    },
    /// Pull a CXL device out.
    Remove {
        /// Its name in the topology.
        device: String,
        /// Also while its memory is a node's and in use: the kernel keeps the node, with nothing behind it, until it restarts.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ConvertTo {
    Node,
    Devdax,
}

/// A number of bytes in base 10, with a unit if it has one, or in base 16.
fn offset(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).map_err(|error| error.to_string()),
        None => tiermem_tiers::Bytes::parse(text).map(|bytes| bytes.0),
    }
}

#[derive(Serialize)]
struct PartsDocument {
    folder: String,
    parts: Vec<Part>,
}

impl QemuVerb {
    /// Does it.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        match self.verb {
            Verb::Fetch(verb) => verb.execute(*output),
            Verb::List(List {}) => list(*output),
            Verb::Show(verb) => verb.execute(*output),
            Verb::Run(verb) => verb.execute(),
            Verb::Exec(verb) => verb.execute(),
            Verb::Shell(verb) => verb.execute(),
            Verb::Stop(verb) => verb.execute(),
            Verb::Keep(verb) => verb.execute(),
            Verb::Guest(verb) => verb.execute(),
        }
    }
}

impl Fetch {
    fn execute(self, output: Output) -> Result<Exit, Failure> {
        let cache = Cache::of_user().map_err(|e| lab::failure(&e))?;
        let options = Options {
            offline: self.offline,
            update: self.update,
            mirror: self.mirror,
            keyring: self.keyring,
            suite: self.suite,
            older_kernel: self.older_kernel,
        };
        let bar = indicatif::ProgressBar::no_length();
        let style = indicatif::ProgressStyle::with_template("{msg} {bytes}/{total_bytes} {bar:30}");
        style.into_iter().for_each(|style| bar.set_style(style));
        let parts = fetch::fetch(&cache, &options, &mut |progress| match progress {
            Progress::Step(what) => {
                bar.suspend(|| eprintln!("tierctl: fetching {what}"));
                bar.set_message(what.to_owned());
            }
            Progress::Bytes { done, total } => {
                bar.set_length(total);
                bar.set_position(done);
            }
            _ => {}
        });
        bar.finish_and_clear();
        parts.map_err(|e| lab::failure(&e))?;
        if self.prune {
            for part in cache.remove_superseded().map_err(|e| lab::failure(&e))? {
                eprintln!("tierctl: {} is removed", part.name);
            }
        }
        for part in cache.superseded().map_err(|e| lab::failure(&e))? {
            eprintln!("tierctl: {} is superseded: `tierctl qemu fetch --prune` removes it", part.name);
        }
        let parts = cache.parts().map_err(|e| lab::failure(&e))?;
        let folder = cache.root().display().to_string();
        if output.is_json() {
            output.json("tiermem-lab-parts/1", &PartsDocument { folder, parts })?;
            return Ok(Exit::Ok);
        }
        let right = |name| (name, Align::Right);
        let left = |name| (name, Align::Left);
        let mut table = Table::new(&[left("PART"), left("VERSION"), left("FROM"), right("DOWNLOAD"), right("ON DISK")]);
        let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
        for part in parts {
            table.row([part.name, part.version, part.suite, mib(part.download_bytes), mib(part.disk_bytes)]);
        }
        output.text(&format!("{}in {folder}", table.render()))?;
        Ok(Exit::Ok)
    }
}

fn list(output: Output) -> Result<Exit, Failure> {
    let topologies: Vec<Topology> = SHIPPED.iter().filter_map(|(name, _)| Topology::shipped(name)).collect();
    if output.is_json() {
        let names = topologies.iter().map(|t| serde_json::json!({ "name": t.name, "description": t.description }));
        output.json("tiermem-topologies/1", &serde_json::json!({ "topologies": names.collect::<Vec<_>>() }))?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[("TOPOLOGY", Align::Left), ("HOSTS", Align::Right), ("WHAT IT IS", Align::Left)]);
    for topology in topologies {
        table.row([topology.name, topology.hosts.len().to_string(), topology.description]);
    }
    output.text(&table.render())?;
    Ok(Exit::Ok)
}

impl Show {
    fn execute(self, output: Output) -> Result<Exit, Failure> {
        let topology = lab::topology(&self.topology)?;
        if let Some(file) = &self.svg {
            std::fs::write(file, topology.to_svg())
                .map_err(|e| Failure::from_io(format!("cannot write {}", file.display()), &e))?;
        }
        let folder = PathBuf::from("FOLDER");
        let folders = Folders { scratch: &folder, state: &folder };
        let machines = machines(&topology, self.hosts, folders).map_err(|e| lab::failure(&e))?;
        let document: Vec<_> = machines
            .iter()
            .map(|m| serde_json::json!({ "host": m.name, "arguments": m.arguments, "plan": m.plan, "notes": m.notes }))
            .collect();
        if output.is_json() {
            output.json("tiermem-lab-machines/1", &serde_json::json!({ "machines": document }))?;
            return Ok(Exit::Ok);
        }
        for machine in machines {
            let mut text = format!("{}\n", machine.name);
            for pair in machine.arguments.chunks(2) {
                text.push_str(&format!("  {}\n", pair.join(" ")));
            }
            for region in machine.plan.regions {
                let (mib, ways) = ((region.bytes_each * region.serials.len() as u64) >> 20, region.serials.len());
                text.push_str(&format!("  region {}: {mib} MiB over {ways}, {:?}\n", region.name, region.exposure));
            }
            machine.notes.iter().for_each(|note| text.push_str(&format!("  note: {note}\n")));
            output.text(&text)?;
        }
        Ok(Exit::Ok)
    }
}

impl Guest {
    fn execute(self) -> Result<Exit, Failure> {
        let done = match self.deed {
            GuestDeed::Agent => guest::run_agent(),
            GuestDeed::Convert { device, to: ConvertTo::Node } => guest::convert(&device, Driver::Kmem),
            GuestDeed::Convert { device, to: ConvertTo::Devdax } => guest::convert(&device, Driver::Device),
            GuestDeed::Poison { device, offset, length } => guest::ask(&Deed::Poison { device, offset, length }),
            GuestDeed::MediaEvent { device, offset } => guest::ask(&Deed::MediaEvent { device, offset }),
            GuestDeed::Remove { device, force } => guest::remove(&device, force),
        };
        done.map(|()| Exit::Ok).map_err(|e| lab::failure(&e))
    }
}
