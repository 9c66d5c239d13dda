//! Which frame an OS page has, and whose block an address lies in.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Bytes of an OS page here, whatever the machine's are.
pub const OS_PAGE: u64 = 4096;
/// Blocks are told apart to this many bytes, the alignment of `malloc`.
const GRANULE: u64 = 16;
const GRANULES: usize = (OS_PAGE / GRANULE) as usize;

/// OS pages whose frames stand together: 2 MiB of addresses.
const REGION: usize = 512;

/// What a block is: an index into the engine's labels. 0 is what nobody allocated: stacks, static data, code.
pub type Label = u16;

/// Whom the granules of an OS page belong to.
#[derive(Debug, Clone)]
enum Owners {
    One(Label),
    Each(Box<[Label; GRANULES]>),
}

/// OS page numbers as keys: one multiplication spreads them well enough.
#[derive(Debug, Default)]
pub struct PageHasher(u64);

impl Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

/// The address space of a program: OS pages get frames in the order in which they are first used, so that what the
/// caches see does not depend on where the system happened to map things.
#[derive(Debug, Default)]
pub struct Space {
    /// By number over [`REGION`]: what each of so many OS pages has, plus one; 0 where there is none.
    frames: HashMap<u64, Box<[u32; REGION]>, BuildHasherDefault<PageHasher>>,
    /// By frame.
    owners: Vec<Owners>,
}

impl Space {
    /// The frame of the OS page with this number.
    pub fn frame(&mut self, number: u64) -> u32 {
        let Self { frames, owners } = self;
        let region = frames.entry(number / REGION as u64).or_insert_with(|| Box::new([0; REGION]));
        let frame = &mut region[number as usize % REGION];
        if *frame == 0 {
            owners.push(Owners::One(0));
            // 2^32 OS pages are 16 TiB.
            *frame = u32::try_from(owners.len()).unwrap_or(u32::MAX);
        }
        *frame - 1
    }

    /// The frame of the OS page with this number, if it has one.
    pub fn known_frame(&self, number: u64) -> Option<u32> {
        let region = self.frames.get(&(number / REGION as u64))?;
        region[number as usize % REGION].checked_sub(1)
    }

    /// Whose block the byte at `offset` of a frame lies in.
    pub fn label(&self, frame: u32, offset: u64) -> Label {
        match &self.owners[frame as usize] {
            Owners::One(label) => *label,
            Owners::Each(labels) => labels[(offset / GRANULE) as usize % GRANULES],
        }
    }

    /// Whose block a line lies in: that of its first byte that is anybody's.
    pub fn label_of_line(&self, frame: u32, offset: u64) -> Label {
        let offsets = (0..crate::cache::LINE / GRANULE).map(|i| offset + i * GRANULE);
        { offsets }.map(|at| self.label(frame, at)).find(|label| *label != 0).unwrap_or(0)
    }

    /// From now on, `len` bytes from `address` belong to `label`.
    pub fn set_label(&mut self, address: u64, len: u64, label: Label) {
        let end = address.saturating_add(len);
        let mut at = address;
        while at < end {
            let number = at / OS_PAGE;
            let next = ((number + 1) * OS_PAGE).min(end);
            let frame = self.frame(number) as usize;
            let owners = &mut self.owners[frame];
            if next - at == OS_PAGE {
                *owners = Owners::One(label);
            } else if !matches!(owners, Owners::One(all) if *all == label) {
                let first = (at % OS_PAGE / GRANULE) as usize;
                let last = ((next - 1) % OS_PAGE / GRANULE) as usize;
                owners.each()[first..=last].fill(label);
            }
            at = next;
        }
    }

    /// `len` bytes from `address` are not mapped any more: whole OS pages lose their frames, so that what is mapped
    /// there later is new memory.
    pub fn forget(&mut self, address: u64, len: u64) {
        let first = address.div_ceil(OS_PAGE);
        let end = address.saturating_add(len) / OS_PAGE;
        for (region, frames) in &mut self.frames {
            let start = region * REGION as u64;
            let inside = |number: u64| (number.clamp(start, start + REGION as u64) - start) as usize;
            if first < end {
                frames[inside(first)..inside(end)].fill(0);
            }
        }
    }
}

impl Owners {
    fn each(&mut self) -> &mut [Label; GRANULES] {
        if let Self::One(label) = self {
            *self = Self::Each(Box::new([*label; GRANULES]));
        }
        match self {
            Self::Each(labels) => labels,
            Self::One(_) => unreachable!("just replaced"),
        }
    }
}
