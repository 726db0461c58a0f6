//! `bespeak health`: what a container's health check runs, where there is no curl.

use std::process::ExitCode;

use reqwest::Method;

use super::http::Server;
use crate::{args::HealthArgs, failure::Failure, output::Output};

pub(super) async fn health(output: Output, args: HealthArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(args.server.url())?;
    let (path, well) =
        if args.live { ("/health/live", "it runs") } else { ("/health/ready", "it serves requests") };
    let health = server.send(server.request(Method::GET, path)).await?;
    output.print(&health, || well.to_owned())?;
    Ok(ExitCode::SUCCESS)
}
