//! What the charts of latency over bandwidth have in common: the frame, the axes, the legend.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::exit::{Exit, Failure};

/// What can go wrong while painting.
pub type Painted<T> = Result<T, Box<dyn std::error::Error>>;
/// A chart on a picture.
pub type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

/// An SVG picture of this size, painted by `paint`.
///
/// # Errors
/// As the painter says.
pub fn picture(
    size: (u32, u32),
    paint: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Painted<()>,
) -> Result<String, Failure> {
    let mut svg = String::new();
    let painted = {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(Into::into).and_then(|()| paint(&area)).and_then(|()| Ok(area.present()?))
    };
    painted.map_err(|error| Failure::new(Exit::Failed, format!("cannot draw the plot: {error}")))?;
    Ok(svg)
}

/// An empty chart: `bandwidth`, described in words, on the x axis, latency on the y axis.
///
/// # Errors
/// As the painter says.
pub fn frame<'a, 'b, X, Y>(
    area: &'a DrawingArea<SVGBackend<'b>, Shift>,
    caption: &str,
    bandwidth: &str,
    ranges: (X, Y),
) -> Painted<Chart<'a, 'b, X::CoordDescType, Y::CoordDescType>>
where
    X: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
    Y: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(ranges.0, ranges.1)?;
    let tick = |value: &f64| if *value != 0.0 && *value < 1.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    chart
        .configure_mesh()
        .x_desc(format!("{bandwidth}, GB/s (10^9 bytes per second)"))
        .y_desc("latency of a dependent load, ns")
        .x_label_formatter(&tick)
        .y_label_formatter(&tick)
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(BLACK.mix(0.05))
        .draw()?;
    Ok(chart)
}

/// A curve with its name in the legend.
///
/// # Errors
/// As the painter says.
pub fn curve<X, Y>(
    chart: &mut Chart<'_, '_, X, Y>,
    name: String,
    colour: RGBAColor,
    points: Vec<(f64, f64)>,
) -> Painted<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    Ok(())
}

/// The legend.
///
/// # Errors
/// As the painter says.
pub fn legend<'b: 'a, 'a, X, Y>(chart: &mut Chart<'a, 'b, X, Y>, position: SeriesLabelPosition) -> Painted<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
