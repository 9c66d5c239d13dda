//! Bridges, root ports, switches and devices of one host, and their QEMU arguments.

use tiermem_topology::{Device, DeviceKind};

use super::View;
use crate::error::Result;

/// PCI bus numbers of the bridges: so far apart that each has room for the buses below it.
const BUS_FIRST: u32 = 12;
const BUS_STEP: u32 = 40;
const BRIDGES_MAX: usize = 6;

/// Everything below the host's bridges.
#[derive(Debug, Default)]
pub struct Wiring {
    pub bridges: Vec<Bridge>,
    switches: usize,
    devices: usize,
}

/// A host bridge.
#[derive(Debug)]
pub struct Bridge {
    /// QEMU's name.
    pub id: String,
    /// Its bus, which is its number in ACPI too.
    pub bus: u32,
    ports: Vec<Below>,
}

/// What hangs at a port.
#[derive(Debug)]
enum Below {
    Switch { id: String, ports: Vec<Below> },
    Device(Box<Attached>),
}

/// A device at its place.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Its name in the topology.
    pub name: String,
    /// QEMU's name.
    pub id: String,
    /// Serial number, by which the guest finds it.
    pub serial: u64,
    /// Its size, bytes.
    pub bytes: u64,
    /// The number of its host bridge.
    pub bridge: u32,
}

impl Wiring {
    /// Follows the links of the host.
    pub fn of(view: &View<'_>) -> Result<Self> {
        let topology = view.topology;
        let mut wiring = Self::default();
        let own = topology.bridges.iter().filter(|bridge| bridge.host == view.host).map(|bridge| bridge.name.as_str());
        // What hangs at the host itself hangs at one bridge without a name.
        for name in own.chain([view.host]) {
            let bus = BUS_FIRST + BUS_STEP * u32::try_from(wiring.bridges.len()).unwrap_or(u32::MAX >> 8);
            let ports = wiring.below(view, name, bus)?;
            if ports.is_empty() {
                continue;
            }
            if wiring.bridges.len() == BRIDGES_MAX {
                return Err(View::bad(format!("{}: at most {BRIDGES_MAX} host bridges fit", view.host)));
            }
            wiring.bridges.push(Bridge { id: format!("bridge{}", wiring.bridges.len()), bus, ports });
        }
        Ok(wiring)
    }

    fn below(&mut self, view: &View<'_>, name: &str, bridge: u32) -> Result<Vec<Below>> {
        let mut ports = Vec::new();
        for link in view.topology.links.iter().filter(|link| link.from == name) {
            if let Some(device) = view.topology.devices.iter().find(|device| device.name == link.to) {
                if device.kind == DeviceKind::Cxl {
                    ports.push(Below::Device(Box::new(self.attach(view, device, bridge)?)));
                }
            } else if view.topology.switches.iter().any(|switch| switch.name == link.to) {
                let id = format!("switch{}", self.switches);
                self.switches += 1;
                ports.push(Below::Switch { id, ports: self.below(view, &link.to, bridge)? });
            }
        }
        Ok(ports)
    }

    fn attach(&mut self, view: &View<'_>, device: &Device, bridge: u32) -> Result<Attached> {
        let bytes = device.capacity.0;
        if bytes == 0 || !bytes.is_multiple_of(super::CXL_STEP) {
            return Err(View::bad(format!(
                "{}: {} MiB cannot be a CXL device, whose size is a multiple of {} MiB",
                device.name,
                bytes >> 20,
                super::CXL_STEP >> 20
            )));
        }
        self.devices += 1;
        // The serial number follows from the place in the topology, so that each host of a pool sees the same one.
        let place = view.topology.devices.iter().position(|other| other.name == device.name).unwrap_or(0);
        Ok(Attached {
            name: device.name.clone(),
            id: format!("memory{place}"),
            serial: place as u64 + 1,
            bytes,
            bridge,
        })
    }

    /// Every CXL device, in the order of the links.
    pub fn devices(&self) -> Vec<&Attached> {
        fn collect<'a>(ports: &'a [Below], into: &mut Vec<&'a Attached>) {
            for port in ports {
                match port {
                    Below::Device(device) => into.push(device),
                    Below::Switch { ports, .. } => collect(ports, into),
                }
            }
        }
        let mut devices = Vec::new();
        self.bridges.iter().for_each(|bridge| collect(&bridge.ports, &mut devices));
        devices
    }

    /// The bridges.
    pub fn bridge_arguments(&self) -> Vec<String> {
        let bridge = |b: &Bridge| {
            ["-device".to_owned(), format!("pxb-cxl,bus_nr={},bus=pcie.0,id={},hdm_for_passthrough=on", b.bus, b.id)]
        };
        self.bridges.iter().flat_map(bridge).collect()
    }

    /// Ports, switches and devices; `properties` says what follows `cxl-type3,bus=…,id=…,sn=…`.
    pub fn device_arguments(&self, properties: impl Fn(&Attached) -> Result<String>) -> Result<Vec<String>> {
        let mut arguments = Arguments { list: Vec::new(), slots: 0 };
        for bridge in &self.bridges {
            for (number, port) in bridge.ports.iter().enumerate() {
                let id = format!("{}.port{number}", bridge.id);
                let slot = arguments.slot();
                arguments.device(format!("cxl-rp,port={number},bus={},id={id},chassis=0,slot={slot}", bridge.id));
                arguments.below(port, &id, &properties)?;
            }
        }
        Ok(arguments.list)
    }
}

struct Arguments {
    list: Vec<String>,
    slots: u32,
}

impl Arguments {
    fn device(&mut self, text: String) {
        self.list.extend(["-device".to_owned(), text]);
    }

    fn slot(&mut self) -> u32 {
        self.slots += 1;
        self.slots
    }

    fn below(&mut self, what: &Below, bus: &str, properties: &impl Fn(&Attached) -> Result<String>) -> Result<()> {
        match what {
            Below::Device(device) => {
                let more = properties(device)?;
                self.device(format!("cxl-type3,bus={bus},id={},sn={:#x},{more}", device.id, device.serial));
            }
            Below::Switch { id, ports } => {
                self.device(format!("cxl-upstream,bus={bus},id={id},addr=0.0,multifunction=on"));
                self.device(format!("cxl-switch-mailbox-cci,bus={bus},addr=0.1,target={id}"));
                for (number, port) in ports.iter().enumerate() {
                    let down = format!("{id}.port{number}");
                    let slot = self.slot();
                    self.device(format!("cxl-downstream,port={number},bus={id},id={down},chassis=0,slot={slot}"));
                    self.below(port, &down, properties)?;
                }
            }
        }
        Ok(())
    }
}
