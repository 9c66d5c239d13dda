//! The coherent-memory tier on any machine.
//!
//! | module | what it answers |
//! |---|---|
//! | [`time`] | what time is here |
//! | [`model`] | how long an access takes |
//! | [`cache`] | which accesses reach memory at all |
//! | [`trace`] | what a program did, in a file |
//! | [`virtual_time`] | reading and writing with a clock |
//! | [`workload`] | how long a known algorithm takes on it |
//! | [`replay`] | how long that would take elsewhere |
//! | [`keyed`] | what a store on several tiers would have done with a recorded load |
//! | [`instrumented`] | what an instrumented program did, access by access |
//! | [`tier`] | emulated tiers behind `tiers::Provider` |
//! | [`fault`] | what goes wrong, on purpose |
//! | [`random`] | what is left to chance, the same in every run |
//! | [`coherence`] | whether code survives memory that is shared without coherence |

pub mod cache;
pub mod coherence;
pub mod fault;
pub mod instrumented;
pub mod keyed;
pub mod model;
pub mod random;
pub mod replay;
pub mod tier;
pub mod time;
pub mod trace;
pub mod virtual_time;
pub mod workload;
