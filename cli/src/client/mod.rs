//! The client commands: each sends requests to a running server and prints the responses.

mod health;
mod http;
mod import;
mod reservations;
mod stock;
mod webhooks;

use std::process::ExitCode;

use crate::{
    args::{ClientCommand, StockCommand},
    failure::Failure,
    output::Output,
};
pub use http::segment;

/// Runs a client command.
pub(crate) async fn run(output: Output, command: ClientCommand) -> Result<ExitCode, Failure> {
    match command {
        ClientCommand::Stock(StockCommand::Check(args)) => stock::check(output, args).await,
        ClientCommand::Stock(StockCommand::List(args)) => stock::list(output, args).await,
        ClientCommand::Stock(StockCommand::Set(args)) => stock::set(output, args).await,
        ClientCommand::Stock(StockCommand::Import(args)) => import::import(output, args).await,
        ClientCommand::Webhooks(command) => webhooks::run(output, command).await,
        ClientCommand::Reserve(args) => reservations::reserve(output, args).await,
        ClientCommand::Commit(args) => reservations::act(output, "commit", args).await,
        ClientCommand::Release(args) => reservations::act(output, "release", args).await,
        ClientCommand::Cancel(args) => reservations::act(output, "cancel", args).await,
        ClientCommand::Extend(args) => reservations::extend(output, args).await,
        ClientCommand::Show(args) => reservations::show(output, args).await,
        ClientCommand::Health(args) => health::health(output, args).await,
    }
}
