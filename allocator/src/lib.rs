//! A tiered memory allocator: fine-grained memory over extents of several tiers.

pub mod control;
