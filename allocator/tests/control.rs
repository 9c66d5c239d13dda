//! The control segment: what is published can be read, and what cannot be read is refused with its reason.

#![expect(unsafe_code, reason = "tests use raw memory")]

mod child;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use child::{command, finish, in_child, is_child};
use tiermem::api;
use tiermem::control::{AttachError, Attachment, EventKind, Snapshot, event, layout, publish};

const MIB: usize = 1 << 20;

/// Runs `body` in a process that publishes into a directory of its own, and then `after` here with its segment.
fn with_segment(name: &str, body: impl FnOnce(&Path), after: impl FnOnce(&Path)) {
    if is_child(name) {
        let directory = PathBuf::from(std::env::var_os("TIERMEM_CONTROL_DIR").expect("set by the parent"));
        return in_child_body(|| body(&directory.join(std::process::id().to_string())));
    }
    let directory = std::env::temp_dir().join(format!("tiermem-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.to_string_lossy().into_owned();
    let env = [("TIERMEM_CONTROL_DIR", path.as_str()), ("TIERMEM_TIERS", "slow=dax-file:memfd,size=64M")];
    let (ended_well, said) = finish(&mut command(name, &env));
    assert!(ended_well, "{said}");
    let segments: Vec<_> = std::fs::read_dir(&directory).expect("list").flatten().map(|entry| entry.path()).collect();
    assert_eq!(segments.len(), 1, "{segments:?}");
    after(&segments[0]);
    std::fs::remove_dir_all(directory).expect("remove the directory");
}

fn in_child_body(body: impl FnOnce()) {
    tiermem::start();
    body();
}

fn read(path: &Path) -> Snapshot {
    Attachment::open(path).expect("attach").read().expect("read")
}

fn refusal(path: &Path) -> String {
    match Attachment::open(path) {
        Err(AttachError::Unknown { reason }) => reason.to_owned(),
        other => format!("{other:?}"),
    }
}

fn class(snapshot: &Snapshot, block_size: u64) -> Vec<u64> {
    let found = snapshot.size_classes.iter().find(|class| class.block_size == block_size);
    found.map(|class| class.live.clone()).unwrap_or_default()
}

#[test]
fn what_is_published_is_read() {
    let name = "what_is_published_is_read";
    let body = |segment: &Path| {
        let blocks: Vec<_> = (0..1000).map(|_| api::allocate(112)).collect();
        let slow = tiermem::tier("slow").expect("slow");
        let large = tiermem::scope(slow, || api::allocate(3 * MIB));
        publish();
        let now = read(segment);
        assert_eq!((now.pid, now.ended), (std::process::id(), false));
        assert_eq!(now.tiers.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["dram", "slow"]);
        assert_eq!((class(&now, 112), class(&now, 0)), (vec![1000, 0], vec![0, 1]));
        assert!(now.tiers[1].live as usize == 3 * MIB && now.tiers[1].committed as usize == 4 * MIB);
        for at in blocks.into_iter().chain([large]) {
            // SAFETY: freed once.
            unsafe { api::free(at) };
        }
        publish();
        let now = read(segment);
        assert_eq!((now.tiers[0].live, now.tiers[1].live), (0, 0));
        tiermem::startup::finish();
    };
    with_segment(name, body, |segment| {
        let end = read(segment);
        assert!(end.ended);
        assert!(end.tiers[0].allocations >= 1000 && end.tiers[0].frees == end.tiers[0].allocations);
        assert_eq!((end.tiers[1].allocations, end.tiers[1].live), (1, 0));
        assert!(end.events.iter().any(|event| event.kind == EventKind::Started));
        assert!(!end.modules.is_empty(), "sampled, so the modules are listed");
    });
}

#[test]
fn events_alike_are_folded() {
    let body = |segment: &Path| {
        // The first may be entered on its own; the rest of the same second go into one entry with it.
        (0..500).for_each(|_| event(EventKind::Spilled, Some(1), 10));
        event(EventKind::Spilled, Some(0), 7);
        publish();
        let now = read(segment);
        let spilled = |tier| now.events.iter().filter(move |e| e.kind == EventKind::Spilled && e.tier == Some(tier));
        let sums = |tier| spilled(tier).fold((0, 0), |(count, bytes), e| (count + e.count, bytes + e.bytes));
        assert_eq!((sums(1), sums(0)), ((500, 5000), (1, 7)), "{:?}", now.events);
        assert!(spilled(1).count() <= 3, "500 events in {} entries", spilled(1).count());
        let serials: Vec<_> = now.events.iter().map(|event| event.at_ms).collect();
        assert!(serials.is_sorted(), "oldest first: {serials:?}");
        assert_eq!(now.events_total as usize, now.events.len());
    };
    with_segment("events_alike_are_folded", body, |_| {});
}

/// Every kind has its number in the segment; the reader knows them all.
#[test]
fn every_event_is_read_as_what_it_is() {
    use EventKind as K;
    const KINDS: [K; 10] = [
        K::Spilled,
        K::Full,
        K::Failed,
        K::TierMissing,
        K::Forked,
        K::Returned,
        K::OutOfMemory,
        K::Policy,
        K::ForeignFree,
        K::Misuse,
    ];
    let body = |segment: &Path| {
        KINDS.into_iter().for_each(|kind| event(kind, None, kind as u64));
        publish();
        let events = read(segment).events;
        for kind in KINDS {
            assert!(events.iter().any(|e| e.kind == kind && e.bytes == kind as u64 && e.tier.is_none()), "{kind:?}");
        }
    };
    with_segment("every_event_is_read_as_what_it_is", body, |_| {});
}

fn overwrite(path: &Path, offset: usize, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).expect("open the copy");
    file.write_all_at(bytes, offset as u64).expect("write to the copy");
}

#[test]
fn damaged_segments_are_refused_and_half_written_ones_are_read() {
    use std::mem::offset_of;
    let name = "damaged_segments_are_refused_and_half_written_ones_are_read";
    let body = |_: &Path| publish();
    with_segment(name, body, |segment| {
        let copy = segment.with_extension("copy");
        let damaged = |offset: usize, bytes: &[u8]| {
            std::fs::copy(segment, &copy).expect("copy");
            overwrite(&copy, offset, bytes);
            refusal(&copy)
        };
        let version = (layout::VERSION + 1).to_le_bytes();
        assert!(damaged(offset_of!(layout::Header, magic), b"no magic").contains("no segment"));
        assert!(damaged(offset_of!(layout::Header, version), &version).contains("another version"));
        assert!(damaged(offset_of!(layout::Header, pid), &[0xFF; 4]).contains("damaged"));
        assert!(damaged(offset_of!(layout::Header, checksum), &[0xFF; 4]).contains("damaged"));
        for length in [0, 100, layout::SIZE as u64 - 1, layout::SIZE as u64 + 1] {
            std::fs::copy(segment, &copy).expect("copy");
            std::fs::File::options().write(true).open(&copy).and_then(|f| f.set_len(length)).expect("resize");
            assert!(refusal(&copy).contains("length"), "{length} bytes");
        }
        assert!(matches!(Attachment::open(&segment.with_extension("gone")), Err(AttachError::NotFound)));
        // A publisher that was killed in the middle: its number stays odd, and what is there is shown.
        std::fs::copy(segment, &copy).expect("copy");
        overwrite(&copy, offset_of!(layout::Header, sequence), &101u32.to_le_bytes());
        assert_eq!(read(&copy).tiers.len(), 2);
        // Counts beyond what a segment holds lead nowhere.
        overwrite(&copy, offset_of!(layout::Header, tier_count), &u32::MAX.to_le_bytes());
        overwrite(&copy, offset_of!(layout::Header, modules_len), &u64::MAX.to_le_bytes());
        assert_eq!(read(&copy).tiers.len(), tiermem::tier_count().max(8));
    });
}

/// A reader that looks again and again while the figures change never sees a mixture: live is what its two parts are.
#[test]
fn a_reader_beside_a_writer_sees_one_moment() {
    let name = "a_reader_beside_a_writer_sees_one_moment";
    in_child(name, &[("TIERMEM_CONTROL_DIR", "/dev/shm")], || {
        tiermem::start();
        let path = Path::new("/dev/shm").join(std::process::id().to_string());
        let segment = Attachment::open(&path).expect("attach");
        std::fs::remove_file(&path).expect("remove the segment");
        let done = tiermem_sys::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..300 {
                    let blocks: Vec<_> = (0..50).map(|i| api::allocate(i * 40)).collect();
                    publish();
                    // SAFETY: freed once.
                    blocks.into_iter().for_each(|at| unsafe { api::free(at) });
                    publish();
                }
                done.store(true, tiermem_sys::sync::atomic::Ordering::Release);
            });
            while !done.load(tiermem_sys::sync::atomic::Ordering::Acquire) {
                // "Change faster than they can be read" is an honest answer.
                let Ok(now) = segment.read() else { continue };
                for (i, tier) in now.tiers.iter().enumerate() {
                    let live: u64 = now.size_classes.iter().map(|class| class.live_bytes[i]).sum();
                    assert_eq!(tier.live, live, "a mixture of two moments");
                }
            }
        });
    });
}
