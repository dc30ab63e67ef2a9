//! Draws panels beside each other, all with the same axes: names below, a logarithmic scale at the left.

use std::fmt::Write;

use trunkline_benches::subject::Error;

use crate::results::Spread;

/// How a line looks.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) colour: &'static str,
    pub(super) dash: &'static str,
    pub(super) width: f64,
}

/// A line: a point for each tick, where there is one.
#[derive(Clone)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) style: Style,
    pub(super) points: Vec<Option<Spread>>,
}

#[derive(Clone)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) series: Vec<Series>,
}

/// A plot.
pub(super) struct Sheet<'a> {
    pub(super) y_label: &'a str,
    pub(super) unit: &'a str,
    pub(super) x_label: &'a str,
    pub(super) ticks: Vec<String>,
    pub(super) panels: Vec<Panel>,
}

impl Sheet<'_> {
    /// Nothing if there is no point in it.
    pub(super) fn svg(mut self) -> Result<Option<String>, Error> {
        for panel in &mut self.panels {
            panel.series.retain(|series| series.points.iter().any(Option::is_some));
        }
        self.panels.retain(|panel| !panel.series.is_empty());
        let Some(scale) = Scale::around(&self.panels) else { return Ok(None) };
        let names = self.names();
        let rows = self.panels.len().div_ceil(2);
        let legend_at = TOP + rows as f64 * PANEL_HEIGHT;
        let height = legend_at + 8.0 + names.len().div_ceil(LEGEND_COLUMNS) as f64 * LEGEND_LINE;

        let mut svg = String::new();
        writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#222222\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>"
        )?;
        for (at, panel) in self.panels.iter().enumerate() {
            let x = (at % 2) as f64 * PANEL_WIDTH;
            let y = TOP + (at / 2) as f64 * PANEL_HEIGHT;
            self.panel(&mut svg, panel, scale, x, y)?;
        }
        for (at, series) in names.iter().enumerate() {
            let x = LEFT + (at % LEGEND_COLUMNS) as f64 * (WIDTH - LEFT) / LEGEND_COLUMNS as f64;
            let y = legend_at + 8.0 + (at / LEGEND_COLUMNS) as f64 * LEGEND_LINE;
            line(&mut svg, series.style, &[(x, y), (x + 30.0, y)])?;
            writeln!(svg, "<text x=\"{}\" y=\"{}\">{}</text>", x + 40.0, y + 4.5, escape(&series.name))?;
        }
        svg.push_str("</svg>\n");
        Ok(Some(svg))
    }

    /// Each line once, as the legend has it.
    fn names(&self) -> Vec<&Series> {
        let mut names: Vec<&Series> = Vec::new();
        for series in self.panels.iter().flat_map(|panel| &panel.series) {
            if names.iter().all(|other| other.name != series.name) {
                names.push(series);
            }
        }
        names
    }

    fn panel(&self, svg: &mut String, panel: &Panel, scale: Scale, x: f64, y: f64) -> Result<(), Error> {
        let (left, right) = (x + LEFT, x + PANEL_WIDTH - RIGHT);
        let (top, bottom) = (y + HEAD, y + PANEL_HEIGHT - FOOT);
        writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\" font-size=\"15\" font-weight=\"bold\">{}</text>",
            y + 16.0,
            panel.title
        )?;
        let (label, unit) = (self.y_label, self.unit);
        let of = if label.contains("second") { label.to_owned() } else { format!("{label}, {unit}") };
        writeln!(svg, "<text x=\"{right}\" y=\"{}\" text-anchor=\"end\" fill=\"#555555\">{of}</text>", y + 16.0)?;
        for value in scale.ticks() {
            let y = scale.place(value, top, bottom);
            writeln!(svg, "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#dddddd\"/>")?;
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                y + 4.5,
                short(value)
            )?;
        }
        let step = (right - left) / self.ticks.len() as f64;
        let tick = |at: usize| left + step * (at as f64 + 0.5);
        for (at, name) in self.ticks.iter().enumerate() {
            writeln!(svg, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>", tick(at), bottom + 17.0)?;
        }
        let (middle, below) = ((left + right) / 2.0, bottom + 35.0);
        writeln!(
            svg,
            "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\" fill=\"#555555\">{}</text>",
            self.x_label
        )?;
        writeln!(svg, "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#555555\"/>")?;
        // The first is the one that matters: it lies above the others.
        for series in panel.series.iter().rev() {
            let mut places = Vec::new();
            for (at, spread) in series.points.iter().enumerate() {
                let Some(spread) = spread else { continue };
                let x = tick(at);
                places.push((x, scale.place(spread.median, top, bottom)));
                let (most, least) = (scale.place(spread.most, top, bottom), scale.place(spread.least, top, bottom));
                let colour = series.style.colour;
                writeln!(svg, "<path d=\"M{x:.1} {most:.1}V{least:.1}\" stroke=\"{colour}\" stroke-opacity=\"0.5\"/>")?;
            }
            line(svg, series.style, &places)?;
        }
        Ok(())
    }
}

/// A line with a dot at each of its points.
fn line(svg: &mut String, style: Style, places: &[(f64, f64)]) -> Result<(), Error> {
    let Style { colour, dash, width } = style;
    let points: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let points = points.join(" ");
    writeln!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" \
         stroke-dasharray=\"{dash}\"/>"
    )?;
    for (x, y) in places {
        writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\" fill=\"{colour}\"/>", width + 1.0)?;
    }
    Ok(())
}

/// A logarithmic scale.
#[derive(Clone, Copy)]
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    /// As wide as all panels need together, so that they can be compared.
    fn around(panels: &[Panel]) -> Option<Scale> {
        let points = || panels.iter().flat_map(|panel| &panel.series).flat_map(|series| series.points.iter().flatten());
        let least = points().map(|spread| spread.least).filter(|least| *least > 0.0).min_by(f64::total_cmp)?;
        let most = points().map(|spread| spread.most).max_by(f64::total_cmp)?;
        // Nothing lies on the edge.
        Some(Scale { least: least / 1.4, most: most * 1.4 })
    }

    fn place(self, value: f64, top: f64, bottom: f64) -> f64 {
        let part = (value.max(self.least) / self.least).ln() / (self.most / self.least).ln();
        bottom - part * (bottom - top)
    }

    /// Powers of ten, and what is between them where there are few.
    fn ticks(self) -> Vec<f64> {
        let decades = (self.most / self.least).log10();
        let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let first = self.least.log10().floor() as i32;
        let last = self.most.log10().ceil() as i32;
        let all = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        all.filter(|value| (self.least..=self.most).contains(value)).collect()
    }
}

fn short(value: f64) -> String {
    let digits = if value < 1.0 { (-value.log10()).ceil() as usize } else { 0 };
    let text = format!("{value:.digits$}");
    let Some(cut) = text.len().checked_sub(3).filter(|_| value >= 9_999.5) else { return text };
    // A narrow space between thousands.
    format!("{}\u{202f}{}", short((value / 1e3).trunc()), &text[cut..])
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const WIDTH: f64 = 800.0;
const TOP: f64 = 8.0;
const PANEL_WIDTH: f64 = 400.0;
const PANEL_HEIGHT: f64 = 268.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 14.0;
const HEAD: f64 = 28.0;
const FOOT: f64 = 48.0;
const LEGEND_COLUMNS: usize = 4;
const LEGEND_LINE: f64 = 22.0;
