//! Made-up runs for the tests of this page. Nothing here reaches a user.

use std::time::Duration;

use tiermem::control::{Event, EventKind, SiteTierUse, SizeClassUse, Snapshot, TierUse};

use crate::record::kernel::{Counts, Residence, TierResidence};
use crate::record::sites::Site;
use crate::record::timeline::{Moment, Timeline};
use crate::record::{ProcessRecord, Recorded, RunRecord, Sampling};
use crate::run::child::Ending;
use crate::symbols::Frame;

const MIB: u64 = 1 << 20;

fn tier(name: &str, kind: &str, live_mib: u64, allocations: u64, fallbacks: u64) -> TierUse {
    TierUse {
        name: name.into(),
        kind: kind.into(),
        limit: if name == "dram" { 64 * MIB } else { 0 },
        live: live_mib * MIB,
        committed: (live_mib + 4) * MIB,
        committed_max: (live_mib + 6) * MIB,
        allocations,
        frees: allocations / 3,
        returned: live_mib / 2 * MIB,
        fallbacks,
        unavailable: false,
        quarantined: 0,
    }
}

fn size_classes() -> Vec<SizeClassUse> {
    let sizes = [16, 32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 512, 640, 1024, 2048, 4096, 8192, 16384, 65536, 0];
    let class = |(i, block_size): (usize, u64)| {
        let i = i as u64;
        let count = 260_000 / (1 + (i as i64 - 5).unsigned_abs().pow(2)) + 40;
        let slow = count * i / 12;
        let bytes = if block_size == 0 { 300_000 } else { block_size };
        SizeClassUse {
            block_size,
            live: vec![count / 2, slow / 2],
            allocations: vec![count, slow],
            live_bytes: vec![count / 2 * bytes / 8, slow / 2 * bytes / 8],
        }
    };
    sizes.into_iter().enumerate().map(class).collect()
}

fn event(at_ms: u64, kind: EventKind, tier: Option<usize>, bytes: u64, count: u64) -> Event {
    Event { at_ms, kind, tier, bytes, count }
}

fn site(calls: &[(&str, u64, &str)], caller: usize, bytes: &[u64], samples: u64) -> Site {
    let frame = |&(symbol, offset, module): &(&str, u64, &str)| Frame {
        symbol: (!symbol.is_empty()).then(|| symbol.to_owned()),
        offset,
        module: module.to_owned(),
    };
    let figures = |&bytes: &u64| SiteTierUse {
        allocated_objects: bytes as f64 / 64.0,
        allocated_bytes: bytes,
        live_objects: bytes as f64 / 128.0,
        live_bytes: bytes / 2,
    };
    Site { stack: calls.iter().map(frame).collect(), caller, tiers: bytes.iter().map(figures).collect(), samples }
}

fn sites() -> Vec<Site> {
    let redis = "redis-server";
    vec![
        site(
            &[
                ("ztrymalloc_usable_internal", 0x1e, redis),
                ("sdsnewlen", 0x92, redis),
                ("createStringObject", 0x4a, redis),
            ],
            1,
            &[31 * MIB, 288 * MIB],
            620,
        ),
        site(
            &[("zmalloc", 0x11, redis), ("dictAddRaw", 0x7c, redis), ("dbAdd", 0x33, redis)],
            1,
            &[18 * MIB, 61 * MIB],
            154,
        ),
        site(&[("zrealloc", 0x2f, redis), ("dictExpand", 0xd0, redis)], 1, &[9 * MIB, 32 * MIB], 40),
        site(
            &[("std::vector<Entry, Alloc<Entry> >::reserve(unsigned long)", 0x40, "libmodule.so")],
            0,
            &[3 * MIB, MIB],
            3,
        ),
        site(&[("", 0x1f3a0, "libssl.so.3")], 0, &[MIB, 0], 1),
    ]
}

fn residence(at_ms: u64, anonymous: u64, copied: u64, slow: u64) -> Residence {
    let tiers = vec![TierResidence { name: "slow".into(), resident: slow * MIB }];
    Residence { at_ms, anonymous: anonymous * MIB, copied: copied * MIB, tiers, files: 6 * MIB }
}

/// A server whose memory outgrows DRAM: 14 seconds, two tiers.
pub fn server() -> RunRecord {
    let mut timeline = Timeline::new();
    timeline.tier("dram");
    timeline.tier("slow");
    for i in 0..160u64 {
        let wave = ((i as f64 / 9.0).sin() * 6.0 + 8.0) as u64;
        let total = match i {
            0..20 => i,
            20..110 => 20 + (i - 20) * 4,
            _ => 380 - (i - 110) / 2,
        } + wave;
        let dram = total.min(60);
        let slow = total - dram;
        timeline.push(Moment {
            at_ms: 10 + i * 88,
            live: vec![dram * MIB, slow * MIB],
            committed: vec![(dram + 4).min(64) * MIB, slow.next_multiple_of(16) * MIB],
            rss: (total + 14) * MIB,
            processes: 1,
        });
    }
    let snapshot = Snapshot {
        pid: 4242,
        command: "redis-server".into(),
        uptime_ms: 14_080,
        started_unix_s: 1_772_373_909,
        ended: true,
        rss: 420 * MIB,
        tiers: vec![tier("dram", "dram", 60, 1_284_113, 0), tier("slow", "dax-file", 318, 3_918_224, 3_402_117)],
        size_classes: size_classes(),
        events: vec![
            event(2, EventKind::Started, None, 0, 1),
            event(3_110, EventKind::Spilled, Some(0), 64 * MIB, 3_402_117),
            event(7_950, EventKind::Forked, None, 211 * MIB, 1),
            event(11_000, EventKind::Returned, Some(1), 24 * MIB, 6),
            event(12_400, EventKind::Full, Some(1), 2 * MIB, 3),
        ],
        events_total: 3_402_150,
        ..Snapshot::default()
    };
    let kernel = Counts { most: Some(residence(9_700, 93, 31, 301)), last: Some(residence(13_900, 95, 40, 268)) };
    let process =
        ProcessRecord { snapshot, started_ms: 4, first_read_ms: 10, last_read_ms: 14_084, ended: true, kernel };
    RunRecord {
        command: ["/usr/bin/redis-server", "--port", "7777", "--save", "", "--appendonly", "no"]
            .map(String::from)
            .to_vec(),
        started_unix_s: 1_772_373_909,
        duration: Duration::from_millis(14_091),
        ending: Ending::Exited(0),
        policy: None,
        tier_specs: vec!["slow=dax-file:/dev/shm/slow,size=4G".into()],
        limits: vec!["dram=64M".into()],
        recorded: Recorded {
            processes: vec![process],
            timeline,
            sampling: Sampling { rounds: 173, interval_ms_max: 203, failures: 0, sites_dropped: 0 },
        },
        sites: sites(),
    }
}

/// The server with a child that has its tiers in another order, ended badly, with a text that is no HTML.
pub fn two_processes() -> RunRecord {
    let mut run = server();
    let mut child = run.recorded.processes[0].clone();
    child.snapshot.pid = 4250;
    child.snapshot.parent = 4242;
    child.snapshot.command = "<b>&evil</b>".into();
    child.snapshot.tiers.reverse();
    child.snapshot.events =
        vec![event(80, EventKind::OutOfMemory, None, 4096, 2), event(90, EventKind::Failed, Some(0), 0, 1)];
    child.started_ms = 7_950;
    child.first_read_ms = 8_004;
    child.ended = false;
    run.recorded.processes.push(child);
    run.recorded.sampling.failures = 2;
    run.command.push("</script><script>alert(1)</script>".into());
    run.ending = Ending::Killed(11);
    run
}
