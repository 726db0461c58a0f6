//! `bespeak health`: a health check for containers, whose images have no curl.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::Value;

use super::http::Server;
use crate::{args::HealthArgs, failure::Failure, output::Output};

pub(super) async fn health(output: Output, args: HealthArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let (path, healthy) = if args.live {
        ("/health/live", "the server is running")
    } else {
        ("/health/ready", "the server is ready for requests")
    };
    let health: Value = server.send(server.request(Method::GET, path)).await?;
    output.print(&health, || healthy.to_owned())?;
    Ok(ExitCode::SUCCESS)
}
