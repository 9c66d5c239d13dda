//! What the model writes into blocks and expects to find again: each byte is looked at, and each stretch of 4 KiB says
//! where in the block it belongs, so that contents that come back in the wrong place are seen too.

/// Bytes in a stretch.
const STRETCH: usize = 4096;
/// Bytes of a stretch that hold its number.
const NUMBER: usize = 8;

/// Compared as whole slices, which is fast in builds without optimisation too.
static ZERO: [u8; STRETCH] = [0; STRETCH];

fn bytes<'a>(at: *const u8, size: usize) -> &'a [u8] {
    // SAFETY: the model passes blocks that it holds, and which were filled or zeroed before.
    unsafe { std::slice::from_raw_parts(at, size) }
}

/// The number of a stretch, told from that of another block by the fill byte.
fn number(stretch: usize, fill: u8) -> [u8; NUMBER] {
    ((stretch as u64) << 8 | u64::from(fill)).to_le_bytes()
}

/// Fills a block that the caller holds.
pub fn fill(at: *mut u8, size: usize, fill: u8) {
    // SAFETY: the model passes blocks that it holds.
    unsafe { at.write_bytes(fill, size) };
    for (stretch, from) in (0..size).step_by(STRETCH).enumerate() {
        if size - from >= NUMBER {
            // SAFETY: within the block.
            let into = unsafe { std::slice::from_raw_parts_mut(at.add(from), NUMBER) };
            into.copy_from_slice(&number(stretch, fill));
        }
    }
}

/// Checks the first `size` bytes of a block that was filled, and may have been longer then.
pub fn check_fill(at: *const u8, size: usize, fill: u8, when: &str) -> Result<(), String> {
    let rest = [fill; STRETCH];
    for (stretch, held) in bytes(at, size).chunks(STRETCH).enumerate() {
        // What is shorter than a number was never given one, or has lost the end of it.
        let (head, tail) = held.split_at(if held.len() >= NUMBER { NUMBER } else { 0 });
        let right_place = head.is_empty() || head == number(stretch, fill);
        if held.len() < NUMBER && tail != &rest[..tail.len()] && tail != &number(stretch, fill)[..tail.len()]
            || held.len() >= NUMBER && (!right_place || tail != &rest[..tail.len()])
        {
            let offset = tail.iter().position(|&byte| byte != fill).map_or(0, |i| head.len() + i);
            let offset = stretch * STRETCH + if right_place { offset } else { 0 };
            return Err(format!("{when}: byte {offset} of {size} was changed"));
        }
    }
    Ok(())
}

/// Checks that a block is all zero.
pub fn check_zero(at: *const u8, size: usize) -> Result<(), String> {
    for (stretch, held) in bytes(at, size).chunks(STRETCH).enumerate() {
        if held != &ZERO[..held.len()] {
            let offset = held.iter().position(|&byte| byte != 0).unwrap_or(0);
            return Err(format!("a zeroed block of {size} bytes is not zero at {}", stretch * STRETCH + offset));
        }
    }
    Ok(())
}

/// The checks see what they are for: a byte changed anywhere, and contents in another place.
#[test]
fn changes_and_shifts_are_seen() {
    const SIZE: usize = 3 * STRETCH + 5;
    let mut block = vec![0u8; SIZE];
    assert_eq!(check_zero(block.as_ptr(), SIZE), Ok(()));
    for at in [0, 4095, 4096, SIZE - 1] {
        block[at] = 1;
        assert!(check_zero(block.as_ptr(), SIZE).is_err_and(|said| said.ends_with(&format!("not zero at {at}"))));
        block[at] = 0;
    }
    fill(block.as_mut_ptr(), SIZE, 0x5A);
    for size in [0, 1, 7, 8, 9, 4095, 4096, 4099, 4104, SIZE] {
        assert_eq!(check_fill(block.as_ptr(), size, 0x5A, "whole"), Ok(()), "{size}");
    }
    for at in [0, 9, 4095, 4097, 2 * STRETCH, SIZE - 1] {
        block[at] ^= 1;
        assert!(check_fill(block.as_ptr(), SIZE, 0x5A, "changed").is_err(), "{at}");
        block[at] ^= 1;
    }
    let shifted = check_fill(block[STRETCH..].as_ptr(), STRETCH, 0x5A, "shifted");
    assert_eq!(shifted, Err("shifted: byte 0 of 4096 was changed".to_owned()));
}
