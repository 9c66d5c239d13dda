//! Reading reports of bad memory.

use serde::Serialize;

use super::place::{self, Place, Range};

/// Events name a line of this many bytes where they name no length.
const LINE: u64 = 64;
/// The kernel deals with failures by OS pages, which it numbers.
const OS_PAGE_SHIFT: u32 = 12;
/// The address where there is none: no region maps that part of the device.
const UNMAPPED: u64 = u64::MAX;

/// Who says that it is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A device's poison list.
    PoisonList,
    /// A device's event about its media.
    MediaEvent,
    /// The kernel, which was told by the CPU.
    Kernel,
}

impl Origin {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PoisonList => "poison-list",
            Self::MediaEvent => "media-event",
            Self::Kernel => "kernel",
        }
    }
}

/// A piece of memory that cannot be relied on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadMemory {
    /// Who says so.
    pub origin: Origin,
    /// The CXL memory device, as the kernel calls it.
    pub device: Option<String>,
    /// Where in that device, bytes.
    pub device_offset: Option<u64>,
    /// Physical address, where it has one.
    pub address: Option<u64>,
    /// How much it is.
    pub bytes: u64,
    /// The tier that it is a part of, if it is one that is found.
    pub tier: Option<Place>,
}

impl BadMemory {
    pub(super) fn located(mut self, places: &[Range]) -> Self {
        self.tier = self.address.and_then(|address| place::find(places, address));
        self
    }
}

/// A line of the kernel's record of events; `None` for what says nothing about bad memory.
pub(super) fn from_event(line: &str) -> Option<BadMemory> {
    let (head, fields) = line.split_once(": cxl_poison: ").map(|(_, rest)| ("poison", rest)).or_else(|| {
        let media = |name: &str| line.split_once(name).map(|(_, rest)| ("media", rest));
        let failure = line.split_once(": memory_failure_event: ").map(|(_, rest)| ("failure", rest));
        media(": cxl_general_media: ").or_else(|| media(": cxl_dram: ")).or(failure)
    })?;
    let field = |name: &str| fields.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let (origin, bytes) = match head {
        // Others are about injecting and clearing, which the list shows.
        "poison" if field("trace_type") == Some("List") => (Origin::PoisonList, hex(field("dpa_length")?)?),
        "media" if fields.contains("UNCORRECTABLE_EVENT") => (Origin::MediaEvent, LINE),
        "failure" => return Some(of_os_page(hex(field("pfn")?)?)),
        _ => return None,
    };
    Some(BadMemory {
        origin,
        device: field("memdev").map(str::to_owned),
        device_offset: field("dpa").and_then(hex),
        address: field("hpa").and_then(hex).filter(|&address| address != UNMAPPED),
        bytes,
        tier: None,
    })
}

/// A line of the kernel's log: `Memory failure: 0x110200: recovery action for dax page: Recovered`.
pub(super) fn from_log(line: &str) -> Option<BadMemory> {
    let (_, rest) = line.split_once("Memory failure: ")?;
    let (number, what) = rest.split_once(": ")?;
    what.starts_with("recovery action").then(|| hex(number).map(of_os_page)).flatten()
}

fn of_os_page(number: u64) -> BadMemory {
    BadMemory {
        origin: Origin::Kernel,
        device: None,
        device_offset: None,
        address: number.checked_shl(OS_PAGE_SHIFT),
        bytes: 1 << OS_PAGE_SHIFT,
        tier: None,
    }
}

/// These records write all numbers in base 16, some of them with `0x`.
fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::{BadMemory, Origin, from_event, from_log};

    fn bad(origin: Origin, device: Option<&str>, offset: Option<u64>, address: Option<u64>, bytes: u64) -> BadMemory {
        BadMemory { origin, device: device.map(str::to_owned), device_offset: offset, address, bytes, tier: None }
    }

    /// As Linux 7.3 and 6.12 write them.
    #[test]
    fn records_of_poison_and_of_media_are_read() {
        let list = "  sh-129  [001] .N... 7.982703: cxl_poison: memdev=mem0 host=0000:0d:00.0 serial=1 trace_type=List \
            region=region0 region_uuid=00000000-0000-0000-0000-000000000000 hpa=0x110200040 \
            hpa_alias0=0xffffffffffffffff dpa=0x200040 dpa_length=0x80 source=Internal flags= overflow_time=0";
        let expected = bad(Origin::PoisonList, Some("mem0"), Some(0x20_0040), Some(0x1_1020_0040), 128);
        assert_eq!(from_event(list), Some(expected));
        assert_eq!(from_event(&list.replace("=List", "=Clear")), None);
        let unmapped = from_event(&list.replace("hpa=0x110200040", "hpa=0xffffffffffffffff")).unwrap();
        assert_eq!((unmapped.address, unmapped.device_offset), (None, Some(0x20_0040)));
        let media = " irq/32-0000:0d:-166 [001] ..... 5.703379: cxl_general_media: memdev=mem0 host=0000:0d:00.0 serial=1 \
            log=Fatal : time=17 uuid=fbcd0a77-c260-417f-85a9-088b1621eba6 len=128 flags='0x1' handle=1 : dpa=400000 \
            dpa_flags='' descriptor='UNCORRECTABLE_EVENT|THRESHOLD_EVENT' type='ECC Error' hpa=110400000 region=region0";
        let expected = bad(Origin::MediaEvent, Some("mem0"), Some(0x40_0000), Some(0x1_1040_0000), 64);
        assert_eq!(from_event(media), Some(expected));
        assert_eq!(from_event(&media.replace("UNCORRECTABLE_EVENT|", "")), None, "a threshold is no loss");
        assert_eq!(from_event("# tracer: nop"), None);
    }

    #[test]
    fn the_kernels_own_failures_are_read() {
        let expected = bad(Origin::Kernel, None, None, Some(0x1_1020_0000), 4096);
        let line = "[    3.3] Memory failure: 0x110200: recovery action for dax page: Recovered";
        assert_eq!(from_log(line), Some(expected.clone()));
        assert_eq!(from_log("[    3.3] Memory failure: 0x110200: Sending SIGBUS to x:133"), None);
        let event = " x-1 [0] .. 3.3: memory_failure_event: pfn=0x110200 page_type=dax page action_result=Recovered";
        assert_eq!(from_event(event), Some(expected));
    }
}
