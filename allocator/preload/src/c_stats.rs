//! What programs ask the C library's allocator about itself (mallinfo(3), malloc_stats(3), malloc_info(3), mallopt(3)),
//! answered for this one, and `tm_stats_print`.

use std::ffi::{CStr, c_char, c_int, c_void};

use tiermem::errno::EINVAL;
use tiermem::introspect::{Form, render};
use tiermem::{say, write_stream};

/// As mallinfo(3) has it. Of blocks with a size class, `arena` is what the tiers have given for them, `uordblks` what the
/// program holds and `fordblks` the rest; `hblks` and `hblkhd` are the large blocks; `keepcost` is what [`malloc_trim`]
/// could give back now. The other fields have no meaning here and are 0.
///
/// [`malloc_trim`]: crate::c_malloc
#[repr(C)]
struct Mallinfo<T> {
    arena: T,
    ordblks: T,
    smblks: T,
    hblks: T,
    hblkhd: T,
    usmblks: T,
    fsmblks: T,
    uordblks: T,
    fordblks: T,
    keepcost: T,
}

fn gather<T: Default>(narrow: fn(u64) -> T) -> Mallinfo<T> {
    let all = tiermem::statistics();
    let large: u64 = all.tiers().iter().map(|tier| tier.large).sum();
    let large_bytes: u64 = all.tiers().iter().map(|tier| tier.large_bytes).sum();
    let held = all.live.saturating_sub(large_bytes);
    let arena = all.committed.saturating_sub(large_bytes);
    Mallinfo {
        arena: narrow(arena),
        ordblks: T::default(),
        smblks: T::default(),
        hblks: narrow(large),
        hblkhd: narrow(large_bytes),
        usmblks: T::default(),
        fsmblks: T::default(),
        uordblks: narrow(held),
        fordblks: narrow(arena.saturating_sub(held)),
        keepcost: narrow(all.dirty),
    }
}

#[unsafe(no_mangle)]
extern "C" fn mallinfo2() -> Mallinfo<usize> {
    gather(|bytes| bytes as usize)
}

/// As `mallinfo2`; what does not fit is the largest number that does.
#[unsafe(no_mangle)]
extern "C" fn mallinfo() -> Mallinfo<c_int> {
    gather(|bytes| c_int::try_from(bytes).unwrap_or(c_int::MAX))
}

/// Prints the statistics on standard error.
#[unsafe(no_mangle)]
extern "C" fn malloc_stats() {
    render(Form::Text, &mut say);
}

/// Prints the statistics as XML into a stdio stream. 0, or `EINVAL` if `options` is not 0.
///
/// # Safety
/// `stream` is an open stdio stream.
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_info(options: c_int, stream: *mut c_void) -> c_int {
    if options != 0 || stream.is_null() {
        return EINVAL;
    }
    render(Form::Xml, &mut |piece| {
        // SAFETY: passed on to the caller.
        unsafe { write_stream(stream, piece) }
    });
    0
}

/// None of the C library's parameters has a meaning here: 0, which says so.
#[unsafe(no_mangle)]
extern "C" fn mallopt(parameter: c_int, value: c_int) -> c_int {
    let _ = (parameter, value);
    0
}

/// Writes the statistics in pieces, each a C string, to `write` with `argument`, or to standard error if `write` is null: as
/// one JSON object if `options` contains `J`, else as text.
///
/// # Safety
/// `write` may be called with `argument`; `options` is null or a C string.
#[unsafe(no_mangle)]
unsafe extern "C" fn tm_stats_print(
    write: Option<unsafe extern "C" fn(*mut c_void, *const c_char)>,
    argument: *mut c_void,
    options: *const c_char,
) {
    // SAFETY: passed on to the caller.
    let options = if options.is_null() { c"" } else { unsafe { CStr::from_ptr(options) } };
    let form = if options.to_bytes().contains(&b'J') { Form::Json } else { Form::Text };
    let Some(write) = write else { return render(form, &mut say) };
    render(form, &mut |piece| {
        let mut text = [0; 513];
        let len = piece.len().min(text.len() - 1);
        text[..len].copy_from_slice(&piece[..len]);
        // SAFETY: passed on to the caller; the text ends in a zero.
        unsafe { write(argument, text.as_ptr().cast()) };
    });
}
