//! The trace that the preload records into.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tiermem::recorder::accesses::{self, Request, SourceKind, Unclear};
use tiermem_emulator::trace::MAGIC;
use tiermem_sys::Errno;
use tiermem_sys::trial::Obstacle;

use crate::exit::{Exit, Failure};

/// Sees to it that accesses can be recorded by what is asked for.
///
/// # Errors
/// If it means nothing, or if none of the sources works here: each with its reason.
pub fn check_accesses(asked: &str) -> Result<(), Failure> {
    let request = Request::parse(asked.as_bytes()).map_err(|Unclear| {
        Failure::new(Exit::Usage, format!("--trace-accesses={asked}: it is one of {}", Request::FORMS))
    })?;
    let Some(request) = request else { return Ok(()) };
    accesses::choose(request).map(drop).map_err(|tried| none_works(tried.iter()))
}

/// That no source works, and whether that is only for want of rights.
fn none_works<'a>(tried: impl Iterator<Item = &'a (SourceKind, Obstacle)> + Clone) -> Failure {
    let is_refused = |errno| matches!(errno, Some(Errno::EPERM | Errno::EACCES));
    let only_rights = tried.clone().all(|(_, obstacle)| is_refused(obstacle.errno));
    let reasons: Vec<_> = tried.map(|(kind, obstacle)| format!("\n  {}: {obstacle}", kind.as_str())).collect();
    Failure::new(
        if only_rights { Exit::NoRights } else { Exit::Unsupported },
        format!("accesses cannot be recorded here. These sources were tried:{}", reasons.concat()),
    )
}

/// A trace's file, before and after the run.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    /// When its file was emptied: what other processes recorded before is another run's.
    emptied: SystemTime,
}

impl Recording {
    /// Makes sure that a trace can be written to `path`, and empties it.
    ///
    /// # Errors
    /// If it cannot be written, is not a regular file, or holds something that is no trace: that would be lost.
    pub fn prepare(path: &Path) -> Result<Self, Failure> {
        let cannot = |error| Failure::from_io(format!("cannot write the trace {}", path.display()), &error);
        if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(Failure::new(Exit::Usage, format!("--trace {}: it is not a regular file", path.display())));
        }
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(cannot)?;
        let mut start = Vec::new();
        (&mut file).take(MAGIC.len() as u64).read_to_end(&mut start).map_err(cannot)?;
        if !start.is_empty() && start != MAGIC {
            let what = format!("--trace {}: there is a file that is no trace, and would be lost", path.display());
            return Err(Failure::new(Exit::Usage, what));
        }
        file.set_len(0).map_err(cannot)?;
        let emptied = file.metadata().and_then(|file| file.modified()).map_err(cannot)?;
        Ok(Self { path: std::path::absolute(path).map_err(cannot)?, emptied })
    }

    /// Where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to tell of it after the run; as an error, if nothing was recorded.
    pub fn finish(self) -> Result<String, String> {
        let shown = self.path.display();
        if fs::metadata(&self.path).is_ok_and(|found| found.len() == 0) {
            // It is ours, and there is nothing in it.
            drop(fs::remove_file(&self.path));
            return Err(format!("nothing was recorded into {shown}: the program did not load the preload"));
        }
        let mut told = format!("the trace is {shown}; `tierctl trace show {shown}` tells what is in it");
        let others = self.others();
        if let Some((largest, _)) = others.iter().max_by_key(|(_, bytes)| bytes) {
            let (files, largest) = (others.len(), largest.display());
            told.push_str(&format!(
                "\ntierctl: programs that it started or became have {files} more, the largest {largest}"
            ));
        }
        Ok(told)
    }

    /// What children and later programs of the same process recorded in this run, `FILE.PID[.N]`, with sizes.
    fn others(&self) -> Vec<(PathBuf, u64)> {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name().and_then(|name| name.to_str()))
        else {
            return Vec::new();
        };
        let is_other = |file: &str| {
            let numbers = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
            numbers.is_some_and(|rest| rest.split('.').all(|part| part.parse::<u32>().is_ok()))
        };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_str().is_some_and(is_other))
            .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
            .filter(|(_, file)| file.modified().is_ok_and(|written| written >= self.emptied))
            .map(|(path, file)| (path, file.len()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each machine has at most one of these outcomes, and root sees no want of rights at all: so the answer is tested apart from
    /// the question.
    #[test]
    fn only_a_want_of_rights_is_told_as_one() {
        let obstacle = |errno| Obstacle { step: "trying", errno };
        let exit = |errnos: [Option<Errno>; 2]| {
            let tried: Vec<_> = SourceKind::ALL.into_iter().zip(errnos.map(obstacle)).collect();
            let failure = none_works(tried.iter());
            assert!(SourceKind::ALL.iter().all(|kind| failure.message.contains(kind.as_str())), "{}", failure.message);
            failure.exit
        };
        let [refused, denied, missing] = [Errno::EPERM, Errno::EACCES, Errno::ENOENT].map(Some);
        assert_eq!((exit([refused, denied]), exit([denied, denied])), (Exit::NoRights, Exit::NoRights));
        for others in [[refused, missing], [missing, denied], [denied, None], [None, None], [missing, missing]] {
            assert_eq!(exit(others), Exit::Unsupported, "{others:?}");
        }
        assert_eq!((Exit::NoRights.code(), Exit::Unsupported.code()), (4, 5));
    }

    #[test]
    fn what_is_no_trace_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        fs::write(&path, "keep me").unwrap();
        let failure = Recording::prepare(&path).unwrap_err();
        assert!(failure.exit == Exit::Usage && failure.message.contains("no trace"), "{}", failure.message);
        assert_eq!(fs::read_to_string(&path).unwrap(), "keep me");
        assert!(Recording::prepare(folder.path()).is_err());
        assert!(Recording::prepare(&folder.path().join("no/folder/trace.tmt")).is_err());

        fs::write(&path, [&MAGIC[..], b"the last run"].concat()).unwrap();
        let recording = Recording::prepare(&path).unwrap();
        assert!(recording.path().is_absolute());
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert!(recording.finish().unwrap_err().contains("nothing was recorded"));
        assert!(!path.exists());
    }

    #[test]
    fn what_other_programs_recorded_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("trace.tmt.6"), "of an earlier run").unwrap();
        let old = SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(file("trace.tmt.6")).unwrap().set_modified(old).unwrap();
        let recording = Recording::prepare(&file("trace.tmt")).unwrap();
        let more = [("trace.tmt", "1"), ("trace.tmt.7", "12"), ("trace.tmt.7.2", "123"), ("trace.tmt.txt", "12345")];
        more.iter().for_each(|(name, text)| fs::write(file(name), text).unwrap());
        let told = recording.finish().unwrap();
        assert!(told.contains("2 more, the largest ") && told.ends_with("trace.tmt.7.2"), "{told}");
    }
}
