//! Building instrumented programs, and what they reported.

pub mod build;
pub mod collect;
pub mod document;
pub mod folder;
pub mod library;
