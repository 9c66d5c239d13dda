//! The half of the lab that runs on the host: starting guests, running programs in them, ending them.

mod boot;
mod channel;
pub mod console;
mod guest;
mod log;
mod process;
mod qemu;
mod qmp;
mod scratch;

pub use boot::{Lab, Timing};
pub use channel::{Channel, Output, Sender};
pub(crate) use channel::{Heard, TICK};
pub use guest::Guest;
pub use log::Log;
pub use qemu::Qemu;
pub use qmp::Qmp;
pub use scratch::Scratch;
