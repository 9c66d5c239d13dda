//! `SPEC`: a tier written on one line, as in `slow=dax-file:/dev/shm/slow,size=4G`.
//!
//! ```text
//! SPEC     = NAME "=" KIND [":" WHERE] { "," KEY "=" VALUE }
//! KIND     = "dram" | "cxl-node" | "devdax" | "dax-file" | "nvme" | "device"
//! WHERE    = a NUMA node number (dram, cxl-node), a path (devdax, dax-file, nvme),
//!            or `cuda:0`, `opencl:0:0`, `emulated` (device)
//! KEY      = "size" | "read-latency-ns" | "write-latency-ns" | "read-bandwidth" | "write-bandwidth"
//! ```

use crate::{Attributes, TierKind, TierName};

/// A tier as its user wrote it, checked for form but not yet opened.
#[derive(Clone, Debug, PartialEq)]
pub struct TierSpec {
    /// Its name.
    pub name: TierName,
    /// What it is.
    pub kind: TierKind,
    /// Node number, path or device; empty where the kind has a default (`dram` alone is node 0 or the whole machine).
    pub location: String,
    /// `size=` and the other keys; all with source [`Configured`](crate::Source::Configured).
    pub attributes: Attributes,
}
