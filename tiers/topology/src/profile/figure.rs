//! Reading single figures.

use std::ops::Range;

use tiermem_complaint::table::{self, Place, Table};
use tiermem_complaint::units::{clip, parse_bandwidth};
use tiermem_complaint::{Complaints, suggestion};

use super::parse::shipped;
use super::{Baseline, Figure, Mix, Point, ProfileFigures, Relative, Status, check};

/// The entries of a profile, and where complaints go.
pub(super) struct Reader<'t, 'i, 'c, 'text> {
    pub(super) entries: Table<'t, 'i>,
    pub(super) complaints: &'c mut Complaints<'text>,
    /// The name of the profile whose figures count where there are none, if there is one.
    pub(super) base: &'c str,
}

/// What kind of number a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A number.
    Nanoseconds,
    /// A string such as "26 GB/s".
    Bandwidth,
    /// A number, of something a second.
    Rate,
}

const STATUSES: [(&str, Status); 4] = [
    ("measured", Status::Measured),
    ("simulated", Status::Simulated),
    ("vendor", Status::Vendor),
    ("assumed", Status::Assumed),
];

impl<'t, 'i> Reader<'t, 'i, '_, '_> {
    /// The number `key`; where it is not given, that of the base. `other` finds the same number in another profile.
    pub(super) fn number(
        &mut self,
        key: &str,
        unit: Unit,
        base: Option<&Figure<f64>>,
        other: fn(&ProfileFigures) -> Option<f64>,
    ) -> Option<Figure<f64>> {
        let Some(value) = self.entries.get(key) else { return self.inherited(key, base) };
        let table = self.figure(key, value, &["value", "of", "ratio", "plus"])?;
        let (status, source) = (self.status(&table), self.source(&table));
        let (figure, relative) = match table.get("value") {
            Some(value) => (self.measure(value, unit)?, None),
            None => self.relative(key, &table, unit, other)?,
        };
        if !figure.is_finite() || figure <= 0.0 {
            let span = table.get("value").map_or(value.span(), toml::Spanned::span);
            self.complaints.add(span, format!("`{key}` must be more than 0"));
            return None;
        }
        Some(Figure { value: figure, status: status?, source: source?, relative })
    }

    /// The count `key`, from 1 to `max`; where it is not given, that of the base.
    pub(super) fn count(&mut self, key: &str, max: u32, base: Option<&Figure<u32>>) -> Option<Figure<u32>> {
        let Some(value) = self.entries.get(key) else { return self.inherited(key, base) };
        let table = self.figure(key, value, &["value"])?;
        let (status, source) = (self.status(&table), self.source(&table));
        let value = self.needed(&table, "value", "1")?;
        let value = table::whole(value, &format!("`{key}`"), 1, max, self.complaints)?;
        Some(Figure { value, status: status?, source: source?, relative: None })
    }

    /// The curve `key`; where it is not given, that of the base.
    pub(super) fn curve(&mut self, key: &str, base: Option<&Figure<Vec<Point>>>) -> Option<Figure<Vec<Point>>> {
        const PAIR: &str = "a pair of utilisation and latency factor such as [0.5, 1.1]";
        let Some(value) = self.entries.get(key) else { return self.inherited(key, base) };
        let table = self.figure(key, value, &["value"])?;
        let (status, source) = (self.status(&table), self.source(&table));
        let value = self.needed(&table, "value", "[[0, 1], [0.5, 1.1], [1, 3]]")?;
        let mut points: Vec<Point> = Vec::new();
        for item in table::array(value, "a list of points such as [[0, 1], [0.5, 1.1], [1, 3]]", self.complaints)? {
            let [x, y] = table::array(item, PAIR, self.complaints)? else {
                return self.refuse(item.span(), format!("expected {PAIR}"));
            };
            let utilisation = table::number(x, PAIR, self.complaints)?;
            let latency_factor = table::number(y, PAIR, self.complaints)?;
            let point = Point { utilisation, latency_factor };
            if let Some(message) = check::point(points.last(), point) {
                self.complaints.add(item.span(), message);
                return None;
            }
            points.push(point);
        }
        if points.last().is_none_or(|last| last.utilisation < 1.0) {
            self.complaints.add(value.span(), "a curve goes on up to utilisation 1");
            return None;
        }
        Some(Figure { value: points, status: status?, source: source?, relative: None })
    }

    /// The bandwidths of mixes, `key`, which stands at `value`.
    pub(super) fn mixes(&mut self, key: &str, value: Place<'t, 'i>) -> Option<Figure<Vec<Mix>>> {
        const PAIR: &str = "a pair of read share and bandwidth such as [0.5, \"30 GB/s\"]";
        let table = self.figure(key, value, &["value"])?;
        let (status, source) = (self.status(&table), self.source(&table));
        let value = self.needed(&table, "value", "[[0.5, \"30 GB/s\"]]")?;
        let mut mixes: Vec<Mix> = Vec::new();
        for item in table::array(value, "a list of pairs such as [[0.5, \"30 GB/s\"]]", self.complaints)? {
            let [x, y] = table::array(item, PAIR, self.complaints)? else {
                return self.refuse(item.span(), format!("expected {PAIR}"));
            };
            let read_share = table::number(x, PAIR, self.complaints)?;
            let total_bandwidth = self.measure(y, Unit::Bandwidth)?;
            let floor = mixes.last().map_or(0.0, |mix| mix.read_share);
            if !(read_share > floor && read_share < 1.0) {
                let rule = "read shares rise from pair to pair, over 0 and below 1";
                return self.refuse(x.span(), rule.to_owned());
            }
            mixes.push(Mix { read_share, total_bandwidth });
        }
        Some(Figure { value: mixes, status: status?, source: source?, relative: None })
    }

    /// The DRAM of the host that was measured, if the profile tells.
    pub(super) fn baseline(&mut self) -> Option<Baseline> {
        const TABLE: &str = "a table such as { read_latency_ns = 100, read_bandwidth = \"20 GB/s\" }";
        let value = self.entries.get("baseline")?;
        let entries = table::table(value, TABLE, self.complaints)?;
        let keys = ["read_latency_ns", "read_bandwidth"];
        let table = Table::new(entries, value.span(), "`baseline`", &keys, self.complaints);
        let latency = self.needed(&table, "read_latency_ns", "100");
        let bandwidth = self.needed(&table, "read_bandwidth", "\"20 GB/s\"");
        let read_latency_ns = latency.and_then(|latency| table::number(latency, "a number", self.complaints));
        let read_bandwidth = bandwidth.and_then(|bandwidth| self.measure(bandwidth, Unit::Bandwidth));
        let (read_latency_ns, read_bandwidth) = (read_latency_ns?, read_bandwidth?);
        if !(read_latency_ns > 0.0 && read_latency_ns.is_finite()) {
            return self.refuse(latency?.span(), "a latency must be more than 0".to_owned());
        }
        Some(Baseline { read_latency_ns, read_bandwidth })
    }

    fn inherited<T: Clone>(&mut self, key: &str, base: Option<&Figure<T>>) -> Option<Figure<T>> {
        if base.is_none() {
            let value = match key {
                "loaded" => "[[0, 1], [0.5, 1.1], [1, 3]]",
                _ if key.contains("bandwidth") => "\"26 GB/s\"",
                _ => "…",
            };
            let example = format!("{key} = {{ value = {value}, status = \"assumed\", source = \"…\" }}");
            self.complaints.add(self.entries.span.clone(), format!("`{key}` is missing; write {example}"));
        }
        base.map(|base| self.borrowed(base))
    }

    /// A figure of the base. What is known about another device is an assumption about this one.
    pub(super) fn borrowed<T: Clone>(&self, base: &Figure<T>) -> Figure<T> {
        let source = format!("as {}, where it is {}: {}", self.base, base.status.as_str(), base.source);
        Figure { status: Status::Assumed, source, ..base.clone() }
    }

    fn figure(&mut self, key: &str, value: Place<'t, 'i>, keys: &[&str]) -> Option<Table<'t, 'i>> {
        let what = "a figure such as { value = …, status = \"vendor\", source = \"data sheet …\" }";
        let entries = table::table(value, what, self.complaints)?;
        let known: Vec<&str> = keys.iter().chain(&["status", "source"]).copied().collect();
        Some(Table::new(entries, value.span(), &format!("`{key}`"), &known, self.complaints))
    }

    fn needed(&mut self, table: &Table<'t, 'i>, key: &str, example: &str) -> Option<Place<'t, 'i>> {
        let found = table.get(key);
        if found.is_none() {
            self.complaints.add(table.span.clone(), format!("a figure needs a `{key}`, for example {key} = {example}"));
        }
        found
    }

    fn status(&mut self, table: &Table<'t, 'i>) -> Option<Status> {
        let value = self.needed(table, "status", "\"assumed\"")?;
        let word = table::string(value, "\"measured\", \"simulated\", \"vendor\" or \"assumed\"", self.complaints)?;
        let found = STATUSES.iter().find(|(name, _)| *name == word).map(|&(_, status)| status);
        if found.is_none() {
            let hint = suggestion(word, STATUSES.iter().map(|&(name, _)| name));
            self.complaints.add(value.span(), format!("unknown status `{}`{hint}", clip(word)));
        }
        found
    }

    fn source(&mut self, table: &Table<'t, 'i>) -> Option<String> {
        let value = self.needed(table, "source", "\"data sheet of …\"")?;
        let text = table::string(value, "where the figure comes from", self.complaints)?;
        if text.trim().is_empty() {
            self.complaints.add(value.span(), "say where the figure comes from or, if it is assumed, why this value");
        }
        Some(text.to_owned())
    }

    fn measure(&mut self, value: Place<'t, 'i>, unit: Unit) -> Option<f64> {
        if unit != Unit::Bandwidth {
            return table::number(value, "a number", self.complaints);
        }
        let text = table::string(value, "a bandwidth such as \"26 GB/s\"", self.complaints)?;
        #[expect(clippy::cast_precision_loss, reason = "no bandwidth needs more than 53 bits")]
        match parse_bandwidth(text) {
            Ok(bandwidth) => Some(bandwidth as f64),
            Err(message) => {
                self.complaints.add(value.span(), message);
                None
            }
        }
    }

    /// A figure in terms of another profile's.
    fn relative(
        &mut self,
        key: &str,
        table: &Table<'t, 'i>,
        unit: Unit,
        other: fn(&ProfileFigures) -> Option<f64>,
    ) -> Option<(f64, Option<Relative>)> {
        let Some(of) = table.get("of") else {
            let help = "`value`, or a `ratio` or `plus` to the same figure `of` a shipped profile";
            self.complaints.add(table.span.clone(), format!("a figure needs a {help}"));
            return None;
        };
        let (ratio, plus) = (table.get("ratio"), table.get("plus"));
        if ratio.or(plus).is_none() {
            self.complaints.add(of.span(), "say with `ratio` or `plus` in what relation to it");
            return None;
        }
        let name = table::string(of, "the name of a shipped profile", self.complaints)?;
        let profile = shipped(name, of.span(), self.complaints)?;
        let Some(base) = other(&profile.figures) else {
            return self.refuse(of.span(), format!("`{name}` has no `{key}`"));
        };
        let ratio = ratio.map_or(Some(1.0), |ratio| table::number(ratio, "a number", self.complaints))?;
        let plus = plus.map_or(Some(0.0), |plus| self.measure(plus, unit))?;
        let relative = Relative { of: name.to_owned(), ratio, plus };
        Some((relative.value(base), Some(relative)))
    }

    fn refuse<T>(&mut self, span: Range<usize>, message: String) -> Option<T> {
        self.complaints.add(span, message);
        None
    }
}
