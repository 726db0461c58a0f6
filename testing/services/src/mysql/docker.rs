//! Starts MySQL's official image in a container.
//!
//! Never: the end of a container, which is in `container.rs`. Next: `mod.rs`, which tries Docker before a binary.

use testcontainers::{GenericImage, ImageExt, core::IntoContainerPort};

use crate::{ServiceError, container::Container, port};

/// The image.
pub(super) const IMAGE: &str = "mysql:8";
/// The password of the root account, which only this machine's tests and benchmarks use.
const PASSWORD: &str = "bespeak";

/// Starts a container. The server may answer much later.
pub(super) async fn start(options: &[&str]) -> Result<Container, ServiceError> {
    let (name, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, "latest"));
    // Docker would choose another port after each restart.
    let port = port::free().map_err(ServiceError::io("finding a free port"))?;
    let image = GenericImage::new(name, tag)
        .with_mapped_port(port, 3306.tcp())
        .with_env_var("MYSQL_ROOT_PASSWORD", PASSWORD)
        .with_cmd(options.iter().copied());
    Container::start(image, port).await
}

/// The URL of the root account.
pub(super) fn root_url(container: &Container) -> String {
    format!("mysql://root:{PASSWORD}@{}", container.address)
}
