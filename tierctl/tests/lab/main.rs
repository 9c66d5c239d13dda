//! The lab's commands in real guests: cargo's runner, the shell, guests that go wrong.
//!
//! `TIERMEM_LAB` says what is run: `off`, `short` (the module [`short`]) or `full` (all). Without it the short set is run where
//! `tierctl qemu fetch` has been, and skipped elsewhere.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod full;
mod short;
mod tools;
