//! snmalloc with its checks. The crate's feature `check` selects a cmake target and does nothing in the build without
//! cmake, so the macro behind it must be given to the C++ compiler: `CXXFLAGS="-DNDEBUG -DSNMALLOC_CHECK_CLIENT"`, in a
//! target folder of its own, because cargo would otherwise rebuild the plain one with the same flags.

const CHECKED: bool = match option_env!("CXXFLAGS") {
    Some(flags) => contains(flags.as_bytes(), b"-DSNMALLOC_CHECK_CLIENT"),
    None => false,
};
const _: () = assert!(CHECKED, "build with CXXFLAGS=\"-DNDEBUG -DSNMALLOC_CHECK_CLIENT\", or nothing is checked");

const fn contains(text: &[u8], word: &[u8]) -> bool {
    let mut from = 0;
    while from + word.len() <= text.len() {
        let mut at = 0;
        while at < word.len() && text[from + at] == word[at] {
            at += 1;
        }
        if at == word.len() {
            return true;
        }
        from += 1;
    }
    false
}

#[path = "../../snmalloc/src/lib.rs"]
mod heap;
