//! Several processes on one tier, and processes that end without giving anything back.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use tiermem_sys::process;
use tiermem_tiers::{Bytes, GRANULE, Provenance, Provider};

use super::tools::{Child, Flag, Held, Random, check_mark, ensure, failed, fork, fork_stranger, mark};
use super::{Outcome, is_shared_space};

const NOT_SHARED: Outcome = Ok(Some("each process has this tier's space for itself"));

type End = fn() -> Result<(), String>;

/// How a process can end without giving back.
const ENDS: [(&str, End); 3] = [
    ("exit", || Ok(())),
    ("abort", || std::process::abort()),
    ("exec", || Err(failed("exec")(Command::new("sleep").arg("30").exec()))),
];

pub(super) fn the_dead_give_back(provider: &dyn Provider) -> Outcome {
    if !is_shared_space(provider) {
        return NOT_SHARED;
    }
    for (how, end) in ENDS {
        // One extent that both hold, the rest taken by the child.
        let mut held = Held::one(provider, 1)?;
        mark(provider, &held.extents[0], 5)?;
        let ready = Flag::new()?;
        let child = fork(provider, &held.extents, || {
            let mut all = Held::new(provider);
            all.fill()?;
            all.extents.iter().try_for_each(|extent| mark(provider, extent, 6))?;
            std::mem::forget(all);
            ready.set(1);
            end()
        })?;
        ready.wait_for(1)?;
        if how == "exec" {
            wait_for_exec(&child)?;
        } else {
            process::wait(child.pid).map_err(failed("waitpid"))?;
        }
        held.release_all()?;
        held.fill_whole().map_err(failed(how))?;
        held.extents.iter().try_for_each(|extent| super::contents::all_zero(provider, extent)).map_err(failed(how))?;
        held.release_all()?;
    }
    Ok(None)
}

/// Waits until the child is `sleep`.
fn wait_for_exec(child: &Child) -> Result<(), String> {
    let comm = format!("/proc/{}/comm", child.pid);
    for _ in 0..1000 {
        if std::fs::read_to_string(&comm).map_err(failed("reading comm"))?.starts_with("sleep") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err("the child did not become `sleep`".to_owned())
}

/// A child that works at random is killed at random; whatever it was doing, all space comes back blank.
pub(super) fn killed_in_the_middle(provider: &dyn Provider) -> Outcome {
    const KILLS: u64 = 25;
    if !is_shared_space(provider) {
        return NOT_SHARED;
    }
    let mut random = Random(77);
    for kill in 0..KILLS {
        let mut held = Held::one(provider, 1)?;
        mark(provider, &held.extents[0], kill)?;
        let child = fork(provider, &held.extents, || work_forever(provider, kill + 1))?;
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        child.kill()?;
        check_mark(provider, &held.extents[0], kill)?;
        held.release_all()?;
        held.fill_whole()?;
        held.extents.iter().try_for_each(|extent| super::contents::all_zero(provider, extent))?;
        held.release_all()?;
    }
    Ok(None)
}

fn work_forever(provider: &dyn Provider, seed: u64) -> Result<(), String> {
    let mut random = Random(seed);
    let mut extents = Vec::new();
    loop {
        if let Ok(extent) = provider.reserve(Bytes((1 + random.below(2)) * GRANULE.0), Provenance::Tool) {
            mark(provider, &extent, seed)?;
            extents.push(extent);
        }
        if !extents.is_empty() && random.below(2) == 0 {
            let extent = extents.swap_remove(random.below(extents.len() as u64) as usize);
            provider.release(extent).map_err(failed("release"))?;
        }
    }
}

/// Processes that open the tier for themselves and hold extents at the same time.
pub(super) fn strangers_do_not_overlap(open: &dyn Fn() -> Box<dyn Provider>) -> Outcome {
    const STRANGERS: u64 = 3;
    let counts: Vec<Flag> = (0..STRANGERS).map(|_| Flag::new()).collect::<Result<_, _>>()?;
    let go = Flag::new()?;
    let stranger = |number: u64| -> Result<(), String> {
        let provider = open();
        let provider = provider.as_ref();
        let mut random = Random(number + 1);
        let mut held = Held::new(provider);
        go.wait_for(1)?;
        for step in 0..200 {
            match held.add(1) {
                Ok(extent) => mark(provider, extent, number << 32 | 1)?,
                Err(_) => {
                    let at = random.below(held.extents.len().max(1) as u64) as usize;
                    if at < held.extents.len() {
                        let extent = held.extents.swap_remove(at);
                        check_mark(provider, &extent, number << 32 | 1)?;
                        provider.release(extent).map_err(failed("release"))?;
                    }
                }
            }
            if step % 20 == 0 {
                std::thread::yield_now();
            }
        }
        held.extents.iter().try_for_each(|extent| check_mark(provider, extent, number << 32 | 1))?;
        counts[number as usize].set(held.extents.len() as u32 + 1);
        go.wait_for(2)?;
        held.extents.iter().try_for_each(|extent| check_mark(provider, extent, number << 32 | 1))
    };
    let stranger = &stranger;
    let children: Vec<Child> =
        (0..STRANGERS).map(|number| fork_stranger(|| stranger(number))).collect::<Result<_, _>>()?;
    go.set(1);
    counts.iter().try_for_each(|count| count.wait_for(1))?;
    let held: u64 = counts.iter().map(|count| u64::from(count.value() - 1)).sum();
    let capacity = open().usage().capacity.0 / GRANULE.0;
    go.set(2);
    children.into_iter().try_for_each(Child::ended_well)?;
    ensure(held <= capacity, || format!("{held} granules held at once, {capacity} are there"))?;
    Ok(None)
}

/// A process that is killed leaves everything to the next one that opens the tier.
pub(super) fn stranger_inherits_from_the_dead(open: &dyn Fn() -> Box<dyn Provider>) -> Outcome {
    let ready = Flag::new()?;
    let child = fork_stranger(|| {
        let provider = open();
        let mut held = Held::new(provider.as_ref());
        held.fill_whole()?;
        held.extents.iter().try_for_each(|extent| mark(provider.as_ref(), extent, 3))?;
        ready.set(1);
        ready.wait_for(2)
    })?;
    ready.wait_for(1)?;
    child.kill()?;
    let provider = open();
    let mut held = Held::new(provider.as_ref());
    held.fill_whole()?;
    held.extents.iter().try_for_each(|extent| super::contents::all_zero(provider.as_ref(), extent))?;
    Ok(None)
}
