use super::*;
use crate::provider::fault::{Clock, Faulty};
use crate::{ErrorKind, Extent, GRANULE, Health, Provenance, Provider, TierId, provider};

struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn set() -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap() };
        stage.keep("");
        stage
    }

    fn path(&self) -> PathBuf {
        beside(&self.folder.path().join("tier"))
    }

    fn keep(&self, script: &str) {
        keep(&self.path(), &script.parse().unwrap()).unwrap();
    }

    fn open(&self, own: &str) -> Faulty {
        let inner = provider::open(&"slow=dax-file:memfd,size=16M".parse().unwrap(), TierId(2)).unwrap();
        let kept = Kept::open(&self.path()).unwrap();
        Faulty::with_kept(inner, &own.parse().unwrap(), kept, Clock::Virtual).unwrap()
    }
}

fn one(tier: &Faulty) -> Extent {
    tier.reserve(GRANULE, Provenance::Tool).unwrap()
}

fn reads(tier: &Faulty, extent: &Extent) -> Result<(), ErrorKind> {
    tier.read(extent, 0, &mut [0; 8]).map_err(|error| error.kind())
}

#[test]
fn another_script_is_in_force_with_the_next_operation_and_counts_from_there() {
    let stage = Stage::set();
    let tier = stage.open("");
    let extent = one(&tier);
    (0..10).for_each(|_| reads(&tier, &extent).unwrap());
    stage.keep("link-down at-op=3 for-ops=1");
    assert_eq!((0..4).map(|_| reads(&tier, &extent).is_ok()).collect::<Vec<_>>(), [true, true, false, true]);
    stage.keep("link-down at-op=1");
    assert_eq!(reads(&tier, &extent), Err(ErrorKind::Gone), "at once");
    stage.keep("");
    reads(&tier, &extent).unwrap();
    // Its time counts from then, too; a look at the tier is enough to put it in force.
    tier.advance_to(1000);
    stage.keep("link-down at-ns=50");
    assert!(tier.poll() && tier.health() == Health::Good);
    tier.advance_to(1049);
    assert_eq!(tier.health(), Health::Good);
    tier.advance_to(1050);
    assert_eq!(tier.health(), Health::Failed);
    stage.keep("");
    assert_eq!(tier.health(), Health::Good);
    tier.release(extent).unwrap();
}

#[test]
fn what_is_poisoned_or_lost_stays_so_when_its_script_ends() {
    let stage = Stage::set();
    let tier = stage.open("");
    let [lost, sound] = [one(&tier), one(&tier)];
    stage.keep("poison at-op=1 extent=0 offset=0 grain=line");
    assert!(matches!(reads(&tier, &lost), Err(ErrorKind::Poisoned { .. })));
    stage.keep("");
    assert!(matches!(reads(&tier, &lost), Err(ErrorKind::Poisoned { .. })));
    reads(&tier, &sound).unwrap();
    stage.keep("remove at-op=1");
    assert_eq!(reads(&tier, &sound), Err(ErrorKind::Gone));
    stage.keep("");
    assert_eq!((reads(&tier, &sound), tier.health()), (Err(ErrorKind::Gone), Health::Degraded));
    [lost, sound].into_iter().for_each(|extent| tier.release(extent).unwrap());
    assert_eq!((tier.health(), tier.repair().unwrap(), tier.health()), (Health::Degraded, GRANULE, Health::Good));
}

/// The two scripts do not know of each other: neither's counts nor its random numbers depend on the other.
#[test]
fn the_scripts_own_faults_come_as_ever() {
    let own = "seed=4;full probability=0.2 for-ops=1;io-error at-op=30 on=read for-ops=1";
    let outcomes = |disturb: bool| {
        let stage = Stage::set();
        let tier = stage.open(own);
        let run = (0..60).map(|turn| {
            if disturb && turn % 7 == 0 {
                stage.keep(&format!("seed={turn};slow probability=0.5 factor=2"));
            }
            match tier.reserve(GRANULE, Provenance::Tool) {
                Ok(extent) => {
                    let read = reads(&tier, &extent).is_ok();
                    tier.release(extent).unwrap();
                    Some(read)
                }
                Err(_) => None,
            }
        });
        run.collect::<Vec<_>>()
    };
    let calm = outcomes(false);
    assert!(calm.contains(&None) && calm.contains(&Some(true)));
    assert_eq!(calm, outcomes(true));
}

/// Each byte of the file flipped, and the file cut at each length: nothing panics, and what was in force stays.
#[test]
fn damage_changes_nothing() {
    let stage = Stage::set();
    let tier = stage.open("");
    let extent = one(&tier);
    stage.keep("link-down at-op=1");
    assert_eq!(reads(&tier, &extent), Err(ErrorKind::Gone));
    stage.keep("full at-op=1000;slow at-op=1000 factor=3");
    let good = std::fs::read(stage.path()).unwrap();
    stage.keep("link-down at-op=1");
    assert_eq!(reads(&tier, &extent), Err(ErrorKind::Gone));
    let write = |bytes: &[u8]| {
        // In place, as everything that is written here.
        let file = std::fs::File::options().write(true).open(stage.path()).unwrap();
        file.set_len(0).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
    };
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        write(&bad);
        assert_eq!(reads(&tier, &extent), Err(ErrorKind::Gone), "byte {at}");
        write(&good[..at]);
        assert_eq!(reads(&tier, &extent), Err(ErrorKind::Gone), "cut to {at}");
    }
    // Negative control: undamaged it is taken.
    write(&good);
    reads(&tier, &extent).unwrap();
    // And text that is whole, but no script.
    let nonsense = b"melt at-op=1";
    stage.keep("link-down at-op=1");
    reads(&tier, &extent).unwrap_err();
    write(&[Header::of(1000, nonsense).to_bytes().as_slice(), nonsense].concat());
    assert_eq!(reads(&tier, &extent), Err(ErrorKind::Gone));
    assert_eq!(read(&stage.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    stage.keep("");
    reads(&tier, &extent).unwrap();
    tier.release(extent).unwrap();
}

/// A writer that died half-way: readers keep what they have, and the next writer's script is taken.
#[test]
fn a_script_that_is_being_written_is_not_there_yet() {
    let stage = Stage::set();
    let tier = stage.open("");
    let extent = one(&tier);
    let file = std::fs::File::options().write(true).open(stage.path()).unwrap();
    let half = [Header::of(77, b"").to_bytes().as_slice(), b"link-down at-op=1"].concat();
    std::os::unix::fs::FileExt::write_all_at(&file, &half, 0).unwrap();
    reads(&tier, &extent).unwrap();
    assert_eq!(read(&stage.path()).unwrap(), Script::default());
    stage.keep("link-down at-op=1");
    assert_eq!(reads(&tier, &extent), Err(ErrorKind::Gone));
    tier.release(extent).unwrap();
}

#[test]
fn too_much_is_refused_and_changes_nothing() {
    let stage = Stage::set();
    let tier = stage.open("");
    let many = |count| std::iter::repeat_n("full at-op=1", count).collect::<Vec<_>>().join(";").parse().unwrap();
    assert_eq!(keep(&stage.path(), &many(FAULTS_MAX + 1)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    tier.release(one(&tier)).unwrap();
    keep(&stage.path(), &many(FAULTS_MAX)).unwrap();
    assert!(matches!(tier.reserve(GRANULE, Provenance::Tool).unwrap_err().kind(), ErrorKind::Full { .. }));
    assert_eq!(tier.happened_count() as usize, FAULTS_MAX);
}

/// Two writers and many looks at once: a look sees one script or the other, whole.
#[test]
fn looks_and_writers_do_not_meet_half_way() {
    let stage = Stage::set();
    let scripts = ["full at-op=1", "link-down at-op=1;full at-op=2;slow at-op=3 factor=2;shrink at-op=1 to=0"];
    std::thread::scope(|threads| {
        let stage = &stage;
        let writers = scripts.map(|script| threads.spawn(move || (0..300).for_each(|_| stage.keep(script))));
        let mut kept = Kept::open(&stage.path()).unwrap().unwrap();
        let mut seen = 0;
        while seen == 0 || writers.iter().any(|writer| !writer.is_finished()) {
            match kept.news() {
                News::None => {}
                News::Script(text) => {
                    let text = text.trim_start_matches("seed=0").trim_start_matches(';').to_owned();
                    assert!(text.is_empty() || scripts.contains(&text.as_str()), "{text}");
                    seen += 1;
                }
                News::Damaged(why) => panic!("{why}"),
            }
        }
    });
}

/// A thread that looks at the tier while another one forks would leave the child with a lock that nobody lets go.
#[test]
fn nobody_is_half_way_through_when_the_program_forks() {
    let stage = Stage::set();
    let tier = stage.open("");
    let extent = one(&tier);
    let around = tier.addressable().unwrap();
    around.prepare_fork();
    // The forking thread itself may pass.
    assert_eq!(tier.health(), Health::Good);
    std::thread::scope(|threads| {
        let other = threads.spawn(|| tier.poll());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!other.is_finished(), "it was in the middle");
        around.after_fork(false);
        other.join().unwrap();
    });
    // Who did not prepare has nothing to let go.
    around.after_fork(false);
    tier.release(extent).unwrap();
}
