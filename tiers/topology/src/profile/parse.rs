//! From TOML to a [`Profile`].

use std::ops::Range;

use tiermem_complaint::table::{self, Table};
use tiermem_complaint::units::clip;
use tiermem_complaint::{Complaints, FileError, read, suggestion};
use toml::de::DeTable;

use super::figure::{Reader, Unit};
use super::{BUILTIN_NAMES, GpuFigures, LinkFigures, MemoryFigures, NvmeFigures, Profile, ProfileFigures, check};

/// The only version there is.
const VERSION: u32 = 1;

/// Longest text that is looked at, bytes.
const TEXT_LEN_MAX: usize = 64 << 10;

const KINDS: [&str; 4] = ["memory", "link", "nvme", "gpu"];
const MEMORY_KEYS: &[&str] =
    &["read_latency_ns", "write_latency_ns", "read_bandwidth", "write_bandwidth", "mixed_bandwidth", "loaded"];
const LINK_KEYS: &[&str] = &["latency_ns", "down_bandwidth", "up_bandwidth"];
const NVME_KEYS: &[&str] = &[
    "read_latency_ns",
    "write_latency_ns",
    "read_bandwidth",
    "write_bandwidth",
    "read_iops",
    "write_iops",
    "queue_depth",
];
const GPU_KEYS: &[&str] =
    &["copy_latency_ns", "to_device_bandwidth", "from_device_bandwidth", "copy_engines", "memory_bandwidth"];

pub(super) fn file(text: &str, file_name: &str) -> Result<Profile, FileError> {
    let profile = read(text, file_name, TEXT_LEN_MAX, "a profile", |root, complaints| {
        match root.get("version") {
            Some(value) => {
                table::whole(value, "the profile version", VERSION, VERSION, complaints);
            }
            None => complaints.add(0..0, format!("`version = {VERSION}` is missing")),
        }
        let name = root.get("name").and_then(|value| table::string(value, "the profile's name", complaints));
        if root.get("name").is_none() {
            complaints.add(0..0, "`name` is missing");
        }
        profile(name.unwrap_or_default(), root, 0..0, &["version", "name"], complaints)
    })?;
    let Some(profile) = profile else { unreachable!("whatever is not understood was complained of") };
    Ok(profile)
}

pub(super) fn table(
    name: &str,
    entries: &DeTable<'_>,
    span: Range<usize>,
    complaints: &mut Complaints<'_>,
) -> Option<Profile> {
    profile(name, entries, span, &[], complaints)
}

fn profile(
    name: &str,
    entries: &DeTable<'_>,
    span: Range<usize>,
    more_keys: &[&str],
    complaints: &mut Complaints<'_>,
) -> Option<Profile> {
    let base = match entries.get("base") {
        Some(value) => {
            let name = table::string(value, "the name of a shipped profile", complaints)?;
            Some(shipped(name, value.span(), complaints)?)
        }
        None => None,
    };
    let kind = kind(entries, base.as_ref(), span.clone(), complaints)?;
    let keys = match kind {
        "memory" => MEMORY_KEYS,
        "link" => LINK_KEYS,
        "nvme" => NVME_KEYS,
        _ => GPU_KEYS,
    };
    let known: Vec<&str> =
        ["description", "kind", "base", "baseline"].iter().chain(more_keys).chain(keys).copied().collect();
    let entries = Table::new(entries, span, &format!("a {kind} profile"), &known, complaints);
    let description = match entries.get("description") {
        Some(value) => table::string(value, "one line for people", complaints).unwrap_or_default().to_owned(),
        None => base.as_ref().map(|base| base.description.clone()).unwrap_or_default(),
    };
    let base_name = base.as_ref().map_or("", |base| base.name.as_str());
    let base = base.as_ref().map(|base| &base.figures);
    let mut reader = Reader { entries, complaints, base: base_name };
    let baseline = reader.baseline();
    let figures = match kind {
        "memory" => memory(&mut reader, base).map(ProfileFigures::Memory),
        "link" => link(&mut reader, base).map(ProfileFigures::Link),
        "nvme" => nvme(&mut reader, base).map(ProfileFigures::Nvme),
        _ => gpu(&mut reader, base).map(ProfileFigures::Gpu),
    }?;
    for (key, message) in check::contradictions(&figures) {
        let span = reader.entries.get(key).map_or(reader.entries.span.clone(), toml::Spanned::span);
        reader.complaints.add(span, message);
    }
    Some(Profile { name: name.to_owned(), description, figures, baseline })
}

/// The kind that a profile says, or else that of its base.
fn kind(
    entries: &DeTable<'_>,
    base: Option<&Profile>,
    span: Range<usize>,
    complaints: &mut Complaints<'_>,
) -> Option<&'static str> {
    let Some(value) = entries.get("kind") else {
        if base.is_none() {
            let kinds = KINDS.join(", ");
            complaints.add(span, format!("a profile needs a `kind` ({kinds}) or a `base` that it differs from"));
        }
        return base.map(Profile::kind);
    };
    let word = table::string(value, "the kind as a string", complaints)?;
    let Some(kind) = KINDS.into_iter().find(|&kind| kind == word) else {
        complaints.add(value.span(), format!("unknown kind `{}`{}", clip(word), suggestion(word, KINDS.into_iter())));
        return None;
    };
    if let Some(base) = base.filter(|base| base.kind() != kind) {
        complaints.add(value.span(), format!("the base `{}` is of kind {}", base.name, base.kind()));
        return None;
    }
    Some(kind)
}

/// The shipped profile of that name, or a complaint.
pub(super) fn shipped(name: &str, span: Range<usize>, complaints: &mut Complaints<'_>) -> Option<Profile> {
    let found = Profile::builtin(name);
    if found.is_none() {
        let hint = suggestion(name, BUILTIN_NAMES.iter().copied());
        complaints.add(span, format!("no shipped profile is called `{}`{hint}", clip(name)));
    }
    found
}

/// Reads figure `$key` of kind `$kind`; `$unit` says what kind of number it is.
macro_rules! number {
    ($reader:expr, $base:expr, $kind:ident, $key:ident, $unit:expr) => {
        $reader.number(stringify!($key), $unit, $base.map(|base| &base.$key), |figures| match figures {
            ProfileFigures::$kind(figures) => Some(figures.$key.value),
            _ => None,
        })
    };
}

// Each of these reads all figures before it misses any, so that every complaint is made.

fn memory(reader: &mut Reader<'_, '_, '_, '_>, base: Option<&ProfileFigures>) -> Option<MemoryFigures> {
    use Unit::{Bandwidth, Nanoseconds};
    let base = base.and_then(|base| if let ProfileFigures::Memory(figures) = base { Some(figures) } else { None });
    let read_latency_ns = number!(reader, base, Memory, read_latency_ns, Nanoseconds);
    let write_latency_ns = number!(reader, base, Memory, write_latency_ns, Nanoseconds);
    let read_bandwidth = number!(reader, base, Memory, read_bandwidth, Bandwidth);
    let write_bandwidth = number!(reader, base, Memory, write_bandwidth, Bandwidth);
    let mixed_bandwidth = match reader.entries.get("mixed_bandwidth") {
        None => base.and_then(|base| base.mixed_bandwidth.as_ref()).map(|mixes| reader.borrowed(mixes)),
        Some(value) => Some(reader.mixes("mixed_bandwidth", value)?),
    };
    let loaded = reader.curve("loaded", base.map(|base| &base.loaded));
    Some(MemoryFigures {
        read_latency_ns: read_latency_ns?,
        write_latency_ns: write_latency_ns?,
        read_bandwidth: read_bandwidth?,
        write_bandwidth: write_bandwidth?,
        mixed_bandwidth,
        loaded: loaded?,
    })
}

fn link(reader: &mut Reader<'_, '_, '_, '_>, base: Option<&ProfileFigures>) -> Option<LinkFigures> {
    let base = base.and_then(|base| if let ProfileFigures::Link(figures) = base { Some(figures) } else { None });
    let latency_ns = number!(reader, base, Link, latency_ns, Unit::Nanoseconds);
    let down_bandwidth = number!(reader, base, Link, down_bandwidth, Unit::Bandwidth);
    let up_bandwidth = number!(reader, base, Link, up_bandwidth, Unit::Bandwidth);
    Some(LinkFigures { latency_ns: latency_ns?, down_bandwidth: down_bandwidth?, up_bandwidth: up_bandwidth? })
}

fn nvme(reader: &mut Reader<'_, '_, '_, '_>, base: Option<&ProfileFigures>) -> Option<NvmeFigures> {
    use Unit::{Bandwidth, Nanoseconds, Rate};
    let base = base.and_then(|base| if let ProfileFigures::Nvme(figures) = base { Some(figures) } else { None });
    let read_latency_ns = number!(reader, base, Nvme, read_latency_ns, Nanoseconds);
    let write_latency_ns = number!(reader, base, Nvme, write_latency_ns, Nanoseconds);
    let read_bandwidth = number!(reader, base, Nvme, read_bandwidth, Bandwidth);
    let write_bandwidth = number!(reader, base, Nvme, write_bandwidth, Bandwidth);
    let read_iops = number!(reader, base, Nvme, read_iops, Rate);
    let write_iops = number!(reader, base, Nvme, write_iops, Rate);
    let queue_depth = reader.count("queue_depth", 65_536, base.map(|base| &base.queue_depth));
    Some(NvmeFigures {
        read_latency_ns: read_latency_ns?,
        write_latency_ns: write_latency_ns?,
        read_bandwidth: read_bandwidth?,
        write_bandwidth: write_bandwidth?,
        read_iops: read_iops?,
        write_iops: write_iops?,
        queue_depth: queue_depth?,
    })
}

fn gpu(reader: &mut Reader<'_, '_, '_, '_>, base: Option<&ProfileFigures>) -> Option<GpuFigures> {
    use Unit::{Bandwidth, Nanoseconds};
    let base = base.and_then(|base| if let ProfileFigures::Gpu(figures) = base { Some(figures) } else { None });
    let copy_latency_ns = number!(reader, base, Gpu, copy_latency_ns, Nanoseconds);
    let to_device_bandwidth = number!(reader, base, Gpu, to_device_bandwidth, Bandwidth);
    let from_device_bandwidth = number!(reader, base, Gpu, from_device_bandwidth, Bandwidth);
    let copy_engines = reader.count("copy_engines", 64, base.map(|base| &base.copy_engines));
    let memory_bandwidth = number!(reader, base, Gpu, memory_bandwidth, Bandwidth);
    Some(GpuFigures {
        copy_latency_ns: copy_latency_ns?,
        to_device_bandwidth: to_device_bandwidth?,
        from_device_bandwidth: from_device_bandwidth?,
        copy_engines: copy_engines?,
        memory_bandwidth: memory_bandwidth?,
    })
}
