//! Ways to learn which memory is used.

use std::path::Path;

use tiermem_sys::Errno;
use tiermem_sys::damon::{Damon, Refusal};
use tiermem_sys::perf::Event;
use tiermem_sys::trial::{self, Obstacle};
use tiermem_sys::userfault::Rights;

use super::{Finding, Mechanism, userfault_refusal};
use crate::roots::{number, text};

/// All sources, best first.
pub fn probe() -> Vec<Mechanism> {
    vec![
        hardware_samples().named("pebs-ibs", "data addresses of sampled loads and stores, at almost no cost"),
        damon().named("damon", "accesses by region, sampled by the kernel"),
        idle_tracking().named("idle-page", "OS pages not touched since they were marked"),
        minor_faults().named("userfaultfd-minor", "reads and writes of sampled extents of shared files"),
        written_tracking().named("pagemap-scan", "OS pages written since the last look (WP_ASYNC and PAGEMAP_SCAN)"),
        referenced_bits().named("clear-refs", "OS pages touched since the last look, per mapping (clear_refs, smaps)"),
        cpu_clock().named("cpu-clock", "where a program spends its time: instructions, not data"),
        Finding::works_with("counted in the library; needs nothing from the kernel")
            .named("handle-counts", "exact accesses of relocatable objects"),
        Finding::limited("only programs compiled for it (sanitizer coverage of loads and stores)")
            .but("compile with -C passes=sancov-module and trace-loads, trace-stores")
            .named("instrumentation", "every load and store, for replay"),
    ]
}

/// The event that samples data addresses on this processor: AMD's IBS, else Intel's load latency event.
fn memory_event(devices: &Path) -> Option<Event> {
    let kind = |name: &str| number(devices.join(name).join("type")).and_then(|kind| u32::try_from(kind).ok());
    if let Some(kind) = kind("ibs_op") {
        return Some(Event { kind, config: 0, config1: 0, period: 0x4000, precise: 0, user_only: false });
    }
    // Hybrid processors call their large cores' unit cpu_core.
    let unit = ["cpu", "cpu_core"].into_iter().find(|unit| devices.join(unit).join("events/mem-loads").exists())?;
    let terms = text(devices.join(unit).join("events/mem-loads"))?;
    let term = |name: &str| {
        let value = terms.split(',').find_map(|term| term.strip_prefix(name)?.strip_prefix('='))?;
        u64::from_str_radix(value.strip_prefix("0x")?, 16).ok()
    };
    let config = term("event")? | term("umask").unwrap_or(0) << 8;
    // A load counts from 3 cycles on, which is every load.
    Some(Event { kind: kind(unit)?, config, config1: 3, period: 1000, precise: 2, user_only: true })
}

fn hardware_samples() -> Finding {
    let Some(event) = memory_event(Path::new("/sys/bus/event_source/devices")) else {
        return Finding::absent("no performance monitoring unit with memory sampling (neither PEBS nor IBS)")
            .but("virtual machines need a vPMU from their host; on bare metal check the firmware settings");
    };
    match trial::sample_addresses(event) {
        Ok(()) => Finding::works(),
        Err(obstacle) => match obstacle.errno {
            Some(Errno::EACCES | Errno::EPERM) => Finding::absent(obstacle.to_string()).but(PERF_RIGHTS),
            Some(Errno::ENODATA) => {
                Finding::limited(format!("{obstacle}; this processor wants an auxiliary event first"))
            }
            Some(_) => Finding::absent(obstacle.to_string()),
            None => Finding::limited(obstacle.to_string()),
        },
    }
}

const PERF_RIGHTS: &str = "run as root, grant CAP_PERFMON, or sysctl kernel.perf_event_paranoid=2";

fn cpu_clock() -> Finding {
    match trial::sample_time() {
        Ok(()) => Finding::works(),
        Err(obstacle) if matches!(obstacle.errno, Some(Errno::EACCES | Errno::EPERM)) => {
            Finding::absent(obstacle.to_string()).but(PERF_RIGHTS)
        }
        Err(obstacle) => Finding::absent(obstacle.to_string()),
    }
}

fn damon() -> Finding {
    let damon = match Damon::acquire() {
        Ok(damon) => damon,
        Err(Refusal::Missing) => return Finding::absent("this kernel has no DAMON (CONFIG_DAMON_SYSFS)"),
        Err(Refusal::Denied(error)) => return Finding::absent(format!("its files: {error}")).but("run as root"),
        Err(Refusal::Running) => {
            return Finding::limited("another program monitors right now").but("stop it; DAMON serves one at a time");
        }
        Err(Refusal::SetUp(operations)) => {
            let what = addresses(&operations);
            return Finding::limited(format!("another program has set it up; not tried ({what})"))
                .but("if it is stale: echo 0 > /sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds");
        }
    };
    let operations = damon.operations().unwrap_or_default();
    if !operations.iter().any(|operation| operation == "vaddr") {
        return Finding::limited(addresses(&operations))
            .but("a kernel with CONFIG_DAMON_VADDR follows single processes");
    }
    let tried = damon.watch_process(std::process::id()).and_then(|()| damon.is_running());
    match tried {
        Ok(true) => Finding::works(),
        Ok(false) => Finding::limited("it was started and did not run"),
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
            Finding::limited("in use through another interface").but("stop the other user (DAMON modules, debugfs)")
        }
        Err(error) => Finding::limited(format!("starting it: {error}")),
    }
}

fn addresses(operations: &[String]) -> String {
    match operations {
        [] => "address kinds unknown".to_owned(),
        [only] if only == "paddr" => "physical addresses only, not single processes".to_owned(),
        all => format!("offers {}", all.join(", ")),
    }
}

fn idle_tracking() -> Finding {
    match trial::idle_tracking() {
        Ok(()) => Finding::works(),
        Err(Obstacle { errno: Some(Errno::ENOENT), .. }) => {
            Finding::absent("this kernel is built without idle-page tracking (CONFIG_IDLE_PAGE_TRACKING)")
        }
        Err(obstacle) if matches!(obstacle.errno, Some(Errno::EACCES | Errno::EPERM)) => {
            Finding::absent(obstacle.to_string()).but("run as root (CAP_SYS_ADMIN)")
        }
        Err(obstacle) => Finding::limited(obstacle.to_string()),
    }
}

fn minor_faults() -> Finding {
    if trial::minor_fault(Rights::Full).is_ok() {
        return Finding::works();
    }
    match trial::minor_fault(Rights::UserModeOnly) {
        Ok(()) => Finding::limited("user-mode faults only: a system call on a sampled extent fails with EFAULT")
            .but(super::USERFAULT_RIGHTS),
        Err(obstacle) => userfault_refusal(&obstacle),
    }
}

fn written_tracking() -> Finding {
    match trial::track_writes() {
        Ok(()) => Finding::works_with("splits huge pages of tracked ranges"),
        Err(Obstacle { errno: Some(Errno::ENOTTY), .. }) => {
            Finding::absent("this kernel has no PAGEMAP_SCAN (Linux 6.7)")
        }
        Err(obstacle) => userfault_refusal(&obstacle),
    }
}

fn referenced_bits() -> Finding {
    match trial::referenced_bits() {
        Ok(()) => Finding::works_with("per mapping; OS pages that stay in the TLB after clearing can be missed"),
        Err(obstacle) if obstacle.errno.is_some() => {
            Finding::absent(obstacle.to_string()).but("needs /proc with clear_refs (CONFIG_PROC_PAGE_MONITOR)")
        }
        Err(obstacle) => Finding::limited(obstacle.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn events_are_read_from_sysfs() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(memory_event(root.path()), None);
        let core = root.path().join("cpu_core");
        fs::create_dir_all(core.join("events")).unwrap();
        fs::write(core.join("type"), "4\n").unwrap();
        fs::write(core.join("events/mem-loads"), "event=0xcd,umask=0x1,ldlat=3\n").unwrap();
        let event = memory_event(root.path()).unwrap();
        assert_eq!((event.kind, event.config, event.config1, event.precise), (4, 0x1cd, 3, 2));
        fs::create_dir_all(root.path().join("ibs_op")).unwrap();
        fs::write(root.path().join("ibs_op/type"), "11\n").unwrap();
        assert_eq!(memory_event(root.path()).unwrap().kind, 11);
    }
}
