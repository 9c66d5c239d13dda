//! A process whose slow tier fails in every way that a plan can name: what it is told, what goes on, and that nothing else is
//! lost.

#![expect(unsafe_code, reason = "tests use raw memory")]

mod child;

use child::{command, finish, in_child, is_child, scale};
use tiermem::{ErrorKind, TierId, api, read_guarded, scope, tier, write_guarded};
use tiermem_sys::guarded::{Broken, pretend_broken};

const MIB: usize = 1 << 20;
const EXTENT: usize = 2 * MIB;

/// A block, and the number that its words begin with.
#[derive(Clone, Copy)]
struct Block {
    at: *mut u8,
    size: usize,
    tag: u64,
}

impl Block {
    fn new(size: usize, tag: u64) -> Self {
        let block = Self { at: api::allocate(size), size, tag };
        assert!(!block.at.is_null(), "no memory");
        for (i, word) in block.words().iter_mut().enumerate() {
            *word = block.word(i);
        }
        block
    }

    fn word(&self, i: usize) -> u64 {
        self.tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i as u64
    }

    fn words(self) -> &'static mut [u64] {
        // SAFETY: the block is held, aligned, and nobody else uses it; the tests use it only while they hold it.
        unsafe { std::slice::from_raw_parts_mut(self.at.cast(), self.size / 8) }
    }

    /// What a guarded read says; the contents are right if it says nothing.
    fn read(&self) -> Result<(), ErrorKind> {
        let mut into = vec![0; self.size];
        // SAFETY: the block is held.
        unsafe { read_guarded(self.at, &mut into) }.map_err(|error| error.kind())?;
        for (i, word) in into.chunks_exact(8).enumerate() {
            assert_eq!(word, self.word(i).to_ne_bytes(), "word {i} of block {} has changed", self.tag);
        }
        Ok(())
    }

    fn extent(&self) -> usize {
        self.at.addr() / EXTENT * EXTENT
    }

    fn tier(&self) -> Option<u8> {
        api::tier_of(self.at)
    }

    fn overlaps(&self, start: usize, len: usize) -> bool {
        self.at.addr() < start + len && start < self.at.addr() + self.size
    }

    fn free(self) {
        // SAFETY: each block is freed once.
        unsafe { api::free(self.at) }
    }
}

fn slow() -> TierId {
    tier("slow").expect("a tier")
}

fn quarantined() -> u64 {
    tiermem::statistics().tiers()[1].quarantined
}

fn on_slow(count: u64, size: usize, first_tag: u64) -> Vec<Block> {
    scope(slow(), || (first_tag..first_tag + count).map(|tag| Block::new(size, tag)).collect())
}

#[track_caller]
fn with_faults(name: &str, script: &str, body: impl FnOnce()) {
    let env = [("TIERMEM_TIERS", "slow=dax-file:memfd,size=64M"), ("TIERMEM_FAULTS", script), ("TIERMEM_TOLD", "1")];
    in_child(name, &env, || {
        tiermem::start();
        assert_eq!(tiermem::tier_count(), 2, "the tier is not in force");
        body();
    });
}

/// Blocks of 256 bytes in five extents; the first guarded read is the tier's sixth operation and brings the poison.
const POISON: &str = "poison at-op=6 extent=0 offset=69632";
const BAD: usize = 69632;

#[test]
fn poison_is_an_error_and_all_else_is_kept() {
    with_faults("poison_is_an_error_and_all_else_is_kept", POISON, || {
        let os_page = tiermem::os_page_size();
        let blocks = on_slow(4 * EXTENT as u64 / 256 + 100, 256, 1);
        let first = blocks.iter().map(Block::extent).min().expect("blocks");
        let bad = first + BAD / os_page * os_page;
        let mut hit = 0;
        for block in &blocks {
            assert_eq!(block.tier(), Some(1));
            match block.read() {
                Ok(()) => assert!(!block.overlaps(bad, os_page), "poison was passed over"),
                Err(ErrorKind::Poisoned { offset, .. }) => {
                    assert!(block.overlaps(bad, os_page), "block {} is not affected", block.tag);
                    assert_eq!(offset as usize / os_page, BAD / os_page);
                    hit += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(hit >= os_page / 256, "{hit} blocks in the bad OS page");
        assert_eq!(quarantined(), EXTENT as u64);
        // Nothing new is placed in the extent, not even what this thread had lined up there.
        let more = on_slow(20_000, 256, 1 << 20);
        let late = more.iter().filter(|block| block.extent() == first).count();
        assert_eq!(late, 0, "blocks in a bad extent");
        for block in blocks.iter().chain(&more).filter(|block| !block.overlaps(bad, os_page)) {
            assert_eq!(block.read(), Ok(()));
            block.free();
        }
    });
}

/// The kernel's word alone, by signal, without anybody's access: the extent takes nothing new, and its bad place is remembered.
#[test]
fn what_the_kernel_says_is_heeded() {
    // An injection that never comes.
    with_faults("what_the_kernel_says_is_heeded", "full at-op=1000000", || {
        let os_page = tiermem::os_page_size();
        let blocks = on_slow(2 * EXTENT as u64 / 256 + 100, 256, 1);
        let first = blocks.iter().map(Block::extent).min().expect("blocks");
        // A guarded access puts the handler in force.
        assert_eq!(blocks[0].read(), Ok(()));
        // Not any place of the extent: part of it has gone to the list of the blocks itself, and differs from run to run.
        let held = |page: usize| blocks.iter().filter(|block| block.overlaps(page, os_page)).count();
        let mut pages = (first..first + EXTENT).step_by(os_page);
        let bad = pages.find(|&page| held(page) >= os_page / 256).expect("an OS page full of blocks");
        pretend_broken(Broken { address: bad + 5, size_log2: os_page.trailing_zeros() }).expect("a signal");
        // What this thread had lined up for its fast path lies there still; behind it comes nothing more.
        let more = on_slow(40_000, 256, 1 << 20);
        let late = more.iter().skip(20_000).filter(|block| block.extent() == first).count();
        assert_eq!(late, 0, "blocks in a bad extent");
        assert_eq!(quarantined(), EXTENT as u64);
        let hit = blocks.iter().filter(|block| matches!(block.read(), Err(ErrorKind::Poisoned { .. })));
        assert!(hit.inspect(|block| assert!(block.overlaps(bad, os_page))).count() >= os_page / 256);
        // The control: nothing is really broken, and a plain load knows nothing of it.
        assert!(blocks.iter().all(|block| block.words()[0] == block.word(0)));
    });
}

/// The links of free blocks lie in the blocks: those in bad memory must not be followed.
#[test]
fn free_blocks_in_bad_memory_are_left_alone() {
    with_faults("free_blocks_in_bad_memory_are_left_alone", POISON, || {
        for size in [64, 256, 2048] {
            // The first size meets the poison.
            let blocks = on_slow((4 * EXTENT + 64 * 1024) as u64 / size as u64, size, 1);
            let first = blocks.iter().map(Block::extent).min().expect("blocks");
            let os_page = tiermem::os_page_size();
            let bad = (first + BAD / os_page * os_page, os_page);
            // Every other block of the first extent: its spans have free blocks, also in the OS page that goes bad.
            let (freed, kept): (Vec<_>, Vec<_>) =
                blocks.into_iter().partition(|block| block.extent() == first && block.tag % 2 == 0);
            freed.into_iter().for_each(Block::free);
            // The poison comes here.
            let mut byte = [0];
            // SAFETY: the block is held.
            let _ = unsafe { read_guarded(kept[0].at, &mut byte) };
            let more = on_slow(3 * EXTENT as u64 / size as u64, size, 1 << 20);
            assert!(size > 64 || quarantined() == EXTENT as u64);
            for block in kept.iter().chain(&more) {
                if size > 64 || !block.overlaps(bad.0, bad.1) {
                    assert_eq!(block.read(), Ok(()));
                    block.free();
                }
            }
        }
        // Large blocks, too.
        let large = on_slow(6, 3 * MIB, 1);
        large.iter().for_each(|block| assert_eq!(block.read(), Ok(())));
        large.into_iter().for_each(Block::free);
    });
}

/// The extent that is poisoned is the one that the thread allocates from, in several classes, with free blocks lined up in
/// the very OS page: for a while `malloc` gave them out, and ended in SIGBUS when it read a link there.
#[test]
fn what_is_lined_up_in_bad_memory_is_not_given_out() {
    // All blocks lie in the first extent, and the poison where the first span of 64-byte blocks begins.
    let script = "poison at-op=2 extent=0 offset=0";
    with_faults("what_is_lined_up_in_bad_memory_is_not_given_out", script, || {
        let sizes = [64, 96, 256, 1024];
        let mut blocks: Vec<Block> = sizes.iter().flat_map(|&size| on_slow(40, size, 1)).collect();
        let first = blocks[0].extent();
        assert!(blocks.iter().all(|block| block.extent() == first), "more than one extent");
        // Lined up: the latest freed comes first.
        let kept = blocks.split_off(150);
        let bad = |block: &Block| block.overlaps(first, tiermem::os_page_size());
        assert!(blocks.iter().any(bad), "nothing lies where the poison comes");
        blocks.into_iter().for_each(Block::free);
        let mut byte = [0];
        // The tier's second operation brings the poison; this block itself is sound or not.
        // SAFETY: the block is held.
        let _ = unsafe { read_guarded(kept[0].at, &mut byte) };
        // SAFETY: as any memory of the arena, it is mapped.
        let poisoned = unsafe { read_guarded(first as *const u8, &mut byte) };
        assert!(matches!(poisoned.map_err(|error| error.kind()), Err(ErrorKind::Poisoned { .. })));
        for size in sizes {
            let more = on_slow(500, size, 1 << 20);
            assert!(more.iter().all(|block| block.extent() != first), "{size} bytes in a bad extent");
            more.iter().for_each(|block| assert_eq!(block.read(), Ok(())));
        }
    });
}

/// When the last block in a bad extent is freed, the tier gets it back, and keeps it out of use.
#[test]
fn an_emptied_bad_extent_goes_back_and_is_not_seen_again() {
    let script = "poison at-op=4 extent=0 offset=1048576";
    with_faults("an_emptied_bad_extent_goes_back_and_is_not_seen_again", script, || {
        let blocks = on_slow(3, EXTENT, 1);
        assert_eq!(blocks[1].read(), Ok(()));
        assert!(matches!(blocks[0].read(), Err(ErrorKind::Poisoned { offset: 1_048_576, .. })));
        let committed = || tiermem::statistics().tiers()[1].committed;
        let before = committed();
        // Freeing a large block does not touch it.
        blocks[0].free();
        assert_eq!(committed(), before - EXTENT as u64, "it did not go back");
        // The tier has 32 granules: one is out of use, two are held.
        let rest = on_slow(29, EXTENT, 100);
        assert!(rest.iter().all(|block| block.tier() == Some(1)));
        let spilled = scope(slow(), || Block::new(EXTENT, 200));
        assert_eq!(spilled.tier(), Some(0), "the bad granule was handed out again");
        assert_eq!(tiermem::fallbacks(slow()), 1);
        rest.iter().chain(&blocks[1..]).for_each(|block| assert_eq!(block.read(), Ok(())));
    });
}

#[test]
fn a_removed_tier_is_left_and_used_again_when_it_is_back() {
    // The third reserve finds it gone; the tier is asked again after a tenth of a second.
    let script = "remove at-op=3 for-ns=400000000";
    with_faults("a_removed_tier_is_left_and_used_again_when_it_is_back", script, || {
        let dram = Block::new(MIB, 1);
        let lost = on_slow(2, EXTENT, 2);
        let spilled = on_slow(3, EXTENT, 4);
        assert!(spilled.iter().all(|block| block.tier() == Some(0)), "placed on a tier that is gone");
        assert!(tiermem::fallbacks(slow()) > 0);
        assert!(lost.iter().all(|block| block.read() == Err(ErrorKind::Gone)));
        // SAFETY: the block is held.
        let write = unsafe { write_guarded(lost[0].at, &[1]) }.map_err(|error| error.kind());
        assert_eq!(write, Err(ErrorKind::Gone));
        spilled.iter().chain([&dram]).for_each(|block| assert_eq!(block.read(), Ok(())));
        std::thread::sleep(std::time::Duration::from_millis(600));
        let back = on_slow(2, EXTENT, 7);
        assert!(back.iter().all(|block| block.tier() == Some(1)), "the tier is back and not used");
        assert!(back.iter().all(|block| block.read() == Ok(())));
        assert!(lost.iter().all(|block| block.read() == Err(ErrorKind::Gone)), "what was lost stays lost");
        // Large blocks are freed without a touch.
        lost.into_iter().chain(back).for_each(Block::free);
    });
}

#[test]
fn a_full_tier_spills_and_is_used_again() {
    let script = "full at-op=2 for-ns=300000000;shrink at-op=4 to=4194304 for-ns=300000000";
    with_faults("a_full_tier_spills_and_is_used_again", script, || {
        let pause = || std::thread::sleep(std::time::Duration::from_millis(500));
        let tiers = |blocks: &[Block]| blocks.iter().map(Block::tier).collect::<Vec<_>>();
        let mut blocks = on_slow(2, EXTENT, 1);
        assert_eq!(tiers(&blocks), [Some(1), Some(0)]);
        pause();
        blocks.extend(on_slow(1, EXTENT, 3));
        assert_eq!(blocks[2].tier(), Some(1), "not full any more");
        blocks.extend(on_slow(1, EXTENT, 4));
        assert_eq!(blocks[3].tier(), Some(0), "shrunk to what is held");
        pause();
        blocks.extend(on_slow(1, EXTENT, 5));
        assert_eq!(blocks[4].tier(), Some(1));
        assert_eq!(tiermem::fallbacks(slow()), 2);
        blocks.iter().for_each(|block| assert_eq!(block.read(), Ok(())));
    });
}

/// The promise for a plain load: the program ends as with real hardware.
#[test]
fn a_plain_load_from_poison_is_a_bus_error() {
    let name = "a_plain_load_from_poison_is_a_bus_error";
    if is_child(name) {
        tiermem::start();
        let block = on_slow(1, EXTENT, 1)[0];
        // The tier's second operation brings the poison.
        assert!(block.read().is_err());
        println!("about to load");
        std::hint::black_box(block.words()[0]);
        println!("loaded");
        return;
    }
    let env = [
        ("TIERMEM_TIERS", "slow=dax-file:memfd,size=64M"),
        ("TIERMEM_FAULTS", "poison at-op=2 extent=0 offset=0"),
        ("TIERMEM_CONTROL_DIR", "/nowhere"),
    ];
    let (ended_well, said) = finish(&mut command(name, &env));
    assert!(!ended_well && said.contains("about to load") && !said.contains("\nloaded"), "{said}");
    assert!(said.contains("signal: 7"), "{said}");
}

/// Time brings the fault, although nothing happens on the tier.
#[test]
fn time_brings_poison_to_an_idle_tier() {
    let script = "seed=3;poison at-ns=200000000 extent=0 offset=4096";
    with_faults("time_brings_poison_to_an_idle_tier", script, || {
        let block = on_slow(1, EXTENT, 1)[0];
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(quarantined(), EXTENT as u64, "the allocator was not told");
        assert!(matches!(block.read(), Err(ErrorKind::Poisoned { .. })));
    });
}

#[test]
fn many_threads_lose_nothing_while_room_comes_and_goes() {
    let script = "seed=11;full probability=0.2 for-ops=3;shrink probability=0.1 to=16777216 for-ops=5";
    with_faults("many_threads_lose_nothing_while_room_comes_and_goes", script, || {
        std::thread::scope(|threads| {
            for thread in 0..4u64 {
                threads.spawn(move || {
                    let mut held: Vec<Block> = Vec::new();
                    for turn in 0..4000 * u64::from(scale()) {
                        let size = [48, 200, 1000, 40_000, 300_000][(turn % 5) as usize];
                        held.push(scope(slow(), || Block::new(size, thread << 32 | turn)));
                        if held.len() > 60 {
                            let block = held.swap_remove((turn * 31 % 60) as usize);
                            assert_eq!(block.read(), Ok(()));
                            block.free();
                        }
                    }
                    held.iter().for_each(|block| assert_eq!(block.read(), Ok(())));
                    held.into_iter().for_each(Block::free);
                });
            }
        });
        assert!(tiermem::fallbacks(slow()) > 0, "nothing was ever full");
    });
}

#[test]
fn a_bad_script_is_a_complaint_and_nothing_more() {
    let name = "a_bad_script_is_a_complaint_and_nothing_more";
    let env = [("TIERMEM_TIERS", "slow=dax-file:memfd,size=8M"), ("TIERMEM_FAULTS", "melt at-op=1")];
    let said = in_child(name, &env, || {
        tiermem::start();
        assert_eq!(on_slow(1, MIB, 1)[0].tier(), Some(1));
    });
    assert!(is_child(name) || said.contains("TIERMEM_FAULTS: `melt at-op=1`: unknown kind of fault"), "{said}");
}
