//! What operators rely on: upgrades, backups, the end of tasks and processes, clocks, health checks, audits.

mod backup;
mod clock;
mod health;
mod schema;
mod secrets;
mod stopping;
mod tasks;
mod upgrade;
mod verify;
