//! The answers that workloads give themselves: costs per unit, footprints, what was given back.

use std::fmt::Write as _;

use super::markdown::absences;
use super::measure::Results;
use super::rivals::OURS;

/// The cell of memory return.
pub const RETURN_CELL: &str = "memory-return";
/// When memory return is read, after the last free.
pub const RETURN_AT_MS: u64 = 2_000;

/// One line: the cell, the key in its report, what that is, and digits after the point.
type Answer = (&'static str, &'static str, &'static str, usize);

const ANSWERS: [Answer; 18] = [
    ("live-churn", "cpu_ns_per_pair", "100,000 live, 16–255 B skewed: CPU ns a pair", 1),
    ("live-churn-wide", "cpu_ns_per_pair", "100,000 live, 16–2048 B uniform: CPU ns a pair", 1),
    ("live-churn-10m", "cpu_ns_per_pair", "10 million live, 16–255 B skewed: CPU ns a pair", 1),
    ("working-set", "cpu_ns_per_dependent_access", "working set: CPU ns a dependent access", 1),
    ("working-set", "cpu_ns_per_independent_access", "working set: CPU ns an independent access", 1),
    ("working-set", "huge_page_mib", "working set: MiB in transparent huge pages", 0),
    ("working-set", "footprint_over_live", "working set: footprint over live", 2),
    ("thread-cycle", "cpu_us_per_thread_alone", "a thread, one after the other: CPU µs", 1),
    ("thread-cycle", "cpu_us_per_thread_of_eight", "a thread, eight at a time: CPU µs", 1),
    ("fragmentation", "footprint_over_live_max", "shifting sizes, no pause: largest footprint over live", 2),
    ("fragmentation-clustered", "footprint_over_live_max", "clustered, after 1.5 s idle: footprint over live", 2),
    ("fragmentation-adversarial", "footprint_over_live_max", "adversarial, after 1.5 s idle: footprint over live", 2),
    ("fragmentation-adversarial", "os_pages_over_live_last", "adversarial: OS pages with a live block over live", 2),
    ("idle-cost", "idle_cpu_percent_holding", "idle, holding 500 MiB: CPU %", 3),
    ("idle-cost", "purge_cpu_ms", "idle, first 2 s after freeing it: CPU ms", 1),
    ("idle-cost", "idle_cpu_percent_after_free", "idle, first 4 s after freeing it: CPU %", 3),
    ("idle-cost", "idle_cpu_percent_quiet", "idle, afterwards: CPU %", 3),
    ("idle-cost", "resident_percent_of_peak", "idle, afterwards: resident, % of the peak", 1),
];

/// Both tables: the answers, and the course of memory return.
pub fn tables(results: &Results) -> String {
    let mut text = String::new();
    answers(&mut text, results);
    returned(&mut text, results);
    text
}

fn answers(text: &mut String, results: &Results) {
    let names: Vec<&str> = results.rivals.iter().map(|rival| rival.name.as_str()).collect();
    let asked: Vec<&Answer> =
        ANSWERS.iter().filter(|(cell, ..)| results.rows.iter().any(|row| row.cell == *cell)).collect();
    if asked.is_empty() {
        return;
    }
    let _ = writeln!(text, "### What the workloads report, median ± median absolute deviation\n");
    let _ = writeln!(text, "| | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for (cell, key, title, digits) in asked {
        let _ = write!(text, "| {title} |");
        for name in &names {
            let _ = match results.reported(cell, name, key) {
                Some(spread) => write!(text, " {:.digits$} ± {:.digits$} |", spread.median, spread.mad),
                None => write!(text, " – |"),
            };
        }
        text.push('\n');
    }
    text.push('\n');
}

/// What huge pages are worth, one line an allocator. `system` is the system's setting.
pub fn huge(results: &Results, system: &str) -> String {
    let mut text = format!(
        "Machine: {}. {} interleaved rounds. The system's setting for transparent huge pages: {system}. Median ± median \
         absolute deviation.\n\n| | CPU ns a dependent access | CPU ns an independent access | MiB in huge pages | \
         footprint over live |\n|---|---|---|---|---|\n",
        results.machine, results.rounds
    );
    for rival in &results.rivals {
        let show = |key: &str, digits: usize| match results.reported("working-set", &rival.name, key) {
            Some(spread) => format!("{:.digits$} ± {:.digits$}", spread.median, spread.mad),
            None => "–".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            rival.name,
            show("cpu_ns_per_dependent_access", 1),
            show("cpu_ns_per_independent_access", 1),
            show("huge_page_mib", 0),
            show("footprint_over_live", 2)
        );
    }
    let median =
        |setting: &str| Some(results.reported("working-set", &format!("{OURS}-{setting}"), "huge_page_mib")?.median);
    if let (Some(never), Some(always)) = (median("never"), median("always"))
        && always <= never
    {
        let _ = writeln!(text, "\n**TIERMEM_HUGE made no difference:** `always` has no more huge pages than `never`.");
    }
    text.push('\n');
    absences(&mut text, results);
    text
}

/// Of the last run of `rival` on the cell of memory return: bytes at the peak, just freed, and after [`RETURN_AT_MS`].
pub fn course(results: &Results, rival: &str) -> Option<[f64; 3]> {
    let row = results.rows.iter().find(|row| row.cell == RETURN_CELL)?;
    let report = row.series.get(rival)?.reports.last()?;
    let late = report["idle"]
        .as_array()?
        .iter()
        .find(|sample| sample["at_ms"].as_u64().is_some_and(|at_ms| at_ms >= RETURN_AT_MS))?;
    Some([report["peak_bytes"].as_f64()?, report["freed_bytes"].as_f64()?, late["resident_bytes"].as_f64()?])
}

/// How much of the peak is still resident after the program freed everything and idled.
fn returned(text: &mut String, results: &Results) {
    if results.rows.iter().all(|row| row.cell != RETURN_CELL) {
        return;
    }
    let _ = writeln!(text, "### Memory return: everything freed, then idle\n");
    let _ = writeln!(
        text,
        "| | peak, MiB | just freed | after {} s | share of peak |\n|---|---|---|---|---|",
        RETURN_AT_MS / 1000
    );
    for rival in &results.rivals {
        let Some(course) = course(results, &rival.name) else { continue };
        let [peak, freed, late] = course.map(|bytes| bytes / 1048576.0);
        let _ =
            writeln!(text, "| {} | {peak:.0} | {freed:.0} | {late:.0} | {:.1} % |", rival.name, 100.0 * late / peak);
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::cells;
    use super::*;

    #[test]
    fn every_answer_is_of_a_cell_that_reports_it() {
        for (cell, key, ..) in ANSWERS {
            let cells = cells::workloads(2, true);
            let cell = cells.iter().find(|candidate| candidate.name == cell).expect(cell);
            let cells::Work::Workload(arguments) = &cell.work else { panic!("{} is no workload", cell.name) };
            let (name, rest) = arguments.split_first().expect("a workload's name");
            let small = ["live=2", "ops=64", "idle_ms=0"].map(String::from);
            let arguments = rest.iter().cloned().chain(small);
            let parameters = crate::workload::Parameters::parse(arguments).expect("well-formed");
            let report = (crate::workload::find(name).expect("a workload").run)(&parameters);
            assert!(report[key].is_number(), "{name} does not report {key}: {report}");
        }
    }
}
