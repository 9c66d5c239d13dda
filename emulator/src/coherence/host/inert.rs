//! Destructors of a program that is being unwound may call its host.

use super::{Glance, Poisoned};

/// What an operation gives where it does nothing, because its host is being unwound.
pub(super) trait Inert {
    fn inert() -> Self;
}

impl Inert for () {
    fn inert() -> Self {}
}

impl Inert for bool {
    fn inert() -> Self {
        false
    }
}

impl Inert for u8 {
    fn inert() -> Self {
        0
    }
}

impl Inert for Result<Glance, Poisoned> {
    fn inert() -> Self {
        Ok(Glance::default())
    }
}

impl Inert for Result<u64, usize> {
    fn inert() -> Self {
        Ok(0)
    }
}
