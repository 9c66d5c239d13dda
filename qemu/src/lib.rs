//! The QEMU lab: real kernel CXL drivers on emulated devices, one command, no kernel build.
//!
//! Two halves. On the host, [`fetch`](fetch::fetch) gets QEMU, kernels and busybox, [`machine`] turns a topology into QEMU's
//! arguments, [`image`] packs the guest's files and [`host`] starts guests. Inside, [`guest`] is the agent that brings the
//! memory up and runs programs. They talk in the frames of [`wire`].

#![forbid(unsafe_code)]

pub mod archive;
pub mod cache;
mod error;
pub mod fetch;
pub mod guest;
pub mod host;
pub mod image;
pub mod kernel;
pub mod machine;
pub mod program;
pub mod session;
pub mod wanted;
pub mod wire;

pub use error::{Error, ErrorKind, Result};
