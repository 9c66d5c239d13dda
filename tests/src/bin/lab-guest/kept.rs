//! What memory holds when the guest is gone: for the next guest, and for the host to look at.

use std::fs::File;
use std::sync::atomic::Ordering;

use crate::memory::Memory;
use crate::{Arguments, Outcome, ensure, failed};

/// A device keeps its bytes from here on; before that may lie what describes it.
const BYTES: usize = 8 << 20;
/// Bytes from one [`mark`] to the next: lines of 256 bytes are what interleaving takes turns by.
const STEP: usize = 256;

/// What is written at an offset.
fn mark(offset: usize) -> u64 {
    (offset / STEP) as u64 ^ 0x7165_6d75_0000_0000
}

/// Writes marks to a device, or to a file that is made.
pub fn keep(arguments: &Arguments<'_>) -> Outcome {
    let path = arguments.text(0)?;
    if !path.starts_with("/dev/") {
        let file = File::create(path).map_err(failed(path))?;
        file.set_len(BYTES as u64).map_err(failed(path))?;
    }
    write(path, BYTES)?;
    if !path.starts_with("/dev/") {
        // What is stored there is persistent memory already; that the file is so long is not.
        File::open(path).and_then(|file| file.sync_all()).map_err(failed("fsync"))?;
    }
    Ok(format!("{} marks", BYTES / STEP))
}

/// Finds them again.
pub fn kept(arguments: &Arguments<'_>) -> Outcome {
    let memory = Memory::of_file(arguments.text(0)?, BYTES)?;
    let wrong = offsets(BYTES).filter(|&offset| memory.word(offset).load(Ordering::Relaxed) != mark(offset)).count();
    ensure(wrong == 0, || format!("{wrong} of {} marks are not there", BYTES / STEP))?;
    Ok(format!("{} marks", BYTES / STEP))
}

/// Writes marks that the host finds in the files behind interleaved devices.
pub fn stripes(arguments: &Arguments<'_>) -> Outcome {
    let bytes = arguments.number::<usize>(1)? << 20;
    write(arguments.text(0)?, bytes)?;
    Ok(format!("{} marks", bytes / STEP))
}

fn write(path: &str, bytes: usize) -> Result<(), String> {
    let memory = Memory::of_file(path, bytes)?;
    offsets(bytes).for_each(|offset| memory.word(offset).store(mark(offset), Ordering::Relaxed));
    Ok(())
}

fn offsets(bytes: usize) -> impl Iterator<Item = usize> {
    (0..bytes).step_by(STEP)
}
