//! `bespeak asyncapi`: prints the AsyncAPI document of the published events, or writes the JSON Schemas of their
//! payloads.

use std::{fs, path::Path, process::ExitCode};

use bespeak::envelope::{asyncapi, schemas};

use crate::{args::AsyncapiArgs, failure::Failure, output::Output};

/// Prints the document, or writes the schemas into a folder and prints their paths. Needs no server.
pub(crate) fn show(output: Output, args: AsyncapiArgs) -> Result<ExitCode, Failure> {
    if let Some(folder) = args.schemas {
        let written = write(&folder)?;
        output.print(&written, || written.join("\n"))?;
    } else {
        let document = asyncapi::document();
        output.print(&document, || format!("{document:#}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path) -> Result<Vec<String>, Failure> {
    schemas()
        .iter()
        .map(|(name, schema)| {
            let path = folder.join(format!("{name}.schema.json"));
            fs::write(&path, format!("{schema:#}\n"))
                .map_err(|error| Failure::caused(format!("{} cannot be written", path.display()), &error))?;
            Ok(path.display().to_string())
        })
        .collect()
}
