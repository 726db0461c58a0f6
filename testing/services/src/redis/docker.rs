//! Redis's official image, in a container of its own.
//!
//! Never: how a container ends; `container.rs` knows. Next: `mod.rs`, which tries this before a binary.

use testcontainers::{GenericImage, ImageExt, core::IntoContainerPort};

use super::binary;
use crate::{ServiceError, container::Container, port};

/// Where the server comes from.
pub(super) const IMAGE: &str = "redis:7";

/// Starts one, at a port if it must be that; the server may answer much later.
pub(super) async fn start(options: &[String], at: Option<u16>) -> Result<Container, ServiceError> {
    let (name, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, "latest"));
    // A port that Docker chooses would be another one after a restart.
    let port = at.map_or_else(port::free, Ok).map_err(ServiceError::io("finding a free port"))?;
    let arguments = ["redis-server", "--protected-mode", "no"].into_iter().chain(binary::IN_MEMORY);
    let image = GenericImage::new(name, tag)
        .with_mapped_port(port, 6379.tcp())
        .with_cmd(arguments.map(str::to_owned).chain(options.iter().cloned()));
    Container::start(image, port).await
}
