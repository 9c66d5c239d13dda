//! The picture of an allocator run: one line a cell, one dot an allocator with its spread, ratio to the baseline on a
//! logarithmic axis.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::cells::Kind;
use super::measure::Results;
use super::rivals::OURS;
use super::summary::{Figure, compare, mean};

const WIDTH: u32 = 1100;
const ROW_HEIGHT: u32 = 26;
/// Of one line of the legend.
const LEGEND_HEIGHT: u32 = 20;
const MARGIN_HEIGHT: u32 = 130;
const LABEL_WIDTH: u32 = 150;
/// Ratios beyond these are drawn at the edge.
const RATIO_RANGE: (f64, f64) = (0.125, 8.0);
/// Colours that stay apart for the colour-blind, after Okabe and Ito; ours is drawn larger, in red.
const COLOURS: [RGBColor; 12] = [
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(0, 114, 178),
    RGBColor(148, 148, 148),
    RGBColor(150, 110, 60),
    RGBColor(170, 160, 20),
    RGBColor(117, 70, 180),
    RGBColor(0, 200, 200),
    RGBColor(120, 20, 60),
];
/// Rows below the cells.
const MEANS: [&str; 2] = ["mean, multi-threaded", "geometric mean"];
const OUR_COLOUR: RGBColor = RGBColor(213, 30, 20);

/// Draws `figure` of all cells into `path`.
pub fn draw(results: &Results, baseline: &str, figure: Figure, path: &Path) -> Result<(), Box<dyn Error>> {
    let rivals: Vec<&str> = results.rivals.iter().map(|rival| rival.name.as_str()).collect();
    let dots = dots(results, &rivals, baseline, figure);
    // From the bottom up.
    let cells: Vec<&str> =
        MEANS.iter().rev().copied().chain(results.work().rev().map(|row| row.cell.as_str())).collect();

    let height = MARGIN_HEIGHT + (ROW_HEIGHT * cells.len() as u32).max(LEGEND_HEIGHT * rivals.len() as u32);
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let what = match figure {
        Figure::Cpu => "CPU time",
        Figure::Wall => "wall time",
        Figure::Rss => "peak resident memory",
    };
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{what} relative to {baseline} (left is better)"), ("sans-serif", 18))
        .margin(12)
        .margin_right(LABEL_WIDTH)
        .x_label_area_size(34)
        .y_label_area_size(LABEL_WIDTH)
        .build_cartesian_2d((RATIO_RANGE.0..RATIO_RANGE.1).log_scale().base(2.0), -0.5..cells.len() as f64 - 0.5)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_label_formatter(&|ratio| format!("{ratio:.2}"))
        .x_labels(9)
        .x_desc("ratio")
        .draw()?;
    let line = |from: (f64, f64), to: (f64, f64), style: ShapeStyle| PathElement::new(vec![from, to], style);
    let last = cells.len() as f64 - 0.5;
    chart.draw_series([line((1.0, -0.5), (1.0, last), BLACK.stroke_width(1))])?;
    for (height, cell) in cells.iter().enumerate() {
        let height_at = height as f64;
        chart.draw_series([line((RATIO_RANGE.0, height_at), (RATIO_RANGE.1, height_at), BLACK.mix(0.12).into())])?;
        let at = (12, chart.backend_coord(&(1.0, height_at)).1 - 6);
        root.draw(&Text::new((*cell).to_owned(), at, ("sans-serif", 13)))?;
    }
    for (index, name) in rivals.iter().enumerate() {
        let (colour, size) = style_of(name, index);
        let mine = || dots.iter().filter(|dot| dot.rival == index);
        let within = |ratio: f64| ratio.clamp(RATIO_RANGE.0, RATIO_RANGE.1);
        chart.draw_series(mine().map(|dot| {
            let (low, high) = (within(dot.ratio - dot.mad), within(dot.ratio + dot.mad));
            line((low, dot.height), (high, dot.height), colour.stroke_width(2))
        }))?;
        chart.draw_series(mine().map(|dot| Circle::new((within(dot.ratio), dot.height), size, colour.filled())))?;
        let at = (WIDTH as i32 - LABEL_WIDTH as i32 + 14, 50 + LEGEND_HEIGHT as i32 * index as i32);
        root.draw(&Circle::new((at.0, at.1 + 6), size, colour.filled()))?;
        root.draw(&Text::new((*name).to_owned(), (at.0 + 14, at.1), ("sans-serif", 13)))?;
    }
    root.present()?;
    Ok(())
}

/// Where one allocator stands in one row.
struct Dot {
    rival: usize,
    height: f64,
    ratio: f64,
    mad: f64,
}

/// The dots of all cells and, below them, of the means.
fn dots(results: &Results, rivals: &[&str], baseline: &str, figure: Figure) -> Vec<Dot> {
    let mut dots = Vec::new();
    for (rival, name) in rivals.iter().enumerate() {
        let all = mean(results, name, baseline, figure, |_| true).ratio;
        let multi = mean(results, name, baseline, figure, |row| row.kind == Kind::Multi).ratio;
        for (height, ratio) in [(0.0, all), (1.0, multi)] {
            dots.extend(ratio.map(|ratio| Dot { rival, height, ratio, mad: 0.0 }));
        }
        for (at, row) in results.work().rev().enumerate() {
            let height = (at + MEANS.len()) as f64;
            let compared = compare(row, name, baseline, figure);
            dots.extend(compared.map(|it| Dot { rival, height, ratio: it.ratio.median, mad: it.ratio.mad }));
        }
    }
    dots
}

fn style_of(name: &str, index: usize) -> (RGBColor, i32) {
    match name {
        OURS => (OUR_COLOUR, 6),
        _ if name.starts_with(OURS) => (OUR_COLOUR, 4),
        _ => (COLOURS[index % COLOURS.len()], 4),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rivals::{Folders, Party, find};
    use super::*;

    #[test]
    fn no_two_allocators_share_a_colour() {
        let folders = Folders { release: "/nowhere".into(), rivals_target: "/nowhere".into() };
        let field = find(&folders, Path::new("/nowhere"), Party::Field);
        let others = field.rivals.iter().map(|rival| &rival.name).chain(field.absent.iter().map(|absent| &absent.name));
        assert!(others.filter(|name| !name.starts_with(OURS)).count() <= COLOURS.len());
    }
}
