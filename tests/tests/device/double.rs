//! Builds and drives the test double of the CUDA driver.

use std::ffi::{CString, c_char, c_int, c_long};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libloading::Library;
use tempfile::TempDir;
use tiermem_tiers::provider::{OpenError, device};
use tiermem_tiers::{Bytes, Provider, TierId, TierSpec};

/// A loaded copy of the double. Each test has a copy of its own, and so its own devices and faults.
pub struct Double {
    library: Library,
    path: PathBuf,
    dir: TempDir,
}

impl Double {
    /// `None`, said loudly, where there is no C compiler.
    pub fn new(test: &str) -> Option<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.path().join("libcuda.so.1");
        let Some(library) = compiled() else {
            eprintln!("SKIP {test}: `cc` cannot be run, so the double of the CUDA driver cannot be built");
            return None;
        };
        // A file of its own, because the dynamic linker loads a file only once.
        fs::write(&path, library).unwrap();
        // SAFETY: the double was just built from our own source.
        let library = unsafe { Library::new(&path) }.unwrap();
        Some(Self { library, path, dir })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn open(&self, spec: &TierSpec) -> Result<Box<dyn Provider>, OpenError> {
        // SAFETY: the double has the driver's C ABI.
        unsafe { device::double::open(spec, TierId(0), &self.path) }
    }

    /// To be called before the first `open`.
    pub fn configure(&self, devices: c_int, memory: Bytes) {
        // SAFETY: the signature is the double's.
        let configure = unsafe { self.library.get::<unsafe extern "C" fn(c_int, usize)>("double_configure") }.unwrap();
        // SAFETY: as above.
        unsafe { configure(devices, usize::try_from(memory.0).unwrap()) };
    }

    /// After `skip` good calls, `call` returns `status` `times` times; -1 is from then on.
    pub fn fail(&self, call: &str, status: c_int, skip: c_int, times: c_int) {
        let call = CString::new(call).unwrap();
        type Fail = unsafe extern "C" fn(*const c_char, c_int, c_int, c_int);
        // SAFETY: the signature is the double's.
        let fail = unsafe { self.library.get::<Fail>("double_fail") }.unwrap();
        // SAFETY: `call` outlives the call, which copies it.
        unsafe { fail(call.as_ptr(), status, skip, times) };
    }

    pub fn ignore_memset(&self) {
        // SAFETY: the signature is the double's.
        let zeroing = unsafe { self.library.get::<unsafe extern "C" fn(c_int)>("double_zeroing") }.unwrap();
        // SAFETY: as above.
        unsafe { zeroing(0) };
    }

    /// Allocations that were not freed.
    pub fn live(&self) -> c_int {
        // SAFETY: the signature is the double's.
        let live = unsafe { self.library.get::<unsafe extern "C" fn() -> c_int>("double_live") }.unwrap();
        // SAFETY: as above.
        unsafe { live() }
    }

    /// Pinned buffers, streams and events that were not given back.
    pub fn pinned(&self) -> c_int {
        // SAFETY: the signature is the double's.
        let pinned = unsafe { self.library.get::<unsafe extern "C" fn() -> c_int>("double_pinned") }.unwrap();
        // SAFETY: as above.
        unsafe { pinned() }
    }

    /// Asynchronous copies that were done.
    pub fn staged(&self) -> c_long {
        // SAFETY: the signature is the double's.
        let staged = unsafe { self.library.get::<unsafe extern "C" fn() -> c_long>("double_staged") }.unwrap();
        // SAFETY: as above.
        unsafe { staged() }
    }

    /// References held to device 0's context.
    pub fn retained(&self) -> c_int {
        // SAFETY: the signature is the double's.
        let retained = unsafe { self.library.get::<unsafe extern "C" fn(c_int) -> c_int>("double_retained") }.unwrap();
        // SAFETY: as above.
        unsafe { retained(0) }
    }

    /// Contexts on this thread's stack.
    pub fn depth(&self) -> c_int {
        // SAFETY: the signature is the double's.
        let depth = unsafe { self.library.get::<unsafe extern "C" fn() -> c_int>("double_depth") }.unwrap();
        // SAFETY: as above.
        unsafe { depth() }
    }

    /// Counts the calls of the driver so far. Resolved once, so that it can be asked in a child of fork.
    pub fn call_counter(&self) -> impl Fn() -> c_long {
        // SAFETY: the signature is the double's.
        let calls = *unsafe { self.library.get::<unsafe extern "C" fn() -> c_long>("double_calls") }.unwrap();
        // SAFETY: as above; the provider under test keeps the library loaded until the process ends.
        move || unsafe { calls() }
    }
}

/// The compiled double, compiled once; `None` if there is no compiler. A compiler that fails is a failed test.
fn compiled() -> Option<&'static [u8]> {
    static COMPILED: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let compile = || {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let to = dir.path().join("double.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/doubles/cuda_driver.c");
        let flags = ["-shared", "-fPIC", "-O1", "-pthread"];
        let output = Command::new("cc").args(flags).arg(source).arg("-o").arg(&to).output().ok()?;
        assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        Some(fs::read(to).unwrap())
    };
    COMPILED.get_or_init(compile).as_deref()
}
