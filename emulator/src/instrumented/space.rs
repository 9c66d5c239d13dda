//! Which frame an OS page has, and whose block an address lies in.

use std::hash::Hasher;

/// Bytes of an OS page here, whatever the machine's are.
pub const OS_PAGE: u64 = 4096;
/// Blocks are told apart to this many bytes, the alignment of `malloc`.
const GRANULE: u64 = 16;
const GRANULES: usize = (OS_PAGE / GRANULE) as usize;

/// OS pages whose frames stand together: 2 MiB of addresses.
const REGION: usize = 512;

/// Regions that are found without a search, if they lie side by side: 128 MiB.
const LATELY: usize = 64;

/// What a block is: an index into the engine's labels. 0 is what nobody allocated: stacks, static data, code.
pub type Label = u16;

/// Whom the granules of an OS page belong to: all to one label, or, with this bit set, each to what stands at this index
/// of [`Space::parts`].
type Owner = u32;
const IN_PARTS: Owner = 1 << 31;

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
#[derive(Debug)]
pub struct Space {
    regions: Regions,
    /// By frame.
    owners: Vec<Owner>,
    parts: Vec<[Label; GRANULES]>,
}

impl Default for Space {
    fn default() -> Self {
        Self { regions: Regions::new(), owners: Vec::new(), parts: Vec::new() }
    }
}

impl Space {
    /// The frame of the OS page with this number.
    pub fn frame(&mut self, number: u64) -> u32 {
        let frame = &mut self.regions.find_or_add(number / REGION as u64)[number as usize % REGION];
        if *frame == 0 {
            self.owners.push(0);
            // 2^32 OS pages are 16 TiB.
            *frame = u32::try_from(self.owners.len()).unwrap_or(u32::MAX);
        }
        *frame - 1
    }

    /// The frame of the OS page with this number, if it has one.
    #[inline(always)]
    pub fn known_frame(&mut self, number: u64) -> Option<u32> {
        self.regions.find(number / REGION as u64)[number as usize % REGION].checked_sub(1)
    }

    /// Whose block the byte at this place, counted through all frames, lies in.
    #[inline]
    pub fn label_at(&self, place: u64) -> Label {
        let owner = self.owners[(place / OS_PAGE) as usize];
        if owner & IN_PARTS == 0 { owner as Label } else { self.label_in_parts(owner, place % OS_PAGE) }
    }

    fn label_in_parts(&self, owner: Owner, offset: u64) -> Label {
        self.parts[(owner & !IN_PARTS) as usize][(offset / GRANULE) as usize % GRANULES]
    }

    /// Whose block a line lies in: that of its first byte that is anybody's.
    pub fn label_of_line(&self, frame: u32, offset: u64) -> Label {
        let owner = self.owners[frame as usize];
        if owner & IN_PARTS == 0 {
            return owner as Label;
        }
        let offsets = (0..crate::cache::LINE / GRANULE).map(|i| offset + i * GRANULE);
        { offsets }.map(|at| self.label_in_parts(owner, at)).find(|label| *label != 0).unwrap_or(0)
    }

    /// From now on, `len` bytes from `address` belong to `label`.
    pub fn set_label(&mut self, address: u64, len: u64, label: Label) {
        let end = address.saturating_add(len);
        let mut at = address;
        while at < end {
            let number = at / OS_PAGE;
            let next = ((number + 1) * OS_PAGE).min(end);
            let frame = self.frame(number) as usize;
            let owner = self.owners[frame];
            if owner & IN_PARTS != 0 || (next - at != OS_PAGE && owner != Owner::from(label)) {
                let first = (at % OS_PAGE / GRANULE) as usize;
                let last = ((next - 1) % OS_PAGE / GRANULE) as usize;
                self.parts_of(frame)[first..=last].fill(label);
            } else {
                self.owners[frame] = label.into();
            }
            at = next;
        }
    }

    fn parts_of(&mut self, frame: usize) -> &mut [Label; GRANULES] {
        let owner = &mut self.owners[frame];
        if *owner & IN_PARTS == 0 {
            self.parts.push([*owner as Label; GRANULES]);
            // As many as there are frames at most, and those would be 8 TiB.
            *owner = IN_PARTS | (self.parts.len() - 1) as Owner;
        }
        &mut self.parts[(*owner & !IN_PARTS) as usize]
    }

    /// `len` bytes from `address` are not mapped any more: whole OS pages lose their frames, so that what is mapped
    /// there later is new memory.
    pub fn forget(&mut self, address: u64, len: u64) {
        let first = address.div_ceil(OS_PAGE);
        let end = address.saturating_add(len) / OS_PAGE;
        for (region, frames) in self.regions.iter_mut() {
            let start = region * REGION as u64;
            let inside = |number: u64| (number.clamp(start, start + REGION as u64) - start) as usize;
            if first < end {
                frames[inside(first)..inside(end)].fill(0);
            }
        }
    }
}

/// Frames of an address space: what each OS page of a region has, plus one; 0 where there is none.
#[derive(Debug)]
struct Regions {
    /// Numbers of regions, each with the index of its frames, at the place that its hash says or behind it; a power of two,
    /// at least half of them free (index 0).
    slots: Vec<(u64, u32)>,
    /// The first one is nobody's.
    frames: Vec<[u32; REGION]>,
    /// Known regions, by their low bits, as they stand in `slots`: nearly always the one that is asked for.
    lately: [(u64, u32); LATELY],
}

impl Regions {
    fn new() -> Self {
        Self { slots: vec![(0, 0); 64], frames: vec![[0; REGION]], lately: [(0, 0); LATELY] }
    }

    /// Where the region stands, or would.
    #[inline]
    fn slot(&self, region: u64) -> usize {
        let mask = self.slots.len() - 1;
        // The multiplier of Fibonacci hashing (Knuth, TAOCP 3, 6.4).
        let mut slot = (region.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        while self.slots[slot].1 != 0 && self.slots[slot].0 != region {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// The frames of a region; none has one where the region is not known.
    #[inline(always)]
    fn find(&mut self, region: u64) -> &[u32; REGION] {
        let (known, index) = self.lately[region as usize % LATELY];
        let index = if known == region && index != 0 { index } else { self.search(region) };
        &self.frames[index as usize]
    }

    #[inline(never)]
    fn search(&mut self, region: u64) -> u32 {
        let found = self.slots[self.slot(region)];
        self.lately[region as usize % LATELY] = found;
        found.1
    }

    #[inline]
    fn find_or_add(&mut self, region: u64) -> &mut [u32; REGION] {
        let slot = self.slot(region);
        let index = match self.slots[slot].1 {
            0 => self.add(region),
            index => index as usize,
        };
        &mut self.frames[index]
    }

    #[cold]
    fn add(&mut self, region: u64) -> usize {
        let index = self.frames.len();
        self.frames.push([0; REGION]);
        if index * 2 > self.slots.len() {
            let larger = vec![(0, 0); self.slots.len() * 2];
            for known in std::mem::replace(&mut self.slots, larger).into_iter().filter(|known| known.1 != 0) {
                let slot = self.slot(known.0);
                self.slots[slot] = known;
            }
        }
        let slot = self.slot(region);
        self.slots[slot] = (region, index as u32);
        index
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut [u32; REGION])> {
        let mut numbers = vec![0; self.frames.len()];
        for &(region, index) in self.slots.iter().filter(|known| known.1 != 0) {
            numbers[index as usize] = region;
        }
        numbers.into_iter().zip(&mut self.frames).skip(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn frames_are_given_in_order_and_found_again() {
        let mut space = Space::default();
        let mut state = 1_u64;
        let mut known = HashMap::new();
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // A few thousand regions, some of them next to each other, some with the same low bits.
            let number = ((state >> 60) << 30) | ((state >> 40) % (1 << 20));
            let next = known.len() as u32;
            assert_eq!(space.known_frame(number), known.get(&number).copied());
            assert_eq!(space.frame(number), *known.entry(number).or_insert(next));
        }
        let gone = 5 << 30;
        space.forget(gone * OS_PAGE, (1 << 20) * OS_PAGE);
        for (&number, &frame) in &known {
            let is_gone = (gone..gone + (1 << 20)).contains(&number);
            assert_eq!(space.known_frame(number), (!is_gone).then_some(frame));
        }
    }

    #[test]
    fn labels_are_those_of_a_list_of_granules() {
        let mut space = Space::default();
        let mut granules = vec![0; 16 * GRANULES];
        let mut state = 3_u64;
        for _ in 0..2_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let first = (state >> 33) as usize % granules.len();
            let len = 1 + (state >> 20) as usize % 600.min(granules.len() - first);
            let label = (state >> 50) as Label % 5;
            space.set_label(first as u64 * GRANULE, len as u64 * GRANULE, label);
            granules[first..first + len].fill(label);
        }
        for page in 0..16 {
            let Some(frame) = space.known_frame(page) else { continue };
            for at in 0..GRANULES {
                let of_page = &granules[page as usize * GRANULES..][..GRANULES];
                assert_eq!(space.label_at(u64::from(frame) * OS_PAGE + at as u64 * GRANULE), of_page[at]);
                let line = of_page[at / 4 * 4..][..4].iter().find(|label| **label != 0);
                assert_eq!(space.label_of_line(frame, at as u64 / 4 * 64), line.copied().unwrap_or(0));
            }
        }
    }
}
