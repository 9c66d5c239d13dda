//! Ways to move memory, and what moving needs.

use tiermem_sys::Errno;
use tiermem_sys::trial::{self, Obstacle, Outcome, Toucher};
use tiermem_sys::userfault::Rights;

use super::{Finding, Mechanism, userfault_refusal};

/// All mechanisms. `nodes` are the NUMA nodes with memory.
pub fn probe(nodes: &[u32]) -> Vec<Mechanism> {
    vec![
        between_nodes(nodes, "move_pages", trial::move_between_nodes)
            .named("move-pages", "single OS pages between NUMA nodes"),
        between_nodes(nodes, "mbind", trial::move_by_binding)
            .named("mbind-move", "whole ranges between NUMA nodes (MPOL_MF_MOVE)"),
        interleave(nodes).named("weighted-interleave", "bandwidth of several nodes at once, by weights"),
        write_protect()
            .named("userfaultfd-wp", "extents between any two byte-addressable tiers, under running writers"),
        remap().named("mremap-dontunmap", "OS pages to another address, leaving the old range in place"),
        fault_move().named("userfaultfd-move", "OS pages into a registered range, without copying"),
        collapse().named("collapse", "huge pages after a move (MADV_COLLAPSE)"),
        ring().named("io-uring", "asynchronous reads and writes of file tiers"),
        direct().named("direct-io", "reads and writes past the OS's cache (O_DIRECT)"),
    ]
}

/// Tries to move an OS page to another node, or, where there is none, to its own, with `mover`.
fn between_nodes(nodes: &[u32], call: &str, mover: fn(u32) -> Outcome) -> Finding {
    let home = match trial::node_of_own_memory() {
        Ok(home) => home,
        Err(obstacle) => return refused(&obstacle, call),
    };
    let Some(&other) = nodes.iter().find(|&&node| node != home) else {
        return match mover(home) {
            Ok(()) => Finding::limited(format!("the call works, but only node {home} has memory: nowhere to move to")),
            Err(obstacle) => refused(&obstacle, call),
        };
    };
    match mover(other) {
        Ok(()) => Finding::works_with(format!("tried from node {home} to node {other}")),
        Err(obstacle) if matches!(obstacle.errno, Some(Errno::EACCES | Errno::EPERM)) => {
            Finding::limited(obstacle.to_string())
                .but(format!("allow node {other} in this process's cpuset (cpuset.mems)"))
        }
        Err(obstacle) => refused(&obstacle, call),
    }
}

fn interleave(nodes: &[u32]) -> Finding {
    match (trial::weighted_interleave(nodes), nodes) {
        (Ok(_), [_]) => Finding::limited("the call works, but there is one node only: nothing to interleave over"),
        (Ok(on_first), _) if (1..64).contains(&on_first) => {
            Finding::works_with(format!("{on_first} of 64 OS pages went to the first of nodes {nodes:?}"))
        }
        (Ok(on_first), _) => {
            Finding::limited(format!("{on_first} of 64 OS pages went to the first of nodes {nodes:?}"))
                .but("set weights in /sys/kernel/mm/mempolicy/weighted_interleave")
        }
        (Err(Obstacle { errno: Some(Errno::EINVAL), .. }), _) => {
            Finding::absent("this kernel has no weighted interleave (Linux 6.9)")
        }
        (Err(obstacle), _) => refused(&obstacle, "mbind"),
    }
}

fn write_protect() -> Finding {
    // The fault of a system call is the harder one: whoever has rights for it has them for both.
    let full = trial::write_protect_fault(Rights::Full, Toucher::SystemCall);
    if full.is_ok() {
        return Finding::works();
    }
    match trial::write_protect_fault(Rights::UserModeOnly, Toucher::UserCode) {
        Ok(()) => {
            Finding::limited("user-mode faults only: a system call that writes into a moving extent fails with EFAULT")
                .but(super::USERFAULT_RIGHTS)
        }
        Err(obstacle) => userfault_refusal(&obstacle),
    }
}

fn remap() -> Finding {
    match trial::move_by_remap() {
        Ok(()) => Finding::works(),
        Err(Obstacle { errno: Some(Errno::EINVAL), .. }) => {
            Finding::absent("this kernel has no MREMAP_DONTUNMAP (Linux 5.7)")
        }
        Err(obstacle) => refused(&obstacle, "mremap"),
    }
}

fn fault_move() -> Finding {
    match trial::move_by_fault(Rights::UserModeOnly) {
        Ok(()) => Finding::works(),
        Err(Obstacle { errno: Some(Errno::EINVAL), .. }) => {
            Finding::absent("this kernel has no UFFDIO_MOVE (Linux 6.8)")
        }
        Err(obstacle) => userfault_refusal(&obstacle),
    }
}

fn collapse() -> Finding {
    match trial::collapse() {
        Ok(()) => Finding::works(),
        Err(Obstacle { errno: Some(Errno::EINVAL), .. }) => {
            Finding::absent("this kernel has no MADV_COLLAPSE (Linux 6.1), or no transparent huge pages of 2 MiB")
        }
        Err(obstacle @ Obstacle { errno: Some(Errno::ENOMEM | Errno::EAGAIN | Errno::EBUSY), .. }) => {
            Finding::limited(format!("{obstacle} (no free huge page just now)"))
                .but("echo 1 > /proc/sys/vm/compact_memory")
        }
        Err(obstacle) => Finding::limited(obstacle.to_string()),
    }
}

fn ring() -> Finding {
    match trial::io_uring() {
        Ok(()) => Finding::works(),
        Err(obstacle) => refused(&obstacle, "io_uring").but(
            "allow it (sysctl kernel.io_uring_disabled=0, container profile); until then pread and pwrite are used",
        ),
    }
}

fn direct() -> Finding {
    let directory = std::env::temp_dir();
    match trial::direct_io(&directory) {
        Ok(()) => Finding::works_with(format!("tried in {}; it depends on the file system", directory.display())),
        Err(obstacle) => Finding::limited(format!("{obstacle} (tried in {})", directory.display()))
            .but("set TMPDIR to a directory on the file system in question"),
    }
}

fn refused(obstacle: &Obstacle, call: &str) -> Finding {
    match obstacle.errno {
        Some(Errno::ENOSYS) => Finding::absent(format!("this kernel has no {call}, or a container profile hides it")),
        Some(Errno::EPERM) => Finding::absent(obstacle.to_string())
            .but(format!("a container profile (seccomp) may forbid {call}: allow it")),
        _ => Finding::absent(obstacle.to_string()),
    }
}
