//! A mapped file as a tier: on fsdax (real persistent or CXL memory), on tmpfs or an ordinary file system (an emulated
//! tier), or without a name (`memfd`).
//!
//! Contents never outlive their extents, so the mapping is not made with `MAP_SYNC`: it would slow down the first write
//! to each OS page for a durability that nobody asks for.
//!
//! Forking: an extent is mapped shared at first. Just before the fork the mapping is replaced by a private one of the same
//! bytes. What any thread wrote before is in the file; what either process writes later goes to copies of its own, in
//! DRAM. The file's bytes are then a snapshot that both read, until the last one of them lets go. See `extent_table`.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use tiermem_sys::file::{self, Existing};
use tiermem_sys::map::{self, Placement, Sharing};
use tiermem_sys::sync::atomic::{AtomicBool, Ordering};
use tiermem_sys::{Errno, Result};

use super::backing_file::BackingFile;
use super::extent_table::{ExtentTable, Past, Sidecar, Thoroughness};
use super::open::{Obstacle, OpenError, tier};
use super::window::Window;
use super::{Access, Addressable, ForkPlan, Provider, Usage, blank, check};
use crate::{Attribute, Bytes, Error, ErrorKind, Extent, GRANULE, Health, Provenance, Source, Tier, TierId, TierSpec};

/// Provider over a mapped file.
#[derive(Debug)]
pub struct DaxFile {
    tier: Tier,
    file: BackingFile,
    table: ExtentTable,
    /// Where extents go whose address is ours to choose.
    window: Window,
    /// Somebody met poison.
    degraded: AtomicBool,
}

impl DaxFile {
    /// Opens the file, or makes it if it is missing and a size is given.
    ///
    /// # Errors
    /// What stands in the way and what to do about it.
    pub fn open(spec: &TierSpec, id: TierId) -> std::result::Result<Self, OpenError> {
        if spec.location == "memfd" { Self::anonymous(spec, id) } else { Self::named(spec, id) }
    }

    fn anonymous(spec: &TierSpec, id: TierId) -> std::result::Result<Self, OpenError> {
        let size =
            spec.size().ok_or_else(|| OpenError::new(spec, Obstacle::BadSize, "a memfd needs size=, e.g. size=1G"))?;
        let failed = |call: &'static str| move |errno| OpenError::system(spec, call, errno);
        let fd = file::memory_file(c"tiermem").map_err(failed("memfd_create"))?;
        file::set_size(fd.as_fd(), size.0).map_err(failed("ftruncate"))?;
        let backing = BackingFile::new(fd, None, false).map_err(failed("fstat"))?;
        let sidecar = Sidecar::anonymous().map_err(failed("memfd_create for the extent table"))?;
        Self::finish(spec, id, backing, sidecar, size, (Past::Unknown, true))
    }

    fn named(spec: &TierSpec, id: TierId) -> std::result::Result<Self, OpenError> {
        let path = std::path::absolute(&spec.location)
            .map_err(|error| OpenError::new(spec, Obstacle::Unsuitable, format!("bad path: {error}")))?;
        let mut sidecar = blank::open_sidecar(spec, &sidecar_path(&path))?;
        let opened = blank::open_file(spec, &path, &mut sidecar, false)?;
        Self::finish(spec, id, opened.file, sidecar, opened.size, (opened.past, opened.made_here))
    }

    fn finish(
        spec: &TierSpec,
        id: TierId,
        file: BackingFile,
        sidecar: Sidecar,
        size: Bytes,
        (past, made_here): (Past, bool),
    ) -> std::result::Result<Self, OpenError> {
        let failed = |errno| OpenError::system(spec, "setting up the extent table", errno);
        let granules = u32::try_from(size.0 / GRANULE.0)
            .map_err(|_| OpenError::new(spec, Obstacle::BadSize, "more than 8 PiB: give a smaller size"))?;
        let table = sidecar.into_table(file.fd().map_err(failed)?, granules, past, made_here).map_err(failed)?;
        let mut tier = tier(spec, id);
        tier.attributes.capacity.get_or_insert(Attribute::new(size, Source::Kernel));
        let this = Self { tier, file, table, window: Window::new(granules), degraded: AtomicBool::new(false) };
        if this.table.has_former_self() {
            this.sweep(Thoroughness::Quick);
        }
        Ok(this)
    }

    /// Removes the file and its extent table if tiermem made them and nobody else uses them; whether it did.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn destroy(spec: &TierSpec) -> std::result::Result<bool, OpenError> {
        let failed = |errno| OpenError::system(spec, "removing the file", errno);
        let path = PathBuf::from(&spec.location);
        if spec.location == "memfd" || !path.exists() || !sidecar_path(&path).exists() {
            return Ok(false);
        }
        let path = std::path::absolute(path).map_err(|_| failed(Errno::EINVAL))?;
        let alone =
            Self::named(&TierSpec { attributes: Default::default(), ..spec.clone() }, TierId(0))?.table.is_alone();
        let mut sidecar = blank::open_sidecar(spec, &sidecar_path(&path))?;
        let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
        let fd = file::open(&c_path, Existing::Required, false).map_err(failed)?;
        let removable = alone && sidecar.past(fd.as_fd()).map_err(failed)?.made_here();
        if removable {
            sidecar.remove_with(&path).map_err(failed)?;
        }
        Ok(removable)
    }

    fn erase(&self, first: u32, count: u32) -> Result<()> {
        file::punch_hole(self.file.fd()?, offset_of(first), offset_of(count))
    }

    fn sweep(&self, thoroughness: Thoroughness) -> bool {
        self.table.sweep(thoroughness, &|first, count| self.erase(first, count))
    }

    /// Takes granules with space of their own in the file.
    fn take(&self, len: Bytes) -> std::result::Result<u32, Error> {
        let count = u32::try_from(len.0 / GRANULE.0).unwrap_or(u32::MAX);
        let full = || check::error(&self.tier, ErrorKind::Full { wanted: len });
        if count > self.table.granules() {
            return Err(full());
        }
        let fail = |call, errno| check::system(&self.tier, call, errno, len);
        let mut swept = false;
        loop {
            let errno = match self.table.claim(count).map_err(|errno| fail("taking a seat", errno))? {
                None => Errno::ENOSPC,
                Some(first) => {
                    let reserved = self.file.fd().and_then(|fd| file::reserve_space(fd, offset_of(first), len.0));
                    let Err(errno) = reserved else { return Ok(first) };
                    self.give_up(first, count);
                    errno
                }
            };
            match errno {
                // The dead may hold what we need.
                Errno::ENOSPC if !swept && self.sweep(Thoroughness::Full) => swept = true,
                Errno::ENOSPC => return Err(full()),
                errno => return Err(fail("fallocate", errno)),
            }
        }
    }

    /// Releases granules on a path that already has an error to report.
    fn give_up(&self, first: u32, count: u32) {
        let _ = self.table.release(first, count, &|first, count| self.erase(first, count));
    }

    fn map_granules(
        &self,
        at: NonNull<u8>,
        first: u32,
        count: u32,
        sharing: Sharing,
        placement: Placement,
    ) -> Result<()> {
        let fd = self.file.fd()?;
        // SAFETY: passed on: callers own the range, or replace a mapping of the same bytes.
        unsafe { map::file_at(at, offset_of(count) as usize, fd, offset_of(first), sharing, placement) }
    }

    fn note(&self, extent: &Extent, outcome: std::result::Result<(), Error>) -> std::result::Result<(), Error> {
        if let Err(error) = &outcome
            && let ErrorKind::Poisoned { offset, .. } = error.kind()
        {
            self.table.quarantine(granule_of(extent.offset() + offset));
            // Relaxed: a report.
            self.degraded.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

fn sidecar_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".extents");
    name.into()
}

/// Bytes of this many granules.
const fn offset_of(granules: u32) -> u64 {
    granules as u64 * GRANULE.0
}

const fn granule_of(offset: u64) -> u32 {
    (offset / GRANULE.0) as u32
}

const fn span_of(extent: &Extent) -> (u32, u32) {
    (granule_of(extent.offset()), granule_of(extent.len().0))
}

impl Provider for DaxFile {
    fn tier(&self) -> &Tier {
        &self.tier
    }

    fn access(&self) -> Access {
        Access::Load
    }

    fn usage(&self) -> Usage {
        Usage { capacity: Bytes(offset_of(self.table.granules())), reserved: Bytes(offset_of(self.table.used())) }
    }

    fn health(&self) -> Health {
        match (self.file.fd(), self.degraded.load(Ordering::Relaxed)) {
            (Err(_), _) => Health::Failed,
            (Ok(_), true) => Health::Degraded,
            (Ok(_), false) => Health::Good,
        }
    }

    fn reserve(&self, len: Bytes, provenance: Provenance) -> std::result::Result<Extent, Error> {
        check::request(&self.tier, len)?;
        let first = self.take(len)?;
        let count = granule_of(len.0);
        let mapped = self.window.address(first).and_then(|at| {
            self.map_granules(at, first, count, Sharing::Shared, Placement::Replace)?;
            Ok(Extent::from_parts(self.tier.id, offset_of(first), len, Some(at), provenance))
        });
        mapped.map_err(|errno| {
            self.give_up(first, count);
            check::system(&self.tier, "mmap", errno, len)
        })
    }

    fn release(&self, extent: Extent) -> std::result::Result<(), Error> {
        check::own(&self.tier, &extent)?;
        let Some(at) = extent.address() else { return Err(check::error(&self.tier, ErrorKind::Gone)) };
        let fail = |call, errno| check::system(&self.tier, call, errno, extent.len());
        // Also right for our own choice of address: it lies in the window, which is a reservation too.
        // SAFETY: the extent's holder gives up what is in its range.
        unsafe { map::decommit(at, extent.len().0 as usize) }.map_err(|errno| fail("mmap", errno))?;
        let (first, count) = span_of(&extent);
        self.table
            .release(first, count, &|first, count| self.erase(first, count))
            .map_err(|errno| fail("fallocate(FALLOC_FL_PUNCH_HOLE)", errno))
    }

    fn read(&self, extent: &Extent, offset: u64, into: &mut [u8]) -> std::result::Result<(), Error> {
        self.note(extent, check::read_mapped(&self.tier, extent, offset, into))
    }

    fn write(&self, extent: &Extent, offset: u64, from: &[u8]) -> std::result::Result<(), Error> {
        self.note(extent, check::write_mapped(&self.tier, extent, offset, from))
    }

    fn addressable(&self) -> Option<&dyn Addressable> {
        Some(self)
    }
}

impl Addressable for DaxFile {
    unsafe fn reserve_at(
        &self,
        at: NonNull<u8>,
        len: Bytes,
        exclusive: bool,
        provenance: Provenance,
    ) -> std::result::Result<Extent, Error> {
        check::request(&self.tier, len)?;
        let first = self.take(len)?;
        let count = granule_of(len.0);
        let placement = if exclusive { Placement::Exclusive } else { Placement::Replace };
        match self.map_granules(at, first, count, Sharing::Shared, placement) {
            Ok(()) => Ok(Extent::from_parts(self.tier.id, offset_of(first), len, Some(at), provenance)),
            Err(errno) => {
                self.give_up(first, count);
                Err(check::system(&self.tier, "mmap", errno, len))
            }
        }
    }

    fn can_purge(&self) -> bool {
        false
    }

    fn fork_plan(&self) -> ForkPlan {
        ForkPlan::CopyOnWrite
    }

    fn before_fork(&self, extent: &Extent) -> std::result::Result<(), Error> {
        check::own(&self.tier, extent)?;
        let Some(start) = extent.address() else { return Err(check::error(&self.tier, ErrorKind::Gone)) };
        let (first, count) = span_of(extent);
        let make_private = |run: u32, len: u32| {
            // SAFETY: the run lies in the extent.
            let at = unsafe { start.add(offset_of(run - first) as usize) };
            self.map_granules(at, run, len, Sharing::CopyOnWrite, Placement::Replace)
        };
        self.table
            .share((first, count), make_private, &|first, count| self.erase(first, count))
            .map_err(|errno| check::system(&self.tier, "mmap", errno, extent.len()))
    }

    fn after_fork(&self, child: bool) {
        self.table.after_fork(child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider;

    #[test]
    fn a_memfd_fills_up_and_empties() {
        let tier = provider::open(&"m=dax-file:memfd,size=8M".parse().unwrap(), TierId(3)).unwrap();
        let extents: Vec<_> = (0..4).map(|_| tier.reserve(GRANULE, Provenance::Tool).unwrap()).collect();
        assert_eq!(tier.usage().reserved, Bytes::mib(8));
        assert!(matches!(tier.reserve(GRANULE, Provenance::Tool).unwrap_err().kind(), ErrorKind::Full { .. }));
        tier.write(&extents[1], 5, b"x").unwrap();
        extents.into_iter().for_each(|extent| tier.release(extent).unwrap());
        assert_eq!(tier.usage().reserved, Bytes::ZERO);
        let whole = tier.reserve(Bytes::mib(8), Provenance::Tool).unwrap();
        let mut byte = [1];
        tier.read(&whole, GRANULE.0 + 5, &mut byte).unwrap();
        assert_eq!(byte, [0]);
        tier.release(whole).unwrap();
    }

    #[test]
    fn files_are_made_kept_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let spec: TierSpec = format!("f=dax-file:{}/f,size=8M", folder.path().display()).parse().unwrap();
        drop(DaxFile::open(&spec, TierId(0)).unwrap());
        let again: TierSpec = format!("f=dax-file:{}/f", folder.path().display()).parse().unwrap();
        let open = DaxFile::open(&again, TierId(0)).unwrap();
        assert_eq!(open.usage().capacity, Bytes::mib(8));
        let extent = open.reserve(GRANULE, Provenance::Tool).unwrap();
        assert!(!DaxFile::destroy(&again).unwrap(), "somebody uses it");
        open.release(extent).unwrap();
        drop(open);
        assert!(DaxFile::destroy(&again).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    fn obstacle(text: String) -> (Obstacle, String) {
        let error = DaxFile::open(&text.parse().unwrap(), TierId(0)).unwrap_err();
        (error.obstacle(), error.to_string())
    }

    #[test]
    fn errors_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let expect = |text: String, obstacle_wanted, word: &str| {
            let (found, shown) = obstacle(text);
            assert_eq!(found, obstacle_wanted, "{shown}");
            assert!(shown.contains(word), "{shown}");
        };
        expect(format!("a=dax-file:{at}/none"), Obstacle::Missing, "size=");
        expect(format!("a=dax-file:{at}/no/such,size=4M"), Obstacle::Missing, "folder");
        expect(format!("a=dax-file:{at},size=4M"), Obstacle::Unsuitable, "folder");
        expect("a=dax-file:memfd".into(), Obstacle::BadSize, "size=");
        std::fs::write(folder.path().join("diary"), vec![b'x'; 4 << 20]).unwrap();
        expect(format!("a=dax-file:{at}/diary"), Obstacle::Unsuitable, "holds data");
        assert_eq!(std::fs::read(folder.path().join("diary")).unwrap(), vec![b'x'; 4 << 20]);
        std::fs::write(folder.path().join("small"), vec![0; 4 << 20]).unwrap();
        expect(format!("a=dax-file:{at}/small,size=8M"), Obstacle::BadSize, "truncate");
        std::os::unix::fs::symlink(folder.path().join("small"), folder.path().join("link")).unwrap();
        expect(format!("a=dax-file:{at}/link"), Obstacle::Unsuitable, "symbolic link");
        std::fs::write(folder.path().join("small.extents"), "something else, long enough to be read in full").unwrap();
        expect(format!("a=dax-file:{at}/small"), Obstacle::Unsuitable, "extent table");
    }
}
