//! The text of a check, in assembly: what runs in front of each access.
//!
//! It is here once, for the run time, whose checks serve shared libraries, and for `tierctl`, which links checks into
//! executables; those know at link time where a thread's [state](super::filter::ThreadState) is.
//!
//! A check may change `r10`, `r11` and the flags. Most accesses end after eleven instructions (shared: thirteen): the line
//! is one that the thread's state has, so the access is only counted. Whether it lies in one line is part of the
//! comparison: bits of the address that are not aligned end up above the line's number, and match nothing. What does not
//! match is looked at more closely, and becomes a record: it, its value and the counts so far go to the thread's buffer,
//! each to a part of 4096 bytes, and the line is noted. Noting comes last, so that a line is never known before its
//! record is there. Of an access that lies in two lines the second one is forgotten.

/// `check_text!(load 8 "rax" "eax" in executable)`: the check of a load of eight bytes at the address in `rax`, as text of
/// several lines in Intel's syntax. With `in shared` it has the operands `{offset}` and `{refill}` of `naked_asm!`: the
/// place of the thread's state, seen from its own address, and the function that makes room.
#[macro_export]
macro_rules! check_text {
    // What sizes differ in: bytes, hexadecimal digits, the line's number with unaligned bits above.
    ($kind:tt 1 $($rest:tt)*) => { $crate::check_text!(@kind $kind one ("1" "01" "shr r11, 6\n") $($rest)*) };
    ($kind:tt 2 $($rest:tt)*) => {
        $crate::check_text!(@kind $kind some ("2" "02" "ror r11, 1\nshr r11, 5\n") $($rest)*)
    };
    ($kind:tt 4 $($rest:tt)*) => {
        $crate::check_text!(@kind $kind some ("4" "04" "ror r11, 2\nshr r11, 4\n") $($rest)*)
    };
    ($kind:tt 8 $($rest:tt)*) => {
        $crate::check_text!(@kind $kind word ("8" "08" "ror r11, 3\nshr r11, 3\n") $($rest)*)
    };
    ($kind:tt 16 $($rest:tt)*) => {
        $crate::check_text!(@kind $kind some ("16" "10" "ror r11, 4\nshr r11, 2\n") $($rest)*)
    };
    // What loads and stores differ in: the record's first digit, places of the count and of the lines that are known, the
    // value that is noted, the line that may be written.
    (@kind load word $size:tt $($rest:tt)*) => {
        $crate::check_text!(@place some $size ("0" "8" "64" "mov r10, [rcx]\nmov [r11 + 4096], r10\n" "0") $($rest)*)
    };
    (@kind load $lines:ident $size:tt $($rest:tt)*) => {
        $crate::check_text!(@place $lines $size ("0" "8" "64" "" "0") $($rest)*)
    };
    (@kind store word $size:tt $($rest:tt)*) => {
        $crate::check_text!(@place some $size ("8" "12" "576" "" "rcx") $($rest)*)
    };
    (@kind store $lines:ident $size:tt $($rest:tt)*) => {
        $crate::check_text!(@place $lines $size ("8" "12" "576" "" "rcx") $($rest)*)
    };
    // How the state is reached: itself, behind an index in r10 and in r11; what it takes to have r10 lead there, and the
    // indices; the function that makes room.
    (@place $lines:ident $size:tt $kind:tt $register:literal $low:literal in executable) => {
        $crate::check_text!(@lines $lines $size $kind ($register $low) (
            "tiermem_checks_state@TPOFF" "r10 + tiermem_checks_state@TPOFF" "r11 + tiermem_checks_state@TPOFF"
            "" "" "" "tiermem_instrument_refill"
        ))
    };
    (@place $lines:ident $size:tt $kind:tt $register:literal $low:literal in shared) => {
        $crate::check_text!(@lines $lines $size $kind ($register $low) (
            "r10" "r10" "r11"
            "mov r10, [rip + {offset}]\n" "add r10, [rip + {offset}]\n" "add r11, [rip + {offset}]\n" "{refill}"
        ))
    };
    (@lines $lines:ident ($size:literal $hex:literal $line:literal)
        ($digit:literal $count:literal $known:literal $value:literal $written:literal) ($register:literal $low:literal)
        ($state:literal $at:literal $second:literal $base:literal $index:literal $second_index:literal $refill:literal)
    ) => {
        concat!(
            "2: mov r10d, ", $low, "\n",
            "mov r11, ", $register, "\n",
            "shr r10d, 3\n",
            $line,
            "and r10d, 0x1f8\n",
            $index,
            "cmp r11, fs:[", $at, " + ", $known, "]\n",
            "jne 4f\n",
            "3: ", $base,
            "add dword ptr fs:[", $state, " + ", $count, "], 0x40000 + ", $size, "\n",
            "js 5f\n",
            "ret\n",
            "5: jmp ", $refill, "\n",
            "4: push rcx\n",
            "push r10\n",
            "mov rcx, ", $register, "\n",
            $crate::check_text!(@look_closer $lines $size $known $at),
            "6: ", $base,
            "mov r11, fs:[", $state, "]\n",
            "test r11d, 4095\n",
            "jz 8f\n",
            $value,
            $base,
            "mov r10, fs:[", $state, " + 8]\n",
            "mov [r11 + 8192], r10\n",
            "movabs r10, 0x", $digit, "0", $hex, "000000000000\n",
            "or r10, rcx\n",
            "mov [r11], r10\n",
            "add r11, 8\n",
            $base,
            "mov fs:[", $state, "], r11\n",
            "shr rcx, 6\n",
            "and rcx, fs:[", $state, " + 32]\n",
            "pop r10\n",
            "mov fs:[", $at, " + 64], rcx\n",
            "mov qword ptr fs:[", $at, " + 576], ", $written, "\n",
            "pop rcx\n",
            "ret\n",
            "8: call ", $refill, "\n",
            "pop r10\n",
            "pop rcx\n",
            "jmp 2b\n",
            $crate::check_text!(@two_lines $lines $size $second $second_index),
        )
    };
    // One byte is always aligned.
    (@look_closer one $($rest:tt)*) => { "" };
    (@look_closer some $size:literal $known:literal $at:literal) => {
        concat!(
            "mov r11d, ecx\n",
            "and r11d, 63\n",
            "cmp r11d, 64 - ", $size, "\n",
            "ja 7f\n",
            "mov r11, rcx\n",
            "shr r11, 6\n",
            "cmp r11, fs:[", $at, " + ", $known, "]\n",
            "jne 6f\n",
            "pop r10\n",
            "pop rcx\n",
            "jmp 3b\n",
        )
    };
    (@two_lines one $($rest:tt)*) => { "" };
    (@two_lines some $size:literal $second:literal $second_index:literal) => {
        concat!(
            "7: lea r11, [rcx + ", $size, " - 1]\n",
            "shr r11d, 3\n",
            "and r11d, 0x1f8\n",
            $second_index,
            "mov qword ptr fs:[", $second, " + 64], 0\n",
            "mov qword ptr fs:[", $second, " + 576], 0\n",
            "jmp 6b\n",
        )
    };
}

#[cfg(test)]
mod tests {
    /// Instructions until the first return.
    fn length(text: &str) -> usize {
        text.lines().position(|line| line == "ret").unwrap() + 1
    }

    #[test]
    fn most_accesses_take_eleven_instructions() {
        assert_eq!(length(crate::check_text!(load 1 "rax" "eax" in executable)), 10);
        assert_eq!(length(crate::check_text!(load 8 "rax" "eax" in executable)), 11);
        assert_eq!(length(crate::check_text!(store 16 "r9" "r9d" in executable)), 11);
        assert_eq!(length(crate::check_text!(store 16 "r9" "r9d" in shared)), 13);
    }
}
