//! The CUDA back end on the double of the driver.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tiermem_tiers::provider::Obstacle;
use tiermem_tiers::provider::device::{self, DeviceClass};
use tiermem_tiers::{Bytes, ErrorKind, GRANULE, Health, Provenance, Source};

use crate::double::Double;
use crate::{a_child_of_fork_is_refused, contents, contract, reserve, spec};

const OUT_OF_MEMORY: i32 = 2;
const INVALID_VALUE: i32 = 1;

#[test]
fn the_double_keeps_the_contract() {
    let Some(double) = Double::new("the_double_keeps_the_contract") else { return };
    double.configure(1, Bytes::mib(32));
    // The whole device first, then a part of it.
    let whole = double.open(&spec("cuda:0", None)).unwrap();
    contract(&*whole, Bytes::mib(32));
    let capacity = whole.tier().attributes.capacity.unwrap();
    assert_eq!((capacity.value, capacity.source), (Bytes::mib(32), Source::Kernel));
    let part = double.open(&spec("cuda:0", Some(Bytes::mib(16)))).unwrap();
    contract(&*part, Bytes::mib(16));
    assert!(part.notice().unwrap().contains("not hardware"));
    assert_eq!(double.live(), 0, "released extents stay allocated on the device");
}

/// The check of zeroes must bite: new memory of the double is 0xA5 until the provider clears it.
#[test]
fn the_check_for_zeroes_sees_a_device_that_does_not_clear() {
    let Some(double) = Double::new("the_check_for_zeroes_sees_a_device_that_does_not_clear") else { return };
    double.ignore_memset();
    let provider = double.open(&spec("cuda:0", None)).unwrap();
    let extent = reserve(&*provider, GRANULE);
    assert!(contents(&*provider, &extent).iter().all(|&byte| byte == 0xA5));
    provider.release(extent).unwrap();
}

#[test]
fn sizes_and_devices_that_are_not_there_are_refused() {
    let Some(double) = Double::new("sizes_and_devices_that_are_not_there_are_refused") else { return };
    double.configure(2, Bytes::mib(32));
    let error = |location, size| double.open(&spec(location, size)).map(|_| ()).unwrap_err();
    assert!(error("cuda:0", Some(Bytes::mib(34))).to_string().contains("the device has 32 MiB only"));
    assert_eq!(error("cuda:2", None).obstacle(), Obstacle::Missing);
    assert_eq!(error("cuda:4294967295", None).obstacle(), Obstacle::Missing);
    assert!(double.open(&spec("cuda:1", Some(Bytes::mib(32)))).is_ok());
    assert_eq!(double.retained(), 0, "a refused tier keeps the device's context");
}

#[test]
fn the_usage_of_a_whole_device_counts_everybody() {
    let Some(double) = Double::new("the_usage_of_a_whole_device_counts_everybody") else { return };
    let whole = double.open(&spec("cuda:0", None)).unwrap();
    let part = double.open(&spec("cuda:0", Some(Bytes::mib(32)))).unwrap();
    let extent = reserve(&*whole, Bytes::mib(8));
    let other = reserve(&*part, Bytes::mib(4));
    assert_eq!(whole.usage().reserved, Bytes::mib(12));
    assert_eq!(part.usage().reserved, Bytes::mib(4));
    whole.release(extent).unwrap();
    part.release(other).unwrap();
}

#[test]
fn a_device_that_others_filled_is_full() {
    let Some(double) = Double::new("a_device_that_others_filled_is_full") else { return };
    let provider = double.open(&spec("cuda:0", None)).unwrap();
    double.fail("cuMemAlloc_v2", OUT_OF_MEMORY, 0, 1);
    let error = provider.reserve(GRANULE, Provenance::Tool).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full { wanted: GRANULE });
    assert_eq!((provider.health(), provider.usage().reserved), (Health::Good, Bytes::ZERO));
    provider.release(reserve(&*provider, GRANULE)).unwrap();
}

#[test]
fn an_extent_that_cannot_be_cleared_is_given_back() {
    let Some(double) = Double::new("an_extent_that_cannot_be_cleared_is_given_back") else { return };
    let provider = double.open(&spec("cuda:0", None)).unwrap();
    for call in ["cuMemsetD8_v2", "cuStreamSynchronize"] {
        double.fail(call, INVALID_VALUE, 0, 1);
        let error = provider.reserve(GRANULE, Provenance::Tool).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Runtime { call, status: "CUDA_ERROR_INVALID_VALUE" });
        assert_eq!((double.live(), provider.usage().reserved), (0, Bytes::ZERO), "{call}");
    }
}

#[test]
fn a_failed_copy_names_the_call_and_harms_nothing_else() {
    let Some(double) = Double::new("a_failed_copy_names_the_call_and_harms_nothing_else") else { return };
    let provider = double.open(&spec("cuda:0", None)).unwrap();
    let extent = reserve(&*provider, GRANULE);
    provider.write(&extent, 0, b"before").unwrap();
    double.fail("cuMemcpyHtoD_v2", INVALID_VALUE, 0, 1);
    let error = provider.write(&extent, 0, b"failed").unwrap_err();
    assert_eq!(error.to_string(), "tier gpu: cuMemcpyHtoD_v2 failed: CUDA_ERROR_INVALID_VALUE");
    double.fail("cuMemcpyDtoH_v2", 12345, 0, 1);
    let error = provider.read(&extent, 0, &mut [0; 6]).unwrap_err();
    assert!(error.to_string().contains("a status that the driver has no name for"), "{error}");
    let mut bytes = [0; 6];
    provider.read(&extent, 0, &mut bytes).unwrap();
    assert_eq!((&bytes, provider.health()), (b"before", Health::Good));
    assert_eq!(double.depth(), 0, "a failed call leaves its context on the thread");
    provider.release(extent).unwrap();
}

#[test]
fn a_lost_device_is_gone_for_good() {
    // Unavailable, uncorrectable ECC error, kernel crash in the same context, unknown.
    for status in [46, 214, 719, 999] {
        for call in ["cuMemcpyDtoH_v2", "cuMemcpyHtoD_v2", "cuMemAlloc_v2", "cuCtxPushCurrent_v2"] {
            let Some(double) = Double::new("a_lost_device_is_gone_for_good") else { return };
            let provider = double.open(&spec("cuda:0", None)).unwrap();
            let (first, second) = (reserve(&*provider, GRANULE), reserve(&*provider, GRANULE));
            double.fail(call, status, 0, 1);
            // Whichever meets the fault is told, and so is everyone after it, although the double works again.
            let results = [
                provider.reserve(GRANULE, Provenance::Tool).map(|extent| provider.release(extent).unwrap()),
                provider.write(&first, 0, &[1]),
                provider.read(&first, 0, &mut [0]),
            ];
            let met = results.iter().position(Result::is_err).expect(call);
            for result in &results[met..] {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Gone, "{call} {status}");
                assert_eq!(error.tier().unwrap().as_str(), "gpu");
            }
            assert_eq!(provider.health(), Health::Failed);
            // A program that cleans up after itself is not stopped from doing so.
            provider.release(first).unwrap();
            drop((provider, second));
            assert_eq!((double.live(), double.retained()), (0, 0));
        }
    }
}

#[test]
fn a_closed_device_leaves_nothing_behind() {
    let Some(double) = Double::new("a_closed_device_leaves_nothing_behind") else { return };
    let provider = double.open(&spec("cuda:0", None)).unwrap();
    let (_leaked, _also) = (reserve(&*provider, GRANULE), reserve(&*provider, GRANULE));
    assert_eq!((double.live(), double.retained()), (2, 1));
    drop(provider);
    assert_eq!((double.live(), double.retained(), double.depth()), (0, 0, 0));
}

#[test]
fn a_device_that_stays_dead_can_still_be_closed() {
    let Some(double) = Double::new("a_device_that_stays_dead_can_still_be_closed") else { return };
    let provider = double.open(&spec("cuda:0", None)).unwrap();
    let (first, _leaked) = (reserve(&*provider, GRANULE), reserve(&*provider, GRANULE));
    double.fail("cuCtxPushCurrent_v2", 46, 0, -1);
    assert_eq!(provider.release(first).unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(provider.health(), Health::Failed);
    assert_eq!(provider.usage().reserved, Bytes::mib(4), "space that could not be given back is not free");
    drop(provider);
    assert_eq!((double.live(), double.retained(), double.depth()), (2, 0, 0));
}

/// Writers and readers of one extent through shared references: every read must see one write as a whole,
/// also where it crosses from one granule into the next.
#[test]
fn copies_of_one_extent_do_not_mix() {
    const ACROSS: u64 = 3 << 19;
    let Some(double) = Double::new("copies_of_one_extent_do_not_mix") else { return };
    for provider in [double.open(&spec("cuda:0", None)).unwrap(), crate::open("emulated", Bytes::mib(4))] {
        let extent = reserve(&*provider, Bytes::mib(4));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for byte in 0..200_u8 {
                    provider.write(&extent, ACROSS, &vec![byte; 1 << 20]).unwrap();
                }
                done.store(true, Ordering::Release);
            });
            scope.spawn(|| {
                let mut bytes = vec![0; 1 << 20];
                while !done.load(Ordering::Acquire) {
                    provider.read(&extent, ACROSS, &mut bytes).unwrap();
                    assert!(bytes.iter().all(|&byte| byte == bytes[0]), "a read saw two writes");
                }
            });
        });
        provider.release(extent).unwrap();
    }
}

#[test]
fn a_child_of_fork_never_calls_the_driver() {
    let Some(double) = Double::new("a_child_of_fork_never_calls_the_driver") else { return };
    let provider = double.open(&spec("cuda:0", None)).unwrap();
    let extent = reserve(&*provider, GRANULE);
    let calls = double.call_counter();
    let before = calls();
    let untouched = crate::in_child(|| {
        let _ = (provider.read(&extent, 0, &mut [0]), provider.usage(), provider.health());
        calls() == before
    });
    assert!(untouched);
    // The counter does count: the parent's calls show.
    provider.read(&extent, 0, &mut [0]).unwrap();
    assert!(calls() > before);
    provider.release(extent).unwrap();
    a_child_of_fork_is_refused(provider);
}

#[test]
fn a_double_is_described_as_one() {
    let Some(double) = Double::new("a_double_is_described_as_one") else { return };
    double.configure(2, Bytes::mib(32));
    // SAFETY: the double has the driver's C ABI.
    let status = unsafe { device::double::runtime(double.path()) };
    assert_eq!((status.absent, status.problems), (None, vec![]));
    let [first, second] = &status.devices[..] else { panic!("{:?}", status.devices) };
    assert!(first.double && second.double);
    assert_eq!((first.location.to_string(), second.location.to_string()), ("cuda:0".into(), "cuda:1".into()));
    assert_eq!((first.name.as_str(), first.class, first.memory), ("Test double 0", DeviceClass::Gpu, Bytes::mib(32)));
    assert_eq!((second.pci.as_deref(), second.driver.as_str()), (Some("0000:a1:00.0"), "CUDA 12.8"));
}

#[test]
fn a_device_that_cannot_be_described_does_not_hide_the_others() {
    let Some(double) = Double::new("a_device_that_cannot_be_described_does_not_hide_the_others") else { return };
    double.configure(2, Bytes::mib(32));
    double.fail("cuDeviceTotalMem_v2", INVALID_VALUE, 0, 1);
    // SAFETY: the double has the driver's C ABI.
    let status = unsafe { device::double::runtime(double.path()) };
    assert_eq!(status.devices.len(), 1);
    assert_eq!(status.problems, ["cuda:0: cuDeviceTotalMem_v2 failed: CUDA_ERROR_INVALID_VALUE"]);
}
