//! What `libtiermem.so` asks of the loader and what it offers: it is loaded into every program, so nothing more than it
//! must.

use std::collections::BTreeSet;
use std::path::Path;

use object::elf::FileHeader64;
use object::read::elf::ElfFile;
use object::{Endianness, Object, ObjectSymbol};
use tiermem_tests::preload;

/// The malloc family as glibc has it, what C23 adds, and `cfree`, which old programs still call.
const MALLOC_FAMILY: [&str; 20] = [
    "aligned_alloc",
    "calloc",
    "cfree",
    "free",
    "free_aligned_sized",
    "free_sized",
    "mallinfo",
    "mallinfo2",
    "malloc",
    "malloc_info",
    "malloc_stats",
    "malloc_trim",
    "malloc_usable_size",
    "mallopt",
    "memalign",
    "posix_memalign",
    "pvalloc",
    "realloc",
    "reallocarray",
    "valloc",
];

/// What ends a process or its program without exit handlers: the last place where a recorded process can write what it has not
/// written yet.
const ENDINGS: [&str; 13] = [
    "__assert_fail",
    "_Exit",
    "_exit",
    "abort",
    "execl",
    "execle",
    "execlp",
    "execv",
    "execve",
    "execveat",
    "execvp",
    "execvpe",
    "fexecve",
];

/// All that may be loaded along with it. A GPU runtime, hwloc or libstdc++ would come into every program.
const NEEDED: [&str; 4] = ["libc.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];

fn read(library: &Path) -> Vec<u8> {
    std::fs::read(library).unwrap_or_else(|error| panic!("{}: {error}", library.display()))
}

fn parse(bytes: &[u8]) -> ElfFile<'_, FileHeader64<Endianness>> {
    ElfFile::parse(bytes).expect("a shared library of this machine")
}

/// The libraries that the loader brings along.
fn needed(bytes: &[u8]) -> BTreeSet<String> {
    let file = parse(bytes);
    let libraries = file.import_libraries().expect("a shared library has a dynamic section");
    let name = |library: object::Result<object::ImportLibrary<'_>>| {
        String::from_utf8_lossy(library.expect("its names can be read").name()).into_owned()
    };
    libraries.map(name).collect()
}

/// Every symbol that other objects can be bound to.
fn exported(bytes: &[u8]) -> BTreeSet<String> {
    let file = parse(bytes);
    let defined = file.dynamic_symbols().filter(|symbol| !symbol.is_undefined());
    defined.map(|symbol| symbol.name().expect("its names can be read").to_owned()).collect()
}

/// C++'s operators new and delete, plain, sized, aligned and nothrow, for one object and for arrays, as the Itanium C++
/// ABI spells them on 64-bit machines.
fn operators() -> BTreeSet<String> {
    let ends = |ends: &[&str], name: &str| ends.iter().map(|end| format!("{name}{end}")).collect::<Vec<_>>();
    let new = ["", "RKSt9nothrow_t", "St11align_val_t", "St11align_val_tRKSt9nothrow_t"];
    let delete = [&new[..], &["m", "mSt11align_val_t"]].concat();
    let names = ["_Znwm", "_Znam"].map(|name| ends(&new, name)).into_iter();
    names.chain(["_ZdlPv", "_ZdaPv"].map(|name| ends(&delete, name))).flatten().collect()
}

/// The functions that the C header declares.
fn declared() -> BTreeSet<String> {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../allocator/include/tiermem.h");
    let text = String::from_utf8(read(&header)).expect("the header is text");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '(');
    let calls = words.filter_map(|word| word.split_once('(')).map(|(name, _)| name.to_owned());
    calls.filter(|name| name.starts_with("tm_")).collect()
}

fn unwanted(needed: &BTreeSet<String>) -> Vec<&str> {
    needed.iter().map(String::as_str).filter(|name| !NEEDED.contains(name)).collect()
}

#[test]
fn it_needs_the_c_library_and_nothing_else() {
    let needed = needed(&read(preload()));
    assert!(needed.contains("libc.so.6"), "{needed:?}");
    assert_eq!(unwanted(&needed), Vec::<&str>::new());
}

/// The purger's thread runs the library's code for ever; a `dlclose` that unmapped it would end the program.
#[test]
fn it_is_not_unmapped_and_has_its_own_name() {
    let shown = std::process::Command::new("readelf").arg("-dW").arg(preload()).output().expect("binutils' readelf");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("NODELETE"), "linked without -z nodelete:\n{text}");
    assert!(text.contains("soname: [libtiermem.so]"), "linked without a soname:\n{text}");
}

#[test]
fn it_exports_allocation_and_endings_and_nothing_else() {
    let family: BTreeSet<String> = MALLOC_FAMILY.map(str::to_owned).into();
    let functions = declared();
    assert!(functions.contains("tm_hint_push"), "the header was misread: {functions:?}");
    let endings: BTreeSet<String> = ENDINGS.map(str::to_owned).into();
    let expected: BTreeSet<String> = [family, operators(), functions, endings].into_iter().flatten().collect();
    assert_eq!(exported(&read(preload())), expected);
}

/// The checks read a library that they would complain about.
#[test]
fn another_library_would_be_noticed() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("this process has mappings");
    let path =
        |name: &str| maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains(name));
    let libgcc = read(Path::new(path("/libgcc_s.so").expect("this test is linked with libgcc_s")));
    assert!(exported(&libgcc).contains("_Unwind_Backtrace"));
    let libc = read(Path::new(path("/libc.so").expect("this test is linked with libc")));
    let exported = exported(&libc);
    assert!(exported.contains("malloc") && exported.contains("printf"));
    assert_eq!(unwanted(&["libhwloc.so.15".to_owned(), "libc.so.6".to_owned()].into()), ["libhwloc.so.15"]);
}
