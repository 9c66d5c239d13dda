use super::*;

const ALL: &str = r#"
version = 1
seed = 3
[[fault]]
kind = "poison"
tier = "slow"
probability = 0.5
times = 2
extent = 1
offset = 64
grain = "line"
[[fault]]
kind = "remove"
at_time = "1.5 ms"
for_time = "2us"
[[fault]]
kind = "link-down"
at_operation = 1
for_operations = 4
[[fault]]
kind = "shrink"
at_operation = 2
to = "4 MiB"
[[fault]]
kind = "slow"
at_operation = 3
factor = 4
[[fault]]
kind = "full"
at_operation = 4
[[fault]]
kind = "io-error"
at_operation = 5
on = "read"
[[fault]]
kind = "reset"
at_operation = 6
[[fault]]
kind = "crash"
at_operation = 7
[[fault]]
kind = "crash"
at_persist_point = 8
torn = true
"#;

#[test]
fn every_kind_is_read() {
    let plan = Plan::parse(ALL, "all.toml").unwrap();
    let script = "seed=3;poison tier=slow probability=0.5 times=2 extent=1 offset=64 grain=line;\
                  remove at-ns=1500000 for-ns=2000;link-down at-op=1 for-ops=4;shrink at-op=2 to=4194304;\
                  slow at-op=3 factor=4;full at-op=4;io-error at-op=5 on=read;reset at-op=6 for-ops=0;crash at-op=7";
    assert_eq!(plan.script().to_string(), script);
    assert_eq!(plan.crash(), Some(Crash { point: 8, seed: 3, torn: true }));
    assert_eq!(script.parse::<Script>().unwrap(), *plan.script(), "what is handed to a program says the same");
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let fault = |rest: &str| format!("version = 1\n[[fault]]\n{rest}");
    for (text, line, word) in [
        ("version = 2".to_owned(), 1, "version"),
        ("seed = 1".to_owned(), 1, "version"),
        (fault("kind = \"melt\"\nat_operation = 1"), 3, "no fault `melt`"),
        (fault("kind = \"full\""), 2, "does not say when"),
        (fault("kind = \"full\"\nat_operation = 1\nprobability = 0.5"), 5, "only one of"),
        (fault("kind = \"full\"\nat_operation = 0"), 4, "out of range"),
        (fault("kind = \"full\"\nprobability = 1.5"), 4, "at most 1"),
        (fault("kind = \"full\"\nat_time = \"soon\""), 4, "20 ms"),
        (fault("kind = \"full\"\nat_operation = 1\nextent = 3"), 5, "unknown key `extent`"),
        (fault("kind = \"shrink\"\nat_operation = 1"), 3, "needs `to`"),
        (fault("kind = \"shrink\"\nat_operation = 1\nto = \"4 apples\""), 5, "64 KiB"),
        (fault("kind = \"slow\"\nat_operation = 1\nfactor = 0.5"), 5, "a factor is 1"),
        (fault("kind = \"poison\"\nat_operation = 1\nfor_operations = 5"), 5, "unknown key"),
        (fault("kind = \"poison\"\nat_operation = 1\ngrain = \"bit\""), 5, "os-page"),
        (fault("kind = \"full\"\nat_operation = 1\ntier = \"7\""), 5, "name of a tier"),
        (fault("kind = \"full\"\nat_operation = 1\ncolour = \"red\""), 5, "unknown key `colour`"),
        (fault("kind = \"full\"\nat_operation = 1\ntorn = true"), 5, "unknown key `torn`"),
        (fault("kind = \"full\"\nat_operation = -1"), 4, "out of range"),
        (fault("kind = \"crash\"\nat_operation = 1\ntorn = true"), 5, "`at_persist_point` only"),
        (fault("kind = \"crash\"\nat_persist_point = 1\ntimes = 2"), 5, "has no `times`"),
        (fault("kind = \"full\"\nat_operation = 1\nfor_operations = 1\nfor_time = \"1 s\""), 6, "either"),
    ] {
        let error = Plan::parse(&text, "p.toml").unwrap_err();
        let shown = error.to_string();
        let at: Vec<usize> = error.entries().iter().map(|entry| entry.line).collect();
        assert!(shown.contains(word) && at == [line], "line {line}, `{word}`:\n{shown}");
    }
}
