//! The picture of an allocator run: one line a cell, one dot an allocator, ratio to the baseline on a logarithmic axis.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::measure::Results;
use super::rivals::OURS;
use super::summary::{Compared, Figure, compare};

const WIDTH: u32 = 1100;
const ROW_HEIGHT: u32 = 26;
const MARGIN_HEIGHT: u32 = 130;
const LABEL_WIDTH: u32 = 150;
/// Ratios beyond these are drawn at the edge.
const RATIO_RANGE: (f64, f64) = (0.125, 8.0);
/// Colours that stay apart for the colour-blind, after Okabe and Ito; ours is drawn larger, in red.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(0, 114, 178),
    RGBColor(148, 148, 148),
    RGBColor(150, 110, 60),
    RGBColor(170, 160, 20),
];
const OUR_COLOUR: RGBColor = RGBColor(213, 30, 20);

/// Draws `figure` of all cells into `path`.
pub fn draw(results: &Results, baseline: &str, figure: Figure, path: &Path) -> Result<(), Box<dyn Error>> {
    let cells: Vec<&str> = results.work().rev().map(|row| row.cell.as_str()).collect();
    let rivals: Vec<&str> = results.rivals.iter().map(|rival| rival.name.as_str()).collect();
    let compared: Vec<(usize, usize, Compared)> = results
        .work()
        .rev()
        .enumerate()
        .flat_map(|(height, row)| {
            let rivals = rivals.iter().enumerate();
            rivals.filter_map(move |(index, name)| Some((height, index, compare(row, name, baseline, figure)?)))
        })
        .collect();

    let height = MARGIN_HEIGHT + ROW_HEIGHT * cells.len() as u32;
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
        let dots = compared.iter().filter(|(_, rival, _)| *rival == index).map(|(height, _, compared)| {
            let ratio = compared.ratio.median.clamp(RATIO_RANGE.0, RATIO_RANGE.1);
            Circle::new((ratio, *height as f64), size, colour.filled())
        });
        chart.draw_series(dots)?;
        let at = (WIDTH as i32 - LABEL_WIDTH as i32 + 14, 50 + 20 * index as i32);
        root.draw(&Circle::new((at.0, at.1 + 6), size, colour.filled()))?;
        root.draw(&Text::new((*name).to_owned(), (at.0 + 14, at.1), ("sans-serif", 13)))?;
    }
    root.present()?;
    Ok(())
}

fn style_of(name: &str, index: usize) -> (RGBColor, i32) {
    match name {
        OURS => (OUR_COLOUR, 6),
        _ if name.starts_with(OURS) => (OUR_COLOUR, 4),
        _ => (COLOURS[index % COLOURS.len()], 4),
    }
}
