//! The file behind the control segment.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

use tiermem_sys::file::{self, Existing};
use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicU32, Ordering};
use tiermem_sys::text::PathBuffer;
use tiermem_sys::{clock, map, process};

use super::CONTROL_VARIABLE;
use crate::clock::now_ms;
use crate::control::{self, layout};

/// A child of fork publishes when it has lived this long, so that short ones cost nothing.
const CHILD_AGE_MS: u32 = 100;

/// Where segments go, for children of fork: made without allocating. Empty if nowhere.
struct Place {
    directory: Option<PathBuffer>,
    /// Remove the segment when the process exits.
    own: bool,
    command: [u8; 64],
}

static PLACE: Lock<Place> = Lock::new(Place { directory: None, own: false, command: [0; 64] });

/// When a child of fork should begin to publish, milliseconds; 0 for never.
static CHILD_DUE_MS: AtomicU32 = AtomicU32::new(0);

/// Makes the segment. A process that cannot (a read-only `/dev/shm`, say) just goes unwatched.
pub fn open() {
    let asked = std::env::var_os(CONTROL_VARIABLE).map(PathBuf::from);
    let own = asked.is_none();
    let directory = asked.unwrap_or_else(control::default_dir);
    if own && make_private(&directory).is_err() {
        return;
    }
    let mut place = PLACE.lock();
    place.own = own;
    let name = std::fs::read("/proc/self/comm").unwrap_or_default();
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    let len = name.len().min(place.command.len());
    place.command[..len].copy_from_slice(&name[..len]);
    let bytes = directory.as_os_str().as_bytes();
    // Room is left for a slash and a process id.
    if bytes.len() + 12 < PathBuffer::LEN_MAX {
        let mut path = PathBuffer::new();
        path.push(bytes);
        place.directory = Some(path);
    }
    publish_from(&place, std::os::unix::process::parent_id());
}

/// The default directory: private to the user, and really a directory of theirs.
fn make_private(directory: &std::path::Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = std::fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != process::user() || found.mode() & 0o077 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

/// Makes, maps and fills in the segment of this process. Does not allocate.
fn publish_from(place: &Place, parent: u32) {
    let Some(mut path) = place.directory else { return };
    let pid = process::id();
    path.push(b"/").push_number(pid.into());
    // Left behind by an earlier process of this number, or by the program that this one has replaced (exec).
    let _ = file::remove(path.as_c_str());
    let Ok(fd) = file::open(path.as_c_str(), Existing::Forbidden, false) else { return };
    if file::set_size(fd.as_fd(), layout::SIZE as u64).is_err() {
        return;
    }
    let Ok(at) = map::file_shared(layout::SIZE, fd.as_fd(), 0) else { return };
    // SAFETY: a fresh mapping of a segment's size, zeroed, made of atomics, never unmapped.
    let segment = unsafe { at.cast::<layout::Segment>().as_ref() };
    let end = place.command.iter().position(|&b| b == 0).unwrap_or(place.command.len());
    control::begin(segment, pid, parent, &place.command[..end], clock::unix_s());
}

/// In a child of fork: publishes once it has lived a while.
pub fn expect_child() {
    if PLACE.lock().directory.is_some() {
        CHILD_DUE_MS.store(now_ms() + CHILD_AGE_MS, Ordering::Relaxed);
    }
}

/// Begins to publish in a child of fork whose time has come. Called from the slow path.
#[inline]
pub fn publish_child_if_due(now: u32) {
    let due = CHILD_DUE_MS.load(Ordering::Relaxed);
    if due != 0 && now >= due && CHILD_DUE_MS.compare_exchange(due, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        publish_from(&PLACE.lock(), process::parent_id());
        control::publish();
    }
}

/// Removes the segment if nobody asked for it to stay.
pub fn close() {
    let place = PLACE.lock();
    if let (true, Some(mut path)) = (place.own, place.directory) {
        path.push(b"/").push_number(process::id().into());
        let _ = file::remove(path.as_c_str());
    }
}

/// Takes the lock, to hold it across a fork.
pub fn lock_for_fork() {
    PLACE.acquire();
}

/// Lets it go, in the parent or the child.
///
/// # Safety
/// [`lock_for_fork`] came before, in this thread or in the one it was copied from.
pub unsafe fn unlock_after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { PLACE.release() };
}
