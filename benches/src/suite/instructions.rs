//! Instructions per malloc and free, counted by callgrind: exact, so that a gate in continuous integration can hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::callgrind;
use super::rivals::Rival;

/// Orders of `pairs` and how many of them the shorter run does: a multiple of a batch, enough for slow paths to weigh as
/// they should. `shallow` frees at random in batches of 256 (fast paths alone), the next three in batches of 16,384 (with
/// the slow paths as they come); the others are named after what they call or how large their blocks are.
pub const ORDERS: [(&str, usize); 10] = [
    ("shallow", 1 << 19),
    ("lifo", 1 << 19),
    ("fifo", 1 << 19),
    ("random", 1 << 19),
    ("medium", 1 << 16),
    ("large", 1 << 13),
    ("calloc", 1 << 18),
    ("aligned", 1 << 17),
    ("realloc", 1 << 16),
    ("remote", 1 << 19),
];
/// How far a figure may rise over the checked-in one.
pub const GATE_TOLERANCE: f64 = 1.02;

/// Instructions per pair, by order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerPair(pub BTreeMap<String, f64>);

/// What callgrind counted for everyone.
#[derive(Debug, Default, Serialize)]
pub struct Counted {
    /// The orders, as they were counted.
    pub orders: Vec<&'static str>,
    /// The measuring loop itself, without calls; part of every figure below. Empty if it was not counted.
    pub loop_alone: PerPair,
    /// By allocator, in column order.
    pub rivals: Vec<(String, PerPair)>,
    /// Allocators that failed, with the reason.
    pub failed: Vec<(String, String)>,
}

/// The orders named in `only`, or all if it names none; an unknown name is an error.
pub fn orders(only: &[String]) -> Result<Vec<(&'static str, usize)>, String> {
    if let Some(unknown) = only.iter().find(|name| ORDERS.iter().all(|(order, _)| order != name)) {
        return Err(format!("no order is called `{unknown}`; there are {}", ORDERS.map(|(name, _)| name).join(", ")));
    }
    let wanted = |(name, _): &(&str, usize)| only.is_empty() || only.iter().any(|word| word == name);
    Ok(ORDERS.into_iter().filter(wanted).collect())
}

/// Counts `orders` for all `rivals`; `with_loop` also counts the measuring loop.
pub fn count(
    rivals: &[Rival],
    orders: &[(&'static str, usize)],
    with_loop: bool,
    workload: &Path,
    scratch: &Path,
) -> Result<Counted, String> {
    let bare = Rival { name: "none".into(), origin: String::new(), preload: None, environment: vec![] };
    let per_pair = |rival: &Rival, order: &str, pairs: usize| {
        callgrind::per_unit(rival, &["pairs", &format!("order={order}")], (pairs, "pairs"), workload, scratch)
    };
    let mut counted = Counted { orders: orders.iter().map(|(name, _)| *name).collect(), ..Counted::default() };
    for (order, pairs) in orders.iter().filter(|_| with_loop) {
        counted.loop_alone.0.insert((*order).into(), per_pair(&bare, &format!("{order}-loop"), *pairs)?);
    }
    for rival in rivals {
        let mut figures = PerPair::default();
        for (order, pairs) in orders {
            match per_pair(rival, order, *pairs) {
                Ok(figure) => drop(figures.0.insert((*order).into(), figure)),
                Err(why) => counted.failed.push((format!("{} ({order})", rival.name), why)),
            }
        }
        eprintln!("{:14} {:?}", rival.name, figures.0);
        counted.rivals.push((rival.name.clone(), figures));
    }
    Ok(counted)
}

/// Those of `orders` in which `measured` is more than [`GATE_TOLERANCE`] over `allowed`, or for which either has no
/// figure.
pub fn gate(orders: &[&str], measured: &PerPair, allowed: &PerPair) -> Vec<String> {
    orders
        .iter()
        .filter_map(|order| match (measured.0.get(*order), allowed.0.get(*order)) {
            (Some(now), Some(then)) if *now <= then * GATE_TOLERANCE => None,
            (Some(now), Some(then)) => Some(format!(
                "{order}: {now:.1} instructions per pair, {:+.1} % over the {then:.1} checked in",
                100.0 * (now / then - 1.0)
            )),
            (None, _) => Some(format!("{order}: not measured")),
            (_, None) => Some(format!("{order}: the gate file has no figure")),
        })
        .collect()
}

/// The orders that have become so much cheaper that the figures allowed no longer hold anything.
pub fn stale(measured: &PerPair, allowed: &PerPair) -> Vec<String> {
    let cheaper = |(order, now): (&String, &f64)| {
        let then = allowed.0.get(order)?;
        (now * GATE_TOLERANCE < *then).then(|| format!("{order}: {now:.1} instead of the {then:.1} checked in"))
    };
    measured.0.iter().filter_map(cheaper).collect()
}

/// The table.
pub fn markdown(counted: &Counted) -> String {
    let mut text = String::from("Instructions per malloc and free (callgrind, exact), with the measuring loop");
    text.push_str(if counted.loop_alone.0.is_empty() { ".\n\n" } else { " and, in brackets, without it.\n\n" });
    let _ = writeln!(text, "| | {} |\n|---|{}", counted.orders.join(" | "), "---|".repeat(counted.orders.len()));
    for (name, figures) in &counted.rivals {
        let entry = |order: &&str| match (figures.0.get(*order), counted.loop_alone.0.get(*order)) {
            (Some(gross), Some(own)) => format!("{gross:.1} ({:.1})", gross - own),
            (Some(gross), None) => format!("{gross:.1}"),
            (None, _) => "failed".to_owned(),
        };
        let entries: Vec<String> = counted.orders.iter().map(entry).collect();
        let _ = writeln!(text, "| {name} | {} |", entries.join(" | "));
    }
    for (name, why) in &counted.failed {
        let _ = writeln!(text, "\n- {name}: {why}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["lifo", "fifo"];

    fn figures(lifo: f64) -> PerPair {
        PerPair([("lifo".into(), lifo), ("fifo".into(), 50.0)].into())
    }

    #[test]
    fn the_gate_lets_two_per_cent_pass_and_no_more() {
        assert_eq!(gate(&NAMES, &figures(45.8), &figures(45.0)), Vec::<String>::new());
        assert_eq!(gate(&NAMES, &figures(30.0), &figures(45.0)), Vec::<String>::new());
        assert_eq!(gate(&NAMES, &figures(46.0), &figures(45.0)).len(), 1);
        assert_eq!(gate(&NAMES, &PerPair::default(), &figures(45.0)).len(), 2, "nothing measured is no pass");
        assert_eq!(gate(&NAMES, &figures(45.0), &PerPair::default()).len(), 2);
    }

    #[test]
    fn figures_that_became_much_cheaper_are_named() {
        assert_eq!(stale(&figures(40.0), &figures(45.0)).len(), 1);
        assert_eq!(stale(&figures(44.5), &figures(45.0)), Vec::<String>::new());
    }

    #[test]
    fn an_order_that_nobody_has_is_refused() {
        assert!(orders(&["lifoo".into()]).unwrap_err().contains("lifo,"));
        assert_eq!(orders(&["fifo".into()]).expect("known").len(), 1);
        assert_eq!(orders(&[]).expect("all").len(), ORDERS.len());
    }
}
