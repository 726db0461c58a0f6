//! Draws the charts of the page as SVG.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    reason = "pixels and counts of a picture: small, and no figure of the report"
)]

use std::error::Error;

use bespeak_lab::load::thousands;
use plotters::prelude::*;

use super::{frozen::Frozen, trial::Figures};

const WIDTH: i32 = 900;
const ROW: i32 = 26;
const HEAD: i32 = 30;
const LABELS: i32 = 108;
const PANEL: i32 = 198;
/// The width of the figure to the right of a bar.
const FIGURE: i32 = 92;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x17, 0x20, 0x2b);
const SOFT: RGBColor = RGBColor(0x5c, 0x67, 0x73);
const LINE: RGBColor = RGBColor(0xdd, 0xe2, 0xe8);
const BAD: RGBColor = RGBColor(0xb3, 0x26, 0x1e);
const GOOD: RGBColor = RGBColor(0x1b, 0x7f, 0x4d);

type Drawn = Result<String, Box<dyn Error>>;

/// The colour of a strategy, the same in all charts.
pub(super) fn color(strategy: &str) -> RGBColor {
    match strategy {
        "lanes" => GOOD,
        "conditional" => RGBColor(0x2b, 0x6c, 0xb0),
        "pessimistic" => RGBColor(0x6b, 0x46, 0xc1),
        "optimistic" => RGBColor(0xb7, 0x79, 0x1f),
        "shedlock" => RGBColor(0x0e, 0x8a, 0x8c),
        "redlock" => RGBColor(0xd5, 0x3f, 0x8c),
        _ => RGBColor(0x9a, 0xa3, 0xaf),
    }
}

/// A bar with its figure and its colour.
struct Bar {
    value: f64,
    /// The value of a darker part at the beginning of the bar; 0 for none.
    part: f64,
    figure: String,
    color: RGBColor,
}

/// One scenario at a glance: a row for each strategy with throughput, response times, duplicates and waits side by
/// side.
pub(super) fn at_a_glance(rows: &[&Figures]) -> Drawn {
    /// The title of a panel, the value of a bar of full length (the highest value if `None`), and its bars.
    type Panel = (&'static str, Option<f64>, fn(&Figures) -> Bar);
    let panels: [Panel; 4] = [
        ("requests/s", None, |figures| Bar {
            value: figures.requests_per_second,
            part: 0.0,
            figure: thousands(figures.requests_per_second),
            color: color(figures.strategy),
        }),
        ("ms: p50 / p99", None, |figures| Bar {
            value: figures.p99_ms,
            part: figures.p50_ms,
            figure: format!("{} / {}", ms(figures.p50_ms), ms(figures.p99_ms)),
            color: color(figures.strategy),
        }),
        ("units sold twice", None, |figures| Bar {
            value: figures.duplicates as f64,
            part: 0.0,
            figure: thousands(figures.duplicates as f64),
            color: if figures.duplicates == 0 { GOOD } else { BAD },
        }),
        // On a scale of all attempts, so that one wait in a hundred does not look like all of them.
        ("waited for a lock", Some(1.0), |figures| Bar {
            value: figures.waited_share,
            part: 0.0,
            figure: format!("{:.0} %", figures.waited_share * 100.0),
            color: color(figures.strategy),
        }),
    ];
    let height = HEAD + ROW * rows.len() as i32 + 8;
    drawn(height, |area| {
        for (row, figures) in rows.iter().enumerate() {
            let y = HEAD + ROW * row as i32;
            area.draw(&Text::new(figures.strategy, (4, y + 5), (FONT, 15).into_font().color(&INK)))?;
        }
        for (panel, (title, longest, bar)) in panels.iter().enumerate() {
            let x = LABELS + PANEL * panel as i32;
            area.draw(&Text::new(*title, (x, 6), (FONT, 14).into_font().color(&SOFT)))?;
            let bars: Vec<Bar> = rows.iter().map(|figures| bar(figures)).collect();
            draw_bars(area, x, PANEL, *longest, &bars)?;
        }
        Ok(())
    })
}

/// The duplicates of the frozen holders, with the lock alone and with the store's guard.
pub(super) fn frozen(rows: &[Frozen]) -> Drawn {
    let height = HEAD + ROW * rows.len() as i32 + 8;
    drawn(height, |area| {
        for (row, frozen) in rows.iter().enumerate() {
            let y = HEAD + ROW * row as i32;
            let with = if frozen.guarded { "with the store's guard" } else { "alone" };
            let label = format!("{} {with}", frozen.strategy);
            area.draw(&Text::new(label, (4, y + 5), (FONT, 14).into_font().color(&INK)))?;
        }
        area.draw(&Text::new("units sold twice", (260, 6), (FONT, 14).into_font().color(&SOFT)))?;
        let bars: Vec<Bar> = rows
            .iter()
            .map(|frozen| Bar {
                value: frozen.duplicates as f64,
                part: 0.0,
                figure: frozen.duplicates.to_string(),
                color: if frozen.duplicates == 0 { GOOD } else { BAD },
            })
            .collect();
        draw_bars(area, 260, WIDTH - 260, None, &bars)
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Draws bars in one column. Their lengths are shares of `longest`, or of the highest value.
fn draw_bars(
    area: &Area<'_>,
    x: i32,
    width: i32,
    longest: Option<f64>,
    bars: &[Bar],
) -> Result<(), Box<dyn Error>> {
    let most = longest.unwrap_or_else(|| bars.iter().map(|bar| bar.value).fold(1e-9, f64::max));
    for (row, bar) in bars.iter().enumerate() {
        let y = HEAD + ROW * row as i32;
        let length = |value: f64| (value / most * f64::from(width - FIGURE)) as i32;
        let whole = [(x, y + 3), (x + length(bar.value).max(1), y + ROW - 4)];
        if bar.part > 0.0 {
            area.draw(&Rectangle::new(whole, bar.color.mix(0.35).filled()))?;
            let part = [(x, y + 3), (x + length(bar.part).max(1), y + ROW - 4)];
            area.draw(&Rectangle::new(part, bar.color.filled()))?;
        } else {
            area.draw(&Rectangle::new(whole, bar.color.filled()))?;
        }
        let at = (x + length(bar.value).max(1) + 5, y + 5);
        area.draw(&Text::new(bar.figure.as_str(), at, (FONT, 14).into_font().color(&INK)))?;
    }
    Ok(())
}

/// The cumulative distribution of response times: one line for each strategy, on a logarithmic time axis.
pub(super) fn distribution(rows: &[&Figures]) -> Drawn {
    let times = || rows.iter().flat_map(|figures| figures.distribution.iter().map(|(_, ms)| *ms));
    let slowest = times().fold(1.0, f64::max) * 1.2;
    let fastest = times().filter(|ms| *ms > 0.0).fold(slowest, f64::min).max(0.05) / 1.2;
    drawn(260, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(58)
            .build_cartesian_2d(
                (fastest..slowest).log_scale().with_key_points(ticks(fastest, slowest)),
                0.0..1.02,
            )?;
        chart
            .configure_mesh()
            .x_desc("response time, ms (logarithmic)")
            .y_desc("share of responses")
            .x_label_formatter(&|value| ms(*value))
            .y_label_formatter(&|share| format!("{:.0} %", share * 100.0))
            .label_style((FONT, 14).into_font().color(&SOFT))
            .axis_desc_style((FONT, 14).into_font().color(&SOFT))
            .bold_line_style(LINE)
            .light_line_style(WHITE)
            .draw()?;
        // In reverse order, so that the line of the first strategy lies above the others.
        for figures in rows.iter().rev() {
            let width = if figures.strategy == "lanes" { 3 } else { 2 };
            let line = figures.distribution.iter().map(|(share, ms)| (ms.max(fastest), *share));
            chart.draw_series(LineSeries::new(line, color(figures.strategy).stroke_width(width)))?;
        }
        Ok(())
    })
}

fn drawn(height: i32, draw: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn Error>>) -> Drawn {
    let mut svg = String::new();
    {
        let area =
            SVGBackend::with_string(&mut svg, (WIDTH as u32, height.unsigned_abs())).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// 1, 2 and 5 times every power of ten. The labels of more ticks would overlap.
fn ticks(from: f64, to: f64) -> Vec<f64> {
    let powers = (-2..7).map(|power| 10_f64.powi(power));
    let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * power));
    all.filter(|tick| (from..=to).contains(tick)).collect()
}

/// Milliseconds with as many digits as matter: `0.8`, `12`, `3,400`.
pub(super) fn ms(value: f64) -> String {
    if value < 9.95 { format!("{value:.1}") } else { thousands(value) }
}
