//! The table with which a CXL device says how fast it is (Coherent Device Attribute Table, revision 1.03 of UEFI's
//! specification): what it says is what the topology's profile says.

use tiermem_topology::MemoryFigures;

/// Length of the table's head.
const HEAD: usize = 16;
/// HMAT's numbers of the four kinds of figures.
const READ_LATENCY: u8 = 1;
const WRITE_LATENCY: u8 = 2;
const READ_BANDWIDTH: u8 = 4;
const WRITE_BANDWIDTH: u8 = 5;
/// Of the latency of a device, this part is the way to its host bridge, which HMAT tells: see [`super::numa`].
pub const BRIDGE_LATENCY_NS: f64 = 20.0;

/// The table of a device with `bytes` bytes.
///
/// ```text
///  0  length u32   4 revision 1   5 checksum   6 zeroes   12 sequence u32
/// 16  DSMAS: type 0, length 24 u16 at 2, handle, flags (4: persistent), first address u64 at 8, length u64 at 16
/// 40  DSLBIS, four times: type 0, length 24 u16 at 2, handle, flags, what it is, unit u64 at 8, value u16 at 16
/// ```
pub fn table(bytes: u64, persistent: bool, figures: &MemoryFigures) -> Vec<u8> {
    let mut table = vec![0; HEAD];
    let mut range = [0; 24];
    range[2] = 24;
    range[5] = if persistent { 4 } else { 0 };
    range[16..24].copy_from_slice(&bytes.to_le_bytes());
    table.extend(range);
    let latency = |ns: f64| (1000, (ns - BRIDGE_LATENCY_NS).max(1.0));
    let bandwidth = |bytes_per_s: f64| (64, bytes_per_s / 64e6);
    for (kind, (unit, value)) in [
        (READ_LATENCY, latency(figures.read_latency_ns.value)),
        (WRITE_LATENCY, latency(figures.write_latency_ns.value)),
        (READ_BANDWIDTH, bandwidth(figures.read_bandwidth.value)),
        (WRITE_BANDWIDTH, bandwidth(figures.write_bandwidth.value)),
    ] {
        let mut entry = [0; 24];
        entry[0] = 1;
        entry[2] = 24;
        entry[6] = kind;
        entry[8..16].copy_from_slice(&u64::to_le_bytes(unit));
        entry[16..18].copy_from_slice(&word(value).to_le_bytes());
        table.extend(entry);
    }
    let length = u32::try_from(table.len()).unwrap_or(0);
    table[..4].copy_from_slice(&length.to_le_bytes());
    table[4] = 1;
    table[5] = table.iter().fold(0_u8, |sum, &byte| sum.wrapping_sub(byte));
    table
}

/// The value as the table holds it; 0 would mean that nothing is known, 65535 that it cannot be reached.
fn word(value: f64) -> u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "limited to what fits")]
    let word = value.round().clamp(1.0, 65534.0) as u16;
    word
}
