//! A few instructions carried out on known registers: those that make an address out of what a load gave.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use tiermem_sys::perf::registers::Registers;

/// The registers after `path`; `None` where it has an instruction that is not among those that make addresses, and that
/// changes a general register.
pub fn run(path: &[Instruction], registers: &Registers) -> Option<Registers> {
    let mut after = *registers;
    path.iter().try_for_each(|instruction| step(instruction, &mut after))?;
    Some(after)
}

fn step(instruction: &Instruction, registers: &mut Registers) -> Option<()> {
    let keeps = matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Nop)
        || instruction.is_jcc_short_or_near()
        || instruction.is_jmp_short_or_near()
        // A store, or vectors.
        || instruction.op0_kind() == OpKind::Memory
        || (instruction.op0_kind() == OpKind::Register && instruction.op0_register().is_vector_register());
    if keeps {
        return Some(());
    }
    let into = instruction.op0_register();
    // Narrower ones keep a part of the old value.
    let is_wide = into.is_gpr64();
    if !is_wide && !into.is_gpr32() {
        return None;
    }
    let old = read(into, registers)?;
    let operand = |registers: &Registers| match instruction.op_kind(instruction.op_count() - 1) {
        OpKind::Register => read(instruction.op_register(instruction.op_count() - 1), registers),
        OpKind::Memory => None,
        _ => instruction.try_immediate(instruction.op_count() - 1).ok(),
    };
    let new = match instruction.mnemonic() {
        Mnemonic::Lea => address(instruction, registers)?,
        Mnemonic::Mov => operand(registers)?,
        Mnemonic::Add => old.wrapping_add(operand(registers)?),
        Mnemonic::Sub => old.wrapping_sub(operand(registers)?),
        Mnemonic::And => old & operand(registers)?,
        Mnemonic::Or => old | operand(registers)?,
        Mnemonic::Xor => old ^ operand(registers)?,
        Mnemonic::Shl => old.wrapping_shl(u32::try_from(operand(registers)? & 63).ok()?),
        Mnemonic::Shr => old.wrapping_shr(u32::try_from(operand(registers)? & 63).ok()?),
        Mnemonic::Inc => old.wrapping_add(1),
        Mnemonic::Dec => old.wrapping_sub(1),
        _ => return None,
    };
    registers.general[into.full_register().number()] = if is_wide { new } else { new & 0xffff_ffff };
    Some(())
}

fn address(instruction: &Instruction, registers: &Registers) -> Option<u64> {
    let value = |register: Register| if register == Register::None { Some(0) } else { read(register, registers) };
    let index = value(instruction.memory_index())?.wrapping_mul(u64::from(instruction.memory_index_scale()));
    Some(value(instruction.memory_base())?.wrapping_add(index).wrapping_add(instruction.memory_displacement64()))
}

fn read(register: Register, registers: &Registers) -> Option<u64> {
    let value = registers.general.get(register.full_register().number()).copied();
    match register {
        register if register.is_gpr64() => value,
        register if register.is_gpr32() => value.map(|value| value & 0xffff_ffff),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    /// What rax is after `code`, with rax = 5, rcx = 3 and rbx = 0x1000 before.
    fn rax(code: &[u8]) -> Option<u64> {
        let mut registers = Registers::default();
        (registers.general[0], registers.general[1], registers.general[3]) = (5, 3, 0x1000);
        let path: Vec<Instruction> = Decoder::with_ip(64, code, 0, DecoderOptions::NONE).iter().collect();
        run(&path, &registers).map(|after| after.general[0])
    }

    #[test]
    fn addresses_are_made_as_the_processor_makes_them() {
        assert_eq!(rax(&[0x48, 0xc1, 0xe0, 0x06]), Some(5 << 6)); // shl rax, 6
        assert_eq!(rax(&[0x48, 0x8d, 0x04, 0xcb]), Some(0x1018)); // lea rax, [rbx + 8*rcx]
        assert_eq!(rax(&[0x48, 0x89, 0xd8, 0x48, 0x01, 0xc8]), Some(0x1003)); // mov rax, rbx; add rax, rcx
        assert_eq!(rax(&[0x48, 0x83, 0xc0, 0xff]), Some(4)); // add rax, -1
        assert_eq!(rax(&[0x83, 0xe8, 0x06]), Some(0xffff_ffff)); // sub eax, 6: the upper half becomes 0
        assert_eq!(rax(&[0x48, 0x21, 0xc8, 0x48, 0xff, 0xc8]), Some(0)); // and rax, rcx; dec rax
        assert_eq!(rax(&[0x48, 0x39, 0xc8, 0x75, 0xf0]), Some(5)); // cmp rax, rcx; jne
        assert_eq!(rax(&[0x48, 0x0f, 0xaf, 0xc1]), None, "imul is not among them");
        assert_eq!(rax(&[0xb0, 0x01]), None, "mov al, 1 keeps the rest");
        assert_eq!(rax(&[0x48, 0x03, 0x03]), None, "add rax, [rbx] is a load");
    }
}
