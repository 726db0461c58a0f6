//! Starts Redis's official image in a container.
//!
//! Never: the end of a container, which is in `container.rs`. Next: `mod.rs`, which tries Docker before a binary.

use testcontainers::{GenericImage, ImageExt, core::IntoContainerPort};

use super::binary;
use crate::{ServiceError, container::Container, port};

/// The image.
pub(super) const IMAGE: &str = "redis:7";

/// Starts a container, at the given port or a free one. The server may answer much later.
pub(super) async fn start(options: &[String], port: Option<u16>) -> Result<Container, ServiceError> {
    let (name, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, "latest"));
    // Docker would choose another port after each restart.
    let port = port.map_or_else(port::free, Ok).map_err(ServiceError::io("finding a free port"))?;
    let arguments = ["redis-server", "--protected-mode", "no"].into_iter().chain(binary::IN_MEMORY);
    let image = GenericImage::new(name, tag)
        .with_mapped_port(port, 6379.tcp())
        .with_cmd(arguments.map(str::to_owned).chain(options.iter().cloned()));
    Container::start(image, port).await
}
