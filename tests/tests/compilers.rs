//! Compilers under the preload give the same object code as without it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tiermem_tests::{Run, Tiering, find, in_every_setup, remembered, scratch};

fn run(program: &Path, tiering: Option<&Tiering>, folder: &Path) -> Run {
    let run = Run::new(program).current_dir(folder).limit(300);
    if let Some(tiering) = tiering { run.under(tiering) } else { run }
}

/// A few hundred functions with loops, switches, structures and floating point: about 4,000 lines of much code each.
fn generated_c(functions: u32) -> String {
    let mut text = String::from("#include <stdio.h>\n#include <string.h>\n#include <math.h>\n");
    for f in 0..functions {
        let _ = write!(
            text,
            "struct s{f} {{ int a[{size}]; double d; char name[{f} % 50 + 2]; }};\n\
             static unsigned f{f}(struct s{f} *s, unsigned n) {{\n  unsigned sum = n;\n\
             for (unsigned i = 0; i < {size}; i++) {{\n    s->a[i] = (int)(i * {f} + n);\n    switch (s->a[i] % 7) {{\n",
            size = f % 40 + 3
        );
        for case in 0..6 {
            let _ = writeln!(
                text,
                "    case {case}: sum = sum * {} + (unsigned)s->a[(i + {case}) % {}]; break;",
                31 + f + case,
                f % 40 + 3
            );
        }
        let _ = write!(
            text,
            "    default: s->d += sin((double)sum) * {f}.5;\n    }}\n  }}\n  memset(s->name, (int)(sum & 127), sizeof s->name);\n\
             return sum + (unsigned)s->d + (unsigned char)s->name[1];\n}}\n"
        );
    }
    text.push_str("int main(void) {\n  unsigned sum = 1;\n");
    for f in 0..functions {
        let _ = writeln!(text, "  {{ struct s{f} s; memset(&s, 0, sizeof s); sum += f{f}(&s, sum); }}");
    }
    text.push_str("  printf(\"%u\\n\", sum);\n  return 0;\n}\n");
    text
}

fn object_of_gcc(tiering: Option<&Tiering>, compiler: &Path, source: &str, text: &str) -> Vec<u8> {
    let folder = scratch();
    fs::write(folder.path().join(source), text).expect("a source can be written");
    // A relative path and a fixed seed, so that the output depends on the source only.
    run(compiler, tiering, folder.path())
        .args(["-O2", "-frandom-seed=1", "-c", source, "-o", "out.o"])
        .finish()
        .succeeded_quietly();
    fs::read(folder.path().join("out.o")).expect("the compiler wrote it")
}

fn gcc_object(tiering: &Tiering) {
    let Some(gcc) = find("gcc") else { return };
    let text = generated_c(150);
    let bare = remembered(&gcc, &text, || object_of_gcc(None, &gcc, "generated.c", &text));
    let tiered = object_of_gcc(Some(tiering), &gcc, "generated.c", &text);
    assert!(bare.len() > 100_000, "too little code: {}", bare.len());
    assert!(bare == tiered, "gcc's output differs under the preload");
}
in_every_setup!(gcc, gcc_object);

fn gxx_object(tiering: &Tiering) {
    let Some(gxx) = find("g++") else { return };
    let mut text = String::from(
        "#include <algorithm>\n#include <functional>\n#include <iostream>\n#include <map>\n#include <regex>\n#include <string>\n#include <vector>\n",
    );
    for n in 0..6 {
        let _ = writeln!(
            text,
            "struct t{n} {{ int v[{n} + 1]; bool operator<(const t{n} &o) const {{ return v[0] < o.v[0]; }} }};\n\
            std::size_t use{n}(std::vector<t{n}> v) {{ std::map<t{n}, std::string> m; std::sort(v.begin(), v.end()); for (auto &x : v) m[x] += \"x\"; return m.size(); }}"
        );
    }
    text.push_str("bool match(const std::string &s) { return std::regex_match(s, std::regex(\"(a|b)*c+\")); }\n");
    let bare = remembered(&gxx, &text, || object_of_gcc(None, &gxx, "generated.cpp", &text));
    let tiered = object_of_gcc(Some(tiering), &gxx, "generated.cpp", &text);
    assert!(bare == tiered, "g++'s output differs under the preload");
}
in_every_setup!(gxx, gxx_object);

/// Generic code, collections and traits: enough for rustc to use all its stages and threads.
fn generated_rust() -> String {
    let mut text = String::from("use std::collections::{BTreeMap, HashSet};\nuse std::fmt::Debug;\n");
    for n in 0..20 {
        let _ = writeln!(
            text,
            "#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)] pub struct T{n} {{ a: [u32; {n} % 30 + 1], b: String, c: Option<Box<T{n}>> }}\n\
             pub fn f{n}(seed: u32) -> usize {{ let mut m: BTreeMap<T{n}, Vec<String>> = BTreeMap::new(); let mut s = HashSet::new();\n\
             for i in 0..50u32 {{ let t = T{n} {{ a: [seed.wrapping_mul(i); {n} % 30 + 1], b: format!(\"{{i:05}}\"), c: None }}; s.insert(t.clone());\n\
             m.entry(T{n} {{ c: Some(Box::new(t.clone())), ..t }}).or_default().push(describe(&t_name(i))); }} m.values().map(Vec::len).sum::<usize>() + s.len() }}"
        );
    }
    text.push_str("fn t_name(i: u32) -> (u32, String) { (i, i.to_string()) }\nfn describe<T: Debug>(t: &T) -> String { format!(\"{t:?}\") }\nfn main() {\n let mut sum = 0;\n");
    for n in 0..20 {
        let _ = writeln!(text, " sum += f{n}({n} + 1);");
    }
    text.push_str(" println!(\"{sum}\");\n}\n");
    text
}

/// cargo, rustc and the linker, with parallel code generation.
fn cargo_build(tiering: Option<&Tiering>, cargo: &Path) -> (Vec<u8>, String) {
    let folder = scratch();
    fs::create_dir(folder.path().join("src")).expect("a directory can be made");
    fs::write(folder.path().join("Cargo.toml"), "[package]\nname = \"generated\"\nedition = \"2021\"\n[workspace]\n")
        .expect("written");
    fs::write(folder.path().join("src/main.rs"), generated_rust()).expect("written");
    run(cargo, tiering, folder.path())
        .args(["build", "--release", "--quiet", "--offline", "--target-dir", "out"])
        .env("RUSTFLAGS", format!("--remap-path-prefix={}=/src -Awarnings", folder.path().display()))
        .finish()
        .succeeded();
    let program = folder.path().join("out/release/generated");
    let printed = run(&program, tiering, folder.path()).finish().succeeded_quietly().text();
    (fs::read(program).expect("cargo built it"), printed)
}

fn rust_program(tiering: &Tiering) {
    let Some(cargo) = find("cargo") else { return };
    let bare = remembered(&cargo, generated_rust(), || {
        let (program, printed) = cargo_build(None, &cargo);
        format!("{} bytes\n{printed}", program.len()).into_bytes()
    });
    let (program, printed) = cargo_build(Some(tiering), &cargo);
    assert!(!printed.trim().is_empty());
    let tiered = format!("{} bytes\n{printed}", program.len());
    assert_eq!(tiered, String::from_utf8_lossy(&bare), "the built program or its output differs under the preload");
}
in_every_setup!(cargo_and_rustc, rust_program);
