//! Emulated tiers behind tiers::Provider.
