//! MySQL's official image, in a container of its own.
//!
//! Never: how a container ends; `container.rs` knows. Next: `mod.rs`, which tries this before a binary.

use testcontainers::{GenericImage, ImageExt, core::IntoContainerPort};
use url::Url;

use crate::{ServiceError, container::Container, port};

/// Where the server comes from.
pub(super) const IMAGE: &str = "mysql:8";
/// Nobody but this machine's tests and benchmarks meets it.
const PASSWORD: &str = "bespeak";

/// Starts one; the server may answer much later.
pub(super) async fn start(options: &[&str]) -> Result<Container, ServiceError> {
    let (name, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, "latest"));
    // A port that Docker chooses would be another one after a restart.
    let port = port::free().map_err(ServiceError::io("finding a free port"))?;
    let image = GenericImage::new(name, tag)
        .with_mapped_port(port, 3306.tcp())
        .with_env_var("MYSQL_ROOT_PASSWORD", PASSWORD)
        .with_cmd(options.iter().copied());
    Container::start(image, port).await
}

/// The URL of its root account.
pub(super) fn root_url(container: &Container) -> Result<Url, ServiceError> {
    super::url(&format!("mysql://root:{PASSWORD}@{}", container.address))
}
