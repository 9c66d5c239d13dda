//! Real programs as cells: found on this machine, fed with generated input.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cells::{Cell, Kind, Work};
use super::redis::Redis;
use super::rivals::Absent;

/// A real program with its arguments.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
}

impl Program {
    /// The command to measure.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).envs(self.environment.iter().copied());
        command
    }
}

/// The programs that are installed, and the names of those that are not with the package that has them. Inputs are
/// written into `folder`.
pub fn find(folder: &Path, quick: bool) -> std::io::Result<(Vec<Cell>, Vec<Absent>)> {
    let shrink = if quick { 8 } else { 1 };
    let (mut cells, mut missing) = (Vec::new(), Vec::new());
    let inputs = [
        ("python", "python3", python_script(600_000 / shrink), "program.py"),
        ("sqlite", "sqlite3", sql_script(1_000_000 / shrink), "program.sql"),
        ("gcc", "gcc", c_source(240 / shrink), "program.c"),
        ("ghostscript", "gs", postscript(60 / shrink), "program.ps"),
    ];
    for (name, binary, text, file) in inputs {
        let Some(path) = executable(binary) else {
            missing.push(Absent { name: name.to_owned(), why: format!("`{binary}` is not installed") });
            continue;
        };
        let input = folder.join(file);
        std::fs::write(&input, text)?;
        let input = input.display().to_string();
        let arguments: Vec<String> = match name {
            "python" => vec!["-S".into(), input],
            "sqlite" => vec![":memory:".into(), format!(".read {input}")],
            "gcc" => ["-O2", "-S", "-o", "-", &input].map(String::from).into(),
            _ => ["-q", "-dBATCH", "-dNOPAUSE", "-sDEVICE=ppmraw", "-r150", "-o", "-", &input].map(String::from).into(),
        };
        // By default Python serves small objects from its own pools, and malloc would hardly be seen.
        let environment =
            if name == "python" { vec![("PYTHONMALLOC", "malloc"), ("PYTHONHASHSEED", "0")] } else { vec![] };
        cells.push(Cell::new(name, Kind::Single, Work::Program(Program { path, arguments, environment })));
    }
    match executable("redis-server") {
        Some(server) => {
            cells.push(Cell::new("redis", Kind::Single, Work::Redis(Redis::new(server, 1_600_000 / shrink))));
        }
        None => missing.push(Absent { name: "redis".to_owned(), why: "`redis-server` is not installed".to_owned() }),
    }
    Ok((cells, missing))
}

/// The first real executable of that name on the path; scripts that only start one (version managers' shims) are
/// passed over, because a preload would be measured on their shell.
pub fn executable(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| {
        let mut magic = [0u8; 4];
        std::fs::File::open(candidate).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"\x7fELF"
    })
}

fn python_script(items: usize) -> String {
    format!(
        r#"
import random
random.seed(7)
words = ["w%d" % random.randrange(5000) for _ in range({items})]
index = {{}}
for position, word in enumerate(words):
    index.setdefault(word, []).append((position, word.upper()))
class Node:
    def __init__(self, key):
        self.key, self.left, self.right = key, None, None
root = Node(0.5)
for _ in range({items} // 8):
    key, node = random.random(), root
    while True:
        side = "left" if key < node.key else "right"
        child = getattr(node, side)
        if child is None:
            setattr(node, side, Node(key))
            break
        node = child
text = " ".join(sorted(set(words), key=lambda word: (len(index[word]), word)))
lines = [text[start:start + 40].split() for start in range(0, len(text), 7)]
total = sum(len(line) for line in lines)
rows = [dict(a=i, b=str(i), c=[i] * (i % 7)) for i in range({items} // 2)]
rows.sort(key=lambda row: row["b"])
print(total, len(index), rows[1000]["a"])
"#
    )
}

fn sql_script(rows: usize) -> String {
    format!(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, value REAL, body BLOB);\n\
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})\n\
         INSERT INTO t SELECT i, 'name-' || (i * 7919 % {rows}), i * 0.5, hex(i * 2654435761) FROM n;\n\
         CREATE INDEX by_name ON t(name);\n\
         SELECT count(*), sum(length(body)) FROM t;\n\
         SELECT substr(name, 1, 7) AS head, count(*), group_concat(id) FROM t GROUP BY head ORDER BY head LIMIT 20;\n\
         UPDATE t SET body = body || body || name WHERE id % 3 = 0;\n\
         DELETE FROM t WHERE id % 5 = 0;\n\
         SELECT count(*), sum(length(body)), max(name) FROM t;\n"
    )
}

/// Functions with loops, branches and calls, all different, so that an optimiser has work.
fn c_source(functions: usize) -> String {
    let mut text = String::from("#include <stddef.h>\nextern int sink(int, const void *);\n");
    for index in 0..functions {
        let (a, b, c) = (index * 7 % 31 + 1, index * 13 % 17 + 2, index * 5 % 11 + 3);
        let called =
            if index == 0 { "sink(x, data)".to_owned() } else { format!("f{}(x + {a}, data, n / 2)", index - 1) };
        let _ = write!(
            text,
            "struct s{index} {{ int head[{b}]; double mass; struct s{index} *next; }};\n\
             int f{index}(int x, const int *data, int n) {{\n\
               struct s{index} local = {{ {{0}}, 1.5, 0 }}; int sum = x;\n\
               for (int i = 0; i < n; i++) {{\n\
                 switch ((data[i] ^ x) % {c}) {{\n\
                   case 0: sum += data[i] * {a}; break; case 1: sum ^= data[i] << {b}; break;\n\
                   case 2: local.head[i % {b}] += sum; break; default: local.mass *= 1.0 + sum / {a}.0;\n\
                 }}\n\
                 for (int j = 0; j < {b}; j++) sum += local.head[j] * (i - j);\n\
               }}\n\
               if (n > {a}) sum += {called};\n\
               return sink(sum + (int)local.mass, &local);\n\
             }}\n"
        );
    }
    text
}

fn postscript(sheets: usize) -> String {
    format!(
        "%!PS\n/Times-Roman findfont 9 scalefont setfont\n1 1 {} {{\n  /sheet exch def\n  0 1 60 {{ /row exch def\n    \
         0 1 8 {{ /column exch def\n      /words 40 array def 0 1 39 {{ words exch dup 12 string cvs put }} for\n      \
         72 column 55 mul add 720 row 11 mul sub moveto words row 40 mod get show\n      gsave newpath column 60 mul \
         row 12 mul 40 0 360 arc sheet 97 mod 97 div setgray stroke grestore\n    }} for\n  }} for\n  showpage\n}} for\n",
        sheets.max(1)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_not_taken_for_a_program() {
        assert!(executable("sh").is_some());
        assert_eq!(executable("no-such-program-anywhere"), None);
    }

    #[test]
    fn inputs_grow_with_the_amount_asked_for() {
        assert!(c_source(200).len() > 15 * c_source(10).len());
        assert!(sql_script(10).contains("i < 10)"));
    }
}
