//! Draws the charts of the page as SVG.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "pixels and bins: small, positive, and no figure of the report"
)]

use std::error::Error;

use plotters::prelude::*;

use super::{crowd::Answered, sale::Sale};

const SIZE: (u32, u32) = (880, 300);
const ACCEPTED: RGBColor = RGBColor(0x1b, 0x7f, 0x4d);
const REFUSED: RGBColor = RGBColor(0xb8, 0xbf, 0xc9);
const FONT: (&str, u32) = ("sans-serif", 15);

type Drawn = Result<String, Box<dyn Error>>;

/// A histogram of response times up to the slowest response: accepted above refused.
pub(super) fn distribution(sale: &Sale) -> Drawn {
    const BINS: usize = 60;
    let slowest = sale.answers.iter().map(|answer| ms(answer.took)).fold(1.0, f64::max);
    let width = slowest / BINS as f64;
    let mut bins = [(0_u32, 0_u32); BINS];
    for answer in &sale.answers {
        let bin = &mut bins[((ms(answer.took) / width) as usize).min(BINS - 1)];
        if answer.accepted { bin.0 += 1 } else { bin.1 += 1 }
    }
    let highest = bins.iter().map(|(accepted, refused)| accepted + refused).max().unwrap_or(1).max(1);
    stacked(&bins, slowest, highest, "response time, ms", "buyers")
}

/// A histogram of the times of the responses over the whole sale: accepted above refused.
pub(super) fn over_time(sale: &Sale) -> Drawn {
    const BINS: usize = 100;
    let answered = |answer: &Answered| (answer.arrived + answer.took).as_secs_f64();
    let end = sale.answers.iter().map(answered).fold(0.001, f64::max);
    let mut bins = [(0_u32, 0_u32); BINS];
    for answer in &sale.answers {
        let bin = &mut bins[((answered(answer) / end * BINS as f64) as usize).min(BINS - 1)];
        if answer.accepted { bin.0 += 1 } else { bin.1 += 1 }
    }
    let highest = bins.iter().map(|(accepted, refused)| accepted + refused).max().unwrap_or(1).max(1);
    stacked(&bins, end, highest, "seconds after the start", "responses")
}

/// Each buyer as a point: arrival time and response time.
pub(super) fn waits(sale: &Sale) -> Drawn {
    let end = sale.answers.iter().map(|answer| answer.arrived.as_secs_f64()).fold(0.001, f64::max);
    let slowest = sale.answers.iter().map(|answer| ms(answer.took)).fold(1.0, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..end * 1.02, 0.0..slowest * 1.05)?;
        chart
            .configure_mesh()
            .x_desc("arrival, seconds after the start")
            .y_desc("response time, ms")
            .label_style(FONT)
            .axis_desc_style(FONT)
            .light_line_style(WHITE)
            .draw()?;
        for (wanted, color, size) in [(false, REFUSED, 2), (true, ACCEPTED, 3)] {
            let points = sale.answers.iter().filter(|answer| answer.accepted == wanted);
            chart.draw_series(points.map(|answer| {
                Circle::new((answer.arrived.as_secs_f64(), ms(answer.took)), size, color.filled())
            }))?;
        }
        area.present()?;
    }
    Ok(svg)
}

fn stacked(bins: &[(u32, u32)], end: f64, highest: u32, x: &str, y: &str) -> Drawn {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..end, 0.0..f64::from(highest) * 1.05)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_desc(x)
            .y_desc(y)
            .y_label_formatter(&|count| format!("{count:.0}"))
            .label_style(FONT)
            .axis_desc_style(FONT)
            .light_line_style(WHITE)
            .draw()?;
        let width = end / bins.len() as f64;
        for (number, (accepted, refused)) in bins.iter().enumerate() {
            let (left, right) = (number as f64 * width, (number as f64 + 0.9) * width);
            let (low, high) = (f64::from(*refused), f64::from(refused + accepted));
            let bars = [([(left, 0.0), (right, low)], REFUSED), ([(left, low), (right, high)], ACCEPTED)];
            chart.draw_series(
                bars.into_iter()
                    .filter(|(bar, _)| bar[1].1 > bar[0].1)
                    .map(|(bar, color)| Rectangle::new(bar, color.filled())),
            )?;
        }
        area.present()?;
    }
    Ok(svg)
}

fn ms(span: std::time::Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}
