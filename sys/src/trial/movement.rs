//! Trials of moving OS pages.

use std::fs;
use std::ptr::NonNull;

use super::{Obstacle, Outcome, Scratch, scratch};
use crate::map::{self, Advice, Placement, os_page_size};
use crate::mempolicy::{self, Nodes, Policy};
use crate::page_move::{self, Whereabouts};
use crate::pagemap::{Categories, Pagemap};
use crate::userfault::{Features, Mode, Rights, Userfault};
use crate::{Errno, Result};

const HUGE: usize = 2 << 20;

/// Asks the kernel on which node an OS page of ours is.
///
/// # Errors
/// Where it stopped.
pub fn node_of_own_memory() -> Outcome<u32> {
    let memory = scratch(1)?;
    memory.set(0, 1);
    whereabouts(&memory)
}

fn whereabouts(memory: &Scratch) -> Outcome<u32> {
    let mut answer = [Whereabouts::Unknown(Errno::ENOENT)];
    page_move::query(&[memory.os_page(0)], &mut answer).map_err(Obstacle::at("asking for the node of an OS page"))?;
    node(answer[0], "asking for the node of an OS page")
}

fn node(answer: Whereabouts, step: &'static str) -> Outcome<u32> {
    match answer {
        Whereabouts::Node(node) => Ok(node),
        Whereabouts::Unknown(errno) => Err(Obstacle { step, errno: Some(errno) }),
    }
}

/// Moves an OS page to `target` and sees that it is there with its contents.
///
/// # Errors
/// Where it stopped.
pub fn move_between_nodes(target: u32) -> Outcome {
    let memory = scratch(1)?;
    memory.set(0, 42);
    let mut answer = [Whereabouts::Unknown(Errno::ENOENT)];
    page_move::migrate(&[memory.os_page(0)], target, &mut answer).map_err(Obstacle::at("move_pages"))?;
    node(answer[0], "moving an OS page")?;
    if whereabouts(&memory)? == target && memory.get(0) == 42 {
        Ok(())
    } else {
        Err(Obstacle::silent("finding the OS page on the other node"))
    }
}

/// Binds a range to `target` with its OS pages (`mbind` with `MPOL_MF_MOVE`) and sees that they are there.
///
/// # Errors
/// Where it stopped.
pub fn move_by_binding(target: u32) -> Outcome {
    let memory = scratch(1)?;
    memory.set(0, 42);
    let nodes = Nodes::one(target).ok_or(Obstacle { step: "mbind", errno: Some(Errno::EINVAL) })?;
    mempolicy::bind(memory.at, memory.len, Policy::Bind(nodes), true)
        .map_err(Obstacle::at("mbind with MPOL_MF_MOVE"))?;
    if whereabouts(&memory)? == target && memory.get(0) == 42 {
        Ok(())
    } else {
        Err(Obstacle::silent("finding the OS page on the other node"))
    }
}

/// Spreads OS pages over nodes by the kernel's weights, and returns how many came to lie on the first one.
///
/// # Errors
/// Where it stopped; `EINVAL` where the kernel does not know the policy (Linux 6.9).
pub fn weighted_interleave(nodes: &[u32]) -> Outcome<usize> {
    const OS_PAGES: usize = 64;
    let step = "mbind with weighted interleave";
    let set = nodes.iter().try_fold(Nodes::EMPTY, |set, &node| set.with(node));
    let set = set.filter(|set| !set.is_empty()).ok_or(Obstacle { step, errno: Some(Errno::EINVAL) })?;
    let memory = scratch(OS_PAGES)?;
    mempolicy::bind(memory.at, memory.len, Policy::WeightedInterleave(set), false).map_err(Obstacle::at(step))?;
    (0..OS_PAGES).for_each(|os_page| memory.set(os_page, 1));
    let pages: Vec<_> = (0..OS_PAGES).map(|os_page| memory.os_page(os_page)).collect();
    let mut answers = [Whereabouts::Unknown(Errno::ENOENT); OS_PAGES];
    page_move::query(&pages, &mut answers).map_err(Obstacle::at("asking for the nodes of interleaved OS pages"))?;
    Ok(answers.iter().filter(|&&answer| nodes.first().is_some_and(|&node| answer == Whereabouts::Node(node))).count())
}

/// Takes an OS page away from its address with mremap and sees it at the new one, the old one empty.
///
/// # Errors
/// Where it stopped.
pub fn move_by_remap() -> Outcome {
    let memory = scratch(1)?;
    memory.set(0, 42);
    // SAFETY: our own range.
    let at = unsafe { page_move::take_pages(memory.at, memory.len) }
        .map_err(Obstacle::at("mremap with MREMAP_DONTUNMAP"))?;
    let moved = Scratch { at, len: memory.len };
    if moved.get(0) == 42 && memory.get(0) == 0 {
        Ok(())
    } else {
        Err(Obstacle::silent("finding the OS page at its new address"))
    }
}

/// Moves an OS page into a registered range with `UFFDIO_MOVE`.
///
/// # Errors
/// Where it stopped.
pub fn move_by_fault(rights: Rights) -> Outcome {
    let faults = Userfault::open(rights, Features::MOVE).map_err(Obstacle::at("opening a userfaultfd"))?;
    let (from, to) = (scratch(1)?, scratch(1)?);
    from.set(0, 42);
    // SAFETY: our own range; the OS page is put there before anyone touches it.
    unsafe { faults.register(to.at, to.len, Mode::Missing) }.map_err(Obstacle::at("registering for missing faults"))?;
    // SAFETY: both ranges are ours.
    unsafe { faults.move_pages(to.at, from.at, to.len) }.map_err(Obstacle::at("UFFDIO_MOVE"))?;
    drop(faults);
    if to.get(0) == 42 && from.get(0) == 0 { Ok(()) } else { Err(Obstacle::silent("finding the moved OS page")) }
}

/// Makes one huge page of a range of small ones and sees it in the pagemap.
///
/// # Errors
/// Where it stopped.
pub fn collapse() -> Outcome {
    let memory = huge_range().map_err(Obstacle::at("mapping memory for the trial"))?;
    memory.set(0, 42);
    memory.set(1, 43);
    // SAFETY: our own range.
    unsafe { map::advise(memory.at, HUGE, Advice::Collapse) }.map_err(Obstacle::at("MADV_COLLAPSE"))?;
    if memory.get(0) != 42 || memory.get(1) != 43 {
        return Err(Obstacle::silent("finding the contents after the collapse"));
    }
    match Pagemap::open().and_then(|map| map.count(memory.at, HUGE, Categories::HUGE)) {
        Ok(bytes) if bytes == HUGE as u64 => Ok(()),
        Ok(_) => Err(Obstacle::silent("finding a huge page after the collapse")),
        // Kernels without PAGEMAP_SCAN show it in smaps.
        Err(_) if huge_by_smaps(memory.at) => Ok(()),
        Err(_) => Err(Obstacle::silent("finding a huge page after the collapse")),
    }
}

fn huge_range() -> Result<Scratch> {
    let at = map::reserve(HUGE, HUGE.max(os_page_size()))?;
    let memory = Scratch { at, len: HUGE };
    // SAFETY: our own reservation.
    unsafe { map::anonymous_at(at, HUGE, Placement::Replace)? };
    Ok(memory)
}

fn huge_by_smaps(at: NonNull<u8>) -> bool {
    super::sampling::smaps_field(&fs::read_to_string("/proc/self/smaps").unwrap_or_default(), at, "AnonHugePages")
        .is_some_and(|kib| kib > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_taken_by_remap_leave_zeroes_behind() {
        match move_by_remap() {
            Err(obstacle) if obstacle.errno.is_some() => eprintln!("SKIP pages_taken_by_remap: {obstacle}"),
            outcome => assert_eq!(outcome, Ok(())),
        }
    }

    #[test]
    fn own_memory_is_on_some_node_and_cannot_go_to_a_missing_one() {
        match node_of_own_memory() {
            Err(obstacle) => eprintln!("SKIP own_memory_is_on_some_node: {obstacle}"),
            Ok(node) => {
                assert_eq!(move_between_nodes(node), Ok(()));
                assert_eq!(move_by_binding(node), Ok(()));
                assert!(move_between_nodes(1023).is_err());
                assert!(move_by_binding(1023).is_err());
            }
        }
    }
}
