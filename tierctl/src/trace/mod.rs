//! Traces: showing, checking and importing them.

pub mod check;
pub mod import;
pub mod show;

use std::path::Path;

use tiermem_emulator::trace::{Clock, Error};

use crate::exit::{Exit, Failure};

/// The failure for a trace that cannot be read.
pub fn failure(file: &Path, error: &Error) -> Failure {
    if let tiermem_emulator::trace::ErrorKind::Io(error) = &error.kind {
        return Failure::from_io(format!("cannot read {}", file.display()), error);
    }
    Failure::new(Exit::BadInput, format!("{}: {error}", file.display()))
}

/// A length of time of a trace, for people.
pub fn time_text(ticks: u64, clock: Clock) -> String {
    match clock {
        Clock::RealNs => seconds(ticks as f64 / 1e9),
        Clock::VirtualPs => format!("{} of virtual time", seconds(ticks as f64 / 1e12)),
        Clock::Instructions => format!("{ticks} instructions"),
        _ => format!("{ticks} steps"),
    }
}

fn seconds(s: f64) -> String {
    match s {
        _ if s >= 100.0 => format!("{s:.0} s"),
        _ if s >= 1.0 => format!("{s:.2} s"),
        _ if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        _ => format!("{:.1} µs", s * 1e6),
    }
}
