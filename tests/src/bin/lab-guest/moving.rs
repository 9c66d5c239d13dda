//! Moving memory between nodes while it is being written: no update may be lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tiermem_sys::map;
use tiermem_sys::mempolicy::Policy;
use tiermem_sys::page_move::Whereabouts;

use crate::memory::{Memory, only};
use crate::{Arguments, Outcome, ensure};

const BYTES: usize = 4 << 20;
const WRITERS: usize = 2;
/// Rounds that are always made, and for how long more of them.
const ROUNDS_MIN: u32 = 6;
const TIME: Duration = Duration::from_secs(2);

/// move_pages(2) there and back.
pub fn move_pages(arguments: &Arguments<'_>) -> Outcome {
    there_and_back(arguments, |memory, node| {
        // An OS page that a writer is just faulting on is busy; the next round takes it.
        memory.move_to(node).map(drop)
    })
}

/// mbind(2) with `MPOL_MF_MOVE` there and back.
pub fn mbind(arguments: &Arguments<'_>) -> Outcome {
    there_and_back(arguments, |memory, node| memory.policy(Policy::Bind(only(node)?), true))
}

fn there_and_back(arguments: &Arguments<'_>, move_to: impl Fn(&Memory, u32) -> Result<(), String>) -> Outcome {
    let (near, far): (u32, u32) = (arguments.number(0)?, arguments.number(1)?);
    let memory = Memory::on_node(near, BYTES)?;
    ensure(memory.on(near)? == memory.os_pages(), || format!("it did not begin on node {near}"))?;
    let mut moved = 0;
    let written = while_written(&memory, || {
        let (start, mut rounds) = (Instant::now(), 0);
        while rounds < ROUNDS_MIN || start.elapsed() < TIME {
            let to = if rounds % 2 == 0 { far } else { near };
            move_to(&memory, to)?;
            let arrived = memory.on(to)?;
            ensure(arrived > memory.os_pages() / 2, || format!("{arrived} OS pages arrived on node {to}"))?;
            moved += arrived;
            rounds += 1;
        }
        Ok(())
    })?;
    ensure(written.lost == 0, || format!("{} of {} updates are lost", written.lost, written.made))?;
    // Nobody writes any more: now all of it goes.
    move_to(&memory, far)?;
    let places = memory.nodes()?;
    let left = places.iter().filter(|&&place| place != Whereabouts::Node(far)).count();
    ensure(left == 0, || format!("{left} OS pages would not go to node {far} although nobody used them"))?;
    Ok(format!("{moved} moves under {} updates, none lost", written.made))
}

/// Negative control: a copy that does not stop the writers loses updates, and the count shows it.
pub fn lost_updates_are_seen(_: &Arguments<'_>) -> Outcome {
    let memory = Memory::anonymous(BYTES)?;
    memory.touch()?;
    let written = while_written(&memory, || {
        let start = Instant::now();
        while start.elapsed() < TIME {
            for offset in (0..BYTES).step_by(map::os_page_size()) {
                (0..WRITERS).for_each(|writer| {
                    let word = memory.word(offset + writer * 8);
                    let copy = word.load(Ordering::Relaxed);
                    std::thread::yield_now();
                    word.store(copy, Ordering::Relaxed);
                });
            }
        }
        Ok(())
    })?;
    ensure(written.lost > 0, || format!("a careless copy lost none of {} updates", written.made))?;
    Ok(format!("{} of {} updates lost by a careless copy", written.lost, written.made))
}

struct Written {
    made: u64,
    lost: u64,
}

/// Lets writers count in every OS page of the memory while `work` goes on, and compares with what they counted elsewhere.
fn while_written(memory: &Memory, work: impl FnOnce() -> Result<(), String>) -> Result<Written, String> {
    let stop = AtomicBool::new(false);
    let places: Vec<usize> = (0..memory.len()).step_by(map::os_page_size()).collect();
    let counts: Vec<Vec<AtomicU64>> =
        (0..WRITERS).map(|_| places.iter().map(|_| AtomicU64::new(0)).collect()).collect();
    let worked = std::thread::scope(|scope| {
        for (writer, counts) in counts.iter().enumerate() {
            let (places, stop) = (&places, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for (&place, count) in places.iter().zip(counts) {
                        memory.word(place + writer * 8).fetch_add(1, Ordering::Relaxed);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let worked = work();
        stop.store(true, Ordering::Relaxed);
        worked
    });
    worked?;
    let mut written = Written { made: 0, lost: 0 };
    for (writer, counts) in counts.iter().enumerate() {
        for (&place, count) in places.iter().zip(counts) {
            let (made, there) =
                (count.load(Ordering::Relaxed), memory.word(place + writer * 8).load(Ordering::Relaxed));
            written.made += made;
            written.lost += made.abs_diff(there);
        }
    }
    Ok(written)
}
