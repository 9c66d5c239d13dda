//! Large copies of the CUDA back end, which go through pinned memory in pieces, on the double of the driver.

use std::thread;

use tiermem_tiers::{Bytes, ErrorKind, GRANULE, Health, Provenance};

use crate::double::Double;
use crate::{contents, pattern, reserve, spec};

const OUT_OF_MEMORY: i32 = 2;
const INVALID_VALUE: i32 = 1;

/// Lengths around the pieces' ends, at offsets that are not aligned to anything.
#[test]
fn large_copies_of_any_length_arrive_whole() {
    let Some(double) = Double::new("large_copies_of_any_length_arrive_whole") else { return };
    let provider = double.open(&spec("cuda:0", None)).unwrap();
    let extent = reserve(&*provider, Bytes::mib(4));
    let mut expected = vec![0_u8; 4 << 20];
    const PIECE: usize = 1 << 20;
    let lengths = [PIECE / 4, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 3, 3 * PIECE + 77];
    for (turn, len) in lengths.into_iter().enumerate() {
        let offset = turn * 70_001 + 13;
        let bytes = pattern(turn as u64, len);
        provider.write(&extent, offset as u64, &bytes).unwrap();
        expected[offset..offset + len].copy_from_slice(&bytes);
        let mut back = vec![0xEE; len];
        provider.read(&extent, offset as u64, &mut back).unwrap();
        assert!(back == bytes, "{len} bytes at {offset} came back changed");
        assert!(contents(&*provider, &extent) == expected, "{len} bytes at {offset} changed others");
    }
    assert!(double.staged() > 15, "nothing went through pinned memory");
    let before = double.staged();
    provider.write(&extent, 0, &[1; 4096]).unwrap();
    assert_eq!(double.staged(), before, "a small copy was staged");
    provider.release(extent).unwrap();
    drop(provider);
    assert_eq!((double.pinned(), double.depth()), (0, 0), "what was made for staging stays behind");
}

/// More threads than there are lanes: each waits for its turn, and nobody gets another's bytes.
#[test]
fn many_threads_share_the_lanes() {
    let Some(double) = Double::new("many_threads_share_the_lanes") else { return };
    let provider = double.open(&spec("cuda:0", None)).unwrap();
    thread::scope(|scope| {
        for number in 0..20_u64 {
            let provider = &*provider;
            scope.spawn(move || {
                let extent = reserve(provider, GRANULE);
                for turn in 0..10 {
                    let bytes = pattern(number << 8 | turn, 3 << 19);
                    provider.write(&extent, 4096, &bytes).unwrap();
                    let mut back = vec![0; 3 << 19];
                    provider.read(&extent, 4096, &mut back).unwrap();
                    assert!(back == bytes, "thread {number} read another's bytes");
                }
                provider.release(extent).unwrap();
            });
        }
    });
    drop(provider);
    assert_eq!((double.pinned(), double.live()), (0, 0));
}

#[test]
fn a_copy_that_fails_in_the_middle_harms_no_later_one() {
    let Some(double) = Double::new("a_copy_that_fails_in_the_middle_harms_no_later_one") else { return };
    let provider = double.open(&spec("cuda:0", None)).unwrap();
    let extent = reserve(&*provider, Bytes::mib(4));
    let good = pattern(7, 4 << 20);
    for (call, status) in [("cuMemcpyHtoDAsync_v2", INVALID_VALUE), ("cuEventRecord", INVALID_VALUE)] {
        double.fail(call, status, 2, 1);
        let error = provider.write(&extent, 0, &pattern(8, 4 << 20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Runtime { call, status: "CUDA_ERROR_INVALID_VALUE" });
        provider.write(&extent, 0, &good).unwrap();
        assert!(contents(&*provider, &extent) == good);
    }
    for call in ["cuMemcpyDtoHAsync_v2", "cuEventSynchronize"] {
        double.fail(call, INVALID_VALUE, 1, 1);
        let error = provider.read(&extent, 0, &mut vec![0; 4 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Runtime { call, status: "CUDA_ERROR_INVALID_VALUE" });
        assert!(contents(&*provider, &extent) == good);
    }
    double.fail("cuMemcpyHtoDAsync_v2", 719, 0, 1);
    assert_eq!(provider.write(&extent, 0, &good).unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(provider.health(), Health::Failed);
    provider.release(extent).unwrap();
    drop(provider);
    assert_eq!((double.pinned(), double.live(), double.retained(), double.depth()), (0, 0, 0, 0));
}

/// A host that pins nothing: copies work without, and the tier says so.
#[test]
fn without_pinned_memory_copies_are_slow_and_say_so() {
    let Some(double) = Double::new("without_pinned_memory_copies_are_slow_and_say_so") else { return };
    let provider = double.open(&spec("cuda:0", None)).unwrap();
    let extent = provider.reserve(GRANULE, Provenance::Tool).unwrap();
    double.fail("cuMemHostAlloc", OUT_OF_MEMORY, 0, -1);
    let bytes = pattern(3, 1 << 20);
    provider.write(&extent, 0, &bytes).unwrap();
    let mut back = vec![0; 1 << 20];
    provider.read(&extent, 0, &mut back).unwrap();
    assert!(back == bytes && double.staged() == 0);
    assert_eq!(double.pinned(), 0, "half a lane stays behind");
    assert!(provider.notice().unwrap().contains("would not pin memory"));
    provider.release(extent).unwrap();
}

/// A host that pins little: two buffers, then no more. Threads take turns with the one lane.
#[test]
fn one_lane_serves_many_threads() {
    let Some(double) = Double::new("one_lane_serves_many_threads") else { return };
    let provider = double.open(&spec("cuda:0", None)).unwrap();
    double.fail("cuMemHostAlloc", OUT_OF_MEMORY, 2, -1);
    thread::scope(|scope| {
        for number in 0..4_u64 {
            let provider = &*provider;
            scope.spawn(move || {
                let extent = reserve(provider, GRANULE);
                for turn in 0..8 {
                    let bytes = pattern(number << 8 | turn, 2 << 20);
                    provider.write(&extent, 0, &bytes).unwrap();
                    assert!(contents(provider, &extent) == bytes);
                }
                provider.release(extent).unwrap();
            });
        }
    });
    assert!(double.staged() > 0);
}
