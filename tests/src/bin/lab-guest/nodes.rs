//! Where the kernel puts OS pages.

use tiermem_sys::mempolicy::{Nodes, Policy};
use tiermem_sys::page_move::Whereabouts;
use tiermem_tiers::{GRANULE, Provenance, TierId, provider};

use crate::memory::Memory;
use crate::{Arguments, Outcome, ensure, failed};

const WEIGHTS: &str = "/sys/kernel/mm/mempolicy/weighted_interleave";

/// What the provider of a node hands out lies on that node, every OS page of it.
pub fn lies_on(arguments: &Arguments<'_>) -> Outcome {
    let node: u32 = arguments.number(0)?;
    let spec = format!("t=cxl-node:{node}").parse().map_err(failed("the SPEC"))?;
    let tier = provider::open(&spec, TierId(0)).map_err(failed("opening it"))?;
    let extent = tier.reserve(GRANULE, Provenance::Tool).map_err(failed("reserve"))?;
    let at = extent.address().ok_or("it has no address")?;
    let pages: Vec<_> = (0..512)
        // SAFETY: 512 OS pages of 4 KiB are a granule.
        .map(|number| unsafe { at.add(number << 12) })
        .collect();
    let mut places = vec![Whereabouts::Node(u32::MAX); pages.len()];
    tiermem_sys::page_move::query(&pages, &mut places).map_err(failed("move_pages"))?;
    tier.release(extent).map_err(failed("release"))?;
    let elsewhere: Vec<_> = places.iter().filter(|&&place| place != Whereabouts::Node(node)).collect();
    ensure(elsewhere.is_empty(), || format!("{} of {} OS pages lie elsewhere: {elsewhere:?}", elsewhere.len(), 512))?;
    Ok(format!("{} OS pages", places.len()))
}

/// Weighted interleave, OS page by OS page: each node gets as many in a row as its weight says, in the order of their numbers.
/// A weight that is not given is the kernel's own.
pub fn weighted(arguments: &Arguments<'_>) -> Outcome {
    let mut weights = Vec::new();
    let mut nodes = Nodes::EMPTY;
    for word in arguments.0 {
        let (node, weight) = word.split_once('=').unwrap_or((word, ""));
        let file = format!("{WEIGHTS}/node{node}");
        if !weight.is_empty() {
            std::fs::write(&file, weight).map_err(failed(&file))?;
        }
        let text = std::fs::read_to_string(&file).map_err(failed(&file))?;
        let number: u32 = node.parse().map_err(failed(node))?;
        nodes = nodes.with(number).ok_or("no such node")?;
        weights.push((number, text.trim().parse::<usize>().map_err(failed(&file))?));
    }
    weights.sort_unstable();
    let round: usize = weights.iter().map(|(_, weight)| weight).sum();
    ensure(round > 1, || "no weights".into())?;
    let memory = Memory::anonymous(round * 40 * tiermem_sys::map::os_page_size())?;
    memory.policy(Policy::WeightedInterleave(nodes), false)?;
    memory.touch()?;
    let places = memory.nodes()?;
    let pattern: Vec<u32> = weights.iter().flat_map(|&(node, weight)| std::iter::repeat_n(node, weight)).collect();
    let fits = |phase: usize| {
        let expected = pattern.iter().cycle().skip(phase);
        places.iter().zip(expected).all(|(&place, &node)| place == Whereabouts::Node(node))
    };
    ensure((0..round).any(fits), || format!("weights {weights:?} give {:?} …", &places[..round.min(64)]))?;
    Ok(format!("{} OS pages by {weights:?}", places.len()))
}
