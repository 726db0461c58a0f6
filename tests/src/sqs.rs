//! A client of SQS queues, over the JSON protocol of AWS's own clients.
//!
//! The signatures are invented, because neither LocalStack nor moto checks them.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/>

use std::time::Duration;

use bespeak_lab::load::{Answer, Target};
use bespeak_services::Aws;
use http::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// The server that all tests of this process share, with the queues that `localstack/aws/` describes.
///
/// # Panics
/// No server is given and none can be started; the message says what to install.
pub async fn aws_server() -> &'static Aws {
    static SERVER: OnceCell<Aws> = OnceCell::const_new();
    SERVER.get_or_init(|| async { Aws::provide().await.unwrap_or_else(|missing| panic!("{missing}")) }).await
}

/// A queue on a server of SQS.
#[derive(Clone, Debug)]
pub struct Queue {
    endpoint: String,
    name: String,
    url: String,
}

/// One reception of a message.
#[derive(Clone, Debug)]
pub struct Received {
    /// The id of the message, the same at each reception.
    pub id: String,
    /// The receipt for deletion, another one at each reception.
    pub receipt: String,
    /// The message body.
    pub body: String,
    /// The attributes that SQS sets, such as `ApproximateReceiveCount`.
    pub attributes: Value,
    /// The attributes that the sender set, by SQS's names (`DataType`, `StringValue`).
    pub message_attributes: Value,
}

impl Queue {
    /// An existing queue, by its name.
    pub async fn named(aws: &Aws, name: &str) -> Self {
        let endpoint = aws.endpoint();
        let found = ask(&endpoint, "GetQueueUrl", &json!({"QueueName": name})).await;
        let url = found["QueueUrl"].as_str().expect("a URL").to_owned();
        Self { endpoint, name: name.to_owned(), url }
    }

    /// The consumer's queue and its redrive queue, as `localstack/aws/` describes them.
    pub async fn of_consumer(aws: &Aws) -> (Self, Self) {
        (Self::named(aws, "bespeak-consumer").await, Self::named(aws, "bespeak-consumer-dlq").await)
    }

    /// Copies of both queues that only this test uses.
    pub async fn own(aws: &Aws) -> (Self, Self) {
        let (queue, redrive) = Self::of_consumer(aws).await;
        let unique = crate::unique();
        let name = |of: &Self| format!("{}-{unique}", of.name);
        let redrive = redrive.copy(&name(&redrive), None).await;
        let queue = queue.copy(&name(&queue), Some(&redrive)).await;
        (queue, redrive)
    }

    /// Creates a queue with the attributes of this one, and with another redrive queue.
    async fn copy(&self, name: &str, redrive: Option<&Self>) -> Self {
        const SET: [&str; 2] = ["VisibilityTimeout", "MessageRetentionPeriod"];
        let described = self.attributes().await;
        let mut attributes = json!({});
        for name in SET {
            attributes[name] = described[name].clone();
        }
        if let Some(redrive) = redrive {
            let policy = described["RedrivePolicy"].as_str().expect("a redrive policy");
            let mut policy: Value = serde_json::from_str(policy).expect("JSON");
            policy["deadLetterTargetArn"] = redrive.arn().await.into();
            attributes["RedrivePolicy"] = policy.to_string().into();
        }
        let made =
            ask(&self.endpoint, "CreateQueue", &json!({"QueueName": name, "Attributes": attributes})).await;
        let url = made["QueueUrl"].as_str().expect("a URL").to_owned();
        Self { endpoint: self.endpoint.clone(), name: name.to_owned(), url }
    }

    /// Sends a message, with attributes such as `{"ce_id": {"DataType": "String", "StringValue": ".."}}`; returns the
    /// id of the message.
    pub async fn send(&self, body: &str, attributes: &Value) -> String {
        let message = json!({"QueueUrl": self.url, "MessageBody": body, "MessageAttributes": attributes});
        ask(&self.endpoint, "SendMessage", &message).await["MessageId"].as_str().expect("an id").to_owned()
    }

    /// Receives up to ten messages without waiting. They are hidden from other receivers for the queue's visibility
    /// timeout.
    pub async fn receive(&self) -> Vec<Received> {
        self.receive_for(None).await
    }

    /// Receives up to ten messages and hides them for this time, in whole seconds.
    pub async fn receive_hidden_for(&self, hidden: Duration) -> Vec<Received> {
        self.receive_for(Some(hidden.as_secs())).await
    }

    async fn receive_for(&self, hidden_seconds: Option<u64>) -> Vec<Received> {
        let mut wanted = json!({
            "QueueUrl": self.url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0,
            "AttributeNames": ["All"], "MessageAttributeNames": ["All"],
        });
        if let Some(seconds) = hidden_seconds {
            wanted["VisibilityTimeout"] = seconds.into();
        }
        let answer = ask(&self.endpoint, "ReceiveMessage", &wanted).await;
        let messages = answer["Messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |message: &Value, name: &str| message[name].as_str().unwrap_or_default().to_owned();
        messages
            .iter()
            .map(|message| Received {
                id: text(message, "MessageId"),
                receipt: text(message, "ReceiptHandle"),
                body: text(message, "Body"),
                attributes: message["Attributes"].clone(),
                message_attributes: message["MessageAttributes"].clone(),
            })
            .collect()
    }

    /// Deletes a received message.
    pub async fn delete(&self, message: &Received) {
        let what = json!({"QueueUrl": self.url, "ReceiptHandle": message.receipt});
        ask(&self.endpoint, "DeleteMessage", &what).await;
    }

    /// Changes how long a received message stays hidden from now on; at zero it can be received again at once.
    pub async fn hide_for(&self, message: &Received, hidden: Duration) {
        let what = json!({
            "QueueUrl": self.url, "ReceiptHandle": message.receipt, "VisibilityTimeout": hidden.as_secs(),
        });
        ask(&self.endpoint, "ChangeMessageVisibility", &what).await;
    }

    /// The settings and the numbers of messages of the queue, by SQS's names.
    pub async fn attributes(&self) -> Value {
        let what = json!({"QueueUrl": self.url, "AttributeNames": ["All"]});
        ask(&self.endpoint, "GetQueueAttributes", &what).await["Attributes"].clone()
    }

    /// The ARN of the queue.
    pub async fn arn(&self) -> String {
        self.attributes().await["QueueArn"].as_str().expect("an ARN").to_owned()
    }
}

impl Received {
    /// How often the message was received, this reception included.
    pub fn times(&self) -> u32 {
        let count = self.attributes["ApproximateReceiveCount"].as_str();
        count.and_then(|count| count.parse().ok()).expect("a count")
    }

    /// The record that Lambda passes to a function, from a queue with this ARN
    /// (<https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>).
    pub fn as_lambda_record(&self, queue_arn: &str) -> Value {
        let mut attributes = json!({});
        for (name, of_sqs) in self.message_attributes.as_object().into_iter().flatten() {
            attributes[name] = json!({
                "stringValue": of_sqs["StringValue"], "binaryValue": of_sqs["BinaryValue"],
                "stringListValues": [], "binaryListValues": [], "dataType": of_sqs["DataType"],
            });
        }
        json!({
            "messageId": self.id, "receiptHandle": self.receipt, "body": self.body,
            "attributes": self.attributes, "messageAttributes": attributes,
            "eventSource": "aws:sqs", "eventSourceARN": queue_arn, "awsRegion": Aws::REGION,
        })
    }
}

/// Performs an action that must succeed; returns its answer.
async fn ask(endpoint: &str, action: &str, body: &Value) -> Value {
    let target = format!("AmazonSQS.{action}");
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=test/20260101/{}/sqs/aws4_request, SignedHeaders=host, Signature=0",
        Aws::REGION
    );
    let headers = [
        ("content-type", "application/x-amz-json-1.0"),
        ("x-amz-target", target.as_str()),
        ("authorization", authorization.as_str()),
    ];
    let mut connection =
        Target::new(endpoint).expect("a URL").connect().await.expect("the server of SQS answers");
    let body = Bytes::from(body.to_string());
    let Answer { status, body, .. } =
        connection.send(Method::POST, "/", &headers, body).await.expect("answered");
    let text = String::from_utf8_lossy(&body);
    assert_eq!(status, 200, "{action}: {text}");
    serde_json::from_slice(&body).unwrap_or_default()
}
