//! Benchmarks against peers: our own workloads, run on every allocator in one interleaved run.
#![expect(unsafe_code, reason = "calls the C heap and wait4 directly; both are what is measured")]

pub mod suite;
pub mod workload;
