//! `bespeak openapi`: prints the OpenAPI document of the HTTP API, or the same as a Markdown page.
//!
//! The document is the contract: what holds for every installation. A running server has a document of its own, with
//! its own limits, at `/openapi.json`. The page has the default limits.

mod markdown;
mod schema;

use std::process::ExitCode;

use bespeak::config::{Config, Values};

use crate::{args::OpenapiArgs, failure::Failure, output::Output};

/// Prints the document, or the page. Needs no server.
pub(crate) fn show(output: Output, args: &OpenapiArgs) -> Result<ExitCode, Failure> {
    if args.markdown {
        let defaults = Config::parse(&Values::collect(|_| None, |_| None))?;
        let document = bespeak_http::document(&defaults.limits, &defaults.http);
        let page = markdown::page(&document);
        output.print(&page, || page.clone())?;
    } else {
        let contract = bespeak_http::contract();
        output.print(&contract, || format!("{contract:#}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
