//! As much of the SQS protocol as it takes to ask whether a queue is there.
//!
//! Never: a client; `tests/src/sqs.rs` is one. <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/>

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A server that starts may accept a connection and forget it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The HTTP status of `GetQueueUrl`: 200 where there is such a queue.
pub(super) async fn queue_url(address: SocketAddr, queue: &str) -> io::Result<u16> {
    let body = format!(r#"{{"QueueName":"{queue}"}}"#);
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.0\r\n\
        x-amz-target: AmazonSQS.GetQueueUrl\r\nauthorization: {AUTHORIZATION}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    timeout(ANSWERS_WITHIN, status(address, &request)).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

/// It says which region is meant, and is not looked into further by anything that only answers as AWS does.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/eu-central-1/sqs/aws4_request, SignedHeaders=host, Signature=0";

async fn status(address: SocketAddr, request: &str) -> io::Result<u16> {
    let mut server = TcpStream::connect(address).await?;
    server.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    let line = String::from_utf8_lossy(&answer);
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP"))
}
