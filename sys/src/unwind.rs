//! Walking the stack, through the unwinder that every Rust program links.

use std::ffi::c_void;

/// Fills `frames` with return addresses of the calling thread's stack, innermost first, this function's own left
/// out. Returns how many there are.
///
/// Uses the unwind tables (`.eh_frame`), so frame pointers are not needed. With glibc 2.35 or newer the tables are
/// found without a lock (`_dl_find_object`), and nothing is allocated.
#[inline(never)]
pub fn walk(frames: &mut [usize]) -> usize {
    run(Walk { frames, count: 0, skip: 2, until: None })
}

/// As [`walk`], from the frame that returns to `caller` on, which is looked for among the `skip_max` innermost ones; 0 if it is
/// not there. No frame is walked that is not needed.
#[inline(never)]
pub fn walk_from(caller: usize, skip_max: usize, frames: &mut [usize]) -> usize {
    run(Walk { frames, count: 0, skip: skip_max, until: Some(caller) })
}

struct Walk<'a> {
    frames: &'a mut [usize],
    count: usize,
    /// Frames that are passed over.
    skip: usize,
    /// The one that is not, and ends the passing over.
    until: Option<usize>,
}

#[inline(never)]
fn run(mut walk: Walk<'_>) -> usize {
    extern "C-unwind" fn visit(context: *mut Context, argument: *mut c_void) -> i32 {
        const GO_ON: i32 = 0;
        const STOP: i32 = 5;
        // SAFETY: the argument is the `Walk` below, alive during the call.
        let walk = unsafe { &mut *argument.cast::<Walk<'_>>() };
        // SAFETY: the unwinder's own context.
        let pc = unsafe { _Unwind_GetIP(context) };
        match walk.until {
            Some(caller) if caller == pc => (walk.skip, walk.until) = (0, None),
            // Not among those where it should be.
            Some(_) if walk.skip == 0 => return STOP,
            _ => {}
        }
        if walk.skip > 0 {
            walk.skip -= 1;
            return GO_ON;
        }
        match walk.frames.get_mut(walk.count) {
            Some(slot) if pc != 0 => {
                *slot = pc;
                walk.count += 1;
                if walk.count < walk.frames.len() { GO_ON } else { STOP }
            }
            _ => STOP,
        }
    }

    // SAFETY: `visit` does not unwind and fits the ABI; the argument outlives the call.
    unsafe { _Unwind_Backtrace(visit, (&raw mut walk).cast()) };
    walk.count
}

/// The unwinder's state.
enum Context {}

unsafe extern "C-unwind" {
    fn _Unwind_Backtrace(visit: extern "C-unwind" fn(*mut Context, *mut c_void) -> i32, argument: *mut c_void) -> i32;
    fn _Unwind_GetIP(context: *mut Context) -> usize;
}

#[cfg(test)]
mod tests {
    /// A caller of its own, which optimisation cannot merge into the test harness.
    #[inline(never)]
    fn caller(frames: &mut [usize]) -> usize {
        std::hint::black_box(super::walk(std::hint::black_box(frames)))
    }

    #[test]
    fn the_caller_is_found() {
        let mut frames = [0; 8];
        let count = caller(&mut frames);
        assert!(count >= 2, "only {count} frames");
        let here = caller as *const () as usize;
        let found = frames[0];
        assert!(found > here && found - here < 4096, "{found:#x} is not in the function at {here:#x}");
    }

    #[inline(never)]
    fn caller_from(caller: usize, frames: &mut [usize]) -> usize {
        std::hint::black_box(super::walk_from(caller, 8, std::hint::black_box(frames)))
    }

    #[test]
    fn a_walk_may_begin_further_out() {
        let mut all = [0; 8];
        let count = caller(&mut all);
        let mut some = [0; 2];
        assert_eq!(caller_from(all[2], &mut some), 2);
        assert_eq!(some, all[2..4]);
        assert_eq!((caller_from(1, &mut some), some), (0, [all[2], all[3]]), "what is not there begins nothing");
        assert!(count > 4);
    }
}
