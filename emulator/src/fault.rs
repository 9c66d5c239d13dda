//! What goes wrong, on purpose.
//!
//! A [`Plan`] is a small TOML file that says what goes wrong and when, at an operation, at a time or with a probability; the
//! same plan and the same operations give the same faults. It can be put in force
//!
//! - around any provider, in virtual time: [`Plan::wrap`] gives a [`Faulty`] tier;
//! - in a real program: `tierctl run --faults PLAN.toml` hands the plan's [script](Plan::script) to the allocator in it;
//! - where a program keeps data across crashes: [`Durable`] is a file behind caches that are lost, and
//!   [`at_every_point`] kills the real process at each of its persist points in turn.
//!
//! `docs/faults.md` has the form of a plan and the behaviour that each fault promises.

mod durable;
mod fault_plan;
mod sweep;

pub use durable::{Crash, Durable, WORD};
pub use fault_plan::Plan;
pub use sweep::{Sweep, at_every_point};
pub use tiermem_tiers::provider::fault::{
    Clock, Fault, FaultKind, Faulty, Grain, Happened, LINE, Lasts, Script, Trigger,
};
