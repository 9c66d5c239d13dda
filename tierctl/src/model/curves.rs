//! The loaded-latency curves of profiles in one picture.

use plotters::coord::Shift;
use plotters::coord::combinators::IntoLogRange;
use plotters::prelude::*;
use tiermem_topology::{MemoryFigures, Profile, ProfileFigures};

use crate::chart::{self, Painted};
use crate::exit::{Exit, Failure};

const SIZE: (u32, u32) = (960, 620);

/// Dark enough for white paper, and told apart by most eyes.
const COLOURS: [RGBColor; 9] = [
    RGBColor(230, 97, 1),
    RGBColor(27, 120, 55),
    RGBColor(0, 0, 0),
    RGBColor(33, 102, 172),
    RGBColor(178, 24, 43),
    RGBColor(118, 42, 131),
    RGBColor(1, 133, 113),
    RGBColor(197, 27, 125),
    RGBColor(140, 81, 10),
];

/// An SVG picture: bandwidth in use on the x axis, latency on the y axis, both logarithmic, one curve a profile.
///
/// # Errors
/// `Unsupported` if none of them is memory.
pub fn draw(profiles: &[Profile]) -> Result<String, Failure> {
    let memories: Vec<(&str, &MemoryFigures)> = profiles
        .iter()
        .filter_map(|profile| match &profile.figures {
            ProfileFigures::Memory(figures) => Some((profile.name.as_str(), figures)),
            _ => None,
        })
        .collect();
    if memories.is_empty() {
        return Err(Failure::new(Exit::Unsupported, "nothing to plot: none of these profiles is memory"));
    }
    chart::picture(SIZE, |area| paint(&memories, area))
}

/// Bandwidth in GB/s and latency in ns at each point; the idle one stands at a hundredth of the bandwidth, since a
/// logarithmic axis has no zero.
fn points(figures: &MemoryFigures) -> Vec<(f64, f64)> {
    let most = figures.read_bandwidth.value / 1e9;
    let curve = figures.loaded.value.iter();
    curve.map(|p| (p.utilisation.max(0.01) * most, p.latency_factor * figures.read_latency_ns.value)).collect()
}

fn paint(memories: &[(&str, &MemoryFigures)], area: &DrawingArea<SVGBackend<'_>, Shift>) -> Painted<()> {
    let all: Vec<(f64, f64)> = memories.iter().flat_map(|(_, figures)| points(figures)).collect();
    let range = |pick: fn(&(f64, f64)) -> f64| {
        let (low, high) = all.iter().map(pick).fold((f64::INFINITY, 0.0), |(low, high), v| (v.min(low), v.max(high)));
        low * 0.8..high * 1.3
    };
    let ranges = (range(|p| p.0).log_scale(), range(|p| p.1).log_scale());
    let mut chart = chart::frame(area, "Latency under load, by the profiles", "reads", ranges)?;
    for (index, (name, figures)) in memories.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()].to_rgba();
        let name = format!("{name} ({})", figures.loaded.status.as_str());
        chart::curve(&mut chart, name, colour, points(figures))?;
    }
    chart::legend(&mut chart, SeriesLabelPosition::UpperRight)
}

#[cfg(test)]
mod tests {
    use tiermem_topology::BUILTIN_NAMES;

    use super::*;

    #[test]
    fn every_memory_has_its_curve() {
        let profiles: Vec<Profile> = BUILTIN_NAMES.iter().filter_map(|name| Profile::builtin(name)).collect();
        let svg = draw(&profiles).unwrap();
        for profile in &profiles {
            assert_eq!(svg.contains(&profile.name), profile.kind() == "memory", "{}", profile.name);
        }
    }

    #[test]
    fn links_alone_cannot_be_drawn() {
        let link = Profile::builtin("pcie5-x8").unwrap();
        assert_eq!(draw(&[link]).unwrap_err().exit, Exit::Unsupported);
    }
}
