//! Drawings: everything is in them, inside the picture, and whatever a name holds they stay well-formed.

use tiermem_topology::{SHIPPED, Topology};

/// With `TIERMEM_DRAWINGS=FOLDER` the drawings are written there, to be looked at.
#[test]
fn every_shipped_topology_is_drawn_whole() {
    for (name, _) in SHIPPED {
        let topology = Topology::shipped(name).unwrap();
        let svg = topology.to_svg();
        let names = topology.devices.iter().map(|d| &d.name).chain(topology.hosts.iter().map(|h| &h.name));
        let names = names.chain(topology.nodes.iter().map(|n| &n.name)).chain(topology.pools.iter().map(|p| &p.name));
        for part in names.chain(topology.interleave_sets.iter().map(|s| &s.name)) {
            assert!(svg.contains(part.as_str()), "{part} is not in the drawing of {name}");
        }
        assert_eq!(svg.matches("class=\"link\"").count(), topology.links.len(), "{name}");
        let mut words = svg.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        assert!(!words.any(|word| ["inf", "-inf", "NaN"].contains(&word)), "{name}");
        assert!(!overlapping_cards(&svg), "{name}: cards lie on each other");
        for line in svg.lines().filter(|line| line.contains("class=\"soft\"") && line.contains(" · ")) {
            let text = line.split_once('>').unwrap().1.split_once('<').unwrap().0;
            // Wide letters of the fallback font at 12 pixels, in a card of 206 with 15 before them.
            assert!(text.chars().count() as f64 * 5.9 < 191.0, "{name}: {text:?} is wider than its card");
        }
        if let Some(folder) = std::env::var_os("TIERMEM_DRAWINGS") {
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}.svg")), svg).unwrap();
        }
    }
}

#[test]
fn text_is_escaped() {
    let topology = Topology::shipped("one-expander").unwrap();
    let hostile = Topology { description: "</desc><script>&\"\u{1}".into(), ..topology };
    let svg = hostile.to_svg();
    assert!(svg.contains("&lt;/desc&gt;&lt;script&gt;&amp;&quot; "), "{svg}");
    assert!(!svg.contains("<script>") && !svg.contains('\u{1}'));
}

fn overlapping_cards(svg: &str) -> bool {
    let cards: Vec<[f64; 4]> = svg
        .lines()
        .filter(|line| line.starts_with("<rect class=\"card\""))
        .map(|line| {
            ["x", "y", "width", "height"].map(|key| {
                let from = line.split_once(&format!(" {key}=\"")).expect("the attribute").1;
                from.split_once('"').expect("its end").0.parse().expect("a number")
            })
        })
        .collect();
    assert!(!cards.is_empty());
    let apart = |a: &[f64; 4], b: &[f64; 4]| {
        a[0] + a[2] <= b[0] || b[0] + b[2] <= a[0] || a[1] + a[3] <= b[1] || b[1] + b[3] <= a[1]
    };
    cards.iter().enumerate().any(|(i, a)| cards[i + 1..].iter().any(|b| !apart(a, b)))
}
