//! Building instrumented programs, and what they reported.

pub mod build;
mod checks;
pub mod collect;
mod compilers;
pub mod document;
pub mod folder;
pub mod library;
mod tools;
