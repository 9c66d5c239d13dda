//! What a thread that was interrupted waits for: its instruction, and the loop around it.
//!
//! A load is waited for as long as memory takes only if the processor could not ask for it long before. That depends on
//! where its address comes from, which the loop shows: out of another load (a chase), out of steps of a fixed size (a
//! stream, which prefetchers run ahead of), or out of something else.

use std::fs::File;
use std::os::unix::fs::FileExt;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register, UsedMemory,
};
use tiermem_sys::perf::registers::Registers;

use super::steps;

/// How far before and behind an instruction its loop is looked for, bytes.
const REACH: u64 = 1024;

/// Where a load's address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// From what another load of the loop, or the same one the last time, has read.
    Load,
    /// From steps of a fixed size.
    Steps,
    /// Computed, or the loop was not found.
    Computed,
    /// It stays where it is.
    Fixed,
}

/// A load, as it stands in the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Where its address comes from.
    pub origin: Origin,
    /// Its loop's first instruction; its own OS page where no loop was found.
    pub place: u64,
    /// How its address, or that of the next load, is made; `None` if the registers do not tell.
    operand: Option<Operand>,
    /// What comes before that load is carried out.
    path: Vec<Instruction>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operand {
    base: Option<usize>,
    index: Option<usize>,
    scale: u64,
    displacement: u64,
}

impl Load {
    /// The address that it reads, or the one that the next load reads.
    pub fn address(&self, registers: &Registers) -> Option<u64> {
        let operand = self.operand?;
        let registers = steps::run(&self.path, registers)?;
        let value = |register: Option<usize>| register.map_or(0, |number| registers.general[number]);
        let index = value(operand.index).wrapping_mul(operand.scale);
        Some(value(operand.base).wrapping_add(index).wrapping_add(operand.displacement))
    }
}

/// The load that a thread of `process` at `at` waits for; `None` if it waits for none, or its code cannot be read.
pub fn load_at(process: u32, at: u64) -> Option<Load> {
    let memory = File::open(format!("/proc/{process}/mem")).ok()?;
    let read = |start: u64| {
        let mut bytes = vec![0; usize::try_from(at + REACH - start).ok()?];
        let got = memory.read_at(&mut bytes, start).ok().filter(|&got| got as u64 > at - start)?;
        bytes.truncate(got);
        Some((bytes, start))
    };
    // Where the code begins less than so far before, its first OS page is all there is.
    let (bytes, start) = read(at.saturating_sub(REACH)).or_else(|| read(at & !0xfff))?;
    find(&bytes, start, at)
}

/// As [`load_at`], in the code `bytes` that lies at `start`.
fn find(bytes: &[u8], start: u64, at: u64) -> Option<Load> {
    let mut info = InstructionInfoFactory::new();
    let standing = decode(bytes, start, at).next()?;
    let body = loop_around(bytes, start, at);
    let place = body.first().map_or(at & !0xfff, Instruction::ip);
    if let Some(memory) = read_memory(&mut info, &standing) {
        let origin = if body.is_empty() { Origin::Computed } else { origin(&mut info, &body, &memory) };
        return Some(Load { origin, place, operand: Some(operand(&memory)?), path: Vec::new() });
    }
    // Many processors show the instruction behind the one that was waited for.
    let here = body.iter().position(|instruction| instruction.ip() == at);
    let before = match here {
        Some(here) => body[(here + body.len() - 1) % body.len()],
        None => before(bytes, start, at)?,
    };
    let memory = read_memory(&mut info, &before)?;
    let loaded: Vec<Register> = written(&mut info, &before);
    let is_intact = ![memory.base(), memory.index()].iter().any(|register| loaded.contains(&register.full_register()));
    let (operand, path) = match here {
        _ if is_intact => (operand(&memory), Vec::new()),
        Some(here) => next_load(&mut info, &body, here),
        None => (None, Vec::new()),
    };
    let origin = if here.is_some() { origin(&mut info, &body, &memory) } else { Origin::Computed };
    Some(Load { origin, place, operand, path })
}

/// The instruction before `at`. Instructions cannot be read backwards, but whoever starts anywhere before falls into step
/// with them soon; what most find counts.
fn before(bytes: &[u8], start: u64, at: u64) -> Option<Instruction> {
    const FROM: std::ops::Range<u64> = 48..72;
    let mut found: Vec<Instruction> = Vec::new();
    for back in FROM {
        let Some(from) = at.checked_sub(back).filter(|&from| from >= start) else { continue };
        let last = decode(bytes, start, from).take_while(|instruction| instruction.ip() < at).last();
        found.extend(last.filter(|last| last.next_ip() == at));
    }
    let most = found.iter().max_by_key(|one| found.iter().filter(|other| other.ip() == one.ip()).count())?;
    Some(*most)
}

/// How the address of the next load is made, and what is done before it: a chase has overwritten what the last address was
/// made of, by what makes the next one.
fn next_load(
    info: &mut InstructionInfoFactory,
    body: &[Instruction],
    here: usize,
) -> (Option<Operand>, Vec<Instruction>) {
    let round = body[here..].iter().chain(&body[..here]);
    let mut path = Vec::new();
    for instruction in round {
        if let Some(memory) = read_memory(info, instruction) {
            return (operand(&memory), path);
        }
        path.push(*instruction);
    }
    (None, path)
}

fn decode(bytes: &[u8], start: u64, at: u64) -> impl Iterator<Item = Instruction> {
    let from = usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len());
    let mut decoder = Decoder::with_ip(64, &bytes[from..], at, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()).filter(|found| !found.is_invalid()))
}

/// The instructions of the innermost loop around `at`; none if there is no loop that close.
fn loop_around(bytes: &[u8], start: u64, at: u64) -> Vec<Instruction> {
    for instruction in decode(bytes, start, at) {
        let jumps =
            matches!(instruction.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch);
        let target = instruction.near_branch_target();
        if jumps && target <= at && target >= start {
            let body: Vec<_> = decode(bytes, start, target).take_while(|i| i.ip() <= instruction.ip()).collect();
            // What was decoded as something else was no loop.
            let is_whole = body.iter().any(|i| i.ip() == at) && body.iter().any(|i| i.ip() == instruction.ip());
            return if is_whole { body } else { Vec::new() };
        }
        if matches!(instruction.flow_control(), FlowControl::Return | FlowControl::Interrupt) {
            break;
        }
    }
    Vec::new()
}

/// What the instruction reads from memory that is not known to be near: not its stack frame, not what belongs to its thread.
fn read_memory(info: &mut InstructionInfoFactory, instruction: &Instruction) -> Option<UsedMemory> {
    let reads = |access| matches!(access, OpAccess::Read | OpAccess::ReadWrite | OpAccess::CondRead);
    let near = |memory: &UsedMemory| {
        let frame = matches!(memory.base(), Register::RSP | Register::RBP) && memory.index() == Register::None;
        let of_code = memory.base() == Register::RIP || memory.base() == Register::None;
        frame
            || (of_code && memory.index() == Register::None)
            || matches!(memory.segment(), Register::FS | Register::GS)
    };
    let used = info.info(instruction).used_memory();
    used.iter().copied().find(|memory| reads(memory.access()) && !near(memory))
}

fn operand(memory: &UsedMemory) -> Option<Operand> {
    let number = |register: Register| match register {
        Register::None => Some(None),
        // A vector of indices is many addresses.
        register if register.is_gpr64() => Some(Some(register.number())),
        _ => None,
    };
    Some(Operand {
        base: number(memory.base())?,
        index: number(memory.index())?,
        scale: u64::from(memory.scale()),
        displacement: memory.displacement(),
    })
}

/// The registers that it writes, in full width.
fn written(info: &mut InstructionInfoFactory, instruction: &Instruction) -> Vec<Register> {
    let used = info.info(instruction).used_registers().iter();
    let writes =
        |access| !matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess);
    used.filter(|used| writes(used.access())).map(|used| used.register().full_register()).collect()
}

/// Where an address in a loop comes from: follows the registers that it is made of back through the loop.
fn origin(info: &mut InstructionInfoFactory, body: &[Instruction], memory: &UsedMemory) -> Origin {
    let mut wanted: Vec<Register> = [memory.base(), memory.index()].into_iter().map(|r| r.full_register()).collect();
    let (mut seen, mut found) = (Vec::new(), Origin::Fixed);
    while let Some(register) = wanted.pop() {
        if register == Register::None || seen.contains(&register) {
            continue;
        }
        seen.push(register);
        for instruction in body {
            if matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
                found = Origin::Computed;
                continue;
            }
            if !written(info, instruction).contains(&register) {
                continue;
            }
            if read_memory(info, instruction).is_some() {
                return Origin::Load;
            }
            let steps = [Mnemonic::Add, Mnemonic::Sub, Mnemonic::Inc, Mnemonic::Dec, Mnemonic::Lea, Mnemonic::Mov];
            let used = info.info(instruction);
            // What is read back from the stack frame may be anything.
            if !steps.contains(&instruction.mnemonic())
                || (instruction.mnemonic() != Mnemonic::Lea && !used.used_memory().is_empty())
            {
                found = Origin::Computed;
            } else if found == Origin::Fixed {
                found = Origin::Steps;
            }
            let reads = used.used_registers().iter().filter(|used| !matches!(used.access(), OpAccess::Write));
            wanted.extend(reads.map(|used| used.register().full_register()).filter(|register| register.is_gpr64()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0x1000;

    fn at(code: &[u8], offset: u64) -> Option<Load> {
        find(code, START, START + offset)
    }

    fn registers(pairs: &[(usize, u64)]) -> Registers {
        let mut registers = Registers::default();
        pairs.iter().for_each(|&(number, value)| registers.general[number] = value);
        registers
    }

    #[test]
    fn a_chase_takes_its_address_from_a_load() {
        // 1: mov rax, [rdi + 8*rax]; dec rcx; jne 1b
        let code = [0x48, 0x8b, 0x04, 0xc7, 0x48, 0xff, 0xc9, 0x75, 0xf7];
        let load = at(&code, 0).unwrap();
        assert_eq!((load.origin, load.place), (Origin::Load, START));
        assert_eq!(load.address(&registers(&[(0, 3), (7, 0x8000)])), Some(0x8018));
        // Behind it, the address is that of the next one.
        assert_eq!(at(&code, 4).unwrap().address(&registers(&[(0, 3), (7, 0x8000)])), Some(0x8018));
        assert_eq!(at(&code, 7), None, "two behind, nobody waits");
        // 1: mov rax, [rax]; test rax, rax; jne 1b: who stands at the test waits for the load.
        let list = [0x48, 0x8b, 0x00, 0x48, 0x85, 0xc0, 0x75, 0xf8];
        let load = at(&list, 3).unwrap();
        assert_eq!(
            (load.origin, load.address(&registers(&[(0, 0x9000)]))),
            (Origin::Load, Some(0x9000)),
            "the next one's"
        );
        // 1: mov rax, [rax]; shl rax, 3; test rax, rax; jne 1b: the next address is made first.
        let shifted = [0x48, 0x8b, 0x00, 0x48, 0xc1, 0xe0, 0x03, 0x48, 0x85, 0xc0, 0x75, 0xf4];
        assert_eq!(at(&shifted, 3).unwrap().address(&registers(&[(0, 0x9000)])), Some(0x48000));
    }

    #[test]
    fn a_stream_takes_its_address_from_steps() {
        // 1: add rax, [rdi]; add rdi, 8; cmp rdi, rsi; jne 1b
        let code = [0x48, 0x03, 0x07, 0x48, 0x83, 0xc7, 0x08, 0x48, 0x39, 0xf7, 0x75, 0xf4];
        assert_eq!(at(&code, 0).unwrap().origin, Origin::Steps);
        // 1: movups xmm0, [rdi + rax]; lea rax, [rax + 16]; cmp rax, rcx; jb 1b
        let vector = [0x0f, 0x10, 0x04, 0x07, 0x48, 0x8d, 0x40, 0x10, 0x48, 0x39, 0xc8, 0x72, 0xf3];
        assert_eq!(at(&vector, 0).unwrap().origin, Origin::Steps);
    }

    #[test]
    fn what_is_computed_or_stays_is_neither() {
        // 1: imul rax, rcx; mov rdx, [rdi + 8*rax]; jmp 1b
        let computed = [0x48, 0x0f, 0xaf, 0xc1, 0x48, 0x8b, 0x14, 0xc7, 0xeb, 0xf6];
        assert_eq!(at(&computed, 4).unwrap().origin, Origin::Computed);
        // 1: mov rdx, [rdi]; dec rcx; jne 1b
        let fixed = [0x48, 0x8b, 0x17, 0x48, 0xff, 0xc9, 0x75, 0xf8];
        assert_eq!(at(&fixed, 0).unwrap().origin, Origin::Fixed);
        // mov rax, [rdi]; ret: no loop.
        assert_eq!(at(&[0x48, 0x8b, 0x07, 0xc3], 0).unwrap().origin, Origin::Computed);
        // mov rax, [rsp + 8]: the stack frame.
        assert_eq!(at(&[0x48, 0x8b, 0x44, 0x24, 0x08, 0xc3], 0), None);
    }

    #[test]
    fn no_bytes_are_too_strange() {
        for seed in 0_u64..2000 {
            let mut random = tiermem_emulator::random::Random::new(seed);
            let code: Vec<u8> = (0..96).map(|_| (random.next() >> 32) as u8).collect();
            let _ = at(&code, seed % 96);
        }
        assert_eq!(find(&[], START, START), None);
        assert_eq!(load_at(std::process::id(), 0), None);
    }
}
