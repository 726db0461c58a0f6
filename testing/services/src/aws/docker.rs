//! Starts LocalStack in a container, which runs the project's own script when it is ready, so the queues exist.
//!
//! Never: the end of a container, which is in `container.rs`.
//! Hooks: <https://docs.localstack.cloud/references/init-hooks/>.

use std::path::PathBuf;

use testcontainers::{GenericImage, ImageExt, core::IntoContainerPort};

use super::queues;
use crate::{ServiceError, container::Container, port};

/// The image, in the same version as in `localstack/compose.yaml`.
pub(super) const IMAGE: &str = "localstack/localstack:4.7.0";

/// Starts a container. The server may answer much later.
pub(super) async fn start() -> Result<Container, ServiceError> {
    let (name, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, "latest"));
    let port = port::free().map_err(ServiceError::io("finding a free port"))?;
    let image = GenericImage::new(name, tag)
        .with_mapped_port(port, 4566.tcp())
        .with_env_var("SERVICES", "sqs")
        .with_env_var("AWS_DEFAULT_REGION", queues::REGION)
        .with_copy_to("/etc/bespeak/queues.json", PathBuf::from(queues::DESCRIPTION))
        .with_copy_to("/etc/localstack/init/ready.d/queues.py", PathBuf::from(queues::SCRIPT));
    Container::start(image, port).await
}
