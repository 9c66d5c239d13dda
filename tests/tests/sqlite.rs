//! sqlite3 under the preload: a database in memory of a million rows, dumped identically.

use std::path::Path;

use tiermem_tests::{Run, Tiering, count_once, find, in_every_setup, remembered, repeated};

/// Rows whose contents follow from their number, an index, updates and deletions that leave holes, and the dump of it all.
fn script(rows: u64) -> String {
    format!(
        "PRAGMA cache_size = -200000;
         CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, amount REAL, data BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
           INSERT INTO t SELECT i, printf('name-%d-%s', i * 7919 % {rows}, substr('abcdefghijklmnopqrstuvwxyz', i % 26 + 1)),
                                i * 0.25, zeroblob(i % 16) FROM n;
         CREATE INDEX by_name ON t (name);
         UPDATE t SET name = name || '-longer-than-before-so-that-it-moves' WHERE id % 11 = 0;
         DELETE FROM t WHERE id % 13 = 0;
         PRAGMA integrity_check;
         SELECT count(*), sum(amount), min(name), max(name) FROM t;
         SELECT name, count(*) AS c FROM t GROUP BY substr(name, 1, 8) ORDER BY c DESC, name LIMIT 20;
         SELECT count(*) FROM t a JOIN t b ON a.name = b.name WHERE a.id < 50000;

.dump
"
    )
}

fn run(program: &Path, script: &str) -> Run {
    Run::new(program).args(["-batch", "-bail", ":memory:"]).limit(300).input(script)
}

fn same_dump(tiering: &Tiering) {
    let Some(program) = find("sqlite3") else { return };
    let script = script(count_once("ROWS", 1_000_000));
    let bare = remembered(&program, &script, || run(&program, &script).finish().succeeded_quietly().stdout);
    repeated(|| {
        let tiered = run(&program, &script).under(tiering).finish().succeeded_quietly();
        assert!(tiered.stdout.starts_with(b"ok\n"), "integrity_check: {}", tiered.describe());
        assert!(bare.len() > 1_000_000, "the dump is suspiciously short: {}", tiered.describe());
        // Not assert_eq!, which would print both.
        assert!(tiered.stdout == bare, "the dumps differ (lengths {} and {})", tiered.stdout.len(), bare.len());
    });
}
in_every_setup!(million_rows, same_dump);
