//! Real bytes with the model's clock.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use tiermem_emulator::fault::Plan;
use tiermem_emulator::time::{Mode, Time};
use tiermem_emulator::virtual_time::{Memory, World};
use tiermem_emulator::workload::{Thread, run};
use tiermem_tiers::provider::open;
use tiermem_tiers::{Bytes, Extent, Provenance, Provider, TierId};
use tiermem_topology::Topology;

/// Plain memory that plays the device's.
fn memory() -> (Box<dyn Provider>, Extent) {
    let provider = open(&"far=dram,size=64M".parse().unwrap(), TierId(0)).unwrap();
    let extent = provider.reserve(Bytes::mib(2), Provenance::Tool).unwrap();
    (provider, extent)
}

fn took(world: &mut World, tier: &str, host: &str, len: usize) -> f64 {
    let (provider, extent) = memory();
    let memory = Memory { provider: &*provider, extent: &extent, tier: world.tier(tier).unwrap() };
    let mut thread = world.thread(host).unwrap();
    world.read(&mut thread, memory, 0, &mut vec![0; len]).unwrap();
    assert_eq!(world.elapsed(&thread).mode(), Mode::Virtual);
    provider.release(extent).unwrap();
    world.elapsed(&thread).time().as_ns()
}

#[test]
fn each_kind_of_tier_takes_what_its_profile_says() {
    let topology = Topology::load("inference-server").unwrap();
    let fresh = || World::new(&topology).unwrap();
    let host = topology.hosts[0].name.clone();
    let dram = topology.nodes[0].name.clone();
    assert!((took(&mut fresh(), &dram, &host, 8) - 97.8).abs() < 0.1);
    // A copy of 64 lines with 16 in flight: four rounds, and the issue of the last one's lines.
    let copy = took(&mut fresh(), &dram, &host, 4096);
    assert!((copy - (4.0 * 97.8 + 15.0 / 3.0)).abs() < 1.0, "{copy}");
    let kind = |wanted| topology.devices.iter().find(|device| device.kind == wanted).unwrap().name.clone();
    let drive = took(&mut fresh(), &kind(tiermem_topology::DeviceKind::Nvme), &host, 4096);
    assert!(drive >= 60_000.0, "{drive}");
    let gpu = took(&mut fresh(), &kind(tiermem_topology::DeviceKind::Gpu), &host, 2 << 20);
    let expected = 6000.0 + f64::from((2 << 20) - 64) / 55.6;
    assert!((gpu / expected - 1.0).abs() < 0.03, "{gpu} {expected}");
}

#[test]
fn bytes_are_real_and_failures_are_the_providers() {
    let mut world = World::new(&Topology::load("one-expander").unwrap()).unwrap();
    let (provider, extent) = memory();
    let memory = Memory { provider: &*provider, extent: &extent, tier: world.tier("cxl0").unwrap() };
    let mut thread = world.thread("server").unwrap();
    world.write(&mut thread, memory, 100, b"some bytes").unwrap();
    let issued = thread.now();
    world.fence(&mut thread);
    assert!(issued < Time::from_ns(2.0) && thread.now() >= Time::from_ns(213.0), "a write is posted, a fence waits");
    let mut bytes = [0; 10];
    world.read(&mut thread, memory, 100, &mut bytes).unwrap();
    assert_eq!(&bytes, b"some bytes");
    assert!(world.read(&mut thread, memory, 4 << 20, &mut bytes).is_err(), "beyond the extent");
    provider.release(extent).unwrap();
}

/// Two hosts copy from a pool behind a link of 26 GB/s each, whose device has 29.2: together they get no more than the
/// link to it lets through, in every run the same.
#[test]
fn threads_of_two_hosts_share_a_pool_and_always_in_the_same_way() {
    let topology = Topology::load("pool-4-coherent").unwrap();
    let outcome = |hosts: &[&str]| -> Vec<Time> {
        let mut world = World::new(&topology).unwrap();
        let (provider, extent) = memory();
        let tier = world.tier(&topology.pools[0].name).unwrap();
        let memory = Memory { provider: &*provider, extent: &extent, tier };
        let each = hosts.iter().flat_map(|host| vec![world.thread(host).unwrap(); 12]);
        let mut threads: Vec<(Thread, u64)> = each.map(|thread| (thread, 0)).collect();
        let mut buffer = vec![0; 4096];
        run(&mut threads, |index, thread, done| {
            let offset = (index as u64 * 7 + *done) % 512 * 4096;
            world.read(thread, memory, offset, &mut buffer).unwrap();
            *done += 1;
            *done < 100
        });
        provider.release(extent).unwrap();
        threads.into_iter().map(|(thread, _)| thread.now()).collect()
    };
    let rate = |times: &[Time]| 12.0 * 100.0 * 4096.0 / times.iter().map(|t| t.as_ns()).fold(0.0, f64::max);
    let (alone, both) = (outcome(&["host0"]), outcome(&["host0", "host1"]));
    let (alone_rate, both_rate) = (rate(&alone), rate(&both));
    assert!(alone_rate > 20.0 && alone_rate < 26.5, "{alone_rate} GB/s");
    assert!(both_rate > 12.0 && both_rate < 13.3, "{both_rate} GB/s for each");
    assert_eq!(outcome(&["host0", "host1"]), both);
}

/// `slow` is the one fault that a provider cannot show by itself: the model has to.
#[test]
fn a_slow_fault_is_felt_for_as_long_as_it_lasts() {
    let plan = "version = 1\n[[fault]]\nkind = \"slow\"\nfactor = 4\nat_time = \"1 ms\"\nfor_time = \"2 ms\"\n";
    let plan = Plan::parse(plan, "plan.toml").unwrap();
    for (topology, name) in [("one-expander", "cxl0"), ("two-interleaved", "cxl"), ("inference-server", "ssd0")] {
        let topology = Topology::load(topology).unwrap();
        let mut world = World::new(&topology).unwrap();
        let tier = plan.wrap(open(&"far=dram,size=64M".parse().unwrap(), TierId(0)).unwrap()).unwrap();
        let extent = tier.reserve(Bytes::mib(2), Provenance::Tool).unwrap();
        let Some(index) = world.tier(name) else { panic!("no tier {name}") };
        let memory = Memory { provider: &tier, extent: &extent, tier: index };
        let mut thread = world.thread(&topology.hosts[0].name).unwrap();
        let mut read = |at: f64| {
            thread.wait_until(Time::from_ns(at).max(thread.now()));
            let before = thread.now();
            world.read(&mut thread, memory, 0, &mut [0; 8]).unwrap();
            thread.now().since(before).as_ns()
        };
        let sound = read(0.0);
        let slow = read(1.5e6);
        let again = read(1e9);
        let ratio = slow / sound;
        assert!(ratio > 3.0 && ratio < 4.001, "{name}: {sound} {slow}");
        assert!((again / sound - 1.0).abs() < 1e-6, "{name}: {sound} {again}");
        tier.release(extent).unwrap();
    }
}

#[test]
fn the_whole_curve_of_a_slow_device_is_slower() {
    let topology = Topology::load("one-expander").unwrap();
    let copy = |factor: f64| -> f64 {
        let plan = format!("version = 1\n[[fault]]\nkind = \"slow\"\nfactor = {factor}\nat_operation = 1\n");
        let plan = Plan::parse(&plan, "plan.toml").unwrap();
        let mut world = World::new(&topology).unwrap();
        let tier = plan.wrap(open(&"far=dram,size=64M".parse().unwrap(), TierId(0)).unwrap()).unwrap();
        let extent = tier.reserve(Bytes::mib(32), Provenance::Tool).unwrap();
        let memory = Memory { provider: &tier, extent: &extent, tier: world.tier("cxl0").unwrap() };
        let mut threads = vec![(world.thread("server").unwrap(), 0_u64); 16];
        let mut buffer = vec![0; 4096];
        run(&mut threads, |_, thread, done| {
            world.read(thread, memory, *done % 4096 * 4096, &mut buffer).unwrap();
            *done += 1;
            *done < 200
        });
        tier.release(extent).unwrap();
        threads.iter().map(|(thread, _)| thread.now().as_ns()).fold(0.0, f64::max)
    };
    let (sound, slow) = (copy(1.0), copy(3.0));
    assert!((slow / sound / 3.0 - 1.0).abs() < 0.03, "bandwidth, too: {sound} {slow}");
}
