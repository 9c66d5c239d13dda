//! From the text of a topology file to a [`Topology`]: the values of each table. Whether they fit each other is for
//! [`check`](super::check).

use std::collections::BTreeMap;
use std::ops::Range;

use tiermem_complaint::table::{self, Place, Table};
use tiermem_complaint::units::clip;
use tiermem_complaint::{Complaints, FileError, read, read_bytes, suggestion};
use tiermem_tiers::{Bytes, GRANULE};
use toml::de::DeTable;

use super::word::Word;
use super::{Bridge, Coherence, Device, DeviceKind, Host, InterleaveSet, Link, Node, Pool, Switch, Topology};
use super::{check, profiles};

/// The only version there is.
pub(super) const VERSION: u32 = 1;

/// Longest text that is looked at, bytes. A rack of machines needs some ten thousand.
const TEXT_LEN_MAX: usize = 1 << 20;

/// What it is, in complaints about what is something else.
const WHAT: &str = "a topology";

/// Most CPUs of a node.
const CPUS_MAX: u32 = 4096;

/// Most things of one kind: what is more is a mistake, and the checks of each against each stay quick.
const COUNT_MAX: usize = 1024;

/// The largest capacity: as much as an extent table can count.
const CAPACITY_MAX: u64 = 8 << 50;

/// The longest name: those of devices become names of tiers.
const NAME_LEN_MAX: usize = tiermem_tiers::TierName::LEN_MAX;

pub(super) fn parse(text: &str, file_name: &str) -> Result<Topology, FileError> {
    read(text, file_name, TEXT_LEN_MAX, WHAT, topology)
}

pub(super) fn parse_bytes(bytes: &[u8], file_name: &str) -> Result<Topology, FileError> {
    read_bytes(bytes, file_name, TEXT_LEN_MAX, WHAT, topology)
}

fn topology(root: &DeTable<'_>, complaints: &mut Complaints<'_>) -> Topology {
    let mut reader = Reader { topology: Topology::default(), places: Places::default(), complaints };
    reader.file(root);
    let Reader { mut topology, places, complaints } = reader;
    check::check(&mut topology, &places, complaints);
    topology
}

/// Where each value stands in the text. A value that is missing or wrong has no place, so that it is not judged again.
#[derive(Default)]
pub(super) struct Places {
    values: BTreeMap<(Kind, String, &'static str), Range<usize>>,
}

/// The kinds of tables, as their headings name them.
pub(super) type Kind = &'static str;

impl Places {
    /// The place of the value of `key` in the table `[kind.name]`, of the name itself where `key` is empty.
    pub(super) fn of(&self, kind: Kind, name: &str, key: &'static str) -> Option<Range<usize>> {
        self.values.get(&(kind, name.to_owned(), key)).cloned()
    }

    /// All names, in the order of the text.
    pub(super) fn names(&self) -> Vec<(Range<usize>, Kind, &str)> {
        let names = self.values.iter().filter(|((kind, _, key), _)| key.is_empty() && *kind != LINK);
        let mut names: Vec<_> = names.map(|((kind, name, _), place)| (place.clone(), *kind, name.as_str())).collect();
        names.sort_by_key(|(place, ..)| place.start);
        names
    }

    pub(super) fn note(&mut self, kind: Kind, name: &str, key: &'static str, place: Range<usize>) {
        self.values.insert((kind, name.to_owned(), key), place);
    }
}

/// The kind of links, which have no names: their number serves as one.
pub(super) const LINK: Kind = "link";

/// Fills a topology from the tables of a file.
struct Reader<'c, 'text> {
    topology: Topology,
    places: Places,
    complaints: &'c mut Complaints<'text>,
}

/// One table such as `[device.cxl0]`.
struct Item<'t, 'i> {
    kind: Kind,
    name: &'t str,
    entries: Table<'t, 'i>,
}

impl Reader<'_, '_> {
    fn complain(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.complaints.add(span, message);
    }

    fn file(&mut self, root: &DeTable<'_>) {
        let known = [
            "version",
            "name",
            "description",
            "host",
            "node",
            "bridge",
            "switch",
            "device",
            "link",
            "interleave",
            "pool",
            "profile",
        ];
        let root = Table::new(root, 0..0, "the topology file", &known, self.complaints);
        match root.get("version") {
            Some(value) => {
                table::whole(value, "the topology version", VERSION, VERSION, self.complaints);
            }
            None => self.complain(0..0, format!("`version = {VERSION}` is missing")),
        }
        match root.get("name") {
            Some(value) => self.topology.name = self.title(value).unwrap_or_default(),
            None => self.complain(0..0, "`name` is missing: what the topology is called, for example \"one-expander\""),
        }
        if let Some(value) = root.get("description") {
            self.topology.description = self.title(value).unwrap_or_default();
        }
        self.each(&root, "host", &[], |reader, item| {
            reader.topology.hosts.push(Host { name: item.name.to_owned() });
        });
        self.each(&root, "node", &["host", "cpus", "capacity", "profile"], Self::node);
        self.each(&root, "bridge", &["host"], |reader, item| {
            let host = reader.reference(item, "host", "the name of a host");
            reader.topology.bridges.push(Bridge { name: item.name.to_owned(), host });
        });
        self.each(&root, "switch", &["profile"], |reader, item| {
            let profile = reader.reference(item, "profile", "the name of a link profile");
            reader.topology.switches.push(Switch { name: item.name.to_owned(), profile });
        });
        let keys = ["kind", "capacity", "profile", "exposure", "persistence"];
        self.each(&root, "device", &keys, Self::device);
        if let Some(value) = root.get(LINK) {
            self.links(value);
        }
        self.each(&root, "interleave", &["devices", "granularity", "exposure"], Self::interleave);
        self.each(&root, "pool", &["device", "hosts", "coherence"], Self::pool);
        if let Some(value) = root.get("profile") {
            self.topology.profiles = profiles::read(value, &mut self.places, self.complaints);
        }
    }

    /// Reads all tables of a kind, in the order of the text.
    fn each(
        &mut self,
        root: &Table<'_, '_>,
        kind: Kind,
        keys: &[&str],
        mut read: impl FnMut(&mut Self, &Item<'_, '_>),
    ) {
        let Some(value) = root.get(kind) else { return };
        let Some(tables) = table::table(value, &format!("tables such as [{kind}.NAME]"), self.complaints) else {
            return;
        };
        for (count, (span, name, value)) in table::in_file_order(tables).into_iter().enumerate() {
            if count == COUNT_MAX {
                return self.complain(span, format!("one {kind} too many: at most {COUNT_MAX}"));
            }
            self.check_name(kind, name, &span);
            let Some(entries) = table::table(value, &format!("a table such as [{kind}.NAME]"), self.complaints) else {
                continue;
            };
            self.places.note(kind, name, "", span.clone());
            let heading = format!("[{kind}.{}]", clip(name));
            let entries = Table::new(entries, span, &heading, keys, self.complaints);
            read(self, &Item { kind, name, entries });
        }
    }

    fn check_name(&mut self, kind: Kind, name: &str, span: &Range<usize>) {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(allowed);
        if !well_formed || name.len() > NAME_LEN_MAX {
            let rule = format!("1 to {NAME_LEN_MAX} of A-Z a-z 0-9 . _ -, beginning with a letter");
            self.complain(span.clone(), format!("`{}` cannot name a {kind}: a name is {rule}", clip(name)));
        }
    }

    fn node(&mut self, item: &Item<'_, '_>) {
        let host = self.reference(item, "host", "the name of a host");
        let cpus = match item.entries.get("cpus") {
            Some(value) => table::whole(value, "a number of CPUs", 0, CPUS_MAX, self.complaints),
            None => {
                self.missing(item, "cpus", "how many CPUs it has, 0 for memory only");
                None
            }
        };
        if cpus.is_some() {
            self.found(item, "cpus");
        }
        let capacity = self.capacity(item);
        let profile = self.reference(item, "profile", "the name of a memory profile");
        let name = item.name.to_owned();
        self.topology.nodes.push(Node { name, host, cpus: cpus.unwrap_or(1), capacity, profile });
    }

    fn device(&mut self, item: &Item<'_, '_>) {
        let kind = self.required_word(item, "kind");
        let capacity = self.capacity(item);
        let profile = self.reference(item, "profile", "the name of a profile");
        let exposure = self.word(item, "exposure").unwrap_or_default();
        let persistence = self.word(item, "persistence").unwrap_or_default();
        let name = item.name.to_owned();
        let kind = kind.unwrap_or(DeviceKind::Cxl);
        self.topology.devices.push(Device { name, kind, capacity, profile, exposure, persistence });
    }

    fn links(&mut self, value: Place<'_, '_>) {
        let Some(items) = table::array(value, "tables headed [[link]]", self.complaints) else { return };
        for (number, item) in items.iter().enumerate() {
            if number == COUNT_MAX {
                return self.complain(item.span(), format!("one link too many: at most {COUNT_MAX}"));
            }
            let Some(entries) = table::table(item, "a table headed [[link]]", self.complaints) else { continue };
            let entries = Table::new(entries, item.span(), "[[link]]", &["from", "to", "profile"], self.complaints);
            let name = self.topology.links.len().to_string();
            self.places.note(LINK, &name, "", item.span());
            let item = Item { kind: LINK, name: &name, entries };
            let from = self.reference(&item, "from", "a host, a bridge or a switch");
            let to = self.reference(&item, "to", "a switch or a device");
            let profile = item.entries.get("profile").map(|_| self.reference(&item, "profile", "a link profile"));
            self.topology.links.push(Link { from, to, profile });
        }
    }

    fn interleave(&mut self, item: &Item<'_, '_>) {
        let devices = self.references(item, "devices", "CXL devices such as [\"cxl0\", \"cxl1\"]");
        let granularity = match item.entries.get("granularity") {
            Some(value) => table::bytes(value, "bytes such as 256 or \"4 KiB\"", self.complaints).map(|g| (g, value)),
            None => {
                self.missing(item, "granularity", "bytes on one device before the next one's turn, for example 256");
                None
            }
        };
        let valid =
            |&(granularity, _): &(u64, _)| (256..=16_384).contains(&granularity) && granularity.is_power_of_two();
        if let Some((granularity, value)) = granularity.filter(|granularity| !valid(granularity)) {
            let rule = "a granularity is a power of two from 256 to 16384";
            self.complain(value.span(), format!("{granularity} bytes: {rule}"));
        }
        let granularity = granularity.and_then(|(granularity, _)| u32::try_from(granularity).ok()).unwrap_or(256);
        let exposure = self.word(item, "exposure").unwrap_or_default();
        let name = item.name.to_owned();
        self.topology.interleave_sets.push(InterleaveSet { name, devices, granularity, exposure });
    }

    fn pool(&mut self, item: &Item<'_, '_>) {
        let device = self.reference(item, "device", "the name of a CXL device");
        let hosts = self.references(item, "hosts", "the hosts that share it, such as [\"a\", \"b\"]");
        let coherence = self.required_word(item, "coherence").unwrap_or(Coherence::None);
        let name = item.name.to_owned();
        self.topology.pools.push(Pool { name, device, hosts, coherence });
    }

    fn capacity(&mut self, item: &Item<'_, '_>) -> Bytes {
        let Some(value) = item.entries.get("capacity") else {
            self.missing(item, "capacity", "how much it holds, for example \"16 GiB\"");
            return Bytes::ZERO;
        };
        let Some(bytes) = table::bytes(value, "a size such as \"16 GiB\"", self.complaints) else {
            return Bytes::ZERO;
        };
        let complaint = match bytes {
            0 => Some(format!("`{}` holds nothing: a capacity is more than 0", clip(item.name))),
            _ if bytes > CAPACITY_MAX => Some("more than 8 PiB: a tier cannot be that large".to_owned()),
            _ if !bytes.is_multiple_of(GRANULE.0) => {
                let (below, above) = (bytes / GRANULE.0 * 2, bytes.div_ceil(GRANULE.0) * 2);
                let near = if below == 0 { String::new() } else { format!("\"{below} MiB\" or ") };
                Some(format!("not a multiple of 2 MiB, in which memory is handed out: write {near}\"{above} MiB\""))
            }
            _ => None,
        };
        match complaint {
            Some(message) => self.complain(value.span(), message),
            None => self.found(item, "capacity"),
        }
        Bytes(bytes)
    }

    /// Notes that the value of `key` has been read and is right in itself.
    fn found(&mut self, item: &Item<'_, '_>, key: &'static str) {
        if let Some(value) = item.entries.get(key) {
            self.places.note(item.kind, item.name, key, value.span());
        }
    }

    fn missing(&mut self, item: &Item<'_, '_>, key: &str, what: &str) {
        let heading =
            if item.kind == LINK { "a [[link]]".to_owned() } else { format!("[{}.{}]", item.kind, clip(item.name)) };
        self.complain(item.entries.span.clone(), format!("{heading} needs `{key}`: {what}"));
    }

    /// The name that stands under `key`, required; whether it exists is checked later.
    fn reference(&mut self, item: &Item<'_, '_>, key: &'static str, what: &str) -> String {
        let Some(value) = item.entries.get(key) else {
            self.missing(item, key, what);
            return String::new();
        };
        let name = table::string(value, what, self.complaints);
        if name.is_some() {
            self.found(item, key);
        }
        name.unwrap_or_default().to_owned()
    }

    /// The names listed under `key`, required. Each has its place under the key and its number.
    fn references(&mut self, item: &Item<'_, '_>, key: &'static str, what: &str) -> Vec<String> {
        let Some(value) = item.entries.get(key) else {
            self.missing(item, key, what);
            return Vec::new();
        };
        let Some(list) = table::array(value, what, self.complaints) else { return Vec::new() };
        self.found(item, key);
        let mut names = Vec::new();
        for place in list.iter().take(COUNT_MAX) {
            if let Some(name) = table::string(place, "a name", self.complaints) {
                let element = element(item.name, names.len());
                self.places.note(item.kind, &element, key, place.span());
                names.push(name.to_owned());
            }
        }
        names
    }

    fn required_word<W: Word>(&mut self, item: &Item<'_, '_>, key: &'static str) -> Option<W> {
        if item.entries.get(key).is_none() {
            let words: Vec<String> = W::ALL.iter().map(|word| format!("\"{}\"", word.as_str())).collect();
            self.missing(item, key, &words.join(", "));
        }
        self.word(item, key)
    }

    /// One of a few words.
    fn word<W: Word>(&mut self, item: &Item<'_, '_>, key: &'static str) -> Option<W> {
        let value = item.entries.get(key)?;
        let words = || W::ALL.iter().map(|word| word.as_str());
        let what = words().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let text = table::string(value, &format!("one of {what}"), self.complaints)?;
        let word = W::ALL.iter().copied().find(|word| word.as_str() == text);
        match word {
            Some(_) => self.found(item, key),
            None => {
                let hint = suggestion(text, words());
                self.complain(value.span(), format!("unknown {key} `{}`{hint}", clip(text)));
            }
        }
        word
    }

    /// A text of one line.
    fn title(&mut self, value: Place<'_, '_>) -> Option<String> {
        let text = table::string(value, "a text", self.complaints)?;
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            self.complain(value.span(), "this must be a text of one line");
            return None;
        }
        Some(text.to_owned())
    }
}

/// The name under which the place of a list's element is kept.
pub(super) fn element(name: &str, number: usize) -> String {
    format!("{name} {number}")
}
