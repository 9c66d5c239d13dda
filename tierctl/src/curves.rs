//! The loaded-latency curves of `tierctl probe --plot`.

use plotters::prelude::*;
use tiermem_discovery::measure::{LoadPoint, Measurement};

use crate::chart;
use crate::exit::{Exit, Failure};

const SIZE: (u32, u32) = (900, 560);

/// An SVG picture: bandwidth of the load threads on the x axis, latency of dependent loads on the y axis, one curve a
/// tier, with the deviation of each point.
///
/// # Errors
/// `Unsupported` if no tier has a curve (copied tiers have none).
pub fn draw(tiers: &[Measurement]) -> Result<String, Failure> {
    let tiers: Vec<&Measurement> = tiers.iter().filter(|tier| !tier.loaded.is_empty()).collect();
    if tiers.is_empty() {
        return Err(Failure::new(Exit::Unsupported, "nothing to plot: no tier that the CPU addresses was measured"));
    }
    chart::picture(SIZE, |area| {
        let points = || tiers.iter().flat_map(|tier| &tier.loaded);
        let widest = points().map(|p| p.bandwidth.median / 1e9).fold(0.1, f64::max) * 1.05;
        let highest = points().map(|p| p.latency_ns.median + p.latency_ns.mad).fold(1.0, f64::max) * 1.1;
        let ranges = (0.0..widest, 0.0..highest);
        let mut chart = chart::frame(area, "Latency under load", "bandwidth of the load threads", ranges)?;
        for (index, tier) in tiers.iter().enumerate() {
            let colour = Palette99::pick(index).to_rgba();
            let place = |p: &LoadPoint| (p.bandwidth.median / 1e9, p.latency_ns.median);
            chart::curve(&mut chart, tier.identity(), colour, tier.loaded.iter().map(place).collect())?;
            chart.draw_series(tier.loaded.iter().map(|p| {
                let (x, y) = place(p);
                PathElement::new([(x, y - p.latency_ns.mad), (x, y + p.latency_ns.mad)], colour.stroke_width(1))
            }))?;
        }
        chart::legend(&mut chart, SeriesLabelPosition::UpperLeft)
    })
}

#[cfg(test)]
mod tests {
    use tiermem_discovery::measure::{LoadPoint, Measurement, Spread};

    use super::draw;

    #[test]
    fn a_curve_is_drawn_with_its_units() {
        let point = |gbs: f64, ns: f64| LoadPoint {
            pause: Some(0),
            bandwidth: Spread::of(&[gbs * 1e9]),
            latency_ns: Spread::of(&[ns]),
        };
        let tier = Measurement {
            kind: "dram".to_owned(),
            location: "0".to_owned(),
            loaded: vec![point(0.0, 100.0), point(8.0, 180.0)],
            ..Measurement::default()
        };
        let svg = draw(std::slice::from_ref(&tier)).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("GB/s") && svg.contains("ns") && svg.contains("dram:0") && svg.contains("<polyline"));
    }

    #[test]
    fn nothing_to_draw_is_said() {
        assert!(draw(&[]).unwrap_err().message.contains("nothing to plot"));
    }
}
