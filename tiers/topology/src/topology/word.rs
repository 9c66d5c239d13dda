//! The words of a topology file that stand for one of a few things.

use std::fmt;

use super::{Coherence, DeviceKind, Exposure, Persistence};

/// A type whose values are words in a file.
pub(super) trait Word: Copy + 'static {
    /// All values, in the order in which messages list them.
    const ALL: &'static [Self];

    /// The word.
    fn as_str(self) -> &'static str;
}

macro_rules! words {
    ($($of:ident { $($value:ident => $word:literal),+ $(,)? })+) => {$(
        impl $of {
            /// The word used in files, tables and JSON.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word),+
                }
            }
        }

        impl Word for $of {
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn as_str(self) -> &'static str {
                self.as_str()
            }
        }

        impl fmt::Display for $of {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    )+};
}

words! {
    DeviceKind { Cxl => "cxl", Nvme => "nvme", Gpu => "gpu" }
    Exposure { Node => "node", Devdax => "devdax", Fsdax => "fsdax" }
    Persistence { Volatile => "volatile", Persistent => "persistent" }
    Coherence { Hardware => "hardware", Software => "software", None => "none" }
}
