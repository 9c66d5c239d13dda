//! What `tierctl list` is told: hardware as it is, and never a test double.

use std::process::Command;

use tiermem_tiers::TierId;
use tiermem_tiers::provider::Obstacle;
use tiermem_tiers::provider::device::{self, DeviceClass, Runtime};

use crate::double::Double;
use crate::{first_device, spec};

/// Set in the processes that tests start of themselves.
const CHILD: &str = "TIERMEM_TEST_LIST_DEVICES";

/// A double is put where the dynamic linker looks first, under the names of both runtimes. The listing process must
/// find it (or the test would prove nothing) and refuse it.
#[test]
fn a_double_on_the_library_path_is_not_hardware() {
    if std::env::var_os(CHILD).is_some() {
        return list_devices();
    }
    let test = "listing::a_double_on_the_library_path_is_not_hardware";
    let Some(double) = Double::new(test) else { return };
    std::fs::copy(double.path(), double.dir().join(Runtime::OpenCl.library())).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("LD_LIBRARY_PATH", double.dir())
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("devices: []"), "the double shows up: {text}");
    for runtime in [Runtime::Cuda, Runtime::OpenCl] {
        let refusal = format!("{runtime}: the driver library that was found is a test double of tiermem, not hardware");
        assert!(text.contains(&refusal), "{text}");
    }
    assert!(
        text.contains("open: tier gpu (device:cuda:0): the driver library that was found is a test double"),
        "{text}"
    );
}

fn list_devices() {
    println!("devices: {:?}", device::enumerate());
    for status in device::runtimes() {
        println!("{}: {}", status.runtime, status.absent.unwrap_or_else(|| "present".into()));
    }
    println!("open: {}", device::open(&spec("cuda:0", None), TierId(0)).map(|_| ()).unwrap_err());
}

/// PoCL 3.1 starts its devices on the first question for them and shows half-started ones to other threads: two
/// threads that asked at once crashed most of the time. Only a process's first question can show it, hence a new one.
#[test]
fn threads_may_ask_first_at_once() {
    if std::env::var_os(CHILD).is_some() {
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(device::enumerate)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        return assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    }
    for _ in 0..5 {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "listing::threads_may_ask_first_at_once"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
    }
}

#[test]
fn an_absent_driver_is_explained() {
    let status = device::runtimes().into_iter().find(|status| status.runtime == Runtime::Cuda).unwrap();
    let Some(why) = status.absent else {
        return eprintln!("SKIP an_absent_driver_is_explained: this machine has a CUDA driver");
    };
    assert!(why.contains("libcuda.so.1") || why.contains("CUDA driver"), "{why}");
    assert!(status.devices.is_empty());
    let error = device::open(&spec("cuda:0", None), TierId(0)).map(|_| ()).unwrap_err();
    assert_eq!(error.obstacle(), Obstacle::Unsupported);
    assert!(error.to_string().contains(&why), "{error}");
}

#[test]
fn nothing_listed_is_a_double_or_emulated() {
    for found in device::enumerate() {
        assert!(!found.double, "{found:?}");
        assert_ne!(found.location.to_string(), "emulated");
        assert!(!found.name.is_empty() && found.memory.0 > 0, "{found:?}");
    }
}

/// PoCL runs on the CPU, so its device must not pass for an accelerator.
#[test]
fn an_opencl_cpu_says_so() {
    let test = "an_opencl_cpu_says_so";
    let Some(_) = first_device(Runtime::OpenCl, test) else { return };
    let cpus: Vec<_> = device::enumerate().into_iter().filter(|found| found.class == DeviceClass::Cpu).collect();
    if cpus.is_empty() {
        eprintln!("SKIP {test}: no OpenCL platform of this machine runs on the CPU");
    }
    for found in cpus {
        let provider = device::open(&spec(&found.location.to_string(), None), TierId(0)).unwrap();
        assert!(provider.notice().unwrap().contains("is a CPU"));
        assert_eq!(provider.usage().capacity, found.memory);
    }
}
