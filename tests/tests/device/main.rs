//! The device provider on its three back ends: CUDA on a test double of the driver (and on a real device where there
//! is one), OpenCL on whatever platform is installed, and the emulated device.

#![expect(unsafe_code, reason = "loads a test double, forks")]
#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

mod cuda;
mod double;
mod listing;
mod staging;

use std::thread;

use tiermem_tiers::provider::device::{self, Location, Runtime};
use tiermem_tiers::provider::{self, Obstacle};
use tiermem_tiers::{
    Access, Bytes, ErrorKind, Extent, GRANULE, Health, Provenance, Provider, TierId, TierKind, TierSpec,
};

/// `gpu=device:LOCATION[,size=SIZE]`.
fn spec(location: &str, size: Option<Bytes>) -> TierSpec {
    let size = size.map_or_else(String::new, |size| format!(",size={}", size.0));
    format!("gpu=device:{location}{size}").parse().unwrap()
}

fn open(location: &str, size: Bytes) -> Box<dyn Provider> {
    provider::open(&spec(location, Some(size)), TierId(0)).unwrap()
}

/// The location of a runtime's first device; `None`, said loudly, if it has none.
fn first_device(runtime: Runtime, test: &str) -> Option<String> {
    let status = device::runtimes().into_iter().find(|status| status.runtime == runtime)?;
    match status.devices.first() {
        Some(found) => Some(found.location.to_string()),
        None => {
            let why = status.absent.unwrap_or_else(|| "it has no device".into());
            eprintln!("SKIP {test}: {runtime}: {why}");
            None
        }
    }
}

fn reserve(provider: &dyn Provider, len: Bytes) -> Extent {
    provider.reserve(len, Provenance::Tool).unwrap()
}

fn contents(provider: &dyn Provider, extent: &Extent) -> Vec<u8> {
    let mut bytes = vec![0xEE; usize::try_from(extent.len().0).unwrap()];
    provider.read(extent, 0, &mut bytes).unwrap();
    bytes
}

/// Bytes that differ from extent to extent and from place to place.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// What every back end must do. `capacity` is the tier's, a multiple of a granule and at least four of them.
fn contract(provider: &dyn Provider, capacity: Bytes) {
    assert!(matches!(provider.access(), Access::Copy { unit } if unit.0.is_power_of_two()));
    assert!(provider.addressable().is_none());
    assert_eq!(provider.usage().capacity, capacity);
    assert_eq!(provider.health(), Health::Good);
    new_extents_are_zeroed_and_keep_their_bytes(provider);
    ranges_are_checked(provider);
    a_full_tier_says_so_and_recovers(provider, capacity);
    threads_keep_their_extents_apart(provider);
    assert_eq!(provider.health(), Health::Good, "none of the errors above is the device's fault");
}

fn new_extents_are_zeroed_and_keep_their_bytes(provider: &dyn Provider) {
    let before = provider.usage().reserved;
    let (small, large) = (reserve(provider, GRANULE), reserve(provider, Bytes::mib(4)));
    assert_eq!(provider.usage().reserved, Bytes(before.0 + Bytes::mib(6).0));
    assert_eq!((small.address(), large.address()), (None, None), "the CPU cannot address a device");
    for extent in [&small, &large] {
        assert!(contents(provider, extent).iter().all(|&byte| byte == 0), "a new extent is not zeroed");
    }
    let (a, b) = (pattern(1, 2 << 20), pattern(2, 4 << 20));
    provider.write(&small, 0, &a).unwrap();
    provider.write(&large, 0, &b).unwrap();
    assert_eq!((contents(provider, &small), contents(provider, &large)), (a, b));
    // Odd offsets and lengths, across the first granule's end.
    let piece = pattern(3, 4099);
    provider.write(&large, (2 << 20) - 1001, &piece).unwrap();
    let mut back = vec![0; 4099];
    provider.read(&large, (2 << 20) - 1001, &mut back).unwrap();
    assert_eq!(back, piece);
    // What is handed out again shows nothing of its last holder.
    provider.release(small).unwrap();
    let again = reserve(provider, GRANULE);
    assert!(contents(provider, &again).iter().all(|&byte| byte == 0), "old contents show through");
    provider.release(again).unwrap();
    provider.release(large).unwrap();
    assert_eq!(provider.usage().reserved, before);
}

fn ranges_are_checked(provider: &dyn Provider) {
    for len in [0, 1, GRANULE.0 - 1, GRANULE.0 + 4096] {
        let error = provider.reserve(Bytes(len), Provenance::Tool).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unsuitable { .. }), "{len}: {error}");
        assert_eq!(error.tier(), Some(provider.tier().name));
    }
    let extent = reserve(provider, GRANULE);
    for (offset, len) in [(GRANULE.0, 1), (GRANULE.0 - 1, 2), (u64::MAX, 1), (0, (2 << 20) + 1)] {
        let mut bytes = vec![0; len];
        assert_eq!(provider.read(&extent, offset, &mut bytes).unwrap_err().kind(), ErrorKind::OutOfRange);
        assert_eq!(provider.write(&extent, offset, &bytes).unwrap_err().kind(), ErrorKind::OutOfRange);
    }
    provider.read(&extent, GRANULE.0, &mut []).unwrap();
    provider.write(&extent, GRANULE.0, &[]).unwrap();
    provider.release(extent).unwrap();
}

fn a_full_tier_says_so_and_recovers(provider: &dyn Provider, capacity: Bytes) {
    let mut held: Vec<Extent> = (0..capacity.0 / GRANULE.0).map(|_| reserve(provider, GRANULE)).collect();
    assert_eq!(provider.usage().reserved, capacity);
    let error = provider.reserve(GRANULE, Provenance::Tool).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full { wanted: GRANULE });
    assert!(error.is_fallback_worthy());
    provider.release(held.pop().unwrap()).unwrap();
    held.push(reserve(provider, GRANULE));
    for extent in held {
        provider.release(extent).unwrap();
    }
    // More than there could ever be, and more than fits a pointer with its end.
    for len in [capacity.0 + GRANULE.0, 1 << 62, u64::MAX - (GRANULE.0 - 1)] {
        let error = provider.reserve(Bytes(len), Provenance::Tool).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full { wanted: Bytes(len) });
    }
}

fn threads_keep_their_extents_apart(provider: &dyn Provider) {
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                for round in 0..5 {
                    let extent = match provider.reserve(GRANULE, Provenance::Tool) {
                        Ok(extent) => extent,
                        Err(error) => panic!("thread {thread}: {error}"),
                    };
                    let bytes = pattern(thread * 100 + round, 2 << 20);
                    provider.write(&extent, 0, &bytes).unwrap();
                    assert!(contents(provider, &extent) == bytes, "thread {thread} reads another's bytes");
                    provider.release(extent).unwrap();
                }
            });
        }
    });
}

unsafe extern "C" {
    fn fork() -> i32;
    fn alarm(seconds: u32) -> u32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(status: i32) -> !;
}

/// Runs `child` in a child of fork, where only what is safe there may be called, and returns its answer.
fn in_child(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child only calls `child` and ends without running exit handlers.
    let pid = unsafe { fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        // A call that reaches the runtime may hang: the alarm then ends the child, which is a failure.
        // SAFETY: takes no pointers.
        unsafe { alarm(20) };
        let good = child();
        // SAFETY: ends the child.
        unsafe { _exit(i32::from(!good)) };
    }
    let mut status = -1;
    // SAFETY: the child is ours; `status` is a valid place.
    assert_eq!(unsafe { waitpid(pid, &raw mut status, 0) }, pid);
    status == 0
}

/// In a child the tier is gone (a call into a runtime would hang there, its threads being the parent's); the parent
/// goes on as before.
fn a_child_of_fork_is_refused(provider: Box<dyn Provider>) {
    let extent = reserve(&*provider, GRANULE);
    provider.write(&extent, 0, b"parent").unwrap();
    // A second owner of the same box, so that the child can drop it too; each process drops it once.
    let mut slot = Some(provider);
    let refused = in_child(|| {
        let Some(provider) = slot.take() else { return false };
        let gone = |result: Result<(), tiermem_tiers::Error>| matches!(result, Err(e) if e.kind() == ErrorKind::Gone);
        let mut bytes = [0; 6];
        let all = gone(provider.read(&extent, 0, &mut bytes))
            && gone(provider.write(&extent, 0, b"child!"))
            && gone(provider.reserve(GRANULE, Provenance::Tool).map(drop))
            && provider.health() == Health::Failed
            && provider.usage().reserved == GRANULE;
        drop(provider);
        all
    });
    assert!(refused);
    let provider = slot.take().unwrap();
    let mut bytes = [0; 6];
    provider.read(&extent, 0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"parent");
    assert_eq!(provider.health(), Health::Good);
    provider.release(extent).unwrap();
}

#[test]
fn the_emulated_device_keeps_the_contract() {
    let provider = open("emulated", Bytes::mib(16));
    contract(&*provider, Bytes::mib(16));
    assert!(provider.notice().unwrap().contains("emulated"), "it must not pass for hardware");
}

#[test]
fn the_emulated_device_is_refused_to_a_child_of_fork() {
    a_child_of_fork_is_refused(open("emulated", Bytes::mib(16)));
}

#[test]
fn an_opencl_device_keeps_the_contract() {
    let Some(location) = first_device(Runtime::OpenCl, "an_opencl_device_keeps_the_contract") else { return };
    contract(&*open(&location, Bytes::mib(16)), Bytes::mib(16));
}

#[test]
fn an_opencl_device_is_refused_to_a_child_of_fork() {
    let Some(location) = first_device(Runtime::OpenCl, "an_opencl_device_is_refused_to_a_child_of_fork") else {
        return;
    };
    a_child_of_fork_is_refused(open(&location, Bytes::mib(16)));
}

/// The runtime's own refusal. PoCL with a limit of 1 GiB allows a quarter of it in one buffer; the limit is read when
/// it starts, hence a process of its own. (What other contexts use, PoCL 3.1 does not count.)
#[test]
fn a_buffer_that_opencl_refuses_is_full() {
    let test = "a_buffer_that_opencl_refuses_is_full";
    if let Some(location) = std::env::var_os("TIERMEM_TEST_OPENCL_LOCATION") {
        return ask_too_much_of_a_small_device(location.to_str().unwrap());
    }
    let Some(found) = device::enumerate().into_iter().find(|found| found.driver.starts_with("Portable Computing"))
    else {
        return eprintln!("SKIP {test}: no PoCL, the only OpenCL whose size can be limited");
    };
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("POCL_MEMORY_LIMIT", "1")
        .env("TIERMEM_TEST_OPENCL_LOCATION", found.location.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{}: {text}", child.status);
}

fn ask_too_much_of_a_small_device(location: &str) {
    let provider = device::open(&spec(location, None), TierId(0)).unwrap();
    assert_eq!(provider.usage().capacity, Bytes::gib(1), "the limit has no effect");
    let error = provider.reserve(Bytes::mib(512), Provenance::Tool).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full { wanted: Bytes::mib(512) }, "{error}");
    assert_eq!((provider.usage().reserved, provider.health()), (Bytes::ZERO, Health::Good));
    provider.release(reserve(&*provider, GRANULE)).unwrap();
}

#[test]
fn a_real_cuda_device_keeps_the_contract() {
    let Some(location) = first_device(Runtime::Cuda, "a_real_cuda_device_keeps_the_contract") else { return };
    contract(&*open(&location, Bytes::mib(16)), Bytes::mib(16));
}

#[test]
fn opencl_devices_that_are_not_there_are_not_found() {
    let test = "opencl_devices_that_are_not_there_are_not_found";
    let Some(_) = first_device(Runtime::OpenCl, test) else { return };
    for (platform, device) in [(99, 0), (0, 99)] {
        let location = Location::OpenCl { platform, device }.to_string();
        let error = device::open(&spec(&location, None), TierId(0)).map(|_| ()).unwrap_err();
        assert_eq!(error.obstacle(), Obstacle::Missing, "{error}");
    }
}

#[test]
fn bad_specs_are_refused_in_words() {
    let wrong_kind = TierSpec { kind: TierKind::Dram, ..spec("emulated", Some(GRANULE)) };
    for (spec, obstacle, advice) in [
        (spec("emulated", None), Obstacle::BadSize, "needs a size"),
        (spec("emulated", Some(Bytes::kib(64))), Obstacle::BadSize, "at least 2M"),
        (spec("cuda", None), Obstacle::Unsuitable, "cuda:N"),
        (spec("rocm:0", None), Obstacle::Unsuitable, "cuda:N"),
        (wrong_kind, Obstacle::Unsuitable, "not of kind `device`"),
    ] {
        let error = device::open(&spec, TierId(0)).map(|_| ()).unwrap_err();
        assert_eq!(error.obstacle(), obstacle, "{error}");
        assert!(error.to_string().contains(advice), "{error}");
    }
}
