//! The profile in the format of pprof (github.com/google/pprof, `proto/profile.proto`), which `go tool pprof` and others
//! read. The messages are written down here field by field, so that no compiler of `.proto` files is needed.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use object::Object;
use object::read::ReadCache;
use prost::Message;

use super::{Measure, Profile};
use crate::exit::{Exit, Failure};
use crate::symbols::Frame;

/// One profile. Strings are indices into `string_table`.
#[derive(Clone, PartialEq, Message)]
struct Proto {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    /// Innermost first.
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    memory_start: u64,
    #[prost(uint64, tag = "3")]
    memory_limit: u64,
    #[prost(uint64, tag = "4")]
    file_offset: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(int64, tag = "6")]
    build_id: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
}

/// The profile as a gzipped file. `default` is the measure that a viewer shows first.
///
/// # Errors
/// None that should happen: it is written to memory.
pub fn encode(profile: &Profile, default: Measure) -> Result<Vec<u8>, Failure> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&Builder::build(profile, default).encode_to_vec())
        .and_then(|()| gzip.finish())
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot compress the profile: {e}")))
}

/// Puts a profile together, each string, function and location once.
struct Builder {
    proto: Proto,
    strings: HashMap<String, i64>,
    functions: HashMap<String, u64>,
    locations: HashMap<u64, u64>,
}

impl Builder {
    fn build(profile: &Profile, default: Measure) -> Proto {
        let mut builder = Self {
            proto: Proto::default(),
            strings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        // The empty string comes first, by the format.
        builder.string("");
        builder.head(profile, default);
        for module in &profile.modules {
            let mapping = Mapping {
                id: builder.proto.mapping.len() as u64 + 1,
                memory_start: module.start,
                memory_limit: module.end,
                file_offset: module.file_offset,
                filename: builder.string(&module.path.to_string_lossy()),
                build_id: builder.string(&build_id(&module.path).unwrap_or_default()),
                has_functions: true,
            };
            builder.proto.mapping.push(mapping);
        }
        builder.samples(profile);
        builder.proto
    }

    fn head(&mut self, profile: &Profile, default: Measure) {
        // The names of Go's own heap profiles, which viewers know.
        const TYPES: [(&str, &str); 4] = [
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
        ];
        self.proto.sample_type = TYPES.iter().map(|&(name, unit)| self.value_type(name, unit)).collect();
        self.proto.period_type = Some(self.value_type("space", "bytes"));
        self.proto.period = profile.coverage.interval as i64;
        let coverage = &profile.coverage;
        let began_ms = coverage.window_ms.map_or(coverage.since_ms, |window| coverage.at_ms.saturating_sub(window));
        self.proto.time_nanos =
            (profile.started_unix_s as i64 * 1000 + coverage.at_ms as i64).saturating_mul(1_000_000);
        self.proto.duration_nanos = (coverage.at_ms.saturating_sub(began_ms) as i64).saturating_mul(1_000_000);
        self.proto.comment = profile.coverage_text().iter().map(|line| self.string(line)).collect();
        self.proto.default_sample_type = self.string(match default {
            Measure::Live => "inuse_space",
            Measure::Allocated => "alloc_space",
        });
    }

    fn value_type(&mut self, name: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.string(name), unit: self.string(unit) }
    }

    fn samples(&mut self, profile: &Profile) {
        let key = self.string("tier");
        for site in &profile.sites {
            let location_id: Vec<u64> = site
                .addresses
                .iter()
                .zip(&site.stack)
                .map(|(&address, frame)| self.location(address, frame, profile))
                .collect();
            for (tier, figures) in profile.tiers.iter().zip(&site.tiers) {
                if figures.allocated_bytes == 0 && figures.live_bytes == 0 {
                    continue;
                }
                let value = vec![
                    figures.allocated_objects.round() as i64,
                    figures.allocated_bytes as i64,
                    figures.live_objects.round() as i64,
                    figures.live_bytes as i64,
                ];
                let label = vec![Label { key, str: self.string(tier) }];
                self.proto.sample.push(Sample { location_id: location_id.clone(), value, label });
            }
        }
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(&index) = self.strings.get(text) {
            return index;
        }
        let index = self.proto.string_table.len() as i64;
        self.proto.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }

    fn location(&mut self, address: u64, frame: &Frame, profile: &Profile) -> u64 {
        if let Some(&id) = self.locations.get(&address) {
            return id;
        }
        // Of a return address, the call: one byte before it is enough to be inside.
        let call = address.saturating_sub(1);
        let mapping = profile.modules.iter().position(|m| (m.start..m.end).contains(&call));
        let line = frame.symbol.as_deref().map(|name| Line { function_id: self.function(name) });
        let id = self.proto.location.len() as u64 + 1;
        self.proto.location.push(Location {
            id,
            mapping_id: mapping.map_or(0, |at| at as u64 + 1),
            address: call,
            line: line.into_iter().collect(),
        });
        self.locations.insert(address, id);
        id
    }

    fn function(&mut self, name: &str) -> u64 {
        if let Some(&id) = self.functions.get(name) {
            return id;
        }
        let id = self.proto.function.len() as u64 + 1;
        let name_index = self.string(name);
        self.proto.function.push(Function { id, name: name_index, system_name: name_index });
        self.functions.insert(name.to_owned(), id);
        id
    }
}

/// The build id of a file, in hexadecimal.
fn build_id(path: &Path) -> Option<String> {
    let cache = ReadCache::new(File::open(path).ok()?);
    let object = object::File::parse(&cache).ok()?;
    let id = object.build_id().ok()??;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::{Builder, Measure, encode};
    use crate::profile::tests::profile;

    #[test]
    fn every_reference_points_somewhere() {
        let proto = Builder::build(&profile(), Measure::Live);
        assert_eq!((proto.sample_type.len(), proto.sample.len(), proto.mapping.len()), (4, 3, 1));
        assert_eq!(proto.string_table[0], "");
        assert_eq!(proto.string_table[proto.default_sample_type as usize], "inuse_space");
        for sample in &proto.sample {
            assert_eq!(sample.value.len(), 4);
            assert!(sample.location_id.iter().all(|&id| (1..=proto.location.len() as u64).contains(&id)));
        }
        assert!(proto.location.iter().enumerate().all(|(i, l)| l.id == i as u64 + 1 && l.mapping_id == 1));
        assert_eq!(proto.location[0].address, 0x1100, "the call, not the return");
        let tiers: Vec<&str> =
            proto.sample.iter().map(|s| proto.string_table[s.label[0].str as usize].as_str()).collect();
        assert_eq!(tiers, ["dram", "slow", "slow"]);
    }

    #[test]
    fn the_file_is_gzip() {
        assert_eq!(encode(&profile(), Measure::Allocated).unwrap()[..2], [0x1f, 0x8b]);
    }
}
