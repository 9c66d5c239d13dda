//! Programs in miniature that do a fixed amount of allocation work, so that CPU per unit of work compares.
//!
//! Each workload takes its amounts from [`Parameters`] and nothing from the clock. The kinds are those that the
//! allocator literature uses; the code is ours.

mod arena;
mod fragmentation;
mod graph;
mod heap;
mod hinted;
mod idling;
mod kv;
mod live;
mod pairs;
mod parameters;
mod preloaded;
mod process;
mod queues;
mod random;
mod returning;
mod server;
mod sharing;
mod shifting;
mod sizes;
mod threads;
mod working_set;

pub use heap::{BLOCK_BYTES_MIN, Block, OS_PAGE_BYTES};
pub use parameters::{Parameters, UnknownParameter};
pub use preloaded::{harden_mode, tier_count};
pub use process::peak_resident_bytes;
pub use random::Random;

/// Key of a report in which a workload gives the CPU time, in seconds, of the part that counts, where that is not all of
/// the process's.
pub const MEASURED_CPU_S: &str = "measured_cpu_s";

/// One workload: its name, what it does, and the function that does it.
pub struct Workload {
    /// Name on the command line and in tables.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Does the work; the JSON that it returns goes to standard output.
    pub run: fn(&Parameters) -> serde_json::Value,
}

macro_rules! workloads {
    ($($name:literal, $run:path, $summary:literal;)*) => {
        &[$(Workload { name: $name, summary: $summary, run: $run }),*]
    };
}

/// All workloads, by name.
pub const WORKLOADS: &[Workload] = workloads! {
    "server", server::run, "Larson server: each generation of threads frees what the one before allocated";
    "producer-consumer", queues::producer_consumer, "half of the threads allocate, the others free";
    "fifo", queues::fifo, "queues of different lengths: the oldest block is freed first";
    "graph", graph::run, "object trees built by one thread, passed to another and freed there";
    "churn", sizes::churn, "each thread replaces random blocks of its own";
    "large", sizes::large, "blocks of 64 KiB to 8 MiB, every OS page touched";
    "realloc", sizes::realloc_growth, "buffers that grow by half, and strings that grow by a few bytes";
    "cache-scratch", sharing::scratch, "passive false sharing: a block freed by one thread is written by another";
    "cache-thrash", sharing::thrash, "active false sharing: threads write small blocks allocated at the same time";
    "fragmentation", fragmentation::run, "a long-lived set whose sizes shift phase by phase";
    "compiler", arena::run, "trees of small nodes per function, freed together, a few survive";
    "kv", kv::run, "a large table of live values, replaced with a skewed popularity";
    "thread-churn", threads::run, "threads that start, allocate, and exit, leaving half to be freed by others";
    "memory-return", returning::run, "allocate much, free all, idle: how much stays resident";
    "live-churn", live::run, "bare malloc and free of random ones of many live blocks";
    "working-set", working_set::run, "random walks over a gigabyte and more of small blocks";
    "thread-cycle", threads::cycle, "threads that start, allocate a little, free it and exit";
    "shifting", shifting::run, "sizes shift while some blocks live on, in runs or one by one, with time to give back";
    "idle-cost", idling::run, "CPU time in the background while the program idles, holding much and having freed it";
    "hinted", hinted::run, "requests of several blocks, each under a hint for one of two tiers, or under none";
    "pairs", pairs::run, "bare calls in fixed orders, for instruction counts";
};

/// The workload of that name.
pub fn find(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_runs_small_and_reports() {
        for workload in WORKLOADS {
            let arguments = ["threads=2", "ops=2000", "live=30", "idle_ms=0"].map(String::from);
            let parameters = Parameters::parse(arguments.into_iter()).expect("well-formed");
            let report = (workload.run)(&parameters);
            assert!(report.is_object(), "{}", workload.name);
        }
    }
}
