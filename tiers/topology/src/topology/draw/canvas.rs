//! Shapes and texts as SVG.

use std::fmt::Write as _;

use super::plan::{LEGEND_LINE, Spot};

/// What kind of thing a card is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tint {
    Dram,
    Cxl,
    Nvme,
    Gpu,
    Link,
}

impl Tint {
    const fn class(self) -> &'static str {
        match self {
            Self::Dram => "dram",
            Self::Cxl => "cxl",
            Self::Nvme => "nvme",
            Self::Gpu => "gpu",
            Self::Link => "hop",
        }
    }
}

pub(super) struct Canvas {
    body: String,
}

/// How far a link goes straight down: three lines of text.
const STRAIGHT: f64 = 52.0;

/// Plain colours first, for viewers that know no dark mode.
const STYLE: &str = "\
text { fill: #1f2933; font-size: 12px; } \
.title { font-size: 20px; font-weight: 600; } .head { font-size: 14px; font-weight: 600; } \
.label { font-weight: 600; } .soft { fill: #52606d; } .halo { stroke: #ffffff; stroke-width: 5px; paint-order: stroke; stroke-linejoin: round; } \
.paper { fill: #ffffff; } .card { fill: #f8fafc; stroke: #9aa5b1; stroke-width: 1.2; } \
.frame { fill: none; stroke: #9aa5b1; stroke-width: 1.2; stroke-dasharray: 5 4; } \
.link { fill: none; stroke: #7b8794; stroke-width: 2; } \
.dram { fill: #0b7285; } .cxl { fill: #5f3dc4; } .nvme { fill: #a05a00; } .gpu { fill: #2b8a3e; } .hop { fill: #7b8794; } \
@media (prefers-color-scheme: dark) { text { fill: #e8ecf1; } .soft { fill: #a9b4c0; } .halo { stroke: #0d1117; } \
.paper { fill: #0d1117; } .card { fill: #161b22; stroke: #66717d; } \
.dram { fill: #3bc9db; } .cxl { fill: #b197fc; } .nvme { fill: #ffa94d; } .gpu { fill: #69db7c; } }";

impl Canvas {
    pub(super) fn new(name: &str, description: &str, width: f64, height: f64) -> Self {
        let (name, description) = (escape(name), escape(description));
        let body = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\" font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', \
             sans-serif\">\n<title>{name}</title>\n<desc>{description}</desc>\n<style>{STYLE}</style>\n\
             <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n"
        );
        let mut canvas = Self { body };
        canvas.text(28.0, 34.0, "title", &name, "start");
        canvas.text(28.0, 56.0, "soft", &description, "start");
        canvas
    }

    /// A box with a coloured edge; the first line is its heading.
    pub(super) fn card(&mut self, at: Spot, tint: Tint, lines: &[String]) {
        let Spot { x, y, width, height } = at;
        self.add(format_args!(
            "<rect class=\"card\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"8\"/>\n\
             <rect class=\"{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"5\" height=\"{:.1}\" rx=\"2.5\"/>\n",
            tint.class(),
            y + 7.0,
            height - 14.0
        ));
        for (number, line) in lines.iter().enumerate() {
            let class = if number == 0 { "head" } else { "soft" };
            self.text(x + 15.0, y + 19.0 + 19.0 * number as f64, class, &escape(line), "start");
        }
    }

    /// A dashed frame with its title, at the top or at the bottom of it.
    pub(super) fn frame(&mut self, at: &Spot, title: &str, at_top: bool) {
        let Spot { x, y, width, height } = *at;
        self.add(format_args!(
            "<rect class=\"frame\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"10\"/>\n"
        ));
        let line = if at_top { y + 17.0 } else { y + height - 9.0 };
        self.text(x + 14.0, line, "label", &escape(title), "start");
    }

    /// A link that goes straight down first and then turns, with `texts` beside its straight part: there no other one
    /// crosses them.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), texts: &[String]) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let turn = (y1 + STRAIGHT).min(y2);
        let middle = turn.midpoint(y2);
        self.add(format_args!(
            "<path class=\"link\" d=\"M{x1:.1} {y1:.1} V{turn:.1} C{x1:.1} {middle:.1} {x2:.1} {middle:.1} {x2:.1} \
             {y2:.1}\"/>\n"
        ));
        for (number, text) in texts.iter().enumerate() {
            let y = y1 + 18.0 + 15.0 * number as f64;
            // On the side to which it does not turn.
            let (x, anchor) = if x2 > x1 + 1.0 { (x1 - 8.0, "end") } else { (x1 + 8.0, "start") };
            self.text(x, y, "soft halo", &escape(text), anchor);
        }
    }

    /// The table below, and what the marks mean.
    pub(super) fn legend(&mut self, tiers: &[String], top: f64) {
        self.text(28.0, top, "head", "What programs see, idle and alone", "start");
        let mut y = top;
        for tier in tiers {
            y += LEGEND_LINE;
            self.text(28.0, y, "line", &escape(tier), "start");
        }
        let marks = "No mark: measured. ᵛ vendor's figure, ˢ simulated, ᵃ assumed. ↑ read, ↓ write.";
        self.text(28.0, y + LEGEND_LINE + 6.0, "soft", marks, "start");
    }

    pub(super) fn finish(mut self) -> String {
        self.body.push_str("</svg>\n");
        self.body
    }

    /// `text` is escaped already.
    fn text(&mut self, x: f64, y: f64, class: &str, text: &str, anchor: &str) {
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>\n"
        ));
    }

    fn add(&mut self, shape: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(shape);
    }
}

/// Text as XML has it; characters that XML cannot have become spaces.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
