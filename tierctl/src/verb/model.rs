//! `tierctl model`.

use std::path::PathBuf;

use serde::Serialize;
use tiermem_emulator::cache::CacheConfig;
use tiermem_emulator::workload::Core;
use tiermem_emulator::workload::predict::Sizes;
use tiermem_topology::{BUILTIN_NAMES, Profile, ProfileFigures};

use super::list::{bandwidth, latency};
use crate::exit::{Exit, Failure};
use crate::model::{self, curves, prediction};
use crate::output::{Align, Output, Table};

/// Show device profiles, each figure with its source, and predict what known algorithms would take on them.
#[derive(Debug, clap::Args)]
pub struct ModelVerb {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the shipped profiles.
    List,
    /// Show every figure of a profile: its value, what it is worth and where it comes from.
    Show {
        /// A shipped profile or a profile file.
        profile: String,
        /// Print it as a profile file, complete with what it takes from others.
        #[arg(long)]
        toml: bool,
    },
    /// Draw loaded-latency curves as SVG.
    Plot {
        /// Shipped profiles or profile files (default: all shipped ones).
        profiles: Vec<String>,
        /// Where to write the picture.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Run a pointer chase, streams, random updates, a B-tree, a key-value store and a graph search on each memory tier of
    /// a machine, in virtual time, beside what closed forms expect.
    Predict {
        /// A topology or profile: the name of a shipped one, or a file.
        #[arg(value_name = "TOPOLOGY|PROFILE")]
        machine: String,
        /// The host of it, if it has several.
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// The caches, as `48K/12@1.7,2M/16@5,shared:32M/16@21,prefetch:16x8`: size, ways and nanoseconds of each level.
        #[arg(long, value_name = "LEVELS", value_parser = parse_caches)]
        cache: Option<CacheConfig>,
        /// Lines that a core can have on their way at once.
        #[arg(long, value_name = "N", default_value_t = Core::default().lines_in_flight)]
        outstanding: usize,
    },
}

fn parse_caches(text: &str) -> Result<CacheConfig, String> {
    CacheConfig::parse(text).map_err(|error| error.to_string())
}

/// `tiermem-device-profiles/1`.
#[derive(Debug, Serialize)]
struct ListDocument {
    profiles: Vec<ProfileDocument>,
}

/// `tiermem-device-profile/1`, and an entry of the list.
#[derive(Debug, Serialize)]
struct ProfileDocument {
    name: String,
    description: String,
    kind: &'static str,
    figures: Vec<FigureDocument>,
}

#[derive(Debug, Serialize)]
struct FigureDocument {
    key: &'static str,
    /// As TOML.
    value: String,
    status: &'static str,
    source: String,
}

impl ModelVerb {
    /// Does it.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        match self.action {
            Action::List => list(output),
            Action::Show { profile, toml } => show(&model::profile(&profile)?, toml, output),
            Action::Plot { profiles, out } => plot(&profiles, &out),
            Action::Predict { machine, host, cache, outstanding } => {
                let topology = model::machine(&machine)?;
                let core = Core { lines_in_flight: outstanding.clamp(1, 4096), ..Core::default() };
                let computer = prediction::Computer { caches: cache.unwrap_or_default(), core };
                let document = prediction::document(&topology, host.as_deref(), &computer, Sizes::default())?;
                if output.is_json() {
                    output.json(prediction::FORMAT, &document)?;
                } else {
                    output.text(&document.text())?;
                }
                Ok(Exit::Ok)
            }
        }
    }
}

fn shipped() -> Vec<Profile> {
    BUILTIN_NAMES.iter().filter_map(|name| Profile::builtin(name)).collect()
}

impl ProfileDocument {
    fn new(profile: &Profile) -> Self {
        let figures = profile.shown().into_iter().map(|figure| FigureDocument {
            key: figure.key,
            value: figure.value,
            status: figure.status.as_str(),
            source: figure.source,
        });
        Self {
            name: profile.name.clone(),
            description: profile.description.clone(),
            kind: profile.kind(),
            figures: figures.collect(),
        }
    }
}

fn list(output: &Output) -> Result<Exit, Failure> {
    let profiles = shipped();
    if output.is_json() {
        let profiles = profiles.iter().map(ProfileDocument::new).collect();
        output.json("tiermem-device-profiles/1", &ListDocument { profiles })?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("PROFILE", Align::Left),
        ("KIND", Align::Left),
        ("LATENCY", Align::Right),
        ("READ", Align::Right),
        ("WRITE", Align::Right),
        ("DESCRIPTION", Align::Left),
    ]);
    for profile in &profiles {
        let (ns, read, write) = match &profile.figures {
            ProfileFigures::Memory(m) => (m.read_latency_ns.value, m.read_bandwidth.value, m.write_bandwidth.value),
            ProfileFigures::Link(link) => (link.latency_ns.value, link.up_bandwidth.value, link.down_bandwidth.value),
            ProfileFigures::Nvme(n) => (n.read_latency_ns.value, n.read_bandwidth.value, n.write_bandwidth.value),
            ProfileFigures::Gpu(gpu) => {
                (gpu.copy_latency_ns.value, gpu.from_device_bandwidth.value, gpu.to_device_bandwidth.value)
            }
            _ => continue,
        };
        let cells = [latency(ns), bandwidth(read), bandwidth(write), profile.description.clone()];
        table.row([profile.name.clone(), profile.kind().to_owned()].into_iter().chain(cells));
    }
    output.text(&table.render())?;
    Ok(Exit::Ok)
}

fn show(profile: &Profile, toml: bool, output: &Output) -> Result<Exit, Failure> {
    if toml {
        output.text(&profile.to_string())?;
        return Ok(Exit::Ok);
    }
    let document = ProfileDocument::new(profile);
    if output.is_json() {
        output.json("tiermem-device-profile/1", &document)?;
        return Ok(Exit::Ok);
    }
    let mut text = format!("{} ({}): {}\n", document.name, document.kind, document.description);
    for figure in document.figures {
        text.push_str(&format!("\n{} = {}\n  {}: {}\n", figure.key, figure.value, figure.status, figure.source));
    }
    output.text(&text)?;
    Ok(Exit::Ok)
}

fn plot(names: &[String], out: &PathBuf) -> Result<Exit, Failure> {
    let given: Result<Vec<Profile>, Failure> = names.iter().map(|name| model::profile(name)).collect();
    let profiles = if names.is_empty() { shipped() } else { given? };
    std::fs::write(out, curves::draw(&profiles)?)
        .map_err(|error| Failure::from_io(format!("cannot write {}", out.display()), &error))?;
    Ok(Exit::Ok)
}
