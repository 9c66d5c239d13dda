//! Functions for strings, against counts by hand.

use crate::harness::{Program, is_usable};
use crate::thousand;

/// How many ranges, and how many bytes.
type Ranges = (u64, u64);

/// Function, and what one call reads and writes.
const CALLS: [(&str, Ranges, Ranges); 29] = [
    ("strlen", (1, 31), (0, 0)),
    ("strnlen", (1, 10), (0, 0)),
    ("strnlen-all", (1, 31), (0, 0)),
    ("strcpy", (1, 31), (1, 31)),
    ("stpcpy", (1, 31), (1, 31)),
    ("strncpy", (1, 10), (1, 10)),
    // The rest of the hundred bytes is filled with zeros.
    ("strncpy-all", (1, 31), (1, 100)),
    ("stpncpy", (1, 31), (1, 100)),
    // The end of the first, which is empty, then the other.
    ("strcat", (2, 1 + 31), (1, 31)),
    ("strncat", (2, 1 + 10), (1, 11)),
    ("strcmp", (2, 2 * 15), (0, 0)),
    // "a string, and more of a string" and "a string", which ends at the comma.
    ("strcmp-end", (2, 2 * 9), (0, 0)),
    ("strncmp", (2, 2 * 10), (0, 0)),
    ("strchr", (1, 9), (0, 0)),
    ("strchr-none", (1, 31), (0, 0)),
    ("strchrnul", (1, 31), (0, 0)),
    ("strrchr", (1, 31), (0, 0)),
    // All of the text, and " and less of a string" once.
    ("strstr", (2, 31 + 22), (0, 0)),
    // " a string" is the end of the text.
    ("strstr-found", (2, 30 + 10), (0, 0)),
    // The "i" of "ing" is the sixth, and the comma the first that "a string" lacks.
    ("strpbrk", (2, 6 + 4), (0, 0)),
    ("strspn", (2, 9 + 9), (0, 0)),
    ("strcspn", (2, 6 + 4), (0, 0)),
    ("memccpy", (1, 9), (1, 9)),
    ("memchr", (1, 9), (0, 0)),
    ("bcopy", (1, 10), (1, 10)),
    ("memcpy", (1, 10), (1, 10)),
    ("memset", (0, 0), (1, 100)),
    ("strdup", (1, 31), (1, 31)),
    ("strndup", (1, 10), (1, 11)),
];

#[test]
fn functions_for_strings_count_what_their_definitions_say() {
    let fortified = ["-O2", "-D_FORTIFY_SOURCE=2"];
    for (compiler, options) in [("gcc", &["-O1"][..]), ("gcc", &fortified), ("clang", &["-O1"]), ("clang", &fortified)]
    {
        if !is_usable(compiler) {
            continue;
        }
        let command = [&[compiler], options, &["-w", "strings.c", "-o", "counted"]].concat();
        let program = Program::built(&[("strings.c", include_str!("strings.c"))], &[&command]);
        for (name, (ranges_read, bytes_read), (ranges_written, bytes_written)) in CALLS {
            let counted = thousand(&program, name);
            let found = (
                (counted.ranges_loaded, counted.range_bytes_loaded),
                (counted.ranges_stored, counted.range_bytes_stored),
            );
            let expected = ((1000 * ranges_read, 1000 * bytes_read), (1000 * ranges_written, 1000 * bytes_written));
            assert_eq!(found, expected, "{compiler} {options:?} {name}");
        }
    }
}
