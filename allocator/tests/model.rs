//! Random programs against the model of an allocator, on one tier and on several, with one thread and with more.

#![expect(unsafe_code, reason = "tests use raw memory")]

mod checker;
mod child;
mod contents;

use std::path::Path;
use std::time::{Duration, Instant};
use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicUsize, Ordering};

use checker::{Change, Model, Real, Step, Subject};
use child::{in_child, is_child, scale};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tiermem::control::{Attachment, Snapshot, publish};

const THREADS: usize = 4;

fn sizes() -> impl Strategy<Value = usize> {
    const EDGES: [usize; 11] =
        [16, 128, 129, 1024, 1025, 64 << 10, 128 << 10, (128 << 10) + 1, 2 << 20, (2 << 20) + 1, 6 << 20];
    prop_oneof![
        60 => 0usize..=1024,
        25 => 1025usize..=128 << 10,
        8 => (128usize << 10) + 1..=1 << 20,
        2 => (1usize << 20)..=8 << 20,
        5 => proptest::sample::select(&EDGES[..]),
    ]
}

fn alignments() -> impl Strategy<Value = usize> {
    prop_oneof![8 => Just(16), 2 => (0u32..=22).prop_map(|shift| 1 << shift)]
}

fn changes() -> impl Strategy<Value = Change> {
    proptest::sample::select(
        &[
            Change::OneMore,
            Change::OneLess,
            Change::AnEighthMore,
            Change::Double,
            Change::ThreeQuarters,
            Change::JustUnderHalf,
            Change::ToTheUnit,
            Change::ToTheExtent,
            Change::PastTheExtent,
        ][..],
    )
}

/// What programs do with all kinds of blocks.
fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    const MAX: usize = 8 << 20;
    let step = prop_oneof![
        40 => (sizes(), alignments(), any::<bool>())
            .prop_map(|(size, align, zeroed)| Step::Allocate { size, align, zeroed }),
        12 => (any::<usize>(), sizes()).prop_map(|(which, size)| Step::Reallocate { which, size }),
        6 => (any::<usize>(), changes()).prop_map(|(which, change)| Step::Resize { which, change, max: MAX }),
        4 => any::<usize>().prop_map(|which| Step::UseAll { which }),
        24 => any::<usize>().prop_map(|which| Step::Free { which }),
        10 => any::<usize>().prop_map(|which| Step::HandOver { which }),
        10 => Just(Step::Receive),
        3 => any::<u8>().prop_map(Step::PushHint),
        3 => Just(Step::PopHint),
        1 => Just(Step::Purge),
    ];
    proptest::collection::vec(step, count)
}

/// Large blocks, few at a time, that change their sizes again and again: where blocks grow, shrink and move.
fn large_steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    const MAX: usize = 24 << 20;
    let size = || {
        prop_oneof![
            4 => 100_000usize..=300_000,
            4 => 300_000usize..=4 << 20,
            1 => (4usize << 20)..=12 << 20,
            2 => proptest::sample::select(&[128 << 10, (128 << 10) + 1, 192 << 10, 2 << 20, (2 << 20) + 1, 4 << 20][..]),
        ]
    };
    let step = prop_oneof![
        22 => (size(), alignments(), any::<bool>())
            .prop_map(|(size, align, zeroed)| Step::Allocate { size, align, zeroed }),
        8 => (any::<usize>(), size()).prop_map(|(which, size)| Step::Reallocate { which, size }),
        40 => (any::<usize>(), changes()).prop_map(|(which, change)| Step::Resize { which, change, max: MAX }),
        5 => any::<usize>().prop_map(|which| Step::UseAll { which }),
        20 => any::<usize>().prop_map(|which| Step::Free { which }),
        4 => any::<usize>().prop_map(|which| Step::HandOver { which }),
        4 => Just(Step::Receive),
        3 => any::<u8>().prop_map(Step::PushHint),
        3 => Just(Step::PopHint),
        3 => Just(Step::Purge),
    ];
    proptest::collection::vec(step, count)
}

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    TestRunner::new(config)
}

/// Runs each thread's steps, then frees everything.
fn play(model: &Model, subject: &impl Subject, programs: &[Vec<Step>]) -> Result<(), String> {
    let mut left = std::thread::scope(|scope| {
        let threads: Vec<_> = programs.iter().map(|steps| scope.spawn(|| model.run(subject, steps))).collect();
        // Joined by hand: a scope does not wait for what threads do last, which is to give their heaps back.
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<Vec<_>, _>>()
    })?;
    left.push(model.left_over());
    left.into_iter().flatten().try_for_each(|block| model.free(block))
}

/// The process's own figures, once `fits` holds of them or nothing more can be hoped for.
fn figures(directory: &Path, fits: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let path = directory.join(std::process::id().to_string());
    let segment = Attachment::open(&path).expect("the control segment");
    let start = Instant::now();
    loop {
        publish();
        let snapshot = segment.read().expect("figures");
        if fits(&snapshot) || start.elapsed() > Duration::from_secs(5) {
            return snapshot;
        }
        tiermem::purge::purge_now();
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a test wants to hear of.
#[derive(Clone, Copy, PartialEq)]
enum Memory {
    /// There is enough for everything.
    Enough,
    /// Now and then a request must be refused.
    Short,
}

fn check_in_child(name: &str, env: &[(&str, &str)], tiers: usize, memory: Memory) {
    let directory = std::env::temp_dir().join(format!("tiermem-{name}-{}", std::process::id()));
    if !is_child(name) {
        std::fs::create_dir_all(&directory).expect("a directory for the control segment");
    }
    let path = directory.to_string_lossy().into_owned();
    let env: Vec<_> = env.iter().copied().chain([("TIERMEM_CONTROL_DIR", path.as_str())]).collect();
    in_child(name, &env, || {
        tiermem::start();
        assert_eq!(tiermem::tier_count(), tiers);
        let model = Model::new(memory == Memory::Short);
        let run = |cases: u32, programs: BoxedStrategy<Vec<Vec<Step>>>| {
            let played =
                runner(cases * scale()).run(&programs, |p| play(&model, &Real, &p).map_err(TestCaseError::fail));
            played.unwrap_or_else(|failure| panic!("{failure}"));
        };
        run(40, steps(300).prop_map(|steps| vec![steps]).boxed());
        run(40, proptest::collection::vec(steps(150), THREADS).boxed());
        run(40, large_steps(120).prop_map(|steps| vec![steps]).boxed());
        run(20, proptest::collection::vec(large_steps(60), THREADS).boxed());
        let refused = model.refused.load(Ordering::Relaxed);
        assert_eq!(refused > 0, memory == Memory::Short, "{refused} requests were refused");
        the_sums_are_right(&model);
    });
    if !is_child(name) {
        std::fs::remove_dir_all(directory).expect("remove the directory");
    }
}

/// Everything was freed: the figures say so, and no tier keeps memory.
fn the_sums_are_right(model: &Model) {
    let directory = std::env::var_os("TIERMEM_CONTROL_DIR").expect("set by the parent");
    let end = figures(Path::new(&directory), |s| s.tiers.iter().all(|tier| tier.committed == 0));
    let allocations: u64 = end.tiers.iter().map(|tier| tier.allocations).sum();
    assert_eq!(allocations, model.allocations.load(Ordering::Relaxed), "blocks allocated");
    for tier in &end.tiers {
        assert_eq!((tier.allocations - tier.frees, tier.live, tier.committed), (0, 0, 0), "{tier:?}");
        assert!(tier.limit == 0 || tier.committed_max <= tier.limit, "over its limit: {tier:?}");
        assert!(tier.allocations > 0, "never used, so not tested: {tier:?}");
    }
    for class in &end.size_classes {
        assert!(class.live.iter().all(|&live| live == 0), "{class:?}");
    }
}

#[test]
fn random_programs_on_one_tier() {
    check_in_child("random_programs_on_one_tier", &[], 1, Memory::Enough);
}

#[test]
fn random_programs_on_three_tiers() {
    let env =
        [("TIERMEM_TIERS", "slow=dax-file:memfd,size=1G;file=dax-file:memfd,size=1G"), ("TIERMEM_LIMITS", "dram=16M")];
    check_in_child("random_programs_on_three_tiers", &env, 3, Memory::Enough);
}

/// A request that is refused leaves everything as it was, and the memory of what is freed can be had again.
#[test]
fn random_programs_where_memory_is_short() {
    let env = [("TIERMEM_TIERS", "slow=dax-file:memfd,size=24M"), ("TIERMEM_LIMITS", "dram=16M")];
    check_in_child("random_programs_where_memory_is_short", &env, 2, Memory::Short);
}

// ---- does the model see anything? ----

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Overlap,
    LosesTail,
    Shifts,
    ForgetsOnRefusal,
    Misaligns,
    LeavesDirt,
    PromisesTooMuch,
}

/// The allocator with a fault that shows in one call out of some.
struct Faulty {
    fault: Fault,
    calls: AtomicUsize,
    /// A block that is in use, to be handed out again: address and size.
    victim: Lock<(usize, usize)>,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { fault, calls: AtomicUsize::new(0), victim: Lock::new((0, 0)) }
    }

    fn now(&self, fault: Fault) -> bool {
        self.fault == fault && self.calls.fetch_add(1, Ordering::Relaxed) % 20 == 19
    }
}

impl Subject for Faulty {
    fn allocate(&self, size: usize, align: usize) -> *mut u8 {
        let mut victim = self.victim.lock();
        if victim.0 == 0 && size >= 4096 {
            let at = Real.allocate(size, align);
            *victim = (at.addr(), size);
            return at;
        }
        if size > 0 && size < victim.1 && align <= 16 && self.now(Fault::Overlap) {
            return std::ptr::with_exposed_provenance_mut(victim.0 + (victim.1 - size) / 16 * 16);
        }
        if self.now(Fault::Misaligns) {
            return Real.allocate(size + align, align).wrapping_add(8);
        }
        Real.allocate(size, align)
    }

    fn allocate_zeroed(&self, size: usize, align: usize) -> *mut u8 {
        let at = Real.allocate_zeroed(size, align);
        if size > 0 && self.now(Fault::LeavesDirt) {
            // SAFETY: within the new block.
            unsafe { at.add(size / 3).write(1) };
        }
        at
    }

    unsafe fn reallocate(&self, at: *mut u8, old: usize, size: usize, align: usize) -> *mut u8 {
        if old > 0 && self.now(Fault::ForgetsOnRefusal) {
            // SAFETY: within the block.
            unsafe { at.write(0) };
            // As the allocator does when it refuses.
            assert!(Real.allocate(usize::MAX, 16).is_null());
            return std::ptr::null_mut();
        }
        // SAFETY: passed on to the caller.
        let new = unsafe { Real.reallocate(at, old, size, align) };
        let kept = old.min(size);
        if kept > 0 && self.now(Fault::LosesTail) {
            // SAFETY: within the block.
            unsafe { new.add(kept - 1).write(0) };
        }
        if kept > 4096 && self.now(Fault::Shifts) {
            // SAFETY: within the block.
            unsafe { new.copy_from(new.add(4096), kept - 4096) };
        }
        new
    }

    fn usable_size(&self, at: *const u8) -> usize {
        Real.usable_size(at) + if self.fault == Fault::PromisesTooMuch { 16 } else { 0 }
    }
}

fn catch(fault: Fault) -> Result<(), String> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    // The victim of an overlap stays in use: nothing is freed, and blocks are only reallocated where that is the fault.
    let wanted = |step: &Step| match step {
        Step::Allocate { .. } => true,
        Step::Reallocate { .. } | Step::Resize { .. } => !matches!(fault, Fault::Overlap | Fault::PromisesTooMuch),
        Step::UseAll { .. } => fault == Fault::PromisesTooMuch,
        _ => false,
    };
    let program = steps(2000).new_tree(&mut runner).expect("a program").current();
    let mut program: Vec<_> = program.into_iter().filter(wanted).collect();
    // What is written behind a block may be a link between free ones: no block is taken after it.
    program.sort_by_key(|step| matches!(step, Step::UseAll { .. }));
    let model = Model::new(fault == Fault::ForgetsOnRefusal);
    play(&model, &Faulty::new(fault), &[program])
}

/// Negative control: each fault is seen, as what it is, and a subject without one passes.
#[test]
fn the_model_catches_planted_faults() {
    assert_eq!(catch(Fault::None), Ok(()));
    for (fault, said) in [
        (Fault::Overlap, "overlaps"),
        (Fault::LosesTail, "reallocate: byte"),
        (Fault::Shifts, "reallocate: byte"),
        (Fault::ForgetsOnRefusal, "holding: byte 0"),
        (Fault::Misaligns, "is not aligned"),
        (Fault::LeavesDirt, "is not zero"),
        (Fault::PromisesTooMuch, "overlaps"),
    ] {
        let caught = catch(fault).expect_err(&format!("{fault:?} was not seen"));
        assert!(caught.contains(said), "expected {said:?}, got: {caught}");
    }
}
