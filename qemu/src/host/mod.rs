//! The half of the lab that runs on the host: starting guests, running programs in them, ending them.

mod boot;
pub mod console;
mod process;
mod qemu;
mod qmp;
mod scratch;

pub use boot::{Guest, Lab, Output, Timing};
pub use qemu::Qemu;
pub use qmp::Qmp;
pub use scratch::Scratch;
