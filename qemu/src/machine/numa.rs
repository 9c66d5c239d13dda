//! NUMA nodes and the table that says how far each is (HMAT).

use tiermem_topology::MemoryFigures;

use super::View;
use super::cdat::BRIDGE_LATENCY_NS;
use super::memory::memory_figures;
use super::wiring::Bridge;
use crate::error::Result;

/// QEMU packs all bandwidths of a table into 16 bits of one unit: multiples of this reach to 8 TB/s.
const BANDWIDTH_STEP: u64 = 128 << 20;
/// The bandwidth of a host bridge: so much that it never is what limits, because profiles name the whole way's.
const BRIDGE_BANDWIDTH: f64 = 512e9;
/// Memory of a host for which the topology names none, bytes.
const BYTES_DEFAULT: u64 = 2 << 30;
/// Latency of a node for which no profile says one, nanoseconds.
const LATENCY_DEFAULT_NS: f64 = 100.0;
/// SLIT's distance of a node to itself.
const DISTANCE_LOCAL: f64 = 10.0;

/// Nodes and tables in the making.
///
/// Firmware's numbers (proximity domains) are not the kernel's: it numbers nodes as it meets them, and gives a CXL window the
/// number behind the highest one that a node has. The bridges' own domains, which are no nodes to it, must therefore come
/// before the nodes: behind them, it would take the first bridge's figures for those of the first window.
#[derive(Debug)]
pub struct Numa {
    pub memory: Vec<String>,
    pub ports: Vec<String>,
    pub tables: Vec<String>,
    pub bytes: u64,
    /// The topology's nodes with the kernel's numbers.
    pub nodes: Vec<(String, u32)>,
    /// The first node's domain: how many bridges there are.
    first: u32,
    next: u32,
    initiators: Vec<u32>,
    /// Of each domain, seen from the first node; a bridge counts as its own.
    latencies_ns: Vec<f64>,
}

impl Numa {
    /// The domains of the bridges, then the topology's own nodes: those with CPUs come first, as the kernel expects node 0
    /// to have some.
    pub fn of(view: &View<'_>, processors: u32, bridges: &[Bridge]) -> Result<Self> {
        let own = view.topology.nodes.iter().filter(|node| node.host == view.host);
        let (with, without): (Vec<_>, Vec<_>) = own.partition(|node| node.cpus > 0);
        let local_ns = with.first().and_then(|node| memory_figures(&view.topology.profiles, &node.profile));
        let local_ns = local_ns.map_or(LATENCY_DEFAULT_NS, |figures| figures.read_latency_ns.value);
        let first = u32::try_from(bridges.len()).unwrap_or(0);
        let initiators = u32::try_from(with.len().max(1)).unwrap_or(1);
        let mut numa = Self {
            memory: Vec::new(),
            ports: Vec::new(),
            tables: Vec::new(),
            bytes: 0,
            nodes: Vec::new(),
            first,
            next: 0,
            initiators: (first..first + initiators).collect(),
            latencies_ns: Vec::new(),
        };
        bridges.iter().for_each(|bridge| numa.generic_port(bridge, local_ns + BRIDGE_LATENCY_NS));
        if with.is_empty() {
            numa.node("", BYTES_DEFAULT, Some((0, processors)), None);
        }
        let mut cpu = 0;
        let last = with.len().saturating_sub(1);
        for (index, node) in with.iter().enumerate() {
            // Whoever has more processors than the nodes name gives the rest to the last one.
            let count = if index == last { processors - cpu } else { node.cpus };
            let figures = memory_figures(&view.topology.profiles, &node.profile);
            numa.node(&node.name, node.capacity.0, Some((cpu, count)), figures);
            cpu += count;
        }
        for node in without {
            let figures = memory_figures(&view.topology.profiles, &node.profile);
            numa.node(&node.name, node.capacity.0, None, figures);
        }
        numa.memory.extend(["-m".into(), format!("{}M", numa.bytes >> 20)]);
        numa.distances();
        Ok(numa)
    }

    fn node(&mut self, name: &str, bytes: u64, cpus: Option<(u32, u32)>, figures: Option<&MemoryFigures>) {
        let number = self.take();
        self.bytes += bytes;
        let backend = format!("memory-backend-ram,id=node{number},size={}M", bytes >> 20);
        let place = match cpus {
            Some((first, count)) => format!(",cpus={first}-{},initiator={number}", first + count - 1),
            None => format!(",initiator={}", self.first),
        };
        let node = format!("node,nodeid={number},memdev=node{number}{place}");
        self.memory.extend(["-object".into(), backend, "-numa".into(), node]);
        if !name.is_empty() {
            self.nodes.push((name.to_owned(), number - self.first));
        }
        let Some(figures) = figures else { return self.latencies_ns.push(LATENCY_DEFAULT_NS) };
        self.latencies_ns.push(figures.read_latency_ns.value);
        self.figures(
            number,
            [figures.read_latency_ns.value, figures.write_latency_ns.value],
            [figures.read_bandwidth.value, figures.write_bandwidth.value],
        );
    }

    /// A bridge's own place in the table: what lies behind it is found in the devices' tables.
    fn generic_port(&mut self, bridge: &Bridge, latency_ns: f64) {
        let number = self.take();
        self.memory.extend(["-numa".into(), format!("node,nodeid={number},initiator={}", self.first)]);
        let port = format!("acpi-generic-port,id={}.acpi,pci-bus={},node={number}", bridge.id, bridge.id);
        self.ports.extend(["-object".into(), port]);
        self.latencies_ns.push(latency_ns);
        self.figures(number, [BRIDGE_LATENCY_NS; 2], [BRIDGE_BANDWIDTH; 2]);
    }

    fn figures(&mut self, target: u32, latencies_ns: [f64; 2], bandwidths: [f64; 2]) {
        for from in self.initiators.clone() {
            let mut entry = |kind: &str, value: String| {
                let way = format!("hmat-lb,initiator={from},target={target},hierarchy=memory");
                self.tables.extend(["-numa".into(), format!("{way},data-type={kind},{value}")]);
            };
            for (kind, ns) in [("read-latency", latencies_ns[0]), ("write-latency", latencies_ns[1])] {
                entry(kind, format!("latency={:.0}", ns.max(1.0)));
            }
            for (kind, bytes_per_s) in [("read-bandwidth", bandwidths[0]), ("write-bandwidth", bandwidths[1])] {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a rate, positive and small"
                )]
                let rounded = ((bytes_per_s as u64) / BANDWIDTH_STEP).max(1) * BANDWIDTH_STEP;
                entry(kind, format!("bandwidth={}M", rounded >> 20));
            }
        }
    }

    /// The distances of all pairs (SLIT), in proportion to the latencies; QEMU wants all or none.
    fn distances(&mut self) {
        let first = self.first as usize;
        let local = self.latencies_ns[first];
        let domains: Vec<_> = self.latencies_ns.iter().enumerate().collect();
        for &(from, &a) in &domains {
            for &(to, &b) in &domains[from + 1..] {
                let far = if from == first {
                    b
                } else if to == first {
                    a
                } else {
                    local + (b - a).abs()
                };
                let distance = (DISTANCE_LOCAL * far / local).clamp(DISTANCE_LOCAL + 1.0, 254.0);
                self.tables.extend(["-numa".into(), format!("dist,src={from},dst={to},val={distance:.0}")]);
            }
        }
    }

    fn take(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }
}
