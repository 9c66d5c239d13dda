//! The loaded-latency curves of `tierctl probe --plot`.

use plotters::prelude::*;
use tiermem_discovery::measure::Measurement;

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
    let mut svg = String::new();
    paint(&tiers, &mut svg).map_err(|error| Failure::new(Exit::Failed, format!("cannot draw the plot: {error}")))?;
    Ok(svg)
}

fn paint(tiers: &[&Measurement], svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let points = || tiers.iter().flat_map(|tier| &tier.loaded);
    let widest = points().map(|p| p.bandwidth.median / 1e9).fold(0.1, f64::max) * 1.05;
    let highest = points().map(|p| p.latency_ns.median + p.latency_ns.mad).fold(1.0, f64::max) * 1.1;
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Latency under load", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..widest, 0.0..highest)?;
    chart
        .configure_mesh()
        .x_desc("bandwidth of the load threads, GB/s (10^9 bytes per second)")
        .y_desc("latency of a dependent load, ns")
        .light_line_style(WHITE)
        .draw()?;
    for (index, tier) in tiers.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let place = |p: &tiermem_discovery::measure::LoadPoint| (p.bandwidth.median / 1e9, p.latency_ns.median);
        chart
            .draw_series(LineSeries::new(tier.loaded.iter().map(place), colour.stroke_width(2)).point_size(3))?
            .label(tier.identity())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(tier.loaded.iter().map(|p| {
            let (x, y) = place(p);
            PathElement::new([(x, y - p.latency_ns.mad), (x, y + p.latency_ns.mad)], colour.stroke_width(1))
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
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
