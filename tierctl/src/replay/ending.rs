//! What both documents end with: tiers, sites, what was assumed.

use crate::output::{Align, Table};

/// One table of the `tiers` and one of the first `shown` sites, which have a name each, and the assumptions. `cells` are a row's, one for each of
/// the `columns`.
pub fn ending<R>(
    columns: &[(&'static str, Align)],
    [tiers, sites]: [&[R]; 2],
    cells: impl Fn(&R) -> Vec<String>,
    name: impl Fn(&R) -> &str,
    shown: usize,
    assumptions: &[String],
) -> String {
    let mut table = Table::new(columns);
    for row in tiers {
        table.row(cells(row));
    }
    let mut text = table.render();
    let mut table = Table::new(&[columns, &[("SITE", Align::Left)]].concat());
    for row in sites.iter().take(shown) {
        table.row(cells(row).into_iter().chain([name(row).to_owned()]));
    }
    text.extend(["\n", &table.render()]);
    if sites.len() > shown {
        text.push_str(&format!("and {} more sites\n", sites.len() - shown));
    }
    text.push_str("\nAssumed:\n");
    assumptions.iter().for_each(|assumption| text.push_str(&format!("- {assumption}\n")));
    text
}
