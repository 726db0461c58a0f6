//! `bespeak config`: prints every setting with its value, the source of the value, and its meaning.

mod markdown;

use std::process::ExitCode;

use bespeak::config::{Config, SETTINGS, Values};
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, table},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    name: &'static str,
    value: String,
    source: String,
    default: &'static str,
    meaning: &'static str,
}

/// Prints the settings. Fails after that if a value is not valid.
pub(crate) fn show(output: Output, values: &Values) -> Result<ExitCode, Failure> {
    let shown: Vec<Shown> = SETTINGS
        .iter()
        .map(|setting| {
            let (value, source) = values.shown(setting);
            Shown {
                name: setting.name,
                value,
                source: source.to_string(),
                default: setting.default,
                meaning: setting.help,
            }
        })
        .collect();
    output.print(&shown, || {
        let mut rows = table(&["variable", "value", "from", "meaning"]);
        for setting in &shown {
            rows.add_row([setting.name, &setting.value, &setting.source, setting.meaning]);
        }
        rows.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
        rows.to_string()
    })?;
    Config::parse(values)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the page about all settings.
pub(crate) fn page(output: Output) -> Result<ExitCode, Failure> {
    let page = markdown::page();
    output.print(&page, || page.clone())?;
    Ok(ExitCode::SUCCESS)
}
