//! What a process holds in the long run, and what it keeps when it falls idle.

use std::time::Duration;

use tiermem_tests::{Finished, Program, Running, Setup, Tiering, c_program, count, in_setups, smaps};

// ---- a day in a minute ----

const HOURS: usize = 24;
/// Hours that are looked at together. What is resident falls by half now and then, when the purger finds a quiet moment, and
/// takes up to eight hours to come back to what the program holds; the sizes go through their whole cycle in twelve. Only the
/// highest of a whole cycle says what is held.
const CYCLE_HOURS: usize = 12;
/// What the second cycle may hold more than the first. A leak of one block in a thousand gains more than 20 MiB.
const GROWTH_KIB_MAX: f64 = 6.0 * 1024.0;

/// What `programs/day.c` printed of one hour.
struct Hour {
    resident_kib: f64,
    mappings: f64,
}

fn hours(finished: &Finished) -> Vec<Hour> {
    let number = |line: &str, i: usize| line.split(' ').nth(i).and_then(|n| n.parse().ok());
    let read = |line: &str| Some(Hour { resident_kib: number(line, 3)?, mappings: number(line, 5)? });
    let text = finished.text();
    let hours: Vec<_> = text.lines().filter_map(read).collect();
    assert_eq!(hours.len(), HOURS, "{}", finished.describe());
    hours
}

/// By how much the highest of the last cycle is above the highest of the first: KiB resident, and mappings.
fn growth(hours: &[Hour]) -> (f64, f64) {
    let (first, last) = (&hours[..CYCLE_HOURS], &hours[hours.len() - CYCLE_HOURS..]);
    let highest = |hours: &[Hour], field: fn(&Hour) -> f64| hours.iter().map(field).fold(f64::MIN, f64::max);
    let of = |field| highest(last, field) - highest(first, field);
    (of(|hour| hour.resident_kib), of(|hour| hour.mappings))
}

/// Runs the day with so many blocks in 100,000 never freed.
fn day(program: &Program, tiering: &Tiering, forgotten: u32) -> (f64, f64) {
    // 3.6 million an hour: 86.4 million in all, a thousand a second for a day.
    let thousands = count("DAY_THOUSANDS", 3600).to_string();
    let args = [&thousands, "1200", &forgotten.to_string(), &HOURS.to_string()];
    growth(&hours(&program.under(tiering).args(args).limit(300).finish().succeeded_quietly()))
}

fn a_day(tiering: &Tiering) {
    let Some(program) = c_program("day") else { return };
    let (resident, mappings) = day(&program, tiering, 0);
    eprintln!("MEASURED growth in 12 hours: {resident:.0} KiB resident, {mappings:.1} mappings");
    assert!(resident < GROWTH_KIB_MAX, "resident memory grew by {resident:.0} KiB in 12 hours");
    assert!(mappings < 20.0, "{mappings:.1} mappings more in 12 hours");
}
in_setups!([one_tier OneTier, two_tiers TwoTiers] a_day_without_growth, a_day);

/// Negative control: a program that forgets one block in a thousand is seen to grow.
#[test]
fn a_leak_of_one_block_in_a_thousand_is_seen() {
    let Some(program) = c_program("day") else { return };
    let (resident, _) = day(&program, &Setup::OneTier.prepare(), 100);
    assert!(resident > 2.0 * GROWTH_KIB_MAX, "the leak grew to {resident:.0} KiB only");
}
#[test]
fn a_dip_is_no_growth_and_a_climb_is() {
    let hours = |of: fn(usize) -> f64| -> Vec<Hour> {
        (0..HOURS).map(|hour| Hour { resident_kib: of(hour), mappings: 0.0 }).collect()
    };
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}");
    near(growth(&hours(|hour| if hour % 9 == 0 { 4.0 } else { 9.0 })).0, 0.0);
    near(growth(&hours(|hour| hour as f64)).0, 12.0);
}

// ---- memory that comes back ----

/// Of what was resident at the peak, per cent, may be left 2 s after the last block was freed.
const KEPT_PERCENT_MAX: u64 = 3;
const IDLE: Duration = Duration::from_secs(2);

/// Everything that is resident of the process, by `/proc/PID/smaps`.
fn resident(process: &Running) -> u64 {
    smaps::of_all(process.pid()).expect("the process runs").resident
}

/// 4 million blocks of 120 bytes are freed, the program is idle for 2 s, and hardly anything is left.
fn returned(tiering: &Tiering, who: &str) {
    let Some(program) = c_program("returned") else { return };
    let mut process = program.under(tiering).args([who, "4000", "120"]).limit(120).start();
    process.hear_line(1);
    let peak = resident(&process);
    process.say("free");
    process.hear_line(2);
    std::thread::sleep(IDLE);
    let kept = resident(&process);
    eprintln!("MEASURED {who}: {} KiB at the peak, {} KiB 2 s after", peak >> 10, kept >> 10);
    assert!(peak > 400 << 20, "only {} KiB at the peak", peak >> 10);
    assert!(kept * 100 <= peak * KEPT_PERCENT_MAX, "of {} KiB {} KiB are resident after 2 s", peak >> 10, kept >> 10);
    process.finish().succeeded_quietly();
}
in_setups!([one_tier OneTier] memory_comes_back, returned, "own");

/// Other threads freed it, and live on without ever calling the allocator again; so does the thread that allocated it.
#[test]
fn memory_that_others_freed_comes_back() {
    returned(&Setup::OneTier.prepare(), "others");
}

/// As above, and the thread that allocated it sleeps in a system call from before the first free on.
#[test]
fn memory_of_a_sleeping_thread_comes_back() {
    returned(&Setup::OneTier.prepare(), "sleeper");
}

// ---- sizes that shift ----

/// The worst ratio of resident to live memory over the second walk through the sizes of `programs/shifting.c`.
fn footprint(tiering: &Tiering, kept_one_in: &str) -> f64 {
    let Some(program) = c_program("shifting") else { return 0.0 };
    let finished = program.under(tiering).args(["64", kept_one_in, "1500"]).limit(200).finish().succeeded_quietly();
    let number = |line: &str, i: usize| line.split(' ').nth(i).and_then(|n| n.parse::<f64>().ok()).expect("a number");
    let text = finished.text();
    let ratios: Vec<f64> = text.lines().map(|line| number(line, 5) / number(line, 3)).collect();
    assert_eq!(ratios.len(), 20, "{}", finished.describe());
    let worst = ratios[10..].iter().copied().fold(0.0, f64::max);
    eprintln!("MEASURED footprint at most {worst:.2} of what is live");
    worst
}

/// A set that is replaced in random order by blocks of other sizes, again and again.
fn shifting_sizes(tiering: &Tiering, kept_one_in: &str) {
    let worst = footprint(tiering, kept_one_in);
    assert!(worst <= 1.5, "{worst:.2} times what is live is resident");
}
in_setups!([one_tier OneTier] shifting_sizes_are_bounded, shifting_sizes, "0");

/// One block in 2048 stays for good: hardly a span without one, but few OS pages with one.
#[test]
#[ignore = "missed: 2.5 times what is live, because gaps are used only once half of what a heap holds is gaps"]
fn shifting_sizes_with_survivors_are_bounded() {
    shifting_sizes(&Setup::OneTier.prepare(), "2048");
}
