//! Plots of the results: what is shown in each. How it is drawn is in `draw`.

mod draw;

use trunkline_benches::subject::{Error, Outcome};

use crate::plan::{IN_FLIGHT, LOADS, SIZES, TRANSPORTS, What};
use crate::results::{Results, Spread, bandwidth, latency, rate};
use draw::{Panel, Series, Sheet, Style};

/// A finished plot.
pub(crate) struct Plot {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What to see in it, and how it came about.
    pub(crate) note: &'static str,
    pub(crate) svg: String,
}

/// All plots there are figures for.
pub(crate) fn plots(results: &Results) -> Result<Vec<Plot>, Error> {
    let plots = [
        latency_plot(results)?,
        in_flight_plot(results)?,
        size_plot(results)?,
        stream_plot(results)?,
        load_plot(results)?,
        tail_plot(results)?,
    ];
    Ok(plots.into_iter().flatten().collect())
}

/// Reads one figure out of an outcome.
type Value = fn(&Outcome) -> f64;

fn latency_plot(results: &Results) -> Result<Option<Plot>, Error> {
    let points: [(&str, What, Value); 4] = [
        ("p50", What::W1, latency),
        ("p90", What::W1, |outcome| outcome.latency.p90),
        ("p99", What::W1, |outcome| outcome.latency.p99),
        ("p99.9", What::W1, |outcome| outcome.latency.p999),
    ];
    let svg = sheet(results, "latency of one call", "percentile of the calls", &points, 1e-3, "µs").svg()?;
    Ok(svg.map(|svg| Plot {
        name: "latency",
        title: "How long one call takes",
        note: "32 bytes there and back, one call at a time (W1). Lower is better; the scale is logarithmic.",
        svg,
    }))
}

fn in_flight_plot(results: &Results) -> Result<Option<Plot>, Error> {
    let points: [(&str, What, Value); 4] = [
        ("1", What::W1, rate),
        ("8", What::InFlight(IN_FLIGHT[0]), rate),
        ("64", What::W2, rate),
        ("512", What::InFlight(IN_FLIGHT[1]), rate),
    ];
    let svg =
        sheet(results, "thousand calls a second", "calls in flight, one connection", &points, 1e-3, "k/s").svg()?;
    Ok(svg.map(|svg| Plot {
        name: "throughput",
        title: "How many calls a second",
        note: "32 bytes there and back; 64 in flight is W2. The floors send batches, without a task for each call. \
               Higher is better.",
        svg,
    }))
}

fn size_plot(results: &Results) -> Result<Option<Plot>, Error> {
    let points: [(&str, What, Value); 4] = [
        ("32 B", What::Size(SIZES[0]), bandwidth),
        ("4 KiB", What::Size(SIZES[1]), bandwidth),
        ("64 KiB", What::Size(SIZES[2]), bandwidth),
        ("1 MiB", What::W3, bandwidth),
    ];
    let svg = sheet(results, "megabytes a second", "bytes of one upload", &points, 1e-6, "MB/s").svg()?;
    Ok(svg.map(|svg| Plot {
        name: "bandwidth",
        title: "How many bytes a second",
        note: "Uploads, one at a time, every byte read by the receiver; 1 MiB is W3. Higher is better.",
        svg,
    }))
}

fn stream_plot(results: &Results) -> Result<Option<Plot>, Error> {
    let points: [(&str, What, Value); 2] = [("from the server", What::W4, rate), ("to the server", What::W4Up, rate)];
    let svg = sheet(results, "million items a second", "one stream of 32-byte items", &points, 1e-6, "M/s").svg()?;
    Ok(svg.map(|svg| Plot {
        name: "streams",
        title: "How many items of a stream a second",
        note: "One stream on one connection, every item checked by its receiver (W4). The floors send batches of 32 KiB; over \
               shm an item is a line of their ring. Higher is better.",
        svg,
    }))
}

fn load_plot(results: &Results) -> Result<Option<Plot>, Error> {
    let points = LOADS.map(|percent| (format!("{percent} %"), What::Load(percent), latency as Value));
    let points: Vec<(&str, What, Value)> =
        points.iter().map(|(name, what, value)| (name.as_str(), *what, *value)).collect();
    let label = "median since a call was due";
    let svg = sheet(results, label, "offered load, % of one's own peak", &points, 1e-3, "µs").svg()?;
    Ok(svg.map(|svg| Plot {
        name: "load",
        title: "How long calls take under a given load",
        note: "Calls are due at random times of a fixed schedule, whatever became of those before, and a call's time counts \
               from when it was due. 100 % are what the same loop reaches on the same connection when every call is due at \
               once: for each line another rate. Lower is better.",
        svg,
    }))
}

fn tail_plot(results: &Results) -> Result<Option<Plot>, Error> {
    let percentiles: [(&str, &str, Value); 3] = [
        ("p50", "#0072b2", latency),
        ("p99", "#d55e00", |outcome| outcome.latency.p99),
        ("p99.9", "#8c5a86", |outcome| outcome.latency.p999),
    ];
    let panels = TRANSPORTS.map(|transport| {
        let series = percentiles.map(|(name, colour, value)| {
            let spread = |percent| {
                let row = results.row(transport, "trunkline", Some("ct"), What::Load(percent))?;
                row.spread(value).map(|spread| scaled(spread, 1e-3))
            };
            let style = Style { colour, dash: "", width: 2.0 };
            Series { name: name.to_owned(), style, points: LOADS.map(spread).to_vec() }
        });
        Panel { title: transport, series: series.to_vec() }
    });
    let sheet = Sheet {
        y_label: "latency since a call was due",
        unit: "µs",
        x_label: "offered load, % of the peak",
        ticks: LOADS.map(|percent| format!("{percent} %")).to_vec(),
        panels: panels.to_vec(),
    };
    Ok(sheet.svg()?.map(|svg| Plot {
        name: "load-tail",
        title: "How long most calls take under a given load",
        note: "trunkline alone, as above. A stall shows in all calls that it holds up.",
        svg,
    }))
}

/// A panel a transport, a line a subject. Modes with several threads are in the table only.
fn sheet<'a>(
    results: &Results,
    y_label: &'a str,
    x_label: &'a str,
    points: &[(&str, What, Value)],
    scale: f64,
    unit: &'a str,
) -> Sheet<'a> {
    let panels = TRANSPORTS.map(|transport| {
        let series = results.subjects.iter().enumerate().filter_map(|(at, subject)| {
            let mode = subject.modes.first()?;
            let spread = |(_, what, value): &(&str, What, Value)| {
                let row = results.row(transport, &subject.name, Some(mode), *what)?;
                row.spread(value).map(|spread| scaled(spread, scale))
            };
            let style = style(&subject.name, at);
            Some(Series { name: subject.name.clone(), style, points: points.iter().map(spread).collect() })
        });
        Panel { title: transport, series: series.collect() }
    });
    let ticks = points.iter().map(|(name, ..)| (*name).to_owned()).collect();
    Sheet { y_label, unit, x_label, ticks, panels: panels.to_vec() }
}

fn scaled(spread: Spread, by: f64) -> Spread {
    Spread { median: spread.median * by, least: spread.least * by, most: spread.most * by }
}

/// trunkline stands out, floors are grey, and peers have what is left of a palette that the colour-blind can tell apart.
fn style(subject: &str, at: usize) -> Style {
    let floor = |colour, dash| Style { colour, dash, width: 1.6 };
    match subject {
        "trunkline" => Style { colour: "#0072b2", dash: "", width: 3.0 },
        "trunkline-asleep" => Style { colour: "#0072b2", dash: "7 4", width: 1.8 },
        "trunkline-wait" => Style { colour: "#0072b2", dash: "2 3", width: 1.8 },
        "raw" => floor("#333333", ""),
        "raw-spin" => floor("#333333", "7 4"),
        "raw-tokio" => floor("#8a8a8a", ""),
        "raw-tokio-spin" => floor("#8a8a8a", "7 4"),
        "raw-ring" => floor("#333333", "2 3"),
        _ => {
            let colours = ["#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#9a8c00"];
            let dash = if at / colours.len() % 2 == 0 { "6 3 2 3" } else { "" };
            Style { colour: colours[at % colours.len()], dash, width: 1.8 }
        }
    }
}
