//! NUMA memory policy (mbind(2) and friends) and where an address lives. Nothing here allocates.

use std::ptr::{self, NonNull};

use crate::{Errno, Result};

/// Highest node number that the kernel can be built for, plus one.
pub const NODES_MAX: usize = 1024;

const BITS: usize = usize::BITS as usize;
const WORDS: usize = NODES_MAX / BITS;

// Constants of linux/mempolicy.h that the libc crate leaves out.
const MPOL_LOCAL: i32 = 4;
const MPOL_PREFERRED_MANY: i32 = 5;
const MPOL_WEIGHTED_INTERLEAVE: i32 = 6;
const MPOL_F_NODE: i32 = 1 << 0;
const MPOL_F_ADDR: i32 = 1 << 1;
const MPOL_F_MEMS_ALLOWED: i32 = 1 << 2;
const MPOL_MF_MOVE: i32 = 1 << 1;

/// A set of NUMA nodes, in the form the kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nodes([usize; WORDS]);

impl Nodes {
    /// No node.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Only `node`; `None` if there can be no such node.
    pub const fn one(node: u32) -> Option<Self> {
        Self::EMPTY.with(node)
    }

    /// These and `node`; `None` if there can be no such node.
    #[must_use]
    pub const fn with(mut self, node: u32) -> Option<Self> {
        let node = node as usize;
        if node >= NODES_MAX {
            return None;
        }
        self.0[node / BITS] |= 1 << (node % BITS);
        Some(self)
    }

    /// Whether `node` is in the set.
    pub const fn contains(&self, node: u32) -> bool {
        let node = node as usize;
        node < NODES_MAX && self.0[node / BITS] & (1 << (node % BITS)) != 0
    }

    /// Whether no node is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// The kernel takes "one more than the number of bits" since Linux 2.6.7.
    const fn len_for_kernel() -> usize {
        NODES_MAX + 1
    }
}

/// Where the OS pages of a range come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Back to the process's own policy.
    Default,
    /// The node of the CPU that touches an OS page first.
    Local,
    /// This node while it has room, then its neighbours.
    Preferred(u32),
    /// The nearest of these while they have room, then others (Linux 5.15).
    PreferredMany(Nodes),
    /// Only these; the process is killed rather than served from elsewhere.
    Bind(Nodes),
    /// Round robin over these.
    Interleave(Nodes),
    /// Over these, by the weights in `/sys/kernel/mm/mempolicy/weighted_interleave` (Linux 6.9).
    WeightedInterleave(Nodes),
}

impl Policy {
    fn to_kernel(self) -> Result<(i32, Nodes)> {
        Ok(match self {
            Self::Default => (libc::MPOL_DEFAULT, Nodes::EMPTY),
            Self::Local => (MPOL_LOCAL, Nodes::EMPTY),
            Self::Preferred(node) => (libc::MPOL_PREFERRED, Nodes::one(node).ok_or(Errno::EINVAL)?),
            Self::PreferredMany(nodes) => (MPOL_PREFERRED_MANY, nodes),
            Self::Bind(nodes) => (libc::MPOL_BIND, nodes),
            Self::Interleave(nodes) => (libc::MPOL_INTERLEAVE, nodes),
            Self::WeightedInterleave(nodes) => (MPOL_WEIGHTED_INTERLEAVE, nodes),
        })
    }
}

/// Sets the policy of a range; with `move_existing`, OS pages that are there already and only this process uses are
/// moved too.
///
/// # Errors
/// As mbind(2): `EINVAL` for a node that does not exist or a policy that the kernel does not know, `EPERM` and
/// `ENOSYS` where the call is forbidden, `EIO` if an OS page could not be moved.
pub fn bind(at: NonNull<u8>, len: usize, policy: Policy, move_existing: bool) -> Result<()> {
    let (mode, nodes) = policy.to_kernel()?;
    let (mask, bits) = if nodes.is_empty() { (ptr::null(), 0) } else { (nodes.0.as_ptr(), Nodes::len_for_kernel()) };
    let flags = if move_existing { MPOL_MF_MOVE } else { 0 };
    // SAFETY: the call changes where OS pages lie, never their contents; `mask` outlives it.
    let rc = unsafe { libc::syscall(libc::SYS_mbind, at.as_ptr(), len, mode, mask, bits, flags) };
    Errno::result(rc).map(drop)
}

/// Sets the policy of the calling thread.
///
/// # Errors
/// As set_mempolicy(2).
pub fn set_thread(policy: Policy) -> Result<()> {
    let (mode, nodes) = policy.to_kernel()?;
    let (mask, bits) = if nodes.is_empty() { (ptr::null(), 0) } else { (nodes.0.as_ptr(), Nodes::len_for_kernel()) };
    // SAFETY: `mask` outlives the call.
    let rc = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    Errno::result(rc).map(drop)
}

/// The node from which a [`Policy::Bind`] or [`Policy::PreferredMany`] range is served first (Linux 5.17). Set the
/// policy before it.
///
/// # Errors
/// As set_mempolicy_home_node(2); `ENOSYS` on older kernels, `EINVAL` if the range has no such policy.
pub fn set_home_node(at: NonNull<u8>, len: usize, node: u32) -> Result<()> {
    // SAFETY: the call reads no memory of ours.
    let rc = unsafe { libc::syscall(libc::SYS_set_mempolicy_home_node, at.as_ptr(), len, u64::from(node), 0u64) };
    Errno::result(rc).map(drop)
}

/// The node on which the OS page at `at` lies. An OS page that is not there yet is made present.
///
/// # Errors
/// As get_mempolicy(2): `EFAULT` if nothing is mapped at `at`.
pub fn node_of(at: NonNull<u8>) -> Result<u32> {
    let mut node: i32 = -1;
    let flags = MPOL_F_NODE | MPOL_F_ADDR;
    // SAFETY: `node` is a valid place for the answer; no mask is asked for.
    let rc = unsafe {
        libc::syscall(libc::SYS_get_mempolicy, &raw mut node, ptr::null_mut::<usize>(), 0usize, at.as_ptr(), flags)
    };
    Errno::result(rc)?;
    u32::try_from(node).map_err(|_| Errno::EFAULT)
}

/// The nodes that this process may allocate from (its cpuset).
///
/// # Errors
/// As get_mempolicy(2); `ENOSYS` on kernels without NUMA.
pub fn allowed_nodes() -> Result<Nodes> {
    let mut nodes = Nodes::EMPTY;
    let mask = nodes.0.as_mut_ptr();
    // SAFETY: `mask` has room for NODES_MAX bits.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            ptr::null_mut::<i32>(),
            mask,
            Nodes::len_for_kernel() - 1,
            ptr::null::<u8>(),
            MPOL_F_MEMS_ALLOWED,
        )
    };
    Errno::result(rc).map(|_| nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map;

    #[test]
    fn a_bound_range_lies_on_its_node() {
        let len = 1 << 20;
        let at = map::anonymous(len).unwrap();
        match bind(at, len, Policy::Bind(Nodes::one(0).unwrap()), false) {
            Err(errno @ (Errno::ENOSYS | Errno::EPERM)) => {
                eprintln!("SKIP a_bound_range_lies_on_its_node: mbind is not available here ({errno})");
            }
            answer => {
                answer.unwrap();
                // SAFETY: our own mapping.
                unsafe { at.as_ptr().write(1) };
                assert_eq!(node_of(at).unwrap(), 0);
                assert!(allowed_nodes().unwrap().contains(0));
            }
        }
        // SAFETY: our own mapping, used no more.
        unsafe { map::unmap(at, len) }.unwrap();
    }

    #[test]
    fn a_missing_node_is_an_error() {
        let at = map::anonymous(4096).unwrap();
        assert!(bind(at, 4096, Policy::Bind(Nodes::one(1023).unwrap()), false).is_err());
        // SAFETY: our own mapping, used no more.
        unsafe { map::unmap(at, 4096) }.unwrap();
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let nodes = Nodes::one(3).unwrap().with(70).unwrap();
        assert!(nodes.contains(3) && nodes.contains(70) && !nodes.contains(4) && !nodes.contains(4000));
        assert_eq!(Nodes::one(1024), None);
    }
}
