//! Bar charts, as SVG files beside the report.

use bespeak_lab::load::thousands;
use plotters::prelude::*;

use crate::Error;

/// A bar chart.
pub(crate) struct Chart {
    /// The quantity with its unit.
    pub(crate) title: &'static str,
    /// The label and value of each bar, from the top.
    pub(crate) bars: Vec<(String, f64)>,
}

const WIDTH: i32 = 880;
const BAR: i32 = 26;
const LABELS: i32 = 330;
const HEAD: i32 = 40;
const OURS: RGBColor = RGBColor(0x1b, 0x7f, 0x4d);
const OTHERS: RGBColor = RGBColor(0x9a, 0xa3, 0xaf);

impl Chart {
    /// Draws the chart. Bars whose label begins with `lanes` or `relay` are Bespeak's and have another colour.
    #[expect(clippy::cast_possible_truncation, reason = "pixels of a picture of this width")]
    pub(crate) fn svg(&self) -> Result<String, Error> {
        let height = HEAD + BAR * i32::try_from(self.bars.len())? + 12;
        let most = self.bars.iter().map(|(_, value)| *value).fold(1e-9, f64::max);
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (u32::try_from(WIDTH)?, u32::try_from(height)?))
                .into_drawing_area();
            area.fill(&WHITE)?;
            let text = |size: u32| ("sans-serif", size).into_font().color(&BLACK);
            area.draw(&Text::new(self.title, (12, 12), text(16)))?;
            for ((label, value), n) in self.bars.iter().zip(0..) {
                let top = HEAD + BAR * n;
                let length = (value / most * f64::from(WIDTH - LABELS - 110)) as i32;
                let ours = label.starts_with("lanes") || label.starts_with("relay");
                let color = if ours { OURS } else { OTHERS };
                area.draw(&Text::new(label.as_str(), (12, top + 4), text(14)))?;
                area.draw(&Rectangle::new(
                    [(LABELS, top + 2), (LABELS + length.max(1), top + BAR - 4)],
                    color.filled(),
                ))?;
                area.draw(&Text::new(thousands(*value), (LABELS + length + 8, top + 4), text(14)))?;
            }
            area.present()?;
        }
        Ok(svg)
    }
}
