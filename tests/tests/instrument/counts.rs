//! What programs counted.

use serde_json::Value;

/// What all threads of all processes counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub loads: u64,
    pub stores: u64,
    pub bytes_loaded: u64,
    pub bytes_stored: u64,
    pub ranges_loaded: u64,
    pub ranges_stored: u64,
    pub range_bytes_loaded: u64,
    pub range_bytes_stored: u64,
}

impl Counted {
    /// So many loads of this size.
    pub fn loads(loads: u64, size: u64) -> Self {
        Self { loads, bytes_loaded: loads * size, ..Self::default() }
    }

    /// So many stores of this size.
    pub fn stores(stores: u64, size: u64) -> Self {
        Self { stores, bytes_stored: stores * size, ..Self::default() }
    }

    /// Of a whole report.
    pub fn of(report: &Value) -> Self {
        let processes = report["processes"].as_array().unwrap();
        Self::of_threads(processes.iter().flat_map(|process| process["threads"].as_array().unwrap()))
    }

    /// Of one process.
    pub fn of_process(process: &Value) -> Self {
        Self::of_threads(process["threads"].as_array().unwrap())
    }

    fn of_threads<'a>(threads: impl IntoIterator<Item = &'a Value>) -> Self {
        let threads: Vec<&Value> = threads.into_iter().collect();
        let sum = |name: &str| threads.iter().map(|thread| thread[name].as_u64().unwrap()).sum();
        Self {
            loads: sum("loads"),
            stores: sum("stores"),
            bytes_loaded: sum("bytes_loaded"),
            bytes_stored: sum("bytes_stored"),
            ranges_loaded: sum("ranges_loaded"),
            ranges_stored: sum("ranges_stored"),
            range_bytes_loaded: sum("range_bytes_loaded"),
            range_bytes_stored: sum("range_bytes_stored"),
        }
    }

    fn with(self, other: Self, both: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            loads: both(self.loads, other.loads),
            stores: both(self.stores, other.stores),
            bytes_loaded: both(self.bytes_loaded, other.bytes_loaded),
            bytes_stored: both(self.bytes_stored, other.bytes_stored),
            ranges_loaded: both(self.ranges_loaded, other.ranges_loaded),
            ranges_stored: both(self.ranges_stored, other.ranges_stored),
            range_bytes_loaded: both(self.range_bytes_loaded, other.range_bytes_loaded),
            range_bytes_stored: both(self.range_bytes_stored, other.range_bytes_stored),
        }
    }

    pub fn without_ranges(self) -> Self {
        Self { ranges_loaded: 0, ranges_stored: 0, range_bytes_loaded: 0, range_bytes_stored: 0, ..self }
    }

    pub fn plus(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }

    pub fn minus(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }
}
