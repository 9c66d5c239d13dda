//! Everything else.

mod faults;
mod kernels;
mod persistence;
mod pools;
mod programs;
mod tables;
mod topologies;
