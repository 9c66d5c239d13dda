//! Accelerators: the one place where device enumeration is plugged in.

use crate::report::TierReport;

/// What was found, and what was looked for in vain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Devices {
    /// One entry a device.
    pub tiers: Vec<TierReport>,
    /// Why there is nothing, or less than there might be.
    pub notes: Vec<String>,
}

/// Devices of the CUDA and OpenCL runtimes. Emulated devices and test doubles are never listed as hardware.
pub fn find() -> Devices {
    Devices { tiers: Vec::new(), notes: vec!["accelerators were not looked for by this build".to_owned()] }
}
