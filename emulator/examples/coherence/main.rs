mod worked;
use tiermem_emulator::coherence::*;
use std::time::Instant;
fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    for case in worked::cases() {
        let name = format!("{} {:?}", case.structure, case.left_out);
        if !name.contains(&filter) { continue }
        for strategy in [Strategy::Systematic{deviations: 2}, Strategy::Random{schedules: 20000}, Strategy::Pct{schedules: 20000, depth: 3}] {
            let t = Instant::now();
            let report = Explorer::new().strategies(&[strategy]).max_schedules(200_000).check(|s| case.build(s));
            let ok = match (&report.failure, case.left_out.is_some()) {
                (None, false) => "ok", (None, true) => "NOT FOUND", (Some(f), true) if case.expected.contains(&f.finding.kind) => "ok", _ => "WRONG" };
            println!("{name:40} {strategy:40} {ok:10} {:?} {} {:.2}s len {}", report.kind(), report.schedules(), t.elapsed().as_secs_f64(), report.failure.as_ref().map_or(0,|f|f.schedule.len()));
            if ok == "WRONG" && std::env::var("V").is_ok() { println!("{report}"); }
        }
    }
}
