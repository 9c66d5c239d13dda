//! Where threads stand, with their registers: by the software timer, which works on any machine. (x86-64 only.)
//!
//! The timer interrupts a thread while its oldest instruction waits, so the instruction is the one that is waited for, and
//! the registers are those that its operands are made of.

use std::mem::size_of;

use super::{Attr, EXCLUDE_HYPERVISOR, EXCLUDE_KERNEL, RECORD_SAMPLE, Ring};
use crate::{Result, cpu};

/// Registers of x86-64 in the order of `enum perf_event_x86_regs`: ax bx cx dx si di bp sp, ip, r8 to r15.
const MASK: u64 = 0xff | 1 << 8 | 0xff << 16;
/// How many these are.
const COUNT: usize = MASK.count_ones() as usize;
const RECORD_LOST: u32 = 2;
/// OS pages of records: 131 KiB of locked memory a CPU, which an ordinary user has for at least three.
const DATA_PAGES: usize = 32;

/// The general registers of a thread, as encoded in instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub general: [u64; 16],
}

/// A thread that was interrupted in user mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Its process.
    pub process: u32,
    /// The thread.
    pub thread: u32,
    /// When, nanoseconds of a clock that all CPUs share.
    pub time_ns: u64,
    /// The instruction that it stood at.
    pub instruction: u64,
    /// Its registers; `None` for a 32-bit program.
    pub registers: Option<Registers>,
}

/// Open samplers.
#[derive(Debug)]
pub struct Stops {
    rings: Vec<Ring>,
    lost: u64,
}

impl Stops {
    /// Samples the calling thread from now on, every `period_ns` of its time on a CPU. Allocates.
    ///
    /// # Errors
    /// As [`Sampler::open`](super::Sampler::open); `ENOSYS` on other processors.
    pub fn of_this_thread(period_ns: u64) -> Result<Self> {
        Ok(Self { rings: vec![Ring::open(&attr(period_ns, 0)?, None, DATA_PAGES)?], lost: 0 })
    }

    /// Samples the programs that this thread starts from now on, and all that they start. Allocates.
    ///
    /// # Errors
    /// As [`Stops::of_this_thread`]; `EPERM` also where the memory for the records of all CPUs is more than the user may
    /// lock (`kernel.perf_event_mlock_kb`).
    pub fn of_programs_started(period_ns: u64) -> Result<Self> {
        const DISABLED: u64 = 1;
        const INHERIT: u64 = 1 << 1;
        const ENABLE_ON_EXEC: u64 = 1 << 12;
        let attr = attr(period_ns, DISABLED | INHERIT | ENABLE_ON_EXEC)?;
        // What is inherited cannot have one buffer for all CPUs.
        let rings = cpu::allowed()?.into_iter().map(|cpu| Ring::open(&attr, Some(cpu), DATA_PAGES));
        Ok(Self { rings: rings.collect::<Result<_>>()?, lost: 0 })
    }

    /// Stops sampling this thread; what is in the buffers stays.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn stop(&self) -> Result<()> {
        self.rings.iter().try_for_each(Ring::stop)
    }

    /// Hands every waiting sample to `each`; those of one CPU are in order. Does not allocate.
    pub fn drain(&mut self, mut each: impl FnMut(&Stop)) {
        for ring in &mut self.rings {
            ring.drain(|kind, word| match kind {
                RECORD_SAMPLE => each(&stop(word)),
                RECORD_LOST => self.lost += word(2),
                _ => {}
            });
        }
    }

    /// Samples for which there was no room.
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

fn attr(period_ns: u64, flags: u64) -> Result<Attr> {
    const IP_TID_TIME_REGISTERS: u64 = 1 | 2 | 4 | 1 << 12;
    if cfg!(not(target_arch = "x86_64")) {
        return Err(crate::Errno::ENOSYS);
    }
    Ok(Attr {
        kind: 1, // Software events, of which the CPU clock is number 0.
        size: size_of::<Attr>() as u32,
        sample_period: period_ns,
        sample_type: IP_TID_TIME_REGISTERS,
        sample_regs_user: MASK,
        flags: flags | EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR,
        ..Attr::default()
    })
}

/// Words: header, instruction, process and thread, time, ABI, registers.
fn stop(word: &dyn Fn(u64) -> u64) -> Stop {
    const ABI_64: u64 = 2;
    let registers = (word(4) == ABI_64).then(|| {
        let mut by_kernel = [0; COUNT];
        by_kernel.iter_mut().zip(5..).for_each(|(register, at)| *register = word(at));
        let [ax, bx, cx, dx, si, di, bp, sp, _ip, high @ ..] = by_kernel;
        let mut general = [ax, cx, dx, bx, sp, bp, si, di, 0, 0, 0, 0, 0, 0, 0, 0];
        general[8..].copy_from_slice(&high);
        Registers { general }
    });
    let ids = word(2);
    Stop { process: ids as u32, thread: (ids >> 32) as u32, time_ns: word(3), instruction: word(1), registers }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::{process, stress};
    use std::time::{Duration, Instant};

    #[test]
    fn a_thread_is_found_where_it_works() {
        let Ok(mut stops) = Stops::of_this_thread(500_000) else {
            eprintln!("SKIP a_thread_is_found_where_it_works: the software timer is not allowed here");
            return;
        };
        let mut words = vec![0; 1 << 16];
        let (low, high) = (words.as_ptr() as u64, words.as_ptr_range().end as u64);
        let ring = stress::Ring::new(&mut words, 1);
        let start = Instant::now();
        let mut at = 0;
        let mut seen = Vec::new();
        while seen.len() < 50 && start.elapsed() < Duration::from_secs(30) {
            at = ring.follow(at, 100_000);
            stops.drain(|stop| seen.push(*stop));
        }
        stops.stop().unwrap();
        assert!(seen.len() >= 50, "{} samples", seen.len());
        assert!(seen.iter().all(|stop| stop.process == process::id() && stop.registers.is_some()));
        let inside = |stop: &&Stop| stop.registers.is_some_and(|r| r.general.iter().any(|r| (low..high).contains(r)));
        assert!(seen.iter().filter(inside).count() > 25, "the ring's address is in a register");
    }
}
