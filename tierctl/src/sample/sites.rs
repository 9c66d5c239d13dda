//! Samples, put together by the loops that they were taken in.

use std::collections::{HashMap, HashSet};

use tiermem_sys::perf::registers::{Registers, Stop};

use super::code::{Load, Origin, load_at};

/// Bytes of a cache line.
const LINE: u64 = 64;
/// From how many steps on it can be said that a load walks one way.
const STEPS_MIN: u64 = 24;
/// Which part of its steps must go one way. Half of a random walk's do.
const ONE_WAY: f64 = 0.8;
/// How far above its stack pointer a thread's stack is taken to reach; a default stack's size.
const STACK: u64 = 8 << 20;

/// What the loads of a loop do.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Times that a thread was found waiting here.
    pub samples: u64,
    /// Those of them whose address is known.
    pub addressed: u64,
    /// The lines that those were about.
    lines: HashSet<u64>,
    /// Of two samples of one instruction and thread in a row: how often the address had grown, and how often it had not.
    up: u64,
    down: u64,
    /// Samples whose address comes from steps of a fixed size.
    stepped: u64,
    last: HashMap<(u32, u64), u64>,
}

impl Site {
    /// Whether it reads memory in order, so that prefetchers run ahead of it.
    pub fn is_stream(&self) -> bool {
        let (all, most) = (self.up + self.down, self.up.max(self.down));
        let walks = all >= STEPS_MIN && most as f64 >= ONE_WAY * all as f64;
        walks || self.stepped * 2 > self.samples
    }

    /// The samples whose address is known, and how many different lines they were about.
    pub fn lines(&self) -> (u64, u64) {
        (self.addressed, self.lines.len() as u64)
    }

    fn take(&mut self, load: &Load, stop: &Stop, address: Option<u64>) {
        self.samples += 1;
        self.stepped += u64::from(load.origin == Origin::Steps);
        let Some(address) = address else { return };
        self.addressed += 1;
        self.lines.insert(address / LINE);
        let before = self.last.insert((stop.thread, stop.instruction), address);
        match before.map(|before| address.cmp(&before)) {
            Some(std::cmp::Ordering::Greater) => self.up += 1,
            Some(std::cmp::Ordering::Less) => self.down += 1,
            _ => {}
        }
    }
}

/// All samples of a run.
#[derive(Debug, Default)]
pub struct Samples {
    /// Every one of them.
    pub all: u64,
    /// By process and loop.
    pub sites: HashMap<(u32, u64), Site>,
    code: HashMap<(u32, u64), Option<Load>>,
}

impl Samples {
    /// Takes one more; looks at the code of its process, which must still be there, when it meets an instruction for the
    /// first time.
    pub fn take(&mut self, stop: &Stop) {
        self.all += 1;
        let code = self.code.entry((stop.process, stop.instruction));
        let load = code.or_insert_with(|| load_at(stop.process, stop.instruction)).as_ref();
        let (Some(load), Some(registers)) = (load, stop.registers) else { return };
        let address = load.address(&registers);
        if load.origin == Origin::Fixed || address.is_some_and(|address| is_on_stack(address, &registers)) {
            return;
        }
        self.sites.entry((stop.process, load.place)).or_default().take(load, stop, address);
    }
}

fn is_on_stack(address: u64, registers: &Registers) -> bool {
    const RSP: usize = 4;
    let pointer = registers.general[RSP];
    (pointer.saturating_sub(128)..pointer.saturating_add(STACK)).contains(&address)
}
