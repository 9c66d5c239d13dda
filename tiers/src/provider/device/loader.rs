//! Loads a runtime's library, and keeps test doubles from passing for drivers.

use std::ffi::OsStr;
use std::fmt;

use libloading::Library;

use crate::Error;

/// A symbol that every test double of a driver exports and no driver does.
const DOUBLE_MARKER: &str = "tiermem_test_double";

/// What the caller means to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A vendor's library.
    Driver,
    /// A test double; only the test-only interface asks for one.
    Double,
}

/// Why a runtime cannot be used, in words.
#[derive(Clone, Debug)]
pub(super) struct Absent(String);

impl Absent {
    /// A reason that says what to do, and the details.
    pub(super) fn new(reason: &str, detail: &str) -> Self {
        Self(format!("{reason} ({detail})"))
    }

    /// With what the dynamic linker says, which libloading keeps as the source of its error.
    pub(super) fn unloadable(reason: &str, why: &libloading::Error) -> Self {
        Self::new(reason, std::error::Error::source(why).map_or_else(|| why.to_string(), ToString::to_string).as_str())
    }
}

impl From<Error> for Absent {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Loads `library`, a name for the dynamic linker's search or a path.
///
/// # Safety
/// The library must be what its name says or what the caller expects: its initialisers run in this process.
pub(super) unsafe fn load(library: &OsStr, expected: Expected, hint: &str) -> Result<Library, Absent> {
    // SAFETY: passed on to the caller.
    let loaded = unsafe { Library::new(library) }.map_err(|why| Absent::unloadable(hint, &why))?;
    // SAFETY: the symbol is only looked for; its value is never used.
    let is_double = unsafe { loaded.get::<*const u8>(DOUBLE_MARKER) }.is_ok();
    let name = library.to_string_lossy();
    match (expected, is_double) {
        (Expected::Driver, false) | (Expected::Double, true) => Ok(loaded),
        (Expected::Driver, true) => {
            Err(Absent::new("the driver library that was found is a test double of tiermem, not hardware", &name))
        }
        (Expected::Double, false) => {
            Err(Absent::new("the library is not a test double: it lacks the marker `tiermem_test_double`", &name))
        }
    }
}

/// Declares a table of a library's functions, and `resolve`, which fills it.
macro_rules! symbol_table {
    ($(#[$meta:meta])* struct $table:ident { $(fn $symbol:ident($($argument:ty),* $(,)?) -> $result:ty;)* }) => {
        $(#[$meta])*
        #[expect(non_snake_case, reason = "the names are the library's")]
        struct $table {
            $($symbol: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl $table {
            /// # Safety
            /// The library's functions of these names have these signatures, and it stays loaded while the table is
            /// in use.
            unsafe fn resolve(library: &libloading::Library) -> Result<Self, $crate::provider::device::loader::Absent> {
                Ok(Self {
                    $($symbol: {
                        // SAFETY: the caller vouches for the signature.
                        let found = unsafe {
                            library.get::<unsafe extern "C" fn($($argument),*) -> $result>(stringify!($symbol))
                        };
                        *found.map_err(|why| $crate::provider::device::loader::Absent::unloadable(
                            "the driver library lacks a function that is needed; a newer driver may have it",
                            &why,
                        ))?
                    },)*
                })
            }
        }
    };
}
pub(super) use symbol_table;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_library_is_an_error_with_the_linkers_reason() {
        // SAFETY: there is no such library, so nothing is loaded.
        let absent = unsafe { load("libtiermem-none.so.1".as_ref(), Expected::Driver, "install it") }.unwrap_err();
        let text = absent.to_string();
        assert!(text.starts_with("install it (libtiermem-none.so.1: "), "{text}");
    }

    #[test]
    fn a_driver_does_not_pass_for_a_double() {
        // SAFETY: libc is loaded already, and it is no double.
        let absent = unsafe { load("libc.so.6".as_ref(), Expected::Double, "") }.unwrap_err();
        assert!(absent.to_string().contains("lacks the marker"), "{absent}");
        // SAFETY: as above.
        assert!(unsafe { load("libc.so.6".as_ref(), Expected::Driver, "") }.is_ok());
    }
}
