//! The kernel's own tiering: demotion by reclaim, promotion by NUMA balancing, both counted.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tiermem_sys::map;

use crate::memory::Memory;
use crate::{Arguments, Outcome, ensure, failed};

const GROUP: &str = "/sys/fs/cgroup/lab";
const BYTES: usize = 32 << 20;
/// How much the group is told to give up.
const RECLAIM: &str = "16M";
/// The kernel marks memory for sampling in turns of at least a second of the program's time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Reclaim moves OS pages down instead of dropping them; use brings them up again.
pub fn demotes_and_promotes(arguments: &Arguments<'_>) -> Outcome {
    let (near, far): (u32, u32) = (arguments.number(0)?, arguments.number(1)?);
    set("/sys/fs/cgroup/cgroup.subtree_control", "+memory")?;
    fs::create_dir_all(GROUP).map_err(failed(GROUP))?;
    set(&format!("{GROUP}/cgroup.procs"), &std::process::id().to_string())?;
    let memory = Memory::anonymous(BYTES)?;
    let places: Vec<usize> = (0..BYTES).step_by(map::os_page_size()).collect();
    let tag = |place: usize| place as u64 ^ 0x5eed;
    places.iter().for_each(|&place| memory.word(place).store(tag(place), Ordering::Relaxed));
    ensure(memory.on(near)? == memory.os_pages(), || format!("it did not begin on node {near}"))?;

    set("/sys/kernel/mm/numa/demotion_enabled", "true")?;
    let before = counted("pgdemote_")?;
    // It answers EAGAIN if it found less than that; what counts is what moved.
    let reclaimed = set(&format!("{GROUP}/memory.reclaim"), RECLAIM);
    let demoted = memory.on(far)?;
    let counted_down = counted("pgdemote_")? - before;
    ensure(demoted > 0, || format!("nothing was demoted to node {far} ({reclaimed:?})"))?;
    ensure(counted_down >= demoted as u64, || {
        format!("{demoted} lie on node {far}, the kernel counts {counted_down}")
    })?;

    set("/proc/sys/kernel/numa_balancing", "2")?;
    // Everything is hot: the test is about the mechanism, not about the threshold.
    set("/sys/kernel/debug/sched/numa_balancing/hot_threshold_ms", "60000")?;
    set("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "100")?;
    let before = counted("pgpromote_success")?;
    let start = Instant::now();
    let mut still = demoted;
    while still > demoted / 2 {
        ensure(start.elapsed() < PATIENCE, || {
            format!("of {demoted} demoted OS pages {still} are still on node {far}")
        })?;
        for _ in 0..20 {
            places.iter().for_each(|&place| assert_eq!(memory.word(place).load(Ordering::Relaxed), tag(place)));
        }
        still = memory.on(far)?;
    }
    let counted_up = counted("pgpromote_success")? - before;
    ensure(counted_up > 0, || "the kernel counts no promotion".into())?;
    let broken = places.iter().filter(|&&place| memory.word(place).load(Ordering::Relaxed) != tag(place)).count();
    ensure(broken == 0, || format!("{broken} OS pages changed"))?;
    set("/proc/sys/kernel/numa_balancing", "0")?;
    Ok(format!(
        "{demoted} OS pages demoted (counted {counted_down}), {} promoted (counted {counted_up})",
        demoted - still
    ))
}

fn set(file: &str, value: &str) -> Result<(), String> {
    ensure(Path::new(file).exists(), || format!("{file} is not there"))?;
    fs::write(file, value).map_err(failed(file))
}

/// The sum of the kernel's counters whose names begin so.
fn counted(start: &str) -> Result<u64, String> {
    let text = fs::read_to_string("/proc/vmstat").map_err(failed("/proc/vmstat"))?;
    let lines = text.lines().filter(|line| line.starts_with(start));
    Ok(lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum())
}
