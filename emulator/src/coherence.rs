//! Whether code survives memory that is shared without coherence: the explorer.
