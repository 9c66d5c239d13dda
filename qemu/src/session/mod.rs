//! A guest that many programs share: booted by the first one, kept by a process in the background, ended when nobody needs it.
//!
//! ```text
//! cargo ─► client ─┐                     ┌─► program
//! cargo ─► client ─┼─► keeper ─► guest ──┼─► program
//! shell ─► client ─┘   (one socket)      └─► program
//! ```
//!
//! The keeper's folder for what lives only while guests run ([`Scratch`](crate::host::Scratch)) is what announces the guest:
//! it holds the socket and a note of what the guest is. Whoever kills the keeper ends QEMU, and the folder is removed by the
//! next process of the lab.

mod client;
mod keeper;
mod owner;
mod place;

pub use client::{Remote, reach, start, stop};
pub use keeper::{Keeper, report};
pub use owner::Owner;
pub use place::{Note, Place, all};

use serde::{Deserialize, Serialize};

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The process for which programs are run: the guest ends when all of them have.
    pub owner: Option<Owner>,
    /// Instead of that, how many seconds the guest is kept without a program.
    pub idle_s: Option<u64>,
}
